"""`restante-ingest` and what it stores, for deliveries that the official `standardwebhooks` library signs."""

import hashlib
import hmac
import json
import time
import unittest
from datetime import datetime, timezone

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError
from support import SIGNING_KEY, Database, ingest, post

SECOND_KEY = "whsec_dGhlIGtleSB0aGF0IGlzIHRvIHJlcGxhY2UgdGhlIGZpcnN0"
FOREIGN_KEY = "whsec_YW5vdGhlciBrZXkgb2YgMzIgYnl0ZXMsIGFuZCB3cm9uZw=="
SECRETS = ("raw-secret-of-the-older-scheme", "and-the-next-one")


def envelope(event_id, kind="session.status_idled", about="sesn_1"):
    """A body as the API sends it."""
    data = {"type": kind, "id": about, "organization_id": "org_1", "workspace_id": "wrkspc_1"}
    return json.dumps({"type": "event", "id": event_id, "created_at": "2026-11-01T12:00:00Z", "data": data})


def standard(event_id, body, key=SIGNING_KEY, ago=0):
    """The headers of a delivery that was signed some seconds ago."""
    signed_at = datetime.fromtimestamp(int(time.time()) - ago, timezone.utc)
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(signed_at.timestamp())),
        "webhook-signature": Webhook(key).sign(event_id, signed_at, body),
    }


def older(body, secret=SECRETS[0], ago=0):
    """The headers of a delivery in the older scheme, signed some seconds ago."""
    timestamp = str(int(time.time()) - ago)
    signature = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"anthropic-timestamp": timestamp, "anthropic-signature": signature}


