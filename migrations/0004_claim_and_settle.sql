-- An attempt, from its claim to its end. Every end is fenced by the lease token that the claim gave to the attempt.

-- What a worker learns about an event that it has claimed; or, if `id` is null, about the keys that were settled before a claim.
create type restante.claimed as (
  id bigint, event_id text, event_type text, subscriber text, key text, workspace_id text, source text, created_at timestamptz,
  received_at timestamptz, payload text, raw bytea, attempt integer, max_attempts integer, crashes integer,
  lease_token bigint, keys_settled bigint, keys_left bigint);
comment on type restante.claimed is
  'What a worker learns about an event that it has claimed; or, if id is null, about the keys that were settled before a claim.';

-- About how much memory a body will take. A compressed body counts ten times its stored size, because only unpacking it would
-- show the real one.
create function restante.claimed_bytes(p_payload json, p_raw bytea) returns integer
language sql stable parallel safe
return least(coalesce(pg_column_size(p_payload), pg_column_size(p_raw), 0), 50000000)
       * case when coalesce(pg_column_compression(p_payload), pg_column_compression(p_raw)) is null then 1 else 10 end;
comment on function restante.claimed_bytes is 'Engine: About how much memory the body of an event will take, without unpacking it.';

-- Writes the sign of life of a worker, which counts for one lease from now.
create function restante.give_sign(p_owner text, p_lease interval) returns void
language sql
begin atomic
  insert into restante.worker as w (owner, connected_since, alive_until)
  values (p_owner, clock_timestamp(), clock_timestamp() + p_lease)
  on conflict (owner) do update
     set alive_until = excluded.alive_until,
         connected_since = case when w.alive_until < clock_timestamp() then excluded.connected_since else w.connected_since end;
end;
comment on function restante.give_sign is
  'Engine: Writes the sign of life of a worker, which counts for one lease from now. The lease renewer of the worker calls it.';

-- The next three functions are needed for few events of a claim. They are in plpgsql, because Postgres would inline SQL
-- functions, and then each claim would set them up.

-- May a worker take over an event whose lease has run out? A worker that has just come back itself (the database may have been
-- away) first gives the other workers time to come back.
create function restante.may_take_over(p_owner text, p_other text, p_lease interval) returns boolean
language plpgsql stable as $$
begin
  return not exists (select from restante.worker as w
                      where w.owner = p_owner and w.connected_since > clock_timestamp() - p_lease / 2)
      or not exists (select from restante.worker as w
                      where w.owner = p_other and w.alive_until <= clock_timestamp());
end $$;
comment on function restante.may_take_over is
  'Engine: May a worker take over an event whose lease has run out?';

-- Has the worker whose lease ran out vanished? If it gives a sign of life, it lives, and has only lost the lease.
create function restante.has_vanished(p_owner text, p_other text) returns boolean
language plpgsql stable as $$
begin
  return p_other <> p_owner
     and not exists (select from restante.worker as w where w.owner = p_other and w.alive_until > clock_timestamp());
end $$;
comment on function restante.has_vanished is 'Engine: Has the worker whose lease of an event ran out vanished?';

-- Stores the failure of an attempt whose lease ran out. The claim does it, because the attempt's own worker no longer can.
create function restante.note_failed(p_event restante.outbox_live, p_began_at timestamptz, p_has_crashed boolean) returns void
language plpgsql as $$
begin
  insert into restante.failure (outbox_id, event_id, type, subscriber, attempt, started_at, outcome, kind, error)
  values (p_event.id, p_event.event_id, p_event.type, p_event.subscriber,
          p_event.attempt - (p_event.status = 'running')::integer, p_began_at,
          case when p_has_crashed then 'crashed' else 'timed_out' end, case when p_has_crashed then 'crash' else 'lease' end,
          case when p_has_crashed then 'the lease ran out, and its worker gives no sign'
               else 'the lease ran out while its worker lives: its handler hangs, or the database was away' end);
end $$;
comment on function restante.note_failed is 'Engine: Stores the failure of an attempt whose lease ran out.';

