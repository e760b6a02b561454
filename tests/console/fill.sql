-- 10 million finished and 100,000 waiting events, as a week of traffic leaves them. Written into the partitions themselves, since this
-- is about reading.
\set finished 10000000
select restante.make_partitions(1);
set synchronous_commit = off;
-- Two weeks of numbers are needed whatever the day: what finished before this Monday has no week any more and goes to the overflow.
create temporary view finished as
  select n as id, 'evt_' || n as event_id,
         (array['session.status_idled', 'session.thread_created', 'batch.completed', 'vault.created', 'order.placed'])[1 + n % 5] as type,
         case when n % 5 = 4 then null else 'sesn_' || n % 500000 end as key, 'webhook' as source,
         t.received_at as created_at, t.received_at, ('{"type":"event","id":"evt_' || n || '","data":{"id":"sesn_' || n % 500000 || '"}}')::json as payload,
         case when n % 50 = 0 then 'ignored' else 'done' end as status, 'f'::"char" as lane, 1 as attempt, 2 as lease_token, 'worker-1' as lease_owner,
         t.received_at + make_interval(secs => n % 7) as started_at, '{"rows":1}'::json as result,
         t.received_at + make_interval(secs => n % 7 + (n % 13) / 10.0) as finished_at
    from generate_series(1, :finished) as n
   cross join lateral (select now() - interval '7 days' + n * (interval '7 days' / :finished) - interval '10 seconds' as received_at) as t;
select to_char(date_trunc('week', now(), 'UTC') at time zone 'UTC', '"restante.outbox_"IYYY"w"IW') as week \gset
insert into restante.outbox_overflow
  (id, event_id, type, key, source, created_at, received_at, payload, status, lane, attempt, lease_token, lease_owner, started_at, result, finished_at)
select * from finished where finished_at < date_trunc('week', now(), 'UTC');
insert into :week
  (id, event_id, type, key, source, created_at, received_at, payload, status, lane, attempt, lease_token, lease_owner, started_at, result, finished_at)
select * from finished where finished_at >= date_trunc('week', now(), 'UTC');
select setval('restante.outbox_id_seq', :finished);

insert into restante.subscription (subscriber, type) values ('reports', 'order.*'), ('mirror', 'vault.*');
-- 20,000 are tried again, 10,000 of them with events of their key behind them; 5,000 run; 15,000 wait for a worker; 10,000 are dead;
-- 40,000 are blocked; 5,000 are paused; 5,000 are of a subscriber without a worker.
insert into restante.outbox_live
  (event_id, type, subscriber, key, source, created_at, received_at, payload, status, run_at, lane, attempt, lease_token, lease_owner, lease_until,
   started_at, outcome, kind, last_error)
select 'wait_' || n, (array['session.status_idled', 'batch.completed', 'order.placed', 'vault.created'])[1 + n % 4],
       case when n > 95000 then 'reports' else '' end,
       case w.status when 'retry' then 'held_' || n when 'blocked' then 'held_' || (n % 10000 + 1) end, 'webhook', now(),
       now() - interval '1 hour' + n * interval '30 milliseconds', '{"type":"event"}', w.status,
       case when w.status = 'retry' then now() + n * interval '1 second' else '-infinity' end,
       restante.lane(w.status, case when w.status = 'retry' then now() + interval '1 hour' else '-infinity' end, false),
       case when w.status in ('retry', 'dead', 'running') then 4 else 0 end, 9, 'worker-1',
       case when w.status = 'running' then now() + interval '1 hour' else '-infinity' end,
       case when w.status in ('retry', 'dead', 'running') then now() - interval '10 minutes' end,
       case w.status when 'retry' then 'retryable' when 'dead' then 'permanent' end,
       case when w.status in ('retry', 'dead') then (array['database', 'transport', 'payload', 'not_found', 'handler'])[1 + n % 5] end,
       case when w.status in ('retry', 'dead') then 'the API does not find it: 404 not_found_error: bad id ' || n || ' (request req_' || n || ')' end
  from generate_series(1, 100000) as n
 cross join lateral (select case when n <= 20000 then 'retry' when n <= 25000 then 'running' when n <= 40000 then 'pending'
                                 when n <= 50000 then 'dead' when n <= 90000 then 'blocked' when n <= 95000 then 'paused'
                                 else 'pending' end as status) as w;
insert into restante.failure (outbox_id, event_id, type, attempt, started_at, failed_at, outcome, kind, error)
select n % 30000, 'wait_' || n % 30000, (array['session.status_idled', 'batch.completed', 'order.placed', 'vault.created'])[1 + n % 4], 1 + n / 30000,
       f.at - interval '1 second', f.at, 'retryable', (array['database', 'transport', 'payload', 'not_found', 'handler'])[1 + n % 5],
       'the API does not find it: 404 not_found_error: bad id ' || n || ' (request req_' || n || ')'
  from generate_series(1, 300000) as n
 cross join lateral (select now() - interval '7 days' + n * (interval '7 days' / 300000) as at) as f;
insert into restante.operation (who, what, of_what, how_many, at)
select 'somebody', 'replay', 'wait_' || n, 1, now() - n * interval '1 minute' from generate_series(1, 10000) as n;
select restante.pause(key => 'held_7');
select restante.replay(type => 'order.*', per_second => 1, name => 'orders', dry_run => false);
-- As workers do every minute.
do $$ begin while restante.add_up_hour() loop end loop; end $$;
vacuum analyze;
-- As workers do twice a minute.
select restante.note_rhythm(50000), restante.note_alarms();
