"""Batches that are submitted in SQL, as the official SDK sees them at the API."""

import json
import unittest

import anthropic
from support import Database, Simulator, eventually, worker
from test_batches import requests


class Submissions(unittest.TestCase):
    """With a worker that sends them."""

    def begin(self, *switches):
        """A simulated API with these switches, a client of it, and a worker."""
        self.database = Database()
        self.simulator = Simulator("--seed", "71", *switches)
        self.addCleanup(self.simulator.process.stop)
        self.client = self.simulator.client()
        self.addCleanup(self.client.close)
        process = worker(
            self.database, self.simulator, RESTANTE_BATCH_POLL_SECONDS="1", RESTANTE_RECONCILE_SECONDS="0"
        )
        self.addCleanup(process.stop)

    def submit(self, count):
        """Submits in SQL, and returns the id of the batch once the database has it."""
        asked = json.dumps(requests(count)).replace("'", "''")
        self.database.rows(f"select restante.submit_batch('{asked}', name => 'letters')")
        sent = "select batch_id from restante.submission_part where batch_id is not null"
        return eventually("the batch", lambda: self.database.rows(sent))[0]["batch_id"]

    def outcomes(self):
        """The outcomes of the requests in the database, once the submission is complete."""
        complete = "select 1 from restante.submission where status = 'complete'"
        eventually("the answers", lambda: self.database.rows(complete))
        counted = self.database.rows("select status, count(*) from restante.batch_request group by status")
        return {row["status"]: row["count"] for row in counted}

    def test_a_submission_is_one_batch_and_its_answers_are_those_that_the_sdk_reads(self):
        self.begin("--batch-seconds", "0.2", "--errored-share", "0.2")

        batch_id = self.submit(200)

        self.assertEqual([batch.id for batch in self.client.messages.batches.list()], [batch_id])
        outcomes = self.outcomes()
        counts = self.client.messages.batches.retrieve(batch_id).request_counts.to_dict()
        self.assertEqual(outcomes, {name: count for name, count in counts.items() if count})
        read = {one.custom_id: one.result.type for one in self.client.messages.batches.results(batch_id)}
        rows = self.database.rows("select custom_id, status from restante.batch_request")
        self.assertEqual({row["custom_id"]: row["status"] for row in rows}, read)

    def test_a_submission_that_the_sdk_cancels_is_complete_with_what_the_api_says(self):
        self.begin("--batch-seconds", "3600", "--cancel-seconds", "0.2")
        batch_id = self.submit(20)

        self.assertEqual(self.client.messages.batches.cancel(batch_id).processing_status, "canceling")

        self.assertEqual(self.outcomes(), {"canceled": 20})

    def test_answers_stay_when_the_sdk_deletes_their_batch(self):
        self.begin("--batch-seconds", "0.2")
        batch_id = self.submit(20)
        outcomes = self.outcomes()

        self.client.messages.batches.delete(batch_id)

        self.assertEqual(list(self.client.messages.batches.list()), [])
        with self.assertRaises(anthropic.NotFoundError):
            self.client.messages.batches.retrieve(batch_id)
        self.assertEqual(self.outcomes(), outcomes)
        stored = self.database.rows("select count(*) from restante.batch_result")
        self.assertEqual(stored, [{"count": 20}])


if __name__ == "__main__":
    unittest.main()
