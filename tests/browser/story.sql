-- A day of a worker's life, for the browser test and its screenshots: what was finished, what waits, what failed, batches, messages
-- and notifications. Written into the tables themselves, since this is about looking.
set client_min_messages = warning;
select restante.make_partitions(1);

create temporary view finished as
  select n as id, 'whe_' || md5(n::text) as event_id,
         (array['session.status_idled', 'batch.completed', 'message.send', 'order.placed', 'session.thread_created', 'vault_credential.updated'])[1 + (n * 7919) % 6] as type,
         'sesn_' || left(md5((n % 900)::text), 10) as key, t.received_at,
         case when n % 61 = 0 then 'ignored' else 'done' end as status,
         t.received_at + make_interval(secs => 0.02 + (n % 17) * 0.02 * (1.4 + sin(n / 800.0))) as started_at, 'f'::"char" as lane
    from generate_series(1, 24000) as n
   -- More by day than by night.
   cross join lateral (select now() - interval '24 hours' * (1 - (n / 24000.0 + 0.06 * sin(n / 24000.0 * 2 * pi()))) - interval '5 seconds' as received_at) as t;
insert into restante.outbox (id, event_id, type, key, source, created_at, received_at, payload, status, lane, attempt, lease_token, lease_owner, started_at, result, finished_at)
overriding system value
select id, event_id, type, key, 'webhook', received_at - interval '1 second', received_at,
       json_build_object('type', 'event', 'id', event_id, 'data', json_build_object('type', type, 'id', key)), status::restante.event_status, lane, 1, 2,
       'worker-1', started_at, '{"rows": 1}', started_at + interval '80 milliseconds'
  from finished;
select setval('restante.outbox_id_seq', 24000);

-- What waits: retries, their successors, paused events, dead letters, and events that run.
insert into restante.outbox_live
  (event_id, type, key, source, created_at, received_at, payload, status, run_at, lane, attempt, lease_token, lease_owner, lease_until, started_at, outcome, kind, last_error)
select 'whe_' || md5('live' || n), w.type, case when w.status in ('retry', 'blocked') then 'sesn_held_' || n % 6 else 'sesn_' || left(md5(n::text), 10) end, 'webhook',
       now() - (45 - n) * interval '40 seconds', now() - (45 - n) * interval '40 seconds',
       json_build_object('type', 'event', 'id', 'whe_' || md5('live' || n), 'data', json_build_object('type', w.type, 'id', n)), w.status,
       case w.status when 'retry' then now() + interval '1 hour' else '-infinity' end,
       restante.lane(w.status, case w.status when 'retry' then now() + interval '1 hour' else '-infinity' end, false),
       case when w.status in ('retry', 'dead', 'running') then 3 else 0 end, 5, 'worker-1',
       case w.status when 'running' then now() + interval '1 hour' else '-infinity' end,
       case when w.status in ('retry', 'dead', 'running') then now() - (45 - n) * interval '20 seconds' end,
       case w.status when 'retry' then 'retryable' when 'dead' then 'permanent' end, w.kind, w.error
  from (select g.n, v.* from (values
          ('retry'::restante.event_status, 'order.placed', 'database', 'error returned from database: deadlock detected', 1, 6),
          ('blocked', 'order.placed', null, null, 7, 16),
          ('paused', 'vault_credential.updated', null, null, 17, 20),
          ('running', 'message.send', null, null, 21, 27),
          ('dead', 'order.placed', 'handler', 'too little of SKU-4711 is left', 28, 34),
          ('dead', 'session.status_idled', 'payload', 'invalid type: integer `5`, expected a string at line 1 column 7', 35, 37))
          as v (status, type, kind, error, first, last)
        cross join lateral generate_series(v.first, v.last) as g (n)) as w;
