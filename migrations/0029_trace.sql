-- The trace of an event: kept with its row, so that whoever runs it goes on with the trace, and so do the events that it makes.

-- As in 0010: a session that waits for the lock of a table makes all later ones wait behind it.
set local lock_timeout = '1s';

-- No default, so that no row is written anew, and a row without a trace takes no room for it.
alter table restante.outbox add column traceparent text collate "C";
comment on column restante.outbox.traceparent is
  'The trace that the event belongs to, as the W3C writes it: 00-TRACE-SPAN-FLAGS. Null where nothing traces.';
comment on column restante.outbox_live.traceparent is
  'The trace that the event belongs to, as the W3C writes it: 00-TRACE-SPAN-FLAGS. Null where nothing traces.';

-- Events are stored by many functions, and by each of them in the trace of whoever calls it. So the trace is no argument: it is a
-- setting of the transaction, which ends with it. An application may set it, too.
create function restante.keep_trace() returns trigger
-- Without a search_path of its own, which would take longer than the rest: it runs with the rights of whoever stores the event.
language plpgsql as $$
declare
  v_setting text := pg_catalog.current_setting('restante.traceparent');
  v_head    text;
  v_place   integer;
begin
  -- The events of one commit of ingest have a trace each: a mark, the identifier, a mark, the trace. What an endpoint is sent of an
  -- event has the trace of that event.
  if pg_catalog.starts_with(v_setting, E'\x1e') then
    v_head := E'\x1e' || case when new.sender <> 'anthropic' then new.sender || E'\x1f' else '' end
      || case when new.source = 'webhook' and pg_catalog.starts_with(new.type, 'notify.') then new.payload #>> '{body,id}'
              else new.event_id end || E'\x1e';
    v_place := pg_catalog.strpos(v_setting, v_head);
    if v_place is null or v_place = 0 then
      return new;
    end if;
    v_setting := pg_catalog.substr(v_setting, v_place + pg_catalog.length(v_head), 55);
  end if;
  -- Anything else is left out: a trace must never cost an event.
  if new.traceparent is null and v_setting ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$' then
    new.traceparent := v_setting;
  end if;
  return new;
end $$;
comment on function restante.keep_trace is
  'Engine: Notes with an event the trace of the transaction that stores it, which is its setting restante.traceparent.';

-- The condition is read for each row, and was measured to take less than what a delivery can show.
create trigger outbox_live_keep_trace before insert on restante.outbox_live
  for each row when (current_setting('restante.traceparent', true) <> '')
  execute function restante.keep_trace();

-- As in 0010, 0020 and 0017, and the trace goes with an event into the history.
create or replace function restante.finish_events(
  p_ids bigint[], p_tokens bigint[], p_statuses text[], p_results text[],
  p_owner text default null, p_lease interval default null, p_until timestamptz default null)
returns table (finished bigint[], unblocked bigint, next restante.claimed_event)
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_ids         bigint[];
  v_keys        text[];
  v_subscribers text[];
  v_missed      text[];
  v_noted       bigint := 0;
