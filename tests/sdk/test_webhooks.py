"""Webhooks of `restante simulate`, as `client.beta.webhooks.unwrap` of the official SDK takes them."""

import hashlib
import hmac
import unittest
from typing import get_args

import anthropic
from anthropic.types.beta import beta_webhook_event_data
from receiver import Receiver
from standardwebhooks.webhooks import WebhookVerificationError
from support import SIGNING_KEY, Simulator, eventually

SECRET = "raw-secret-of-the-older-scheme"

# The types of `data`, one for each kind of event that the SDK knows.
DATA_TYPES = get_args(get_args(beta_webhook_event_data.BetaWebhookEventData)[0])


def kind_of(data_type):
    """How events of this type are called."""
    return get_args(data_type.model_fields["type"].annotation)[0]


class Webhooks(unittest.TestCase):
    """Signed by both schemes, and delivered to an endpoint that asks the SDK."""

    def setUp(self):
        self.client = anthropic.Anthropic(api_key="unused", webhook_key=SIGNING_KEY)
        self.addCleanup(self.client.close)
        self.receiver = Receiver(self.answer)
        self.addCleanup(self.receiver.stop)
        self.simulator = Simulator(
            "--seed", "51", "--webhook-url", self.receiver.url, "--webhook-backoff", "0",
            "--signing-key", SIGNING_KEY, "--webhook-secret", SECRET, "--session-seconds", "0",
        )  # fmt: skip
        self.addCleanup(self.simulator.process.stop)
        self.out_of_order = 0

    def answer(self, headers, body):
        if self.out_of_order:
            self.out_of_order -= 1
            return 500
        try:
            self.client.beta.webhooks.unwrap(body, headers=headers)
            return 204
        except WebhookVerificationError:
            return 401

    def delivered(self, count):
        """Waits for this many deliveries, and returns them."""
        eventually(f"{count} deliveries", lambda: len(self.receiver.deliveries) >= count)
        self.assertEqual(len(self.receiver.deliveries), count)
        return list(self.receiver.deliveries)

    def unwrapped(self, headers, body):
        """The event of a delivery, with everything that its type calls for."""
        event = self.client.beta.webhooks.unwrap(body, headers=headers)
        # `unwrap` itself also accepts a body that fits no type.
        type(event).model_validate_json(body)
        self.assertEqual((event.type, event.id), ("event", headers["webhook-id"]))
        return event

    def test_every_kind_of_event_is_unwrapped_as_what_it_is(self):
        self.assertEqual(len(DATA_TYPES), 49)
        for data_type in DATA_TYPES:
            usual = {"id", "type", "organization_id", "workspace_id"}
            more = {name: f"{name}_1" for name in data_type.model_fields if name not in usual}
            draft = {"type": kind_of(data_type), "id": f"of {kind_of(data_type)}", "data": more}
            self.simulator.steer("POST", "events", draft)

        unwrapped = {}
        for headers, body, status in self.delivered(49):
            self.assertEqual(status, 204)
            event = self.unwrapped(headers, body)
            unwrapped[event.data.type] = event.data

        for data_type in DATA_TYPES:
            with self.subTest(kind_of(data_type)):
                data = unwrapped[kind_of(data_type)]
                self.assertIs(type(data), data_type)
                self.assertEqual(data.id, f"of {kind_of(data_type)}")

    def test_what_the_sdk_does_is_told_in_webhooks_that_it_unwraps(self):
        beta = (client := self.simulator.client()).beta
        self.addCleanup(client.close)
        agent = beta.agents.create(name="clerk", model="claude-opus-5-5")
        environment = beta.environments.create(name="post office")
        session = beta.sessions.create(agent=agent.id, environment_id=environment.id)
        beta.sessions.events.send(session.id, events=[{"type": "user.interrupt"}])
        vault = beta.vaults.create(display_name="keys")
        auth = {"type": "static_bearer", "mcp_server_url": "https://mcp.example", "token": "hush"}
        credential = beta.vaults.credentials.create(vault.id, auth=auth)
        beta.vaults.delete(vault.id)

        told = {}
        for headers, body, _ in self.delivered(9):
            event = self.unwrapped(headers, body)
            told.setdefault(event.data.id, set()).add(event.data.type)

        self.assertEqual(
            told,
            {
                agent.id: {"agent.created"},
                environment.id: {"environment.created"},
                session.id: {"session.created", "session.status_run_started", "session.status_idled"},
                vault.id: {"vault.created", "vault.deleted"},
                credential.id: {"vault_credential.created", "vault_credential.deleted"},
            },
        )

    def test_spoiled_deliveries_are_refused_and_the_real_one_beside_them_taken(self):
        self.simulator.change_faults(stale_share=1, forged_share=1, duplicate_share=1)
        for n in range(5):
            self.simulator.steer("POST", "events", {"type": "session.idled", "id": f"sesn_{n}"})
        self.delivered(20)
        journal = eventually("the journal", lambda: self.journal(20))

        answers = {(delivery["fault"], delivery["status"]) for delivery in journal}
        self.assertEqual(answers, {("stale", 401), ("forged", 401), (None, 204), ("duplicate", 204)})

    def journal(self, count):
        """Waits until the simulator has this many deliveries in its journal, and returns them."""
        journal = self.simulator.steer("GET", "deliveries")["data"]
        return journal if len(journal) == count else None

    def test_a_delivery_that_somebody_changed_is_refused(self):
        self.simulator.steer("POST", "events", {"type": "session.idled", "id": "sesn_1"})
        ((headers, body, _),) = self.delivered(1)
        unwrap = self.client.beta.webhooks.unwrap
        self.assertEqual(unwrap(body, headers=headers).data.id, "sesn_1")

        later = str(int(headers["webhook-timestamp"]) + 1)
        another = "whsec_YW5vdGhlciBrZXkgb2YgMzIgYnl0ZXMsIGFuZCB3cm9uZw=="
        for change in [
            {"payload": body.replace("sesn_1", "sesn_2")},
            {"headers": headers | {"webhook-id": "whe_2"}},
            {"headers": headers | {"webhook-timestamp": later}},
            {"headers": {name: value for name, value in headers.items() if name != "webhook-signature"}},
            {"key": another},
        ]:
            with self.subTest(change), self.assertRaises(WebhookVerificationError):
                call = {"payload": body, "headers": headers} | change
                unwrap(call.pop("payload"), **call)

    def test_each_attempt_is_signed_and_carries_the_same_event(self):
        self.out_of_order = 2
        self.simulator.steer("POST", "events", {"type": "session.idled", "id": "sesn_1"})

        deliveries = self.delivered(3)

        self.assertEqual([status for *_, status in deliveries], [500, 500, 204])
        events = [self.unwrapped(headers, body) for headers, body, _ in deliveries]
        self.assertEqual(events[1:], events[:1] * 2)

    def test_the_older_signature_beside_it_is_of_timestamp_and_body(self):
        self.simulator.steer("POST", "events", {"type": "session.idled", "id": "sesn_1"})
        ((headers, body, _),) = self.delivered(1)

        signed = f"{headers['anthropic-timestamp']}.{body}".encode()
        right = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        self.assertEqual(headers["anthropic-signature"], right)


if __name__ == "__main__":
    unittest.main()