insert into restante.failure (outbox_id, event_id, type, attempt, started_at, failed_at, outcome, kind, error, lease_owner)
select l.id, l.event_id, l.type, a.attempt, l.started_at - (3 - a.attempt) * interval '4 minutes' - interval '1 second',
       l.started_at - (3 - a.attempt) * interval '4 minutes', coalesce(l.outcome, 'retryable'), coalesce(l.kind, 'transport'),
       coalesce(l.last_error, 'the API closed the connection'), 'worker-1'
  from restante.outbox_live as l cross join generate_series(1, 3) as a (attempt) where l.status in ('retry', 'dead');
insert into restante.failure (outbox_id, event_id, type, attempt, started_at, failed_at, outcome, kind, error)
select n, 'whe_' || md5(n::text), (array['message.send', 'order.placed'])[1 + n % 2], 1, f.at - interval '1 second', f.at, 'retryable',
       (array['transport', 'database'])[1 + n % 2], 'the API closed the connection'
  from generate_series(100, 23900, 170) as n
 cross join lateral (select now() - interval '24 hours' * (1 - n / 24000.0) as at) as f;

insert into restante.subscription (subscriber, type) values ('billing', 'order.*');

insert into restante.price (model, valid_from, input, output, cache_write_5m, cache_write_1h, cache_read)
values ('claude-*', '2026-01-01', 3, 15, 3.75, 6, 0.3) on conflict do nothing;
insert into restante.batch (id, status, succeeded, errored, expired, processing, created_at, expires_at, ended_at, results_stored, bytes_stored, complete_at, first_seen_at)
select 'msgbatch_' || left(md5(v.n::text), 20), v.status, v.succeeded, v.errored, v.expired, v.processing, now() - v.ago, now() - v.ago + interval '24 hours',
       case when v.status = 'ended' then now() - v.ago + interval '40 minutes' end, v.stored, v.stored * 900,
       case when v.stored = v.succeeded + v.errored + v.expired and v.stored > 0 then now() - v.ago + interval '44 minutes' end, now() - v.ago
  from (values (1, 'ended', 11950, 38, 12, 0, interval '3 hours', 12000), (2, 'ended', 998, 2, 0, 0, interval '9 hours', 1000),
               (3, 'ended', 49700, 300, 0, 0, interval '26 hours', 50000), (4, 'ended', 2000, 0, 0, 0, interval '5 days', 2000))
       as v (n, status, succeeded, errored, expired, processing, ago, stored);
insert into restante.batch_usage (batch_id, account, model, results, succeeded, without_usage, input_tokens, output_tokens, cache_write_5m_tokens, cache_write_1h_tokens, cache_read_tokens, server_tool_uses)
select b.id, b.account, 'claude-sonnet-5', b.results_stored, b.succeeded, 0, b.succeeded * 820, b.succeeded * 240, 0, 0, 0, 0 from restante.batch as b;

insert into restante.batch_request (submission, custom_id, params, status, attempt)
select 'summaries-2026-11-27', 'summary_' || n, '{}', case when n <= 998 then 'succeeded' else 'errored' end, 1 from generate_series(1, 1000) as n;
insert into restante.batch_request (submission, custom_id, params, status)
select 'letters-november', 'letter_' || n, '{}', 'waiting' from generate_series(1, 600) as n;
insert into restante.submission (name, tag, status, requests, bytes, created_at, submitted_at, complete_at)
values ('summaries-2026-11-27', 'summaries', 'complete', 1000, 900000, now() - interval '9 hours', now() - interval '9 hours', now() - interval '8 hours'),
       ('letters-november', 'letters', 'waiting', 600, 500000, now() - interval '3 minutes', null, null);
insert into restante.submission_part (submission, number, account, status, requests, bytes, sent_at, batch_id, submitted_at)
select 'summaries-2026-11-27', 1, b.account, 'complete', 1000, 900000, b.created_at, b.id, b.created_at from restante.batch as b where b.succeeded = 998;

