"""Streams as bytes: the examples of the API's documents, and what it may send beside them."""

import json

MESSAGE = {
    "id": "msg_demo",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5-5",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {
        "input_tokens": 12,
        "output_tokens": 1,
        "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 5,
        "service_tier": "standard",
    },
}

ERRORS = [
    "overloaded_error",
    "api_error",
    "timeout_error",
    "rate_limit_error",
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "billing_error",
    "not_found_error",
    "request_too_large",
    "conflict_error",
    "error_of_tomorrow",
]


def start(**more):
    return {"type": "message_start", "message": MESSAGE | more}


def block(index, kind, *deltas, **initial):
    """A content block with these deltas, each given as its type and its members."""
    yield {
        "type": "content_block_start",
        "index": index,
        "content_block": {"type": kind} | initial,
    }
    for delta, members in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": {"type": delta} | members}
    yield {"type": "content_block_stop", "index": index}


def text(index, *pieces, **initial):
    deltas = [("text_delta", {"text": piece}) for piece in pieces]
    return block(index, "text", *deltas, **({"text": ""} | initial))


def tool(index, *pieces, kind="tool_use", name="lookup"):
    deltas = [("input_json_delta", {"partial_json": piece}) for piece in pieces]
    return block(index, kind, *deltas, id="toolu_demo", name=name, input={})


def end(stop_reason="end_turn", usage=None, **delta):
    given = {"stop_reason": stop_reason, "stop_sequence": None} | delta
    usage = {"output_tokens": 31} if usage is None else usage
    return [{"type": "message_delta", "delta": given, "usage": usage}, {"type": "message_stop"}]


def error(kind):
    said = {"type": kind, "message": "it went wrong"}
    return {"type": "error", "error": said, "request_id": "req_demo"}


def written(events):
    """The bytes of events, as the API writes them."""

    def one(event):
        return f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"

    return "".join(map(one, events)).encode("utf-8", "surrogatepass")


def example():
    return [
        start(),
        *text(0, "Hi", " thére"),
        *tool(1, '{"q": "a', 'bc"}'),
        *end("tool_use"),
    ]


CITATION = {
    "type": "char_location",
    "cited_text": "x",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 0,
    "end_char_index": 1,
    "file_id": None,
}
SEARCH_RESULT = {
    "type": "web_search_result",
    "url": "https://a.example",
    "title": "A",
    "encrypted_content": "e",
    "page_age": None,
}


def same():
    """The streams of which both make the same message, by name."""
    signature = ("signature_delta", {"signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h=="})
    thoughts = [("thinking_delta", {"thinking": piece}) for piece in ["Let me ", "sée", "\u0000…"]]
    searched = {"server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0}}
    cases = {
        "example": example(),
        "empty": [start(), *end()],
        "two texts": [start(), *text(0, "a"), *text(1, "b", ""), *end("max_tokens")],
        "no deltas": [start(), *text(0), *block(1, "redacted_thinking", data="Em+/=="), *end("refusal")],
        "thinking": [
            start(),
            *block(0, "thinking", *thoughts, signature, thinking="", signature=""),
            *text(1, "42"),
            *end(),
        ],
        "thinking omitted": [
            start(),
            *block(0, "thinking", signature, thinking="", signature=""),
            *end(),
        ],
        "citations": [
            start(),
            *block(
                0,
                "text",
                ("text_delta", {"text": "It is x."}),
                ("citations_delta", {"citation": CITATION}),
                ("citations_delta", {"citation": CITATION | {"cited_text": "y"}}),
                text="",
                citations=None,
            ),
            *end(),
        ],
        "server tool": [
            start(),
            *tool(0, "", '{"query"', ': "x"}', kind="server_tool_use", name="web_search"),
            *block(1, "web_search_tool_result", tool_use_id="srvtoolu_1", content=[SEARCH_RESULT]),
            *text(2, "Found."),
            *end(usage={"input_tokens": 9000, "output_tokens": 80} | searched),
        ],
        "tool without input": [start(), *tool(0, ""), *end("tool_use")],
        "tool with unicode": [start(), *tool(0, '{"a": "\\u00e9\\ud83d', '\\ude00 \\"\\\\", "n": 1.5}'), *end()],
        "several ends": [start(), *text(0, "a"), end("pause_turn")[0], *end(usage={"output_tokens": 40})],
        "usage of the end": [
            start(),
            *end(usage={"output_tokens": 7, "cache_read_input_tokens": 6, "cache_creation_input_tokens": None}),
        ],
        "details of the end": [
            start(),
            *text(0, "No"),
            *end("refusal", stop_details={"type": "refusal", "category": None, "explanation": "x"}),
        ],
        "stop sequence": [start(), *text(0, "a"), *end("stop_sequence", stop_sequence="\n\n")],
        "unknown members": [
            start(of_tomorrow={"a": [1]}),
            *text(0, "a", of_tomorrow=None),
            *end(),
        ],
        "unknown delta": [
            start(),
            *block(0, "text", ("of_tomorrow", {"x": 1}), ("text_delta", {"text": "b"}), text=""),
            *end(),
        ],
        "unknown block": [start(), *block(0, "of_tomorrow", data={"x": [1, {}]}), *end()],
        "ping": [{"type": "ping"}, start(), {"type": "ping"}, *text(0, "a"), *end()],
        "64 MiB of text": [start(), *text(0, *["x" * (1 << 20)] * 64), *end()],
        "10,000 deltas of a tool": [
            start(),
            *tool(0, '{"n": [', *(f"{n}, " for n in range(10_000)), "7]}"),
            *end("tool_use"),
        ],
    }
    streams = {name: written(events) for name, events in cases.items()}
    plain = streams["example"]
    streams["CRLF"] = plain.replace(b"\n", b"\r\n")
    streams["CR"] = plain.replace(b"\n", b"\r")
    streams["comments"] = b": hello\n\n" + plain.replace(b"data:", b": within\ndata:")
    streams["no space"] = plain.replace(b": ", b":")
    streams["data over lines"] = plain.replace(b', "index"', b',\ndata: "index"')
    streams["id and retry"] = b"id: 1\nretry: 10\n" + plain
    streams["unknown event before"] = b'event: new\ndata: {"type": "new"}\n\n' + plain
    streams["unknown event within"] = plain.replace(
        b"event: content_block_stop", b'event: new\ndata: {"type": "new"}\n\nevent: content_block_stop', 1
    )
    return streams
