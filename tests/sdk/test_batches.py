"""Message batches of `restante simulate`, as the official SDK sees them."""

import unittest
from collections import Counter

import anthropic
from support import Simulator, SimulatorTest, eventually


def request(custom_id, **params):
    """One request of a batch."""
    prompt = {"role": "user", "content": f"Is {custom_id} urgent?"}
    return {
        "custom_id": custom_id,
        "params": {"model": "claude-opus-5-5", "max_tokens": 64, "messages": [prompt]} | params,
    }


def requests(count):
    return [request(f"letter-{n:03}") for n in range(count)]


class Batches(SimulatorTest):
    """With outcomes of every kind."""

    switches = (
        "--seed", "11", "--batch-seconds", "0.2", "--errored-share", "0.2", "--canceled-share", "0.1",
        "--expired-share", "0.1",
    )  # fmt: skip

    def ended(self, batch_id):
        """The batch once it has ended."""

        def look():
            batch = self.client.messages.batches.retrieve(batch_id)
            return batch if batch.processing_status == "ended" else None

        return eventually("the end of the batch", look)

    def test_a_batch_runs_from_its_creation_to_its_results(self):
        posted = requests(300)

        created = self.client.messages.batches.create(requests=posted)

        self.assertEqual((created.processing_status, created.request_counts.processing), ("in_progress", 300))
        self.assertIsNone(created.results_url)
        ended = self.ended(created.id)
        self.assertGreaterEqual(ended.ended_at, ended.created_at)
        results = list(self.client.messages.batches.results(created.id))
        self.assertCountEqual([result.custom_id for result in results], [one["custom_id"] for one in posted])
        by_outcome = Counter(result.result.type for result in results)
        counted = ended.request_counts.to_dict()
        self.assertEqual(counted.pop("processing"), 0)
        self.assertEqual(by_outcome, Counter(counted))
        self.assertEqual(sorted(by_outcome), ["canceled", "errored", "expired", "succeeded"])

    def test_a_result_is_a_message_or_an_error_of_the_sdk(self):
        batch = self.client.messages.batches.create(requests=requests(100))
        self.ended(batch.id)

        results = {result.custom_id: result for result in self.client.messages.batches.results(batch.id)}

        for custom_id, one in results.items():
            # The decoder of results does not check what it reads.
            type(one).model_validate(one.to_dict())
            if one.result.type == "succeeded":
                message = one.result.message
                self.assertIn(custom_id, message.content[0].text)
                self.assertEqual((message.model, message.role), ("claude-opus-5-5", "assistant"))
                self.assertGreater(message.usage.output_tokens, 0)
            elif one.result.type == "errored":
                self.assertIn(
                    one.result.error.error.type, ["invalid_request_error", "api_error", "overloaded_error"]
                )
                self.assertTrue(one.result.error.error.message)

    def test_a_seed_gives_the_same_outcomes_again(self):
        again = Simulator(*self.switches)
        self.addCleanup(again.process.stop)

        def outcomes(client):
            batch = client.messages.batches.create(requests=requests(100))
            eventually(
                "the end", lambda: client.messages.batches.retrieve(batch.id).processing_status == "ended"
            )
            return {one.custom_id: one.result.type for one in client.messages.batches.results(batch.id)}

        with again.client() as other:
            self.assertEqual(outcomes(self.client), outcomes(other))

    def test_the_results_come_in_an_order_of_their_own(self):
        batch = self.client.messages.batches.create(requests=requests(50))
        self.ended(batch.id)

        order = [result.custom_id for result in self.client.messages.batches.results(batch.id)]

        self.assertNotEqual(order, sorted(order))

    def test_a_request_that_is_wrong_fails_alone(self):
        posted = [request("right"), request("wrong", max_tokens=0)]
        batch = self.client.messages.batches.create(requests=posted)
        self.ended(batch.id)

        results = {one.custom_id: one.result for one in self.client.messages.batches.results(batch.id)}

        self.assertEqual(results["wrong"].type, "errored")
        self.assertEqual(results["wrong"].error.error.type, "invalid_request_error")
        self.assertIn("right", results)

    def test_a_custom_id_that_is_there_twice_is_refused(self):
        with self.assertRaises(anthropic.BadRequestError) as refused:
            self.client.messages.batches.create(requests=[request("same"), request("same")])

        self.assertEqual(refused.exception.body["error"]["type"], "invalid_request_error")
        self.assertEqual(refused.exception.request_id, refused.exception.body["request_id"])

    def test_an_ended_batch_can_be_deleted(self):
        batch = self.client.messages.batches.create(requests=requests(1))
        self.ended(batch.id)

        deleted = self.client.messages.batches.delete(batch.id)

        self.assertEqual((deleted.id, deleted.type), (batch.id, "message_batch_deleted"))
        for gone in (self.client.messages.batches.retrieve, self.client.messages.batches.delete):
            with self.assertRaises(anthropic.NotFoundError):
                gone(batch.id)

    def test_an_unknown_key_is_refused(self):
        with self.simulator.client(api_key="sk-ant-another") as stranger:
            with self.assertRaises(anthropic.AuthenticationError):
                stranger.messages.batches.list()