begin
  with mine as materialized (
    select l.ctid as place, t.status, t.result
      from unnest(p_ids, p_tokens, p_statuses, p_results) as t (id, token, status, result)
      join restante.outbox_live as l
        on l.id = t.id
       -- The fence: an attempt finishes its event only while it holds the event's lease.
       and l.lease_token = t.token and l.status = 'running'
       for update of l skip locked),
  gone as (
    delete from restante.outbox_live as l using mine as m
     -- By ctid, which does not change while the row is locked. A row whose lease was renewed just before that is left out.
     where l.ctid = m.place
    returning l.*, m.status as status_after, m.result as result_after),
  finished as (
    insert into restante.outbox
      (id, sender, account, event_id, type, subscriber, key, workspace_id, source, created_at, received_at, payload, raw, status, lane, run_at,
       attempt, max_attempts, crashes, lease_token, lease_owner, started_at, last_error, result, finished_at, traceparent)
    select g.id, g.sender, g.account, g.event_id, g.type, g.subscriber, g.key, g.workspace_id, g.source, g.created_at, g.received_at,
           g.payload, g.raw, g.status_after, 'f', '-infinity', g.attempt, g.max_attempts, g.crashes, g.lease_token + 1,
           g.lease_owner, g.started_at, null, g.result_after::json, clock_timestamp(), g.traceparent
      from gone as g
    returning outbox.id, restante.order_key(outbox.account, outbox.sender, outbox.key) as key, outbox.subscriber)
  select array_agg(f.id), array_agg(f.key) filter (where f.key is not null),
         array_agg(f.subscriber) filter (where f.key is not null)
    into v_ids, v_keys, v_subscribers
    from finished as f;
  if v_keys is null then
    return query select v_ids, 0::bigint, null::restante.claimed_event;
    return;
  end if;

  -- The locks come before the look at waiting events, so that it sees what the last holder of each lock wrote. A key that another
  -- session holds is noted. It counts as unblocked, because the next claim may find an event of it.
  v_missed := restante.try_lock_keys(v_keys);
  if v_missed <> '{}' then
    insert into restante.key_unsettled (key, subscriber)
    select k.key, k.subscriber from unnest(v_keys, v_subscribers) as k (key, subscriber) where k.key = any (v_missed);
    get diagnostics v_noted = row_count;
    select array_agg(k.key), array_agg(k.subscriber) into v_keys, v_subscribers
      from unnest(v_keys, v_subscribers) as k (key, subscriber) where not k.key = any (v_missed);
  end if;

  -- Checked first, because an update that finds nothing costs three times as much. Key by key, because otherwise Postgres may
  -- begin with all waiting events.
  if exists (
       select from unnest(v_keys, v_subscribers) as k (key, subscriber)
        where (select true from restante.outbox_live as w
                where restante.order_key(w.account, w.sender, w.key) = k.key and w.subscriber = k.subscriber and w.lane = 'b' limit 1)) then
    return query
    select * from restante.release_next(null, v_keys, v_subscribers, p_owner, p_lease, p_until);
  end if;
  return query select v_ids, v_noted, null::restante.claimed_event;
end $$;

create or replace function restante.finish_event(
  p_id bigint, p_token bigint, p_status text, p_result text,
  p_owner text default null, p_lease interval default null, p_until timestamptz default null)
returns table (finished bigint[], unblocked bigint, next restante.claimed_event)
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_place tid;
  v       restante.outbox_live;
  v_key   text;
begin
  -- The fence: an attempt finishes its event only while it holds the event's lease.
  select l.ctid into v_place from restante.outbox_live as l
   where l.id = p_id and l.lease_token = p_token and l.status = 'running' for update skip locked;
  -- By ctid, which does not change while the row is locked. A row whose lease was renewed just before that is left out.
  delete from restante.outbox_live as l where l.ctid = v_place returning l.* into v;
  if not found then
    return query select null::bigint[], 0::bigint, null::restante.claimed_event;
    return;
  end if;

  insert into restante.outbox
    (id, sender, account, event_id, type, subscriber, key, workspace_id, source, created_at, received_at, payload, raw, status, lane, run_at,
     attempt, max_attempts, crashes, lease_token, lease_owner, started_at, last_error, result, finished_at, traceparent)
  values
    (v.id, v.sender, v.account, v.event_id, v.type, v.subscriber, v.key, v.workspace_id, v.source, v.created_at, v.received_at, v.payload, v.raw,
     p_status, 'f', '-infinity', v.attempt, v.max_attempts, v.crashes, v.lease_token + 1, v.lease_owner, v.started_at, null,
     p_result::json, clock_timestamp(), v.traceparent);

  v_key := restante.order_key(v.account, v.sender, v.key);
  if v_key is not null then
    if not restante.try_lock_key(v_key) then
      perform restante.note_keys(array[v_key], array[v.subscriber]);
      return query select array[p_id], 1::bigint, null::restante.claimed_event;
      return;
    end if;
    if (select true from restante.outbox_live as w
         where restante.order_key(w.account, w.sender, w.key) = v_key and w.subscriber = v.subscriber and w.lane = 'b' limit 1) then
      return query
      select * from restante.release_next(array[p_id], array[v_key], array[v.subscriber], p_owner, p_lease, p_until);
      return;
    end if;
  end if;
  return query select array[p_id], 0::bigint, null::restante.claimed_event;
