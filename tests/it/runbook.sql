-- Rows for the runbook's questions about batches, partitions and identifiers, in addition to the seeded events.

insert into restante.batch (id, status, succeeded, errored, created_at, ended_at, results_stored, bytes_stored, complete_at)
values ('msgbatch_01', 'ended', 1, 2, now() - interval '2 days', now() - interval '1 day', 3, 300, now() - interval '1 day');
insert into restante.batch_result (batch_id, custom_id, outcome, line, text, model, stop_reason, error_type, error_message,
                                   input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens)
values ('msgbatch_01', 'request-1', 'succeeded', '{"custom_id":"request-1"}', 'Hello', 'claude-test', 'end_turn', null, null,
        10, 20, 0, 0),
       ('msgbatch_01', 'request-2', 'errored', '{"custom_id":"request-2"}', null, null, null, 'api_error', 'again, please',
        null, null, null, null),
       ('msgbatch_01', 'request-3', 'errored', '{"custom_id":"request-3"}', null, null, null, 'invalid_request_error', 'no',
        null, null, null, null);

-- A batch whose results are not stored, and soon vanish.
insert into restante.batch (id, status, succeeded, created_at, ended_at, download_started_at, first_seen_at)
values ('msgbatch_02', 'ended', 1000, now() - interval '25 days', now() - interval '24 days', now(), now() - interval '25 days');
select restante.begin_standing_job('batch.ended', 'msgbatch_02');
update restante.outbox set status = 'dead', last_error = '999 of 1000 results are here'
 where event_id = 'batch.ended:msgbatch_02';

-- What was submitted: one submission is complete, and one has ended.
insert into restante.submission (name, tag, status, requests, bytes, submitted_at, complete_at)
values ('invoices-november', 'invoices', 'complete', 3, 300, now() - interval '2 days', now() - interval '1 day'),
       ('letters-november', 'letters', 'submitted', 1000, 9000, now() - interval '25 days', null);
insert into restante.submission_part (submission, number, account, status, requests, bytes, batch_id, submitted_at)
values ('invoices-november', 1, 'anthropic', 'complete', 3, 300, 'msgbatch_01', now() - interval '2 days'),
       ('letters-november', 1, 'anthropic', 'submitted', 1000, 9000, 'msgbatch_02', now() - interval '25 days');
insert into restante.budget_limit (tag, per, amount) values ('invoices', 'month', 100);

create table restante.outbox_2025w40 partition of restante.outbox
  for values from ('2025-09-29 00:00+00') to ('2025-10-06 00:00+00');
insert into restante.outbox (event_id, type, payload, status, finished_at)
values ('whe_old', 'session.status_idled', '{}', 'done', '2025-10-01'),
       ('whe_older', 'session.status_idled', '{}', 'done', '2024-10-01');

insert into restante.outbox_seen (event_id, seen_at) values ('whe_forgotten', now() - interval '200 days');
update restante.outbox_seen set seen_at = now() - interval '200 days' where event_id = 'whe_paused';

insert into restante.resource (type, id, body, status, stop_reason, error_type, error_message, parent_id, refresh_failed_at, observed_at)
values ('session', 'sesn_waits', '{"type":"session"}', 'idle', 'requires_action', null, null, null, null, now()),
       ('vault_credential', 'vcrd_01', '{}', null, null, null, null, 'vlt_01', now(), now()),
       ('deployment_run', 'drun_01', '{}', null, null, 'agent_error', 'the agent was archived', 'depl_01', null, now());

insert into restante.resource (type, id, observed_at, gone_at, gone_because)
values ('agent', 'agent_never_seen', now(), now(), 'not_found');
insert into restante.outbox (event_id, type, payload, status, finished_at, result)
values ('whe_not_found', 'agent.updated', '{}', 'done', now() - interval '1 minute', '{"gone":"404 not_found_error"}');

insert into restante.refusal (sender, reason, hour, requests, first_at, last_at)
values ('anthropic', 'stale', date_trunc('hour', now()), 7, now(), now());

-- Roles belong to the whole server, here that of the tests.
create role runbook_operator;
grant restante_operator to runbook_operator;

-- A subscriber that no worker has any more, and an old failure.
insert into restante.subscription (subscriber, type) values ('reports', 'report.*');
select restante.enqueue('report.made', '{}', event_id => 'sql_report');
insert into restante.failure (outbox_id, event_id, type, attempt, failed_at, outcome, kind, error)
values (0, 'whe_forgotten', 'session.status_idled', 1, now() - interval '100 days', 'retryable', 'handler', 'long ago');

-- A submission of which one request expired, and one that waits.
select restante.submit_batch('[{"custom_id":"a","params":{}},{"custom_id":"b","params":{}}]', name => 'nightly');
update restante.submission_part set status = 'sending' where submission = 'nightly';
update restante.submission_part set batch_id = 'msgbatch_nightly' where submission = 'nightly';
insert into restante.batch_result (batch_id, custom_id, outcome, line)
values ('msgbatch_nightly', 'a', 'succeeded', '{}'), ('msgbatch_nightly', 'b', 'expired', '{}');
update restante.batch set complete_at = now(), ended_at = now(), status = 'ended' where id = 'msgbatch_nightly';
select restante.submit_batch('[{"custom_id":"a","params":{}}]', name => 'nightly-2');
-- One message failed, one waits, and one is being written by its second attempt.
insert into restante.message (request, tag, status, reason, attempt)
values ('{}', 'letters', 'failed', 'the API refused the request', 1), ('{}', 'letters', 'waiting', null, 0),
       ('{}', 'letters', 'sending', null, 2);
