-- The views that answer an operator's questions. Where the table has an infinite time they have null, so that one can calculate
-- with their times. Each view reads the backlog, not the history.

-- A job that never ends, or that waits for a batch to end, needs no operator as long as its last poll went well.
create function restante.is_standing(type text, status text, outcome text) returns boolean
language sql immutable parallel safe
return type in ('batch.poll', 'batch.reconcile')
   and status in ('pending', 'running', 'retry')
   and coalesce(outcome, 'snoozed') = 'snoozed';
comment on function restante.is_standing is
  'Engine: Is this a job that polls again and again (for batches, or whether one has ended), and whose last poll went well?';

-- The state of an event as operators see it. It is the status, except for two kinds of events that need no operator.
create function restante.state(type text, status text, outcome text, run_at timestamptz) returns text
language sql stable parallel safe
return case
  when restante.is_standing(type, status, outcome)             then 'standing'
  when status = 'pending' and run_at > statement_timestamp()   then 'scheduled'
  else status
end;
comment on function restante.state is
  'Engine: The state of an unfinished event as operators see it: its status, or scheduled (for a later time), or standing (a job that '
  'polls again and again).';

-- Removes the identifier of the request, which differs in each answer of the API, so that one cause has one text.
create function restante.cause(error text) returns text
language sql immutable parallel safe
return regexp_replace(left(error, 500), '( \(request [^)]*\)|, request_id: \S+)', '', 'g');
comment on function restante.cause is 'Engine: An error without the identifier of its request, so that one can count how often it occurred.';

create view restante.outbox_overview as
  select l.type, l.subscriber, l.status, count(*) as events, min(l.created_at) as oldest_created_at,
         clock_timestamp() - min(l.received_at) as longest_wait
    from restante.outbox_live as l
   where not restante.is_standing(l.type, l.status, l.outcome)
   group by l.type, l.subscriber, l.status;
comment on view restante.outbox_overview is
  'How many events are not finished, by type and status, without the jobs that only poll again and again (outbox_standing).';

create view restante.outbox_standing as
  select id, event_id, type, status, nullif(nullif(run_at, '-infinity'), 'infinity') as next_look_at, last_error as reason
    from restante.outbox_live as l
   where restante.is_standing(l.type, l.status, l.outcome);
comment on view restante.outbox_standing is
  'Jobs that poll again and again: for batches, or whether one has ended. Nothing is wrong with them, and nothing needs doing.';

create view restante.outbox_waiting as
  select l.id, l.event_id, l.type, l.subscriber, l.key, l.status, l.attempt, l.received_at,
         nullif(nullif(l.run_at, '-infinity'), 'infinity') as next_attempt_at,
         case
           when restante.is_standing(l.type, l.status, l.outcome) then 'next look'
           when l.status = 'blocked' then 'older event'
           when l.status in ('paused', 'dead') then 'person'
           when l.run_at <= statement_timestamp() then 'worker'
           when l.status = 'pending' then 'time'
           when l.outcome = 'trouble' then 'repair'
           when l.outcome in ('snoozed', 'deferred') then 'time'
           else 'next attempt'
         end as waits_for,
         case
           when l.status = 'blocked' then 'an older event of its key comes first'
           when l.status = 'paused' and l.held_by is null then 'a person paused it'
           when l.status = 'paused' then
             format('held by restante.pause(%L)', l.held_by) || coalesce(': ' || t.reason, '')
           when l.status = 'dead' then
             'it was given up' || case when l.holds_key then ', and later events of its key wait for it' else '' end
               || coalesce(': ' || l.last_error, '')
           when l.status = 'pending' and l.run_at > statement_timestamp() then 'it is scheduled for a later time'
           when l.status = 'pending' then
             case when l.subscriber = '' then 'the next worker with a free place claims it'
                  else format('the next worker of the subscriber %L with a free place claims it', l.subscriber) end
           when l.outcome is null or l.outcome in ('snoozed', 'deferred', 'trouble') then
             coalesce(l.last_error, 'it was too early, and its handler did not say for what')
           else format('attempt %s failed: %s', l.attempt, l.last_error)
         end as reason
    from restante.outbox_live as l
    left join restante.paused_type as t on l.status = 'paused' and t.type = l.held_by
   where l.status <> 'running';
comment on view restante.outbox_waiting is
  'Every event that is not finished and does not run, with what it waits for and why. Dead letters wait for a person.';

create view restante.outbox_running as
  select id, event_id, type, subscriber, key, attempt, lease_owner, started_at,
         clock_timestamp() - started_at as running_for, nullif(lease_until, '-infinity') as lease_until,
         lease_until <= clock_timestamp() as lease_ran_out
    from restante.outbox_live where lane = 'r' and status = 'running';
comment on view restante.outbox_running is
  'Which events run now, on which worker, and since when. If a lease has run out, the next claim takes the event over.';