class Ingest(unittest.TestCase):
    """With two keys and two secrets."""

    @classmethod
    def setUpClass(cls):
        cls.database = Database()
        process, cls.url = ingest(
            cls.database,
            ANTHROPIC_WEBHOOK_SIGNING_KEY=f"{SIGNING_KEY},{SECOND_KEY}",
            ANTHROPIC_WEBHOOK_SECRET="\n".join(SECRETS),
        )
        cls.addClassCleanup(process.stop)

    def status(self, headers, body):
        return post(self.url, body if isinstance(body, bytes) else body.encode(), headers)[0]

    def stored(self, event_ids):
        """The bodies in the outbox, by the ids of their events."""
        ids = ",".join(f"'{event_id}'" for event_id in event_ids)
        # Text that Postgres cannot hold as JSON is in another column.
        body = "encode(coalesce(raw, convert_to(payload::text, 'UTF8')), 'hex')"
        rows = self.database.rows(
            f"select event_id, {body} as body from restante.outbox where event_id in ({ids})"
        )
        bodies = {row["event_id"]: bytes.fromhex(row["body"]) for row in rows}
        self.assertEqual(len(rows), len(bodies), "an event is stored once")
        return bodies

    def test_what_the_library_signs_is_stored_byte_for_byte(self):
        bodies = {
            "whe_plain": envelope("whe_plain"),
            "whe_wide": envelope("whe_wide").replace("{", '{"extra": "Größe 価格 📬\u2028", ', 1),
            "whe_spaced": envelope("whe_spaced").replace(": ", " :\n\t ").replace("{", "{ ") + "\n",
            "whe_escaped": envelope("whe_escaped", about="\u0000 \ud83d \\ \""),
            "whe_numbers": envelope("whe_numbers").replace("{", '{"n": 1.50e+400, "n": -0, ', 1),
            "whe_top": '{"type":"batch.completed","id":"whe_top","data":{"batch_id":"msgbatch_1"}}',
            "whe_unknown": envelope("whe_unknown", kind="something.new"),
        }  # fmt: skip

        for event_id, body in bodies.items():
            with self.subTest(event_id):
                self.assertEqual(self.status(standard(event_id, body), body), 204)

        self.assertEqual(self.stored(bodies), {event_id: body.encode() for event_id, body in bodies.items()})

    def test_the_columns_of_an_event_come_from_its_envelope(self):
        body = envelope("whe_columns", kind="vault.created", about="vlt_1")
        self.status(standard("whe_columns", body), body)

        columns = "type, key, workspace_id, source, status, created_at = '2026-11-01T12:00:00Z' as as_sent"
        rows = self.database.rows(f"select {columns} from restante.outbox where event_id = 'whe_columns'")

        wanted = {"type": "vault.created", "key": "vlt_1", "workspace_id": "wrkspc_1", "source": "webhook"}
        self.assertEqual(rows, [wanted | {"status": "pending", "as_sent": True}])

    def test_a_second_delivery_is_answered_as_the_first_and_stored_once(self):
        body = envelope("whe_twice")

        # A later attempt has a timestamp and a signature of its own.
        answers = [self.status(standard("whe_twice", body, ago=ago), body) for ago in (120, 60, 0)]

        self.assertEqual(answers, [204, 204, 204])
        self.assertEqual(self.stored(["whe_twice"]), {"whe_twice": body.encode()})

    def test_a_change_of_any_byte_is_refused(self):
        body = envelope("whe_changed").encode()
        headers = standard("whe_changed", body.decode())

        for place in range(len(body)):
            changed = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
            self.assertEqual(self.status(headers, changed), 401, place)

        self.assertEqual(self.stored(["whe_changed"]), {})
        self.assertEqual(self.status(headers, body), 204)

    def test_either_key_will_do_and_no_other(self):
        for event_id, key, status in [
            ("whe_first", SIGNING_KEY, 204),
            ("whe_second", SECOND_KEY, 204),
            ("whe_foreign", FOREIGN_KEY, 401),
        ]:
            body = envelope(event_id)
            self.assertEqual(self.status(standard(event_id, body, key), body), status, event_id)

        self.assertEqual(
            sorted(self.stored(["whe_first", "whe_second", "whe_foreign"])), ["whe_first", "whe_second"]
        )

    def test_ingest_takes_what_the_library_takes_and_nothing_else(self):
        body = envelope("whe_like")
        right = standard("whe_like", body)
        wrong = standard("whe_like", body, FOREIGN_KEY)["webhook-signature"]
        signature = right["webhook-signature"]
        cases = {
            "as it is": {},
            "a signature of another key before it": {"webhook-signature": f"{wrong} {signature}"},
            "a signature of another version before it": {"webhook-signature": f"v1a,AAAA {signature}"},
            "another version only": {"webhook-signature": signature.replace("v1,", "v2,")},
            "another key": {"webhook-signature": wrong},
            "another id": {"webhook-id": "whe_other"},
            "no id": {"webhook-id": ""},
            "no signature": {"webhook-signature": ""},
            "a timestamp that is no number": {"webhook-timestamp": "NaN"},
            "a timestamp beyond all time": {"webhook-timestamp": str(-(2**63))},
            "late, yet in time": standard("whe_like", body, ago=280),
            "too late": standard("whe_like", body, ago=320),
            "early, yet in time": standard("whe_like", body, ago=-280),
            "too early": standard("whe_like", body, ago=-320),
        }
        taken = set()
        for name, changes in cases.items():
            with self.subTest(name):
                headers = right | changes
                try:
                    Webhook(SIGNING_KEY).verify(body, headers)
                    taken.add(name)
                except WebhookVerificationError:
                    pass
                self.assertEqual(self.status(headers, body), 204 if name in taken else 401)
        self.assertEqual(len(taken), 5)

    def test_the_older_scheme_is_taken_when_it_is_signed_right(self):
        for number, secret in enumerate(SECRETS):
            event_id = f"whe_older_{number}"
            body = envelope(event_id).encode()

            self.assertEqual([self.status(older(body, secret), body) for _ in range(2)], [204, 204])
            self.assertEqual(self.stored([event_id]), {event_id: body})

    def test_the_older_scheme_is_refused_when_anything_is_wrong(self):
        body = envelope("whe_not_older").encode()
        right = older(body)
        for name, headers, sent in [
            ("another secret", older(body, "guessed"), body),
            ("stale", older(body, ago=320), body),
            (
                "another timestamp",
                right | {"anthropic-timestamp": str(int(right["anthropic-timestamp"]) + 1)},
                body,
            ),
            ("no timestamp", {"anthropic-signature": right["anthropic-signature"]}, body),
            ("another body", right, body.replace(b"sesn_1", b"sesn_2")),
            ("unsigned", {}, body),
        ]:
            with self.subTest(name):
                self.assertEqual(self.status(headers, sent), 401)
        self.assertEqual(self.stored(["whe_not_older"]), {})

    def test_bytes_that_are_no_text_are_stored_as_they_are(self):
        body = b'{"type":"batch.completed","id":"whe_bytes","data":{"id":"\xff\xfe"}}'

        self.assertEqual(self.status(older(body), body), 204)

        self.assertEqual(self.stored(["whe_bytes"]), {"whe_bytes": body})


class OneScheme(unittest.TestCase):
    """Turned on by its secret, and the other one not."""

    def test_a_scheme_without_a_secret_takes_nothing(self):
        body = envelope("whe_scheme").encode()
        database = Database()
        deliveries = [standard("whe_scheme", body.decode()), older(body)]
        for variables, answers in [
            ({"ANTHROPIC_WEBHOOK_SIGNING_KEY": SIGNING_KEY}, [204, 401]),
            ({"ANTHROPIC_WEBHOOK_SECRET": SECRETS[0]}, [401, 204]),
        ]:
            with self.subTest(variables):
                process, url = ingest(database, **variables)
                self.addCleanup(process.stop)

                self.assertEqual([post(url, body, headers)[0] for headers in deliveries], answers)


if __name__ == "__main__":
    unittest.main()