-- Claims up to `p_limit` events for these subscribers, the oldest `created_at` first, and leases each for `p_lease`: new ones,
-- retries that are due, and events whose lease ran out. It looks at new events and lost leases only if they were created at
-- `p_floor` (the claim cursor) or later: while an old snapshot keeps vacuum from cleaning up, a scan from the oldest event on
-- would pass everything that has finished since. The first event is claimed however large it is, further ones up to about
-- `p_bytes` in all.
--
-- With `p_settles` the noted keys first get their heads. If there were any, the first row says how many were settled and how many
-- were left.
create function restante.claim(
  p_owner text, p_subscribers text[], p_limit bigint, p_lease interval, p_floor timestamptz, p_bytes bigint, p_settles boolean)
returns setof restante.claimed
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
begin
  if p_settles and exists (select from restante.key_unsettled) then
    return query
    select null::bigint, null, null, null, null, null, null, null::timestamptz, null::timestamptz, null, null::bytea,
           null::integer, null::integer, null::integer, null::bigint, k.settled, k.left_over
      from restante.settle_keys() as k;
  end if;

  return query
  with ready as materialized (
    select l.*
      from unnest(p_subscribers) as s (subscriber)
      cross join lateral (
            select r.ctid as place, r.id, r.type, r.created_at, r.status, r.lease_owner, r.started_at,
                   restante.claimed_bytes(r.payload, r.raw) as bytes
              from restante.outbox_live as r
             where r.lane = 'r' and r.subscriber = s.subscriber and r.created_at >= p_floor
               and r.lease_until <= clock_timestamp()
               and (r.status <> 'running' or restante.may_take_over(p_owner, r.lease_owner, p_lease))
             order by r.created_at, r.id limit p_limit for update skip locked) as l),
  -- Retries and scheduled events, those first that have been due for longest. With the statement's time, because a condition on a
  -- clock that moves meanwhile cannot limit the index scan, which would then read the whole backlog.
  due as materialized (
    select l.*
      from unnest(p_subscribers) as s (subscriber)
      cross join lateral (
            select d.ctid as place, d.id, d.type, d.created_at, d.status, d.lease_owner, d.started_at,
                   restante.claimed_bytes(d.payload, d.raw) as bytes
              from restante.outbox_live as d
             where d.lane = 'l' and d.subscriber = s.subscriber and d.run_at <= statement_timestamp()
               and d.status <> 'dead'
             order by d.run_at, d.id limit p_limit for update skip locked) as l),
  oldest as (
    select b.*, sum(b.bytes) over (order by b.created_at, b.id rows unbounded preceding) - b.bytes as bytes_before
      from (select * from ready union all select * from due) as b
     order by b.created_at, b.id limit p_limit),
  picked as materialized (
    select o.place, o.status, o.started_at,
           -- Holds events that were stored while the pause was not committed yet.
           case when (select exists (select from restante.paused_type)) then restante.held_by(o.type) end as held_by,
           o.status = 'running' and restante.has_vanished(p_owner, o.lease_owner) as has_crashed
      from oldest as o where o.bytes_before < p_bytes),
  claimed as (
    update restante.outbox_live as o
       set status = case when p.held_by is null then 'running' else 'paused' end,
           lane = case when p.held_by is null then 'r' else 'p' end,
           held_by = p.held_by,
           attempt = least(o.attempt, 2147483646) + (p.held_by is null)::integer,
           lease_owner = p_owner, lease_token = o.lease_token + 1,
           lease_until = case when p.held_by is null then clock_timestamp() + p_lease else '-infinity' end,
           started_at = case when p.held_by is null then clock_timestamp() else o.started_at end,
           crashes = o.crashes + p.has_crashed::integer
      -- By ctid, which does not change while the row is locked. A row that changed just before that is left for the next claim.
      from picked as p where o.ctid = p.place
    returning o.*,
      -- Functions, called for the few events that need them. Inserts as parts of this statement would cost each claim a tenth.
      case when p.status = 'running' then restante.note_failed(o, p.started_at, p.has_crashed) end as is_failed,
      case when p.held_by is not null then restante.note_keys(array[o.key], array[o.subscriber]) end as is_noted)
  select c.id, c.event_id, c.type, c.subscriber, c.key, c.workspace_id, c.source::text,
         -- Clients cannot read other years. Only the owner of the table can write them.
         least(greatest(c.created_at, '0001-01-01Z'), '9999-12-31Z'), least(greatest(c.received_at, '0001-01-01Z'), '9999-12-31Z'),
         c.payload::text, c.raw, c.attempt, c.max_attempts, c.crashes, c.lease_token, null::bigint, null::bigint
    from claimed as c where c.status = 'running' order by c.created_at, c.id;