end $$;

create or replace function restante.settle_waiting(p_ids bigint[], p_event_id text) returns bigint
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_settled bigint;
begin
  with waiting as materialized (
    select l.ctid as place from restante.outbox_live as l
     where l.id = any (p_ids) and l.lane::text = 'b' for update skip locked),
  gone as (
    delete from restante.outbox_live as l using waiting as w where l.ctid = w.place returning l.*),
  settled as (
    insert into restante.outbox
      (id, sender, account, event_id, type, subscriber, key, workspace_id, source, created_at, received_at, payload, raw, status, lane, run_at,
       attempt, max_attempts, crashes, lease_token, lease_owner, started_at, last_error, result, finished_at, traceparent)
    select g.id, g.sender, g.account, g.event_id, g.type, g.subscriber, g.key, g.workspace_id, g.source, g.created_at, g.received_at,
           g.payload, g.raw, 'done', 'f', '-infinity', g.attempt, g.max_attempts, g.crashes, g.lease_token + 1,
           g.lease_owner, g.started_at, null, json_build_object('settled_by', p_event_id), clock_timestamp(), g.traceparent
      from gone as g
    returning 1)
  select count(*) into v_settled from settled;
  return v_settled;
end $$;

create or replace function restante.take_back(p_alarms bigint[]) returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
begin
  with mine as materialized (
    select l.id from restante.outbox_live as l
     where l.id = any (p_alarms) and l.status in ('pending', 'retry') and l.lane = 'l' for update skip locked),
  gone as (
    delete from restante.outbox_live as l using mine as m where l.id = m.id returning l.*),
  -- Another event of the same message may wait behind it.
  noted as (
    insert into restante.key_unsettled (key, subscriber)
    select k.key, g.subscriber
      from gone as g cross join lateral (select restante.order_key(g.account, g.sender, g.key) as key) as k
     where (select true from restante.outbox_live as w
             where restante.order_key(w.account, w.sender, w.key) = k.key and w.subscriber = g.subscriber and w.lane = 'b' limit 1))
  insert into restante.outbox
    (id, sender, account, event_id, type, subscriber, key, workspace_id, source, created_at, received_at, payload, raw, status, lane, run_at,
     attempt, max_attempts, crashes, lease_token, lease_owner, started_at, result, finished_at, traceparent)
  select g.id, g.sender, g.account, g.event_id, g.type, g.subscriber, g.key, g.workspace_id, g.source, g.created_at, g.received_at,
         g.payload, g.raw, 'done', 'f', '-infinity', g.attempt, g.max_attempts, g.crashes, g.lease_token + 1, g.lease_owner, g.started_at,
         '{"skipped":"the message needs no sending any more"}', clock_timestamp(), g.traceparent
    from gone as g;
end $$;

-- A function, so that no plan depends on statistics. Not `stable`: the event may have been stored after the statement that claims it
-- began.
create function restante.trace_of(p_id bigint) returns text
language sql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
begin atomic
  select l.traceparent from restante.outbox_live as l where l.id = p_id;
end;
comment on function restante.trace_of is 'Engine: The trace of an event that is not finished. Workers that trace ask for it with each claim.';

revoke execute on all functions in schema restante from public;
grant execute on function restante.trace_of to restante_worker;
