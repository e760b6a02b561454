"""Messages of `restante simulate`, whole and streamed, as the official SDK sees them."""

import unittest

import anthropic
from support import SimulatorTest


def asked(prompt, **more):
    """The parameters of a message."""
    messages = [{"role": "user", "content": prompt}]
    return {"model": "claude-opus-5-5", "max_tokens": 1024, "messages": messages} | more


class Messages(SimulatorTest):
    """As they come when nothing goes wrong."""

    switches = ("--seed", "21", "--text-bytes", "3000", "--stream-pause-milliseconds", "0")

    def test_a_message_is_answered_with_text_and_usage(self):
        message = self.client.messages.create(**asked("Who wrote this?"))

        self.assertEqual(
            (message.type, message.role, message.stop_reason), ("message", "assistant", "end_turn")
        )
        self.assertIn("Who wrote this?", message.content[0].text)
        self.assertEqual(len(message.content[0].text.encode()), 3000)
        # One token for four bytes.
        self.assertEqual(message.usage.output_tokens, 750)
        self.assertGreater(message.usage.input_tokens, 0)
        self.assertTrue(message._request_id.startswith("req_"))

    def test_the_pieces_of_a_stream_are_the_message(self):
        with self.client.messages.stream(**asked("And this?")) as stream:
            pieces = list(stream.text_stream)
            message = stream.get_final_message()

        self.assertGreater(len(pieces), 10)
        self.assertEqual("".join(pieces), message.content[0].text)
        self.assertIn("And this?", message.content[0].text)
        self.assertEqual(len(message.content[0].text.encode()), 3000)
        self.assertEqual((message.stop_reason, message.usage.output_tokens), ("end_turn", 750))

    def test_the_raw_events_of_a_stream_come_in_the_order_of_the_protocol(self):
        with self.client.messages.create(**asked("In order?"), stream=True) as stream:
            kinds = [event.type for event in stream]

        self.assertEqual(kinds[:2], ["message_start", "content_block_start"])
        self.assertEqual(kinds[-3:], ["content_block_stop", "message_delta", "message_stop"])
        self.assertEqual(set(kinds[2:-3]), {"content_block_delta"})

    def test_the_input_of_a_tool_streams_to_the_same_as_it_is_whole(self):
        tool = {"name": "look_up", "input_schema": {"type": "object"}}
        call = asked("Weather?", tools=[tool], tool_choice={"type": "tool", "name": "look_up"})

        whole = self.client.messages.create(**call)
        with self.client.messages.stream(**call) as stream:
            streamed = stream.get_final_message()

        for message in (whole, streamed):
            used = next(block for block in message.content if block.type == "tool_use")
            self.assertEqual((used.name, message.stop_reason), ("look_up", "tool_use"))
            self.assertEqual(used.input["query"], "Weather?")

    def test_a_message_without_a_model_is_refused(self):
        call = asked("Hello?")
        call["model"] = ""
        with self.assertRaises(anthropic.BadRequestError) as refused:
            self.client.messages.create(**call)

        self.assertEqual(refused.exception.type, "invalid_request_error")

    def test_a_parameter_that_the_version_no_longer_has_is_refused(self):
        with self.assertRaises(anthropic.BadRequestError):
            self.client.messages.create(**asked("Warmer?"), extra_body={"temperature": 0.5})

        older = {"anthropic-version": "2023-06-01"}
        message = self.client.messages.create(
            **asked("Warmer?"), extra_body={"temperature": 0.5}, extra_headers=older
        )
        self.assertEqual(message.stop_reason, "end_turn")


if __name__ == "__main__":
    unittest.main()