insert into restante.message (tag, key, request, partial, status, attempt, text, body, model, stop_reason, input_tokens, output_tokens, created_at, sent_at, done_at)
select (array['support', 'summaries', 'triage'])[1 + n % 3], 'ticket_' || 4700 + n, '{}', true, 'done', 1 + (n = 9)::integer,
       'The parcel was kept until it was called for.', '{}', 'claude-opus-5-5', 'end_turn', 300 + n * 37, 90 + n * 11, now() - n * interval '7 minutes',
       now() - n * interval '7 minutes' + interval '1 second', now() - n * interval '7 minutes' + interval '6 seconds'
  from generate_series(1, 12) as n order by n desc;
insert into restante.message_attempt (message, attempt, sent_at, ended_at, outcome, may_be_paid, model, input_tokens, output_tokens)
select m.id, 1, m.sent_at, m.done_at, 'answered', true, m.model, m.input_tokens, m.output_tokens from restante.message as m;

insert into restante.endpoint (name, url, event_types) values
  ('billing', 'https://billing.example/hooks/restante', '{batch.*}'), ('support', 'https://support.example/api/answers', null);
insert into restante.endpoint_delivery (endpoint, outbox_id, event_id, type, attempt, delivered_at, took, status, error)
select case when n % 4 = 0 then 'support' else 'billing' end, 24000 - n, 'ntf_' || md5(n::text), case when n % 4 = 0 then 'message.completed' else 'batch.results_ready' end,
       1, now() - n * interval '9 minutes', make_interval(secs => 0.08 + n % 5 * 0.03), case when n = 8 then 502 else 204 end,
       case when n = 8 then '502 Bad Gateway' end
  from generate_series(40, 1, -1) as n;

-- The first dead letter was told to two endpoints: one has it, the other is tried again.
create temporary view told as
  select l.event_id, l.type, l.key, l.received_at + interval '20 milliseconds' as at,
         format('{"url":null,"body":{"type":%s,"id":%s,"data":{}}}', to_json(l.type), to_json(l.event_id))::json as payload
    from restante.outbox_live as l where l.event_id = 'whe_' || md5('live28');
insert into restante.outbox
  (event_id, type, key, source, created_at, received_at, payload, status, lane, attempt, lease_token, lease_owner, started_at, finished_at)
select 'ntf_' || md5(t.event_id), 'notify.support', 'support:' || t.key, 'webhook', t.at, t.at, t.payload, 'done', 'f', 1, 2, 'worker-1',
       t.at + interval '30 milliseconds', t.at + interval '150 milliseconds' from told as t;
insert into restante.outbox_live
  (event_id, type, key, source, created_at, received_at, payload, status, run_at, lane, attempt, lease_token, lease_owner, started_at, outcome, kind, last_error)
select 'ntf_' || md5(t.key), 'notify.billing', 'billing:' || t.key, 'webhook', t.at, t.at, t.payload, 'retry', now() + interval '2 hours', 'l', 4, 5,
       'worker-1', now() - interval '2 minutes', 'retryable', 'endpoint', '502 Bad Gateway' from told as t;
insert into restante.endpoint_delivery (endpoint, outbox_id, event_id, type, attempt, delivered_at, took, status, error)
select replace(o.type, 'notify.', ''), o.id, o.event_id, 'order.placed', o.attempt, o.started_at + interval '120 milliseconds', interval '120 milliseconds',
       case o.type when 'notify.support' then 204 else 502 end, o.last_error
  from restante.outbox as o where o.type in ('notify.support', 'notify.billing') order by o.id;

insert into restante.operation (who, what, of_what, how_many, reason, at) values
  ('grace', 'pause', 'vault_credential.*', 4, 'credentials are being moved', now() - interval '50 minutes'),
  ('ada', 'replay', 'batch.completed', 12, 'the disk was full', now() - interval '7 hours'),
  ('ada', 'budget', 'summaries', 1, 'more in December', now() - interval '20 hours');
insert into restante.paused_type (type, reason) values ('vault_credential.*', 'credentials are being moved');
update restante.outbox_live set held_by = 'vault_credential.*' where status = 'paused';
select restante.budget('summaries', 250);
delete from restante.operation where who = session_user;
do $$ begin while restante.add_up_hour() loop end loop; end $$;
analyze;