end $$;
comment on function restante.claim is
  'Engine: Leases the oldest events that may run now to a worker, each with a new lease token.';

-- Makes the successor in each key its head after the old head was finished, or leases it to an owner, as restante.unblock() says.
-- Returns the same columns as restante.finish(). The caller holds the locks of the keys.
create function restante.let_next_go(
  p_finished bigint[], p_keys text[], p_subscribers text[], p_owner text, p_lease interval, p_until timestamptz)
returns table (finished bigint[], unblocked bigint, next restante.claimed)
language plpgsql as $$
begin
  return query
  with heads as materialized (
    select * from restante.unblock(p_keys, p_subscribers, p_owner, p_lease, p_until))
  select p_finished, count(*), null::restante.claimed from heads as h where h.status = 'pending'
  union all
  select null, null, row(h.id, h.event_id, h.type, h.subscriber, h.key, h.workspace_id, h.source,
                         least(greatest(h.created_at, '0001-01-01Z'), '9999-12-31Z'),
                         least(greatest(h.received_at, '0001-01-01Z'), '9999-12-31Z'), h.payload, h.raw, h.attempt, h.max_attempts, h.crashes,
                         h.lease_token, null, null)::restante.claimed
    from heads as h where h.status = 'running';
end $$;
comment on function restante.let_next_go is
  'Engine: Makes the successor in each key its head after the old head was finished, or leases it. The caller holds the locks of the keys.';

-- Finishes attempts that succeeded: moves their rows to the history, and makes the successor in each key its head or leases it,
-- as restante.let_next_go() says.
--
-- Returns the events that it finished (if one is missing, its lease was lost or another session has locked it), how many others
-- may be claimed now, and a row for each event that it leased.
create function restante.finish(
  p_ids bigint[], p_tokens bigint[], p_statuses text[], p_results text[],
  p_owner text default null, p_lease interval default null, p_until timestamptz default null)
returns table (finished bigint[], unblocked bigint, next restante.claimed)
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
    select l.ctid as place, l.key, t.status, t.result
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
      (id, event_id, type, subscriber, key, workspace_id, source, created_at, received_at, payload, raw, status, lane, run_at,
       attempt, max_attempts, crashes, lease_token, lease_owner, started_at, last_error, result, finished_at)
    select g.id, g.event_id, g.type, g.subscriber, g.key, g.workspace_id, g.source, g.created_at, g.received_at,
           g.payload, g.raw, g.status_after, 'f', '-infinity', g.attempt, g.max_attempts, g.crashes, g.lease_token + 1,
           g.lease_owner, g.started_at, null, g.result_after::json, clock_timestamp()
      from gone as g
    returning outbox.id, outbox.key, outbox.subscriber)
  select array_agg(f.id), array_agg(f.key) filter (where f.key is not null),
         array_agg(f.subscriber) filter (where f.key is not null)
    into v_ids, v_keys, v_subscribers
    from finished as f;
  if v_keys is null then
    return query select v_ids, 0::bigint, null::restante.claimed;
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
                where w.key = k.key and w.subscriber = k.subscriber and w.lane = 'b' limit 1)) then
    return query
    select * from restante.let_next_go(null, v_keys, v_subscribers, p_owner, p_lease, p_until);
  end if;
  return query select v_ids, v_noted, null::restante.claimed;
