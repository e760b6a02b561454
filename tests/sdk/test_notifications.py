"""Notifications of our own, verified by the libraries that receivers use, through retries and a rotation."""

import json
import os
import shutil
import subprocess
import unittest

import anthropic
from receiver import Receiver
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from support import ROOT, Database, Simulator, eventually, worker

ANOTHER = "whsec_YW5vdGhlciBrZXkgb2YgMzIgYnl0ZXMsIGFuZCB3cm9uZw=="


def verified_by_python(secret, headers, body):
    try:
        return Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return None


def verified_by_the_sdk(secret, headers, body):
    client = anthropic.Anthropic(api_key="unused", webhook_key=secret)
    try:
        client.beta.webhooks.unwrap(body, headers=headers)
        return json.loads(body)
    except WebhookVerificationError:
        return None
    finally:
        client.close()


def verified_by_javascript(secret, headers, body):
    asked = json.dumps({"secret": secret, "headers": headers, "body": body})
    modules = {"NODE_PATH": str(ROOT / "target/sdk/node/node_modules")}
    command = ["node", str(ROOT / "tests/sdk/verify.js")]
    answer = subprocess.run(
        command, input=asked, capture_output=True, text=True, check=True, env=os.environ | modules
    )
    return json.loads(answer.stdout)


LIBRARIES = [verified_by_python, verified_by_the_sdk]
# `tests/sdk/run` installs the library where there is Node.
if shutil.which("node") and shutil.which("npm"):
    LIBRARIES.append(verified_by_javascript)


class Notifications(unittest.TestCase):
    """With a worker that may reach this machine."""

    def setUp(self):
        self.database = Database()
        simulator = Simulator("--seed", "81")
        self.addCleanup(simulator.process.stop)
        process = worker(
            self.database,
            simulator,
            RESTANTE_ALLOW_PRIVATE_ENDPOINTS="true",
            RESTANTE_RECONCILE_SECONDS="0",
        )
        self.addCleanup(process.stop)
        self.answers = []
        self.receiver = Receiver(lambda *_: self.answers.pop(0) if self.answers else 204)
        self.addCleanup(self.receiver.stop)
        self.secret = self.value(
            "with added as (insert into restante.endpoint (name, url, body)"
            f" values ('a', '{self.receiver.url}', 'full') returning secret) select secret as value from added",
            wrapped=False,
        )

    def value(self, query, wrapped=True):
        """The value of a query; one that changes something cannot be part of another query."""
        statement = f"select ({query})::text as value" if wrapped else query
        if wrapped:
            return self.database.rows(statement)[0]["value"]
        return self.database._psql(self.database.url, statement).strip()

    def enqueue(self, payload):
        written = json.dumps(payload).replace("'", "''")
        self.value(f"select restante.enqueue('order.placed', '{written}', key => 'o1')")

    def delivered(self, count):
        """Waits for this many deliveries, and lets no retry wait for its time."""

        def look():
            self.database._psql(
                self.database.url, "update restante.outbox set run_at = now() where status = 'retry'"
            )
            return len(self.receiver.deliveries) >= count

        eventually(f"{count} deliveries", look)
        return self.receiver.deliveries[:count]

    def test_every_library_takes_every_attempt_and_no_other_key(self):
        payload = {"text": "naïve – \u0000 \U0001f600", "number": 1.5}
        self.answers = [500, 503]
        self.enqueue(payload)

        deliveries = self.delivered(3)

        self.assertEqual([status for *_, status in deliveries], [500, 503, 204])
        self.assertEqual(len({headers["webhook-id"] for headers, *_ in deliveries}), 1)
        self.assertEqual(len({body for _, body, _ in deliveries}), 1)
        for library in LIBRARIES:
            for headers, body, _ in deliveries:
                with self.subTest(library.__name__):
                    event = library(self.secret, headers, body)
                    self.assertEqual((event["type"], event["data"]), ("order.placed", payload))
                    self.assertIsNone(library(ANOTHER, headers, body))
                    self.assertIsNone(library(self.secret, headers, body.replace("order", "other")))

    def test_while_a_secret_is_rotated_receivers_with_either_take_it(self):
        new = self.value("select restante.rotate_secret('a')")
        self.enqueue({})
        self.delivered(1)
        self.value("select restante.rotate_secret('a', drop_old => true)")
        self.enqueue({})

        (during, during_body, _), (after, after_body, _) = self.delivered(2)

        for library in LIBRARIES:
            with self.subTest(library.__name__):
                self.assertIsNotNone(library(self.secret, during, during_body))
                self.assertIsNotNone(library(new, during, during_body))
                self.assertIsNone(library(self.secret, after, after_body))
                self.assertIsNotNone(library(new, after, after_body))


if __name__ == "__main__":
    unittest.main()
