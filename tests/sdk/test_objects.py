"""Agents, sessions, vaults and the other objects of `restante simulate`, as the official SDK sees them."""

import unittest

import anthropic
from support import SimulatorTest, eventually

SAID = {"type": "user.message", "content": [{"type": "text", "text": "Sort the mail, please."}]}


class Objects(SimulatorTest):
    """That the API keeps."""

    switches = ("--seed", "41", "--session-seconds", "0")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.beta = cls.client.beta
        cls.agent = cls.beta.agents.create(name="clerk", model="claude-opus-5-5", system="You sort mail.")
        cls.environment = cls.beta.environments.create(name="post office", config={"type": "cloud"})

    def session(self, **more):
        return self.beta.sessions.create(agent=self.agent.id, environment_id=self.environment.id, **more)

    def test_every_kind_of_object_is_as_the_sdk_expects_it(self):
        inside = {"vault_id": "vlt_1", "session_id": "sesn_1"}
        reads = {
            "agent": self.beta.agents.retrieve,
            "session": self.beta.sessions.retrieve,
            "session_thread": lambda id: self.beta.sessions.threads.retrieve(id, session_id="sesn_1"),
            "vault": self.beta.vaults.retrieve,
            "vault_credential": lambda id: self.beta.vaults.credentials.retrieve(id, vault_id="vlt_1"),
            "deployment": self.beta.deployments.retrieve,
            "deployment_run": self.beta.deployment_runs.retrieve,
            "environment": self.beta.environments.retrieve,
            "memory_store": self.beta.memory_stores.retrieve,
            "user_profile": self.client.user_profiles.retrieve,
            "external_key": self.client.organization.external_keys.retrieve,
        }
        for kind, read in reads.items():
            with self.subTest(kind):
                # The simulator makes up fields that the request leaves out.
                kept = self.simulator.steer(
                    "POST", "resources", {"type": kind, **inside, **self.agent_of(kind)}
                )

                self.assertEqual((read(kept["id"]).id, read(kept["id"]).type), (kept["id"], kind))

    def agent_of(self, kind):
        """The agent that an object of this kind runs, which it would have from its creation."""
        whole = self.agent.to_dict(mode="json")
        if kind in ("session", "session_thread"):
            return {"agent": whole}
        return (
            {"agent": {name: whole[name] for name in ("id", "type", "version")}}
            if kind == "deployment"
            else {}
        )

    def test_a_session_may_run_an_agent_that_nobody_made(self):
        session = self.beta.sessions.create(agent="agent_elsewhere", environment_id=self.environment.id)

        self.assertEqual((session.agent.id, session.agent.version), ("agent_elsewhere", 1))

    def test_a_session_lives_from_its_creation_to_its_deletion(self):
        created = self.session(title="nightly", metadata={"team": "post"})
        self.assertEqual(
            (created.title, created.status, created.metadata), ("nightly", "idle", {"team": "post"})
        )
        self.assertEqual((created.agent.id, created.agent.system), (self.agent.id, "You sort mail."))

        updated = self.beta.sessions.update(
            created.id, title="daily", metadata={"team": None, "shift": "early"}
        )
        self.assertEqual((updated.title, updated.metadata), ("daily", {"shift": "early"}))
        self.assertEqual(self.beta.sessions.retrieve(created.id), updated)

        archived = self.beta.sessions.archive(created.id)
        self.assertEqual(archived.status, "terminated")
        self.assertIsNotNone(archived.archived_at)
        self.assertNotIn(created.id, [session.id for session in self.beta.sessions.list()])
        self.assertIn(created.id, [session.id for session in self.beta.sessions.list(include_archived=True)])

        self.assertEqual(self.beta.sessions.delete(created.id).type, "session_deleted")
        with self.assertRaises(anthropic.NotFoundError):
            self.beta.sessions.retrieve(created.id)

    def test_a_session_that_is_spoken_to_runs_and_answers(self):
        session = self.session()

        sent = self.beta.sessions.events.send(session.id, events=[SAID])

        self.assertEqual([event.type for event in sent.data], ["user.message"])
        events = list(self.beta.sessions.events.list(session.id))
        self.assertEqual(
            [event.type for event in events],
            ["user.message", "session.status_running", "agent.message", "session.status_idle"],
        )
        self.assertEqual(events[0].id, sent.data[0].id)
        self.assertTrue(events[2].content[0].text)
        self.assertEqual(events[3].stop_reason.type, "end_turn")
        self.assertEqual(self.beta.sessions.retrieve(session.id).status, "idle")

    def test_the_last_event_of_one_type_can_be_asked_for(self):
        session = self.session()
        for _ in range(3):
            self.beta.sessions.events.send(session.id, events=[SAID])

        idle = self.beta.sessions.events.list(
            session.id, types=["session.status_idle"], order="desc", limit=1
        )

        every = list(self.beta.sessions.events.list(session.id))
        self.assertEqual(idle.data, [every[-1]])
        self.assertEqual(len(list(idle)), 3)

    def test_an_outcome_that_is_defined_gets_its_verdict(self):
        session = self.session()
        outcome = {
            "type": "user.define_outcome",
            "description": "All sorted",
            "rubric": {"type": "text", "content": "-"},
        }

        sent = self.beta.sessions.events.send(session.id, events=[outcome])

        (evaluation,) = self.beta.sessions.retrieve(session.id).outcome_evaluations
        self.assertEqual((evaluation.outcome_id, evaluation.result), (sent.data[0].outcome_id, "satisfied"))

    def test_a_session_has_a_thread_and_may_have_more(self):
        session = self.session()
        (primary,) = self.beta.sessions.threads.list(session.id)
        self.assertIsNone(primary.parent_thread_id)

        made = self.simulator.steer("POST", f"sessions/{session.id}/threads", {"status": "running"})

        child = self.beta.sessions.threads.retrieve(made["id"], session_id=session.id)
        self.assertEqual((child.parent_thread_id, child.session_id), (primary.id, session.id))
        self.assertEqual(len(list(self.beta.sessions.threads.list(session.id))), 2)
        self.assertIsNotNone(self.beta.sessions.threads.archive(child.id, session_id=session.id).archived_at)

    def test_pages_of_sessions_lead_on_and_back(self):
        made = [self.session(title="paged").id for _ in range(5)]
        seen = [session.id for session in self.beta.sessions.list(limit=2)]
        self.assertEqual(seen[:5], made[::-1])
        self.assertEqual(len(seen), len(set(seen)))

        second = self.beta.sessions.list(limit=2).get_next_page()
        self.assertEqual([session.id for session in second.data], [made[2], made[1]])
        back = self.beta.sessions.list(limit=2, page=second.prev_page)
        self.assertEqual([session.id for session in back.data], [made[4], made[3]])

    def test_a_vault_takes_its_credentials_along(self):
        vault = self.beta.vaults.create(display_name="keys")
        credential = self.beta.vaults.credentials.create(
            vault.id, auth={"type": "static_bearer", "mcp_server_url": "https://mcp.example", "token": "hush"}
        )
        self.assertEqual((credential.vault_id, credential.type), (vault.id, "vault_credential"))

        self.assertIsNotNone(self.beta.vaults.archive(vault.id).archived_at)
        archived = self.beta.vaults.credentials.retrieve(credential.id, vault_id=vault.id)
        self.assertIsNotNone(archived.archived_at)

        self.assertEqual(self.beta.vaults.delete(vault.id).type, "vault_deleted")
        with self.assertRaises(anthropic.NotFoundError):
            self.beta.vaults.credentials.retrieve(credential.id, vault_id=vault.id)

    def test_a_credential_never_gives_its_secret_away(self):
        vault = self.beta.vaults.create(display_name="keys")
        for auth in [
            {"type": "static_bearer", "mcp_server_url": "https://mcp.example", "token": "hush"},
            {"type": "mcp_oauth", "mcp_server_url": "https://mcp.example", "access_token": "hush"},
            {
                "type": "environment_variable", "secret_name": "POST", "secret_value": "hush",
                "networking": {"type": "unrestricted"},
            },
        ]:  # fmt: skip
            with self.subTest(auth["type"]):
                credential = self.beta.vaults.credentials.create(vault.id, auth=auth)

                self.assertEqual(credential.auth.type, auth["type"])
                self.assertNotIn("hush", credential.to_json())
        self.assertEqual(len(list(self.beta.vaults.credentials.list(vault.id, limit=1))), 3)

    def test_a_credential_whose_secret_is_renewed_stays_what_it_is(self):
        vault = self.beta.vaults.create(display_name="keys")
        auth = {"type": "static_bearer", "mcp_server_url": "https://mcp.example", "token": "hush"}
        credential = self.beta.vaults.credentials.create(vault.id, auth=auth)

        renewed = {"type": "static_bearer", "token": "hush hush"}
        updated = self.beta.vaults.credentials.update(credential.id, vault_id=vault.id, auth=renewed)

        self.assertEqual(updated.auth, credential.auth)

    def test_a_credential_is_deleted_from_its_own_vault_only(self):
        vault, other = (self.beta.vaults.create(display_name=name) for name in ("one", "other"))
        auth = {"type": "static_bearer", "mcp_server_url": "https://mcp.example", "token": "hush"}
        credential = self.beta.vaults.credentials.create(vault.id, auth=auth)

        with self.assertRaises(anthropic.NotFoundError):
            self.beta.vaults.credentials.delete(credential.id, vault_id=other.id)
        deleted = self.beta.vaults.credentials.delete(credential.id, vault_id=vault.id)

        self.assertEqual(deleted.type, "vault_credential_deleted")

    def test_an_agent_gets_a_new_version_when_it_changes(self):
        agent = self.beta.agents.create(name="courier", model="claude-opus-5-5")

        same = self.beta.agents.update(agent.id, version=1, name="courier")
        changed = self.beta.agents.update(agent.id, version=1, description="Brings it round.")

        self.assertEqual((same.version, changed.version, changed.description), (1, 2, "Brings it round."))
        self.assertIsNotNone(self.beta.agents.archive(agent.id).archived_at)

    def test_a_deployment_pauses_and_runs(self):
        deployment = self.beta.deployments.create(
            name="nightly", agent=self.agent.id, environment_id=self.environment.id, initial_events=[SAID]
        )
        paused = self.beta.deployments.pause(deployment.id)
        self.assertEqual((paused.status, paused.paused_reason.type), ("paused", "manual"))
        self.assertEqual(self.beta.deployments.unpause(deployment.id).status, "active")

        run = self.beta.deployments.run(deployment.id)
        self.assertEqual(
            (run.deployment_id, run.trigger_context.type, run.error), (deployment.id, "manual", None)
        )
        session = self.beta.sessions.retrieve(run.session_id)
        self.assertEqual(
            (session.deployment_id, session.environment_id), (deployment.id, self.environment.id)
        )
        self.assertEqual((session.agent.id, session.agent.name), (self.agent.id, "clerk"))

        self.simulator.steer("POST", f"deployments/{deployment.id}/run", {"error": "vault_archived_error"})
        (failed,) = self.beta.deployment_runs.list(deployment_id=deployment.id, has_error=True)
        self.assertEqual((failed.error.type, failed.session_id), ("vault_archived_error", None))
        self.assertEqual(self.beta.deployment_runs.retrieve(failed.id), failed)
        self.assertEqual(len(list(self.beta.deployment_runs.list(deployment_id=deployment.id, limit=1))), 2)

    def test_an_environment_says_what_its_configuration_leaves_out(self):
        config = {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["post.example"]}}
        environment = self.beta.environments.create(
            name="walled", config=config | {"packages": {"pip": ["stamps"]}}
        )

        self.assertEqual(environment.config.networking.allowed_hosts, ["post.example"])
        self.assertFalse(environment.config.networking.allow_mcp_servers)
        self.assertEqual((environment.config.packages.pip, environment.config.packages.apt), (["stamps"], []))
        updated = self.beta.environments.update(environment.id, description="No way out.")
        self.assertEqual((updated.description, updated.config), ("No way out.", environment.config))
        self.assertEqual(self.beta.environments.delete(environment.id).type, "environment_deleted")

    def test_memory_stores_profiles_and_keys_come_and_go(self):
        external_keys = self.client.organization.external_keys
        aws = {"type": "aws", "kms_arn": "arn:aws:kms:us-east-1:1:key/1"}
        for resource, created, word in [
            (self.beta.memory_stores, lambda: self.beta.memory_stores.create(name="ledger"), "memory_store"),
            (
                self.client.user_profiles,
                lambda: self.client.user_profiles.create(name="A firm"),
                "user_profile",
            ),
            (external_keys, lambda: external_keys.create(provider_config=aws), "external_key"),
        ]:
            with self.subTest(word):
                made = [created().id for _ in range(3)]

                listed = [one.id for one in resource.list(limit=2)]
                self.assertEqual([id for id in listed if id in made], made[::-1])
                self.assertEqual(resource.delete(made[0]).type, f"{word}_deleted")
                with self.assertRaises(anthropic.NotFoundError):
                    resource.retrieve(made[0])
        self.assertEqual(external_keys.validate(made[1]).status, "success")

    def test_an_object_is_not_there_without_the_beta_header(self):
        vault = self.beta.vaults.create(display_name="keys")

        with self.assertRaises(anthropic.NotFoundError):
            self.client.get(f"/v1/vaults/{vault.id}", cast_to=object)

        header = {"headers": {"anthropic-beta": "managed-agents-2026-04-01"}}
        self.assertEqual(
            self.client.get(f"/v1/vaults/{vault.id}", cast_to=object, options=header)["id"], vault.id
        )


class RunningSession(SimulatorTest):
    """That takes its time."""

    switches = ("--seed", "42", "--session-seconds", "0.3")

    def test_a_session_runs_for_a_while_before_it_is_idle_again(self):
        beta = self.client.beta
        agent = beta.agents.create(name="clerk", model="claude-opus-5-5")
        environment = beta.environments.create(name="post office")

        session = beta.sessions.create(agent=agent.id, environment_id=environment.id, initial_events=[SAID])

        self.assertEqual(session.status, "running")
        eventually("an idle session", lambda: beta.sessions.retrieve(session.id).status == "idle")


if __name__ == "__main__":
    unittest.main()
