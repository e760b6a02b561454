"""The faults of `restante simulate`, and how the official SDK handles them."""

import unittest
from collections import Counter

import anthropic
from support import SimulatorTest
from test_batches import requests
from test_messages import asked


class Faults(SimulatorTest):
    """Switched on by each test for itself."""

    switches = ("--seed", "31", "--batch-seconds", "0", "--stream-pause-milliseconds", "0")

    def setUp(self):
        self.simulator.steer("DELETE", "requests")
        self.addCleanup(self.simulator.steer, "DELETE", "faults")

    def statuses(self):
        return [request["status"] for request in self.simulator.requests()]

    def test_each_kind_of_fault_is_an_error_of_its_own(self):
        for fault, error, status, kind in [
            ("rate_limited_share", anthropic.RateLimitError, 429, "rate_limit_error"),
            ("internal_error_share", anthropic.InternalServerError, 500, "api_error"),
            ("overloaded_share", anthropic.InternalServerError, 529, "overloaded_error"),
        ]:
            with self.subTest(fault):
                self.simulator.steer("DELETE", "faults")
                self.simulator.change_faults(**{fault: 1, "retry_after_seconds": 7})

                with self.assertRaises(error) as raised:
                    self.client.messages.create(**asked("Hello?"))

                self.assertEqual((raised.exception.status_code, raised.exception.type), (status, kind))
                self.assertTrue(raised.exception.request_id.startswith("req_"))
                retry_after = raised.exception.response.headers.get("retry-after")
                self.assertEqual(retry_after, "7" if status == 429 else None)

    def test_the_sdk_tries_again_until_it_gets_through(self):
        for fault, status in [
            ("rate_limited_share", 429),
            ("internal_error_share", 500),
            ("overloaded_share", 529),
        ]:
            with self.subTest(fault), self.simulator.client(max_retries=20) as client:
                self.simulator.steer("DELETE", "faults")
                self.simulator.steer("DELETE", "requests")
                # Nothing to wait for: without the header the SDK waits by a rule of its own.
                self.simulator.change_faults(**{fault: 0.5, "retry_after_seconds": 0})
                client._calculate_retry_timeout = lambda *_: 0

                answers = [client.messages.create(**asked(f"Letter {n}?")) for n in range(10)]

                self.assertEqual(len(answers), 10)
                seen = Counter(self.statuses())
                self.assertEqual(seen[200], 10)
                self.assertGreater(seen[status], 0)
                self.assertEqual(len(seen), 2)

    def test_the_sdk_waits_as_long_as_it_is_told(self):
        self.simulator.change_faults(rate_limited_share=1, retry_after_seconds=1)
        with self.simulator.client(max_retries=1) as client, self.assertRaises(anthropic.RateLimitError):
            client.messages.create(**asked("Hello?"))

        self.assertEqual(self.statuses(), [429, 429])

    def test_an_object_that_is_not_to_be_had_at_first_comes_later(self):
        self.simulator.change_faults(not_found_first=2)
        batch = self.client.messages.batches.create(requests=requests(1))

        for _ in range(2):
            with self.assertRaises(anthropic.NotFoundError):
                self.client.messages.batches.retrieve(batch.id)

        self.assertEqual(self.client.messages.batches.retrieve(batch.id).id, batch.id)

    def test_results_that_are_cut_are_not_all_there(self):
        batch = self.client.messages.batches.create(requests=requests(40))
        self.simulator.steer("POST", f"batches/{batch.id}/end")
        self.simulator.change_faults(results_cut_lines=10, results_cut_quietly=False)

        read = []
        with self.assertRaises(Exception) as cut:
            read.extend(self.client.messages.batches.results(batch.id))
        self.assertIn("RemoteProtocolError", type(cut.exception).__name__)

        # The second download is not cut.
        self.assertEqual(len(list(self.client.messages.batches.results(batch.id))), 40)

    def test_a_stream_that_breaks_off_with_an_error_raises_it(self):
        self.simulator.change_faults(stream_error_share=1)
        with self.assertRaises(anthropic.APIStatusError) as raised:
            with self.client.messages.stream(**asked("Hello?")) as stream:
                stream.get_final_message()

        self.assertEqual(raised.exception.body["error"]["type"], "overloaded_error")


if __name__ == "__main__":
    unittest.main()
