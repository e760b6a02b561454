"""Everything together: the SDK works with the simulated API, and Restante has stored what the SDK reads."""

import json
import unittest
import urllib.request

from support import API_KEY, SIGNING_KEY, Database, Simulator, eventually, ingest, worker
from test_batches import requests

COLUMNS = (
    "outcome", "text", "model", "stop_reason", "error_type", "error_message", "input_tokens", "output_tokens",
    "cache_creation_input_tokens", "cache_read_input_tokens",
)  # fmt: skip


def as_stored(one):
    """The columns that the row of a result must have, from the result as the SDK reads it."""
    row = dict.fromkeys(COLUMNS) | {"outcome": one.result.type}
    if one.result.type == "succeeded":
        message = one.result.message
        row |= {
            "text": "".join(block.text for block in message.content if block.type == "text"),
            "model": message.model,
            "stop_reason": message.stop_reason,
        }
        row |= {name: getattr(message.usage, name) for name in COLUMNS if name.endswith("_tokens")}
    elif one.result.type == "errored":
        row |= {"error_type": one.result.error.error.type, "error_message": one.result.error.error.message}
    return row


class EndToEnd(unittest.TestCase):
    """The four programs, as they would run anywhere."""

    def setUp(self):
        self.database = Database()
        process, url = ingest(self.database, ANTHROPIC_WEBHOOK_SIGNING_KEY=SIGNING_KEY)
        self.addCleanup(process.stop)
        self.simulator = Simulator(
            "--seed", "61", "--webhook-url", url, "--signing-key", SIGNING_KEY, "--webhook-backoff", "0.01",
            "--batch-seconds", "0.2", "--session-seconds", "0",
            "--errored-share", "0.2", "--canceled-share", "0.1", "--expired-share", "0.1",
        )  # fmt: skip
        self.addCleanup(self.simulator.process.stop)
        self.client = self.simulator.client()
        self.addCleanup(self.client.close)

    def work(self, **variables):
        """A worker begins to work."""
        process = worker(self.database, self.simulator, **variables)
        self.addCleanup(process.stop)

    def row(self, query):
        """Waits for a row of the query, and returns it."""
        return eventually(f"a row of {query}", lambda: self.database.rows(query))[0]

    def assert_stored(self, batch_id):
        """Asserts that the database has exactly the batch and the results that the SDK reads."""
        row = self.row(f"select * from restante.batch where id = '{batch_id}' and complete_at is not null")
        batch = self.client.messages.batches.retrieve(batch_id)
        counts = batch.request_counts.to_dict()
        self.assertEqual({name: row[name] for name in counts}, counts)
        self.assertEqual(row["results_stored"], sum(counts.values()))

        read = {one.custom_id: as_stored(one) for one in self.client.messages.batches.results(batch_id)}
        results = f"from restante.batch_result where batch_id = '{batch_id}'"
        stored = self.database.rows(f"select custom_id, {', '.join(COLUMNS)} {results}")
        self.assertEqual({one.pop("custom_id"): one for one in stored}, read)
        self.assertGreaterEqual(
            len({one["error_type"] for one in stored}), 3, "errors of several types, and none"
        )

        plain = urllib.request.Request(
            batch.results_url, headers={"x-api-key": API_KEY, "anthropic-version": "2023-06-01"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(plain) as answer:
            lines = answer.read().decode().removesuffix("\n").split("\n")
        exact = self.database.rows(f"select line {results}")
        self.assertCountEqual([one["line"] for one in exact], lines)

    def test_results_that_a_webhook_tells_of_are_those_that_the_sdk_reads(self):
        self.work(RESTANTE_BATCH_POLL_SECONDS="3600", RESTANTE_RECONCILE_SECONDS="0")

        batch = self.client.messages.batches.create(requests=requests(1000))
        self.simulator.steer("POST", f"batches/{batch.id}/end")

        self.assert_stored(batch.id)
        row = self.row(
            "select attempt from restante.outbox "
            f"where key = '{batch.id}' and source = 'webhook' and status = 'done'"
        )
        self.assertEqual(row["attempt"], 1)

    def test_results_that_no_webhook_tells_of_are_found_all_the_same(self):
        self.simulator.change_faults(lost_share=1)
        batch = self.client.messages.batches.create(requests=requests(200))

        self.work(RESTANTE_BATCH_POLL_SECONDS="1", RESTANTE_RECONCILE_SECONDS="1")

        self.assert_stored(batch.id)
        self.assertEqual(self.database.rows("select 1 from restante.outbox where source = 'webhook'"), [])

    def test_results_of_an_api_with_faults_are_those_that_the_sdk_reads(self):
        self.simulator.change_faults(
            duplicate_share=0.5, stale_share=0.5, forged_share=0.5, overloaded_share=0.3, not_found_first=1,
            results_cut_bytes=20_000, results_cut_downloads=2, results_cut_quietly=True,
        )  # fmt: skip
        client = self.simulator.client(max_retries=20)
        self.addCleanup(client.close)
        client._calculate_retry_timeout = lambda *_: 0
        batch = client.messages.batches.create(requests=requests(300))

        self.work()

        # Only then can the SDK itself read the results whole.
        self.row(f"select 1 from restante.batch where id = '{batch.id}' and complete_at is not null")
        self.simulator.steer("DELETE", "faults")
        self.assert_stored(batch.id)
        forged = self.database.rows("select 1 from restante.outbox where event_id like '%forged'")
        self.assertEqual(forged, [])

    def test_objects_are_kept_as_the_sdk_reads_them(self):
        beta = self.client.beta
        self.work(RESTANTE_RECONCILE_SECONDS="0")
        agent = beta.agents.create(name="clerk", model="claude-opus-5-5")
        environment = beta.environments.create(name="post office")
        session = beta.sessions.create(agent=agent.id, environment_id=environment.id)
        said = {"type": "user.message", "content": [{"type": "text", "text": "Sort the mail, please."}]}
        beta.sessions.events.send(session.id, events=[said])
        vault, lost = (beta.vaults.create(display_name=name) for name in ("kept", "lost"))
        auth = {"type": "static_bearer", "mcp_server_url": "https://mcp.example", "token": "hush"}
        credential = beta.vaults.credentials.create(vault.id, auth=auth)
        beta.vaults.delete(lost.id)

        self.row("select 1 from restante.outbox having bool_and(status = 'done') and count(*) = 9")

        kept = {row["id"]: row for row in self.database.rows("select * from restante.resource")}
        for read in [
            beta.agents.retrieve(agent.id),
            beta.environments.retrieve(environment.id),
            beta.sessions.retrieve(session.id),
            beta.vaults.retrieve(vault.id),
            beta.vaults.credentials.retrieve(credential.id, vault_id=vault.id),
        ]:
            with self.subTest(read.type):
                row = kept.pop(read.id)
                self.assertEqual((row["type"], row["gone_at"]), (read.type, None))
                self.assertEqual(type(read).model_validate_json(json.dumps(row["body"])), read)
        self.assertIsNotNone(kept.pop(lost.id)["gone_at"])
        self.assertEqual(kept, {})


if __name__ == "__main__":
    unittest.main()
