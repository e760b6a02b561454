-- The outbox to look at: the views that answer an operator's questions. Each reads the backlog, never the history.

create view restante.outbox_overview as
  select type, subscriber, status, count(*) as events, min(created_at) as oldest_created_at,
         clock_timestamp() - min(received_at) as longest_wait
    from restante.outbox_live group by type, subscriber, status;
comment on view restante.outbox_overview is 'What is not finished, by type and status. Costs the backlog, not the history.';

create view restante.outbox_running as
  select id, event_id, type, subscriber, key, attempt, lease_owner, lease_until,
         lease_until <= clock_timestamp() as lease_ran_out
    from restante.outbox_live where lane = 0 and status = 'running';
comment on view restante.outbox_running is 'What runs now, and where. A lease that ran out is taken over by the next claim.';

create view restante.outbox_dead as
  select o.id, o.event_id, o.type, o.subscriber, o.key, o.created_at, o.attempt, o.crashes, o.last_error,
         f.failed_at, f.outcome
    from restante.outbox_live as o
    left join lateral (
          select failed_at, outcome from restante.failure
           where outbox_id = o.id order by failed_at desc limit 1) as f on true
   where o.status = 'dead';
comment on view restante.outbox_dead is 'What was given up, and why. It waits here until a person replays or cancels it.';

create view restante.outbox_stuck as
  select id, event_id, type, subscriber, key, status, attempt, run_at, last_error,
         case
           when status = 'running' then 'its worker is gone; the next claim takes it over'
           when status = 'retry' then 'it has failed three times or more, and holds its key meanwhile'
           else 'it could have been claimed a minute ago: is a worker running?'
         end as reason
    from restante.outbox_live
   where (status = 'running' and lease_until <= clock_timestamp())
      or (status = 'retry' and attempt >= 3)
      or (lane = 0 and status = 'pending' and received_at < clock_timestamp() - interval '1 minute');
comment on view restante.outbox_stuck is 'What should have moved and has not, with the likely reason.';

create view restante.outbox_keys as
  select key, subscriber, count(*) as waiting, min(created_at) as oldest_created_at
    from restante.outbox_live where lane = 2 group by key, subscriber;
comment on view restante.outbox_keys is 'Keys with events that wait for an older one.';

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
comment on view restante.outbox_horizon is 'Who keeps vacuum from cleaning up. An old transaction here is worth ending.';

grant select on restante.outbox_overview, restante.outbox_running, restante.outbox_dead, restante.outbox_stuck,
  restante.outbox_keys, restante.outbox_horizon to restante_operator;