create view restante.outbox_dead as
  select o.id, o.event_id, o.type, o.subscriber, o.key, o.created_at, o.attempt, o.crashes, o.last_error,
         f.failed_at, f.outcome, f.kind
    from restante.outbox_live as o
    left join lateral (
          select failed_at, outcome, kind from restante.failure
           where outbox_id = o.id order by failed_at desc limit 1) as f on true
   where o.status = 'dead';
comment on view restante.outbox_dead is 'Dead letters: events that were given up, and why. Each waits until a person replays or cancels it.';

create view restante.outbox_stuck as
  select l.id, l.event_id, l.type, l.subscriber, l.key, l.status, l.attempt,
         nullif(nullif(l.run_at, '-infinity'), 'infinity') as run_at, l.last_error,
         case
           when l.status = 'running' then 'its worker is gone; the next claim takes it over'
           when l.run_at < clock_timestamp() - interval '1 minute' and l.subscriber <> ''
             then format('it could have been claimed a minute ago: is a worker of the subscriber %L running?', l.subscriber)
           when l.run_at < clock_timestamp() - interval '1 minute'
             then 'it could have been claimed a minute ago: is a worker running?'
           when l.outcome = 'trouble'
             then 'something is wrong with us, or with the other side; once that is mended, it goes on by itself'
           else 'it has failed three times or more, and holds its key meanwhile'
         end as reason
    from restante.outbox_live as l
   where (l.lane = 'r' and l.status = 'running' and l.lease_until <= clock_timestamp())
      or (l.lane = 'r' and l.status = 'pending' and l.received_at < clock_timestamp() - interval '1 minute')
      or (l.lane = 'l' and l.status in ('pending', 'retry') and l.run_at < clock_timestamp() - interval '1 minute')
      or (l.lane = 'l' and l.status = 'retry' and (l.outcome = 'trouble' or l.attempt >= 3));
comment on view restante.outbox_stuck is
  'Events that should have gone on and have not, with the likely reason. Includes events in trouble.';

create view restante.outbox_trouble as
  select restante.cause(last_error) as cause, count(*) as events, min(received_at) as waiting_since, min(run_at) as next_attempt_at
    from restante.outbox_live
   where lane = 'l' and status = 'retry' and outcome = 'trouble'
   group by 1;
comment on view restante.outbox_trouble is
  'Causes of trouble, on our side or on the other side, and how many events wait until each is repaired.';

create view restante.outbox_keys as
  select key, subscriber, count(*) as waiting, min(created_at) as oldest_created_at
    from restante.outbox_live where lane = 'b' group by key, subscriber;
comment on view restante.outbox_keys is 'Keys with events that wait for an older one.';

-- In two parts, so that a condition on finished_at reads only the partitions it needs: `is null` reads the backlog, a time reads
-- the weeks that it falls into.
create view restante.outbox_events as
  select id, event_id, type, subscriber, key, workspace_id, source, status, attempt, max_attempts, created_at, received_at,
         started_at, nullif(nullif(run_at, '-infinity'), 'infinity') as run_at,
         nullif(lease_until, '-infinity') as lease_until, lease_owner, outcome, last_error, held_by, result,
         null::timestamptz as finished_at, payload, raw
    from restante.outbox_live
  union all
  select id, event_id, type, subscriber, key, workspace_id, source, status, attempt, max_attempts, created_at, received_at,
         started_at, null, null, lease_owner, outcome, last_error, held_by, result, finished_at, payload, raw
    from restante.outbox where finished_at < 'infinity';
comment on view restante.outbox_events is
  'Every event, finished or not, with null instead of an infinite time. To change one, update restante.outbox.';

create view restante.outbox_horizon as
  select 'session' as kind, pid::text as holder, usename::text as role, state,
         clock_timestamp() - xact_start as open_for, age(backend_xmin) as transactions
    from pg_stat_activity where backend_xmin is not null and pid <> pg_backend_pid()
  union all
  select 'slot', slot_name::text, null, slot_type, null, greatest(age(xmin), age(catalog_xmin))
    from pg_replication_slots where xmin is not null or catalog_xmin is not null
  union all
  select 'prepared', gid, owner::text, null, clock_timestamp() - prepared, age(transaction)
    from pg_prepared_xacts;
comment on view restante.outbox_horizon is 'Sessions, replication slots and prepared transactions that keep vacuum from cleaning up. It is worth ending an old one.';

revoke execute on function restante.is_standing, restante.state, restante.cause from public;
grant execute on function restante.is_standing, restante.state, restante.cause to restante_worker, restante_operator;
grant select on restante.outbox_overview, restante.outbox_standing, restante.outbox_waiting, restante.outbox_running,
  restante.outbox_dead, restante.outbox_stuck, restante.outbox_trouble, restante.outbox_keys, restante.outbox_events,
  restante.outbox_horizon to restante_operator;