class LongBatches(SimulatorTest):
    """That nobody waits for the end of."""

    switches = ("--seed", "12", "--batch-seconds", "3600", "--cancel-seconds", "0.2")

    def test_a_batch_that_is_cancelled_ends_with_a_result_for_every_request(self):
        batch = self.client.messages.batches.create(requests=requests(20))

        cancelling = self.client.messages.batches.cancel(batch.id)

        self.assertEqual(cancelling.processing_status, "canceling")
        self.assertIsNotNone(cancelling.cancel_initiated_at)
        ended = eventually("the end", lambda: self.end_of(batch.id))
        results = list(self.client.messages.batches.results(batch.id))
        # An hour was to go, so nothing was done yet.
        self.assertEqual([result.result.type for result in results], ["canceled"] * 20)
        self.assertEqual((ended.request_counts.canceled, ended.request_counts.processing), (20, 0))

    def end_of(self, batch_id):
        batch = self.client.messages.batches.retrieve(batch_id)
        return batch if batch.processing_status == "ended" else None

    def test_results_are_not_to_be_had_before_the_end(self):
        batch = self.client.messages.batches.create(requests=requests(1))

        with self.assertRaises(anthropic.AnthropicError):
            self.client.messages.batches.results(batch.id)
        with self.assertRaises(anthropic.BadRequestError):
            self.client.messages.batches.delete(batch.id)


class Pages(SimulatorTest):
    """Of a list of seven batches."""

    switches = ("--seed", "13", "--batch-seconds", "3600")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        made = [cls.client.messages.batches.create(requests=requests(1)).id for _ in range(7)]
        cls.newest_first = made[::-1]

    def test_paging_meets_every_batch_once_newest_first(self):
        before = len(self.simulator.requests())

        listed = [batch.id for batch in self.client.messages.batches.list(limit=3)]

        self.assertEqual(listed, self.newest_first)
        self.assertEqual(len(self.simulator.requests()) - before, 3)

    def test_a_page_leads_on_from_its_last_batch(self):
        first = self.client.messages.batches.list(limit=2)
        second = first.get_next_page()

        self.assertEqual((first.has_more, first.last_id), (True, self.newest_first[1]))
        self.assertEqual([batch.id for batch in second.data], self.newest_first[2:4])

    def test_a_page_leads_back_from_its_first_batch(self):
        page = self.client.messages.batches.list(limit=2, before_id=self.newest_first[4])

        self.assertEqual([batch.id for batch in page.data], self.newest_first[2:4])
        self.assertEqual([batch.id for batch in page], self.newest_first[2:4] + self.newest_first[:2])


if __name__ == "__main__":
    unittest.main()