insert into restante.message_attempt (message, attempt, ended_at, outcome, may_be_paid, error)
values (1, 1, now(), 'refused', false, 'the API refused the request'),
       (3, 1, now(), 'lost', true, 'the worker that sent it ended'), (3, 2, null, null, true, null);
insert into restante.message_chunk (message, attempt, seq, events, text) values (3, 2, 4, '[]', 'Hel');
-- A message that waits for a batch, and one that a batch answered too late.
select restante.send_message('{"model":"claude-test","max_tokens":1,"messages":[1]}', deliver_by => now() + interval '2 hours') from generate_series(1, 2);
insert into restante.message_attempt (message, attempt, sent_as, outcome, ended_at) select max(id), 1, 'batch', 'unused', now() from restante.message;
insert into restante.message_attempt (message, attempt, outcome, ended_at) select max(id), 2, 'answered', now() from restante.message;
update restante.message set status = 'done', attempt = 2, body = '{}', done_at = now() where id = (select max(id) from restante.message);
-- Nothing of them runs or waits in this test.
update restante.outbox set status = 'cancelled'
 where finished_at = 'infinity'
   and (type in ('batch.submit', 'batch.submitted', 'batch.results_ready', 'message.send', 'message.pack', 'message.completed') or event_id = 'batch.poll:msgbatch_nightly');

-- Events for a session, of which it is uncertain whether they arrived.
select restante.send_session_events('sesn_waits', '[{"type": "user.interrupt"}]');
update restante.outbox set status = 'cancelled' where type = 'session_events.send';
update restante.session_send set status = 'sending', sent_at = now(), attempt = 1;
update restante.session_send set status = 'uncertain', reason = 'sevt_1 may be of this send or not';

-- What the reconciler found.
insert into restante.reconcile_state (account, kind, since, every, tried_at, complete_at, took, found)
values ('anthropic', 'vault', now() - interval '1 day', '5 minutes', now(), now() - interval '2 minutes', '1 second', 1);
insert into restante.missed_change (account, event_id, kind, type, key, subject, payload, happened_at, is_once, polled_at)
values ('anthropic', 'poll:vault.created:vlt_01', 'vault', 'vault.created', 'vlt_01', 'vlt_01', '{"type":"vault.created","id":"vlt_01"}',
        now() - interval '5 minutes', true, now());

-- An endpoint that is disabled, with what is parked for it, and one that is sound.
insert into restante.endpoint (name, url, event_types) values ('billing', 'https://billing.example/hooks', '{invoice.*}');
insert into restante.endpoint (name, url, event_types) values ('audit', 'https://audit.example/hooks', '{nothing.yet}');
update restante.endpoint set status = 'disabled', disabled_because = 'it answered 410: it wants no more notifications' where name = 'billing';
select restante.enqueue('invoice.paid', '{}', key => 'inv_1', event_id => 'sql_invoice');
update restante.outbox set status = 'cancelled' where event_id = 'sql_invoice';
insert into restante.endpoint_delivery (endpoint, outbox_id, event_id, type, attempt, delivered_at, took, status, error, answer)
values ('billing', 0, 'ntf_1', 'invoice.paid', 1, now(), '20 ms', 410, 'it answered 410', 'gone'),
       ('audit', 0, 'ntf_0', 'invoice.paid', 1, now() - interval '100 days', '20 ms', 204, null, '');
update restante.outbox set event_id = 'ntf_invoice' where type = 'notify.billing';

-- What a person has begun: a replay, a pause of a key and one of a subscriber.
select restante.replay(type => 'session.status_idled', per_second => 10, name => 'idled', dry_run => false);
select restante.pause(key => 'sesn_kept', reason => 'a look at it');
select restante.pause(subscriber => 'audits');

-- A sender that has ended, and an alarm.
insert into restante.journal (journal, place, events, bytes, bytes_max, aside, is_full) values ('0123', 'retired:/journal', 0, 0, 1073741824, 0, false);
insert into restante.sender_rhythm (sender, first_at, last_at) values ('former', now() - interval '9 days', now() - interval '5 days');
insert into restante.health_alarm (question, subject, raised_at, raised_event_id) values ('silence', 'former', now(), 'health.raised:1');
-- What a worker has learned of a limit.
select restante.note_limit('anthropic', 'batches', 50, 1, false, null, false, null, null);
-- Keys of a rotation: both services have the new one, and one of them the old one too.
select restante.note_key_use('ingest-1', 'restante-ingest', array['signing', 'signing'], array['anthropic', 'anthropic'],
  array['0a0a0a0a', '1b1b1b1b'], array[true, true], array[3, 1], array[now(), now()], array[now(), null]);
insert into restante.api_breaker (account, kind, said, closed_at, times_opened, probes) values ('anthropic', 'account', '401 authentication_error', now(), 1, 9);

-- What retention deleted, and what a person had forgotten.
insert into restante.operation (what, how_many, arguments) values ('retention', 10, '{"failure": 10}');
insert into restante.forgetting (of_what, status, erased, ended_at)
values (restante.forgotten_as('key', 'customer_7'), 'done', '{"outbox_live": 1}', now());