end $$;
comment on function restante.finish is
  'Engine: Moves the events of attempts that succeeded to the history, and makes the successor in each key its head, or leases it. '
  'Fenced by the lease token.';

-- Finishes one attempt that succeeded, as restante.finish() does, in two thirds of its time.
create function restante.finish_one(
  p_id bigint, p_token bigint, p_status text, p_result text,
  p_owner text default null, p_lease interval default null, p_until timestamptz default null)
returns table (finished bigint[], unblocked bigint, next restante.claimed)
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_place tid;
  v       restante.outbox_live;
begin
  -- The fence: an attempt finishes its event only while it holds the event's lease.
  select l.ctid into v_place from restante.outbox_live as l
   where l.id = p_id and l.lease_token = p_token and l.status = 'running' for update skip locked;
  -- By ctid, which does not change while the row is locked. A row whose lease was renewed just before that is left out.
  delete from restante.outbox_live as l where l.ctid = v_place returning l.* into v;
  if not found then
    return query select null::bigint[], 0::bigint, null::restante.claimed;
    return;
  end if;

  insert into restante.outbox
    (id, event_id, type, subscriber, key, workspace_id, source, created_at, received_at, payload, raw, status, lane, run_at,
     attempt, max_attempts, crashes, lease_token, lease_owner, started_at, last_error, result, finished_at)
  values
    (v.id, v.event_id, v.type, v.subscriber, v.key, v.workspace_id, v.source, v.created_at, v.received_at, v.payload, v.raw,
     p_status, 'f', '-infinity', v.attempt, v.max_attempts, v.crashes, v.lease_token + 1, v.lease_owner, v.started_at, null,
     p_result::json, clock_timestamp());

  if v.key is not null then
    if not restante.try_lock_key(v.key) then
      perform restante.note_keys(array[v.key], array[v.subscriber]);
      return query select array[p_id], 1::bigint, null::restante.claimed;
      return;
    end if;
    if (select true from restante.outbox_live as w
         where w.key = v.key and w.subscriber = v.subscriber and w.lane = 'b' limit 1) then
      return query
      select * from restante.let_next_go(array[p_id], array[v.key], array[v.subscriber], p_owner, p_lease, p_until);
      return;
    end if;
  end if;
  return query select array[p_id], 0::bigint, null::restante.claimed;
end $$;
comment on function restante.finish_one is
  'Engine: Moves the event of one attempt that succeeded to the history, as restante.finish() does. Fenced by the lease token.';

-- Ends one attempt that did not succeed. `p_verdict` says what follows:
--
--   retry    it failed, and runs again after `p_wait`
--   snooze   it was too early: it runs again after `p_wait`, and the failures before it are forgiven, because an event that polls
--            for weeks must not be given up over failures that are days apart
--   defer    it could not run now: it runs again after `p_wait`, and the attempt does not count
--   trouble  something is wrong on our side or on the other side: as for defer
--   dead     it is given up
--
-- Returns the new status; null if the lease was lost, or if another session has locked the event.
create function restante.fail(
  p_id bigint, p_token bigint, p_verdict text, p_outcome text, p_kind text, p_error text, p_wait interval,
  p_holds_key boolean)
returns text
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v         restante.outbox_live;
  v_held_by text;
  v_outcome text := case p_verdict when 'snooze' then 'snoozed' when 'defer' then 'deferred'
                                   when 'trouble' then 'trouble' else p_outcome end;
