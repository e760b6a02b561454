"""Streams of messages, read by the library and by the official SDK: the same bytes, and the same message.

Where the two differ on purpose, `Differences` shows how.
"""

import json
import subprocess
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic
import streams
from support import PATIENCE_SECONDS, ROOT

PROGRAM = ROOT / "target/debug/examples/stream_messages"

# Not a divisor of anything, so that chunks end anywhere.
CHUNK_BYTES = 65_521


class Answering(BaseHTTPRequestHandler):
    """Answers a request with the stream that its model names."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = self.server.streams[request["model"]]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("connection", "close")
        self.end_headers()
        for start in range(0, len(body), CHUNK_BYTES):
            self.wfile.write(body[start : start + CHUNK_BYTES])
        self.close_connection = True

    def log_message(self, *_):
        pass


class StreamsTest(unittest.TestCase):
    """Tests beside a server of streams."""

    def setUp(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.server.streams = {}
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.client = anthropic.Anthropic(api_key="sk-test", base_url=self.url, max_retries=0)
        self.addCleanup(self.client.close)

    def by_us(self, given):
        """What the library makes of each of these streams, by name."""
        self.server.streams.update(given)
        ran = subprocess.run(
            [PROGRAM, self.url],
            input="".join(f"{name}\n" for name in given).encode(),
            stdout=subprocess.PIPE,
            timeout=10 * PATIENCE_SECONDS,
            check=True,
        )
        lines = ran.stdout.decode("utf-8").split("\n")
        return dict(zip(given, map(json.loads, lines[:-1]), strict=True))

    def by_the_sdk(self, name, stream, is_beta=False):
        """The message that the SDK makes of a stream, as JSON."""
        self.server.streams[name] = stream
        messages = self.client.beta.messages if is_beta else self.client.messages
        asked = {"model": name, "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
        with messages.stream(**asked) as reading:
            return reading.get_final_message().to_dict(mode="json", warnings=False)


def without_nothing(value):
    """The SDK adds members that are null where the API has none."""
    if isinstance(value, dict):
        return {key: without_nothing(member) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [without_nothing(element) for element in value]
    return value


class Same(StreamsTest):
    """What both agree on."""

    def test_both_make_the_same_message_of_a_stream(self):
        given = streams.same()
        for name, ours in self.by_us(given).items():
            with self.subTest(name):
                theirs = self.by_the_sdk(name, given[name])
                self.assertEqual(without_nothing(ours["message"]), without_nothing(theirs))
                self.compare_columns(ours["columns"], theirs)

    def compare_columns(self, columns, theirs):
        texts = [block["text"] for block in theirs["content"] if block["type"] == "text"]
        expected = "".join(texts).replace("\0", "\ufffd") if texts else None
        self.assertEqual(columns["text"], expected)
        for name in ("id", "model", "stop_reason"):
            self.assertEqual(columns[name], theirs[name])
        counts = ["input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"]
        self.assertEqual(columns["usage"], [theirs["usage"].get(count) for count in counts])
        self.assertEqual(columns["broken_inputs"], 0)

    def test_both_make_the_same_message_of_a_beta(self):
        compaction = {"content": "short", "encrypted_content": "e"}
        cases = {
            "compaction": [
                streams.start(),
                *streams.block(0, "compaction", ("compaction_delta", compaction), content=None),
                *streams.end("compaction"),
            ],
            "mcp": [
                streams.start(),
                *streams.tool(0, '{"a"', ": 1}", kind="mcp_tool_use"),
                *streams.end("tool_use"),
            ],
        }
        given = {name: streams.written(events) for name, events in cases.items()}
        for name, ours in self.by_us(given).items():
            with self.subTest(name):
                theirs = self.by_the_sdk(name, given[name], is_beta=True)
                self.assertEqual(without_nothing(ours["message"]), without_nothing(theirs))

    def test_both_end_with_an_error_of_the_api(self):
        example = streams.example()
        given = {
            f"{kind} {at}": streams.written([*example[:at], streams.error(kind)])
            for kind in streams.ERRORS
            for at in (0, 1, 3, len(example) - 1)
        }
        temporary = {"overloaded", "unavailable", "rate_limited"}
        for name, ours in self.by_us(given).items():
            with self.subTest(name):
                with self.assertRaises(anthropic.APIStatusError) as raised:
                    self.by_the_sdk(name, given[name])
                kind = name.split()[0]
                self.assertEqual(raised.exception.body["error"]["type"], kind)
                self.assertEqual(ours["said"], [kind, "it went wrong"])
                self.assertEqual(ours["is_retryable"], ours["error"] in temporary)
                self.assertEqual(ours["so_far"]["id"], None if name.endswith(" 0") else "msg_demo")


class Differences(StreamsTest):
    """Where we differ from the SDK on purpose."""

    def test_a_stream_that_ends_early_is_an_error_to_us_and_a_part_of_a_message_to_the_sdk(self):
        example = streams.example()
        given = {str(events): streams.written(example[:events]) for events in range(1, len(example))}
        for name, ours in self.by_us(given).items():
            with self.subTest(name):
                theirs = self.by_the_sdk(name, given[name])
                self.assertEqual((ours["error"], ours["is_retryable"]), ("ended", True))
                self.assertEqual(ours["so_far"]["usage"][1], theirs["usage"]["output_tokens"])
                self.assertEqual(ours["so_far"]["id"], theirs["id"])

    def test_an_event_without_a_name_is_known_by_its_data_and_the_sdk_drops_it(self):
        given = streams.written(streams.example()).replace(b"event: content_block_delta\n", b"")

        ours = self.by_us({"unnamed": given})["unnamed"]["message"]

        theirs = self.by_the_sdk("unnamed", given)
        self.assertEqual([block.get("text") for block in ours["content"]], ["Hi thére", None])
        self.assertEqual([block.get("text") for block in theirs["content"]], ["", None])

    def test_a_tools_input_that_breaks_off_is_its_exact_text_and_the_sdk_completes_it(self):
        events = [streams.start(), *streams.tool(0, '{"a": 1, "b": "x'), *streams.end("max_tokens")]
        given = streams.written(events)

        ours = self.by_us({"broken": given})["broken"]

        theirs = self.by_the_sdk("broken", given)
        self.assertEqual(ours["message"]["content"][0]["input"], '{"a": 1, "b": "x')
        self.assertEqual(ours["columns"]["broken_inputs"], 1)
        self.assertEqual(theirs["content"][0]["input"], {"a": 1})

    def test_a_tools_input_that_is_no_json_costs_the_sdk_the_message(self):
        events = [streams.start(), *streams.tool(0, "{a}"), *streams.end("tool_use")]
        given = streams.written(events)

        ours = self.by_us({"odd": given})["odd"]["message"]

        self.assertEqual((ours["content"][0]["input"], ours["stop_reason"]), ("{a}", "tool_use"))
        with self.assertRaises(ValueError):
            self.by_the_sdk("odd", given)

    def test_an_end_without_usage_costs_the_sdk_the_message(self):
        events = [streams.start(), *streams.text(0, "a"), *streams.end()]
        del events[-2]["usage"]
        given = streams.written(events)

        ours = self.by_us({"unused": given})["unused"]["message"]

        self.assertEqual((ours["usage"], ours["stop_reason"]), (streams.MESSAGE["usage"], "end_turn"))
        with self.assertRaises(AttributeError):
            self.by_the_sdk("unused", given)

    def test_a_byte_order_mark_costs_the_sdk_the_message(self):
        given = b"\xef\xbb\xbf" + streams.written(streams.example())

        ours = self.by_us({"mark": given})["mark"]["message"]

        self.assertEqual(ours["id"], "msg_demo")
        with self.assertRaises(AssertionError):
            self.by_the_sdk("mark", given)

    def test_blocks_stand_by_their_index_and_cost_the_sdk_the_message_if_they_come_in_another_order(self):
        events = [streams.start(), *streams.text(1, text="b"), *streams.text(0, text="a"), *streams.end()]
        given = streams.written(events)

        ours = self.by_us({"turned": given})["turned"]["message"]

        self.assertEqual([block["text"] for block in ours["content"]], ["a", "b"])
        with self.assertRaises(IndexError):
            self.by_the_sdk("turned", given)

    def test_text_of_a_new_type_of_block_is_kept_and_the_sdk_drops_it(self):
        grown = streams.block(0, "of_tomorrow", ("text_delta", {"text": "b"}), text="a")
        given = streams.written([streams.start(), *grown, *streams.end()])

        ours = self.by_us({"new": given})["new"]["message"]

        self.assertEqual(ours["content"][0]["text"], "ab")
        self.assertEqual(self.by_the_sdk("new", given)["content"][0]["text"], "a")

    def test_half_a_surrogate_pair_and_an_exact_number_stay_in_our_json(self):
        piece = '{"n": 1.10e2, "s": "\\ud83d"}'
        given = streams.written([streams.start(), *streams.tool(0, piece), *streams.end()])

        ours = self.by_us({"exact": given})["exact"]["message"]

        self.assertEqual(ours["content"][0]["input"], {"n": 110.0, "s": "\ud83d"})
        with self.assertRaises(ValueError):
            self.by_the_sdk("exact", given)

    def test_usage_of_tomorrow_is_kept_and_the_sdk_drops_it_from_an_end(self):
        given = streams.written([streams.start(), *streams.end(usage={"output_tokens": 3, "new": 7})])

        ours = self.by_us({"usage": given})["usage"]["message"]

        self.assertEqual(ours["usage"]["new"], 7)
        self.assertNotIn("new", self.by_the_sdk("usage", given)["usage"])


if __name__ == "__main__":
    unittest.main()