begin
  select * into v from restante.outbox_live as l
   where l.id = p_id and l.lease_token = p_token and l.status = 'running' for update skip locked;
  if not found then
    return null;
  end if;

  if p_verdict in ('retry', 'dead') then
    insert into restante.failure
      (outbox_id, event_id, type, subscriber, attempt, started_at, outcome, kind, error, lease_owner)
    values
      (v.id, v.event_id, v.type, v.subscriber, v.attempt, v.started_at, p_outcome, p_kind, p_error, v.lease_owner);
  end if;

  if p_verdict <> 'dead' then
    -- An event whose type is paused waits until the pause ends.
    v_held_by := restante.held_by(v.type);
    update restante.outbox_live as l
       set status = case when v_held_by is null then 'retry' else 'paused' end,
           lane = case when v_held_by is null then 'l' else 'p' end, held_by = v_held_by,
           run_at = clock_timestamp() + p_wait, last_error = p_error, outcome = v_outcome, kind = p_kind,
           attempt = case p_verdict when 'retry' then l.attempt when 'snooze' then 0 else l.attempt - 1 end,
           crashes = case p_verdict when 'snooze' then 0 else l.crashes end,
           lease_token = l.lease_token + 1, lease_until = '-infinity'
     where l.id = p_id;
    if v_held_by is null then
      return 'retry';
    end if;
  else
    update restante.outbox_live as l
       set status = 'dead', lane = case when p_holds_key then 'l' else 'p' end, last_error = p_error, holds_key = p_holds_key,
           outcome = v_outcome, kind = p_kind,
           run_at = case when p_holds_key then 'infinity'::timestamptz else '-infinity'::timestamptz end,
           lease_token = l.lease_token + 1, lease_until = '-infinity'
     where l.id = p_id;
    if p_holds_key then
      return 'dead';
    end if;
  end if;

  -- The event is no longer the head of its key.
  if v.key is not null then
    if restante.try_lock_key(v.key) then
      perform restante.unblock(array[v.key], array[v.subscriber]);
    else
      perform restante.note_keys(array[v.key], array[v.subscriber]);
    end if;
  end if;
  return case when v_held_by is null then 'dead' else 'paused' end;
end $$;
comment on function restante.fail is
  'Engine: Ends one attempt that did not succeed: a retry, a snooze, a deferral, a trouble or a dead letter. Fenced by the lease token.';

-- Hands events back unfinished. Any worker may claim them at once; their attempts do not count. Events whose type is paused are
-- held. Returns how many it handed back, which leaves out those whose lease was lost or that another session has locked.
create function restante.hand_back(p_ids bigint[], p_tokens bigint[]) returns bigint
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_count bigint;
begin
  with mine as materialized (
    select l.ctid as place, restante.held_by(l.type) as held_by
      from unnest(p_ids, p_tokens) as t (id, token)
      join restante.outbox_live as l on l.id = t.id and l.lease_token = t.token and l.status = 'running'
       for update of l skip locked),
  back as (
    update restante.outbox_live as l
       set status = case when m.held_by is null then 'pending' else 'paused' end,
           lane = case when m.held_by is null then 'r' else 'p' end, held_by = m.held_by,
           run_at = '-infinity', attempt = l.attempt - 1, lease_token = l.lease_token + 1, lease_until = '-infinity'
      from mine as m where l.ctid = m.place
    returning l.key, l.subscriber),
  -- An older event may have come meanwhile. It runs first, because nothing of this attempt counts.
  noted as (
    insert into restante.key_unsettled (key, subscriber)
    select b.key, b.subscriber from back as b where b.key is not null)
  select count(*) into v_count from back;
  return v_count;
end $$;
comment on function restante.hand_back is
  'Engine: Hands events back unfinished. Any worker may claim them at once. Fenced by the lease token.';

-- Hands back the strays of a worker, which it has claimed and does not know of because an answer was lost: all of its events
-- except `p_known` and those that were claimed less than `p_age` ago. Returns how many there were.
create function restante.hand_back_strays(p_owner text, p_known bigint[], p_age interval) returns bigint
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_ids    bigint[];
  v_tokens bigint[];
begin
  select array_agg(l.id), array_agg(l.lease_token) into v_ids, v_tokens
    from restante.outbox_live as l
   where l.lane = 'r' and l.status = 'running' and l.lease_owner = p_owner
     and l.started_at < clock_timestamp() - p_age and l.id <> all (p_known);
  return restante.hand_back(v_ids, v_tokens);
end $$;
comment on function restante.hand_back_strays is
  'Engine: Hands back events that a worker has claimed and does not know of, because an answer was lost.';
