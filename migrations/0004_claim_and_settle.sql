-- Every change of state of an event that takes more than one statement, over sets of events.
--
-- Each function reads its steps in one transaction of the caller, and each step sees what was committed before it began,
-- which is why they are functions in plpgsql and not one long statement: a step that follows the lock of a key has to
-- see what the last holder of that lock wrote.
--
-- Plans do not hang on statistics: what could go wrong in a plan that was made while the table was empty is turned off, and
-- the one plan is kept (planning anew cost 0.7 ms of the 0.9 ms of a call). `lane + 0` keeps a lookup by id from
-- walking a partial index instead.

-- Does a pattern of a subscription or a pause cover a type? A trailing * covers any ending.
create function restante.covers(pattern text, type text) returns boolean
language sql immutable parallel safe
return pattern = type or (right(pattern, 1) = '*' and starts_with(type, left(pattern, -1)));
comment on function restante.covers is
  'Does the pattern of a subscription or a pause cover a type? A trailing * covers any ending.';

-- Takes the locks of these keys until the transaction ends, in one order for everybody.
create function restante.lock_keys(p_keys text[]) returns void
language plpgsql as $$
begin
  perform pg_advisory_xact_lock(k.lock)
  from (select distinct hashtextextended(u.key, 7) as lock
        from unnest(p_keys) as u (key) where u.key is not null order by 1) as k;
end $$;
comment on function restante.lock_keys is
  'Takes the locks of keys until the transaction ends, in one order for everybody. Whoever holds one waits for no row.';

-- Makes the oldest waiting event of each key its head, where the key has none, and answers with these heads. With an owner,
-- those that were created at `p_until` or before are leased to it at once: it is their turn among the events of all keys,
-- and to lease them here spares a claim and the way to it. The caller holds the locks of the keys.
create function restante.unblock(
  p_keys text[], p_subscribers text[],
  p_owner text default null, p_lease interval default null, p_until timestamptz default null)
returns setof restante.outbox_live
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
begin
  return query
  update restante.outbox_live as l
     set status = case when f.has_turn then 'running' else 'pending' end,
         lane = case when f.has_turn then 0 else restante.lane('pending', l.run_at, false) end,
         attempt = l.attempt + f.has_turn::integer, lease_token = l.lease_token + 1,
         lease_owner = case when f.has_turn then p_owner else l.lease_owner end,
         lease_until = case when f.has_turn then clock_timestamp() + p_lease else l.lease_until end
    from (select distinct u.key, u.subscriber from unnest(p_keys, p_subscribers) as u (key, subscriber)
          where u.key is not null) as k
    left join lateral (
          select true as found from restante.outbox_live as h
          where h.key = k.key and h.subscriber = k.subscriber and h.lane < 2 limit 1) as head on true
    cross join lateral (
          select w.id from restante.outbox_live as w
          where w.key = k.key and w.subscriber = k.subscriber and w.lane = 2
          order by w.created_at, w.id limit 1) as first
    -- A first row that somebody is changing by hand is left to him: his UPDATE looks after the key when it ends.
    cross join lateral (
          select r.id, (r.created_at <= p_until and r.run_at <= statement_timestamp()) is true as has_turn
            from restante.outbox_live as r
           where r.id = first.id and r.lane + 0 = 2 for update skip locked) as f
   where l.id = f.id and head.found is null
  returning l.*;
end $$;
comment on function restante.unblock is
  'Makes the oldest waiting event of each key its head, where there is none, and leases those whose turn it is. The caller '
  'holds the locks of the keys.';

-- Puts a head that nobody has claimed behind an older event of its key. The caller holds the locks of the keys.
create function restante.step_down(p_keys text[], p_subscribers text[], p_created_at timestamptz[]) returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
begin
  update restante.outbox_live as l
     set status = 'blocked', lane = 2, lease_token = l.lease_token + 1
    from (select u.key, u.subscriber, min(u.created_at) as created_at
            from unnest(p_keys, p_subscribers, p_created_at) as u (key, subscriber, created_at)
           where u.key is not null group by u.key, u.subscriber) as k
    -- A head that is being claimed at this moment is locked, and stays the head.
    cross join lateral (
          select h.id from restante.outbox_live as h
          where h.key = k.key and h.subscriber = k.subscriber and h.lane < 2
            and h.status = 'pending' and h.created_at > k.created_at
          for update skip locked) as head
   where l.id = head.id;
end $$;
comment on function restante.step_down is
  'Puts a head that nobody has claimed behind an older event of its key. The caller holds the locks of the keys.';

-- Stores those of some events that can not just be claimed: they wait for an older event of their key, or are paused, or have
-- subscribers, each of whom gets a row of his own. Their identifiers are `p_rest`; what else was given has its row already.
-- Answers with the rows made for the handler of each event's type. The caller holds the locks of the keys.
create function restante.insert_behind(
  p_event_ids text[], p_types text[], p_keys text[], p_workspace_ids text[], p_created_ats timestamptz[],
  p_payloads text[], p_raws bytea[], p_run_ats timestamptz[], p_source text, p_rest text[])
returns table (new_event_id text, new_id bigint)
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_ids           bigint[];
  v_id_events     text[];
  v_keys          text[];
  v_subscribers   text[];
  v_created_ats   timestamptz[];
begin
  with fresh as materialized (
    select u.*
      from unnest(p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads, p_raws, p_run_ats)
           with ordinality
           as u (event_id, type, key, workspace_id, created_at, payload, raw, run_at, turn)
     where u.event_id = any (p_rest)),
  stored as (
    insert into restante.outbox_live
      (event_id, type, subscriber, key, workspace_id, source, created_at, payload, raw, run_at, status, lane)
    select f.event_id, f.type, s.subscriber, f.key, f.workspace_id, p_source, f.created_at, f.payload::json, f.raw,
           coalesce(f.run_at, '-infinity'), a.status, restante.lane(a.status, coalesce(f.run_at, '-infinity'), false)
      from fresh as f
      cross join lateral (
            select '' as subscriber
            union
            select b.subscriber from restante.subscription as b where restante.covers(b.type, f.type)) as s
      cross join lateral (
            select case
                     when exists (select from restante.paused_type as t where restante.covers(t.type, f.type)) then 'paused'
                     when f.key is null then 'pending'
                     else 'blocked'
                   end as status) as a
     order by f.turn, s.subscriber
    returning outbox_live.event_id, outbox_live.id, outbox_live.subscriber, outbox_live.key, outbox_live.created_at,
              outbox_live.status)
  select array_agg(s.event_id) filter (where s.subscriber = ''), array_agg(s.id) filter (where s.subscriber = ''),
         array_agg(s.key) filter (where s.status = 'blocked'), array_agg(s.subscriber) filter (where s.status = 'blocked'),
         array_agg(s.created_at) filter (where s.status = 'blocked')
    into v_id_events, v_ids, v_keys, v_subscribers, v_created_ats
    from stored as s;
  return query select u.event_id, u.id from unnest(v_id_events, v_ids) as u (event_id, id);

  if v_keys is not null then
    perform restante.step_down(v_keys, v_subscribers, v_created_ats);
    perform restante.unblock(v_keys, v_subscribers);
  end if;
end $$;
comment on function restante.insert_behind is
  'Stores events that wait for an older one of their key, are paused or have subscribers. The caller holds the locks of the '
  'keys.';

-- Stores one event, unless it is stored already. Answers with the row made for the handler of its type, or with null.
-- For a lone event this takes a third of the time that the function for many takes.
create function restante.insert_event(
  p_event_id text, p_type text, p_key text, p_workspace_id text, p_created_at timestamptz, p_payload text, p_raw bytea,
  p_run_at timestamptz, p_source text)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_id bigint;
begin
  insert into restante.outbox_seen (event_id) values (p_event_id) on conflict do nothing;
  if not found then
    return null;
  end if;
  if p_key is not null then
    perform pg_advisory_xact_lock(hashtextextended(p_key, 7));
  end if;
  -- Most events find their key free, and nobody else waits for them.
  insert into restante.outbox_live
    (event_id, type, key, workspace_id, source, created_at, payload, raw, run_at, lane)
  select p_event_id, p_type, p_key, p_workspace_id, p_source, p_created_at, p_payload::json, p_raw,
         coalesce(p_run_at, '-infinity'), case when p_run_at is null then 0 else 1 end
   where not exists (select from restante.subscription)
     and not exists (select from restante.paused_type)
     and (select true from restante.outbox_live as h
           where h.key = p_key and h.subscriber = '' and h.lane < 2 limit 1) is null
     and (select true from restante.outbox_live as w
           where w.key = p_key and w.subscriber = '' and w.lane = 2 limit 1) is null
  -- A transaction with one snapshot for all of its statements may not see the head that it runs into.
  on conflict (key, subscriber) where key is not null and lane < 2 do nothing
  returning id into v_id;
  if v_id is null then
    select i.new_id into v_id from restante.insert_behind(
      array[p_event_id], array[p_type], array[p_key], array[p_workspace_id], array[p_created_at], array[p_payload],
      array[p_raw], array[p_run_at], p_source, array[p_event_id]) as i;
  end if;
  return v_id;
end $$;
comment on function restante.insert_event is
  'Stores one event, unless it is stored already. With insert_events, all that ingest may call.';

-- Stores events that are not stored yet, and answers with the rows made for the handler of each event's type. No identifier
-- may be there twice.
create function restante.insert_events(
  p_event_ids text[], p_types text[], p_keys text[], p_workspace_ids text[], p_created_ats timestamptz[],
  p_payloads text[], p_raws bytea[], p_run_ats timestamptz[], p_source text)
returns table (new_event_id text, new_id bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_new       text[];
  v_ids       bigint[];
  v_id_events text[];
begin
  -- Sorted, so that two deliveries of the same events never wait for each other in a circle.
  with seen as (
    insert into restante.outbox_seen (event_id)
    select u.event_id collate "C" from unnest(p_event_ids) as u (event_id) order by 1
    on conflict do nothing
    returning outbox_seen.event_id)
  select array_agg(s.event_id) into v_new from seen as s;
  if v_new is null then
    return;
  end if;
  if cardinality(v_new) < cardinality(p_event_ids)
     and cardinality(p_event_ids) > (select count(distinct u.event_id) from unnest(p_event_ids) as u (event_id)) then
    raise exception 'restante.insert_events: an identifier is there twice' using errcode = 'invalid_parameter_value';
  end if;

  perform pg_advisory_xact_lock(k.lock)
  from (select distinct hashtextextended(u.key, 7) as lock
        from unnest(p_keys) as u (key) where u.key is not null order by 1) as k;

  -- Most events find their key free, and nobody else waits for them. This step sees what was committed before the locks
  -- of the keys were had, so that no head comes in between.
  with fresh as (
    -- Of several events of one key the oldest.
    select distinct on (coalesce(u.key, u.event_id) collate "C") u.*
      from unnest(p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads, p_raws, p_run_ats)
           with ordinality
           as u (event_id, type, key, workspace_id, created_at, payload, raw, run_at, turn)
     where u.event_id = any (v_new)
     order by coalesce(u.key, u.event_id) collate "C", u.created_at, u.turn),
  stored as (
    insert into restante.outbox_live
      (event_id, type, key, workspace_id, source, created_at, payload, raw, run_at, lane)
    select f.event_id, f.type, f.key, f.workspace_id, p_source, f.created_at, f.payload::json, f.raw,
           coalesce(f.run_at, '-infinity'), case when f.run_at is null then 0 else 1 end
      from fresh as f
     -- Where nobody subscribes and nothing is paused, which is asked once, no type has to be compared.
     where ((select not exists (select from restante.subscription))
            or not exists (select from restante.subscription as b where restante.covers(b.type, f.type)))
       and ((select not exists (select from restante.paused_type))
            or not exists (select from restante.paused_type as t where restante.covers(t.type, f.type)))
       -- Not `not exists`: Postgres would make a join of it, which may read a whole index.
       and (select true from restante.outbox_live as h
             where h.key = f.key and h.subscriber = '' and h.lane < 2 limit 1) is null
       and (select true from restante.outbox_live as w
             where w.key = f.key and w.subscriber = '' and w.lane = 2 limit 1) is null
     order by f.created_at, f.turn
    returning outbox_live.event_id, outbox_live.id)
  select array_agg(s.event_id), array_agg(s.id) into v_id_events, v_ids from stored as s;
  return query select u.event_id, u.id from unnest(v_id_events, v_ids) as u (event_id, id);

  if cardinality(v_new) is distinct from cardinality(v_ids) then
    return query
    select * from restante.insert_behind(
      p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads, p_raws, p_run_ats, p_source,
      array(select unnest(v_new) except select unnest(v_id_events)));
  end if;
end $$;
comment on function restante.insert_events is
  'Stores events once each, in one statement of the caller. With insert_event, all that ingest may call.';

-- What a worker gets to know of an event that it may run.
create type restante.claimed as (
  id bigint, event_id text, type text, subscriber text, key text, workspace_id text, source text, created_at timestamptz,
  received_at timestamptz, payload text, raw bytea, attempt integer, max_attempts integer, crashes integer,
  lease_token bigint);
comment on type restante.claimed is 'What a worker gets to know of an event that it may run.';

-- Claims up to `p_limit` events for these subscribers, the oldest `created_at` first, and leases each for `p_lease`: new ones,
-- retries that are due, and events whose lease ran out. Of those that are not waiting for a time only such as were created at
-- `p_floor` or later are looked at: while an old snapshot keeps vacuum away, a walk from the very first would pass everything
-- that was finished since.
create function restante.claim(
  p_owner text, p_subscribers text[], p_limit bigint, p_lease interval, p_floor timestamptz)
returns setof restante.claimed
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
begin
  return query
  with ready as materialized (
    select l.place, l.id, l.created_at, l.status
      from unnest(p_subscribers) as s (subscriber)
      cross join lateral (
            select r.ctid as place, r.id, r.created_at, r.status from restante.outbox_live as r
             where r.lane = 0 and r.subscriber = s.subscriber and r.created_at >= p_floor
               and r.lease_until <= clock_timestamp()
             order by r.created_at, r.id limit p_limit for update skip locked) as l),
  -- Retries and scheduled events, those that have been due for longest. The statement's time, because a condition on a
  -- clock that moves meanwhile can not bound the walk of the index: it would read the whole backlog.
  due as materialized (
    select l.place, l.id, l.created_at, l.status
      from unnest(p_subscribers) as s (subscriber)
      cross join lateral (
            select d.ctid as place, d.id, d.created_at, d.status from restante.outbox_live as d
             where d.lane = 1 and d.subscriber = s.subscriber and d.run_at <= statement_timestamp()
               and d.status <> 'dead'
             order by d.run_at, d.id limit p_limit for update skip locked) as l),
  picked as materialized (
    select b.place, b.status from (select * from ready union all select * from due) as b
     order by b.created_at, b.id limit p_limit),
  claimed as (
    update restante.outbox_live as o
       set status = 'running', lane = 0, attempt = o.attempt + 1, lease_owner = p_owner,
           lease_token = o.lease_token + 1, lease_until = clock_timestamp() + p_lease,
           crashes = o.crashes + (p.status = 'running')::integer
      -- By its place, which it keeps while it is locked. One that was changed just before it was locked is left for the next claim.
      from picked as p where o.ctid = p.place
    returning o.*, p.status as status_before),
  -- A lease that ran out means that a worker vanished: that attempt has failed, and nobody else can say so.
  crashed as (
    insert into restante.failure (outbox_id, event_id, attempt, outcome, error)
    select c.id, c.event_id, c.attempt - 1, 'crashed', 'the lease ran out: the worker vanished or stood still'
      from claimed as c where c.status_before = 'running')
  select c.id, c.event_id, c.type, c.subscriber, c.key, c.workspace_id, c.source::text, c.created_at, c.received_at,
         c.payload::text, c.raw, c.attempt, c.max_attempts, c.crashes, c.lease_token
    from claimed as c order by c.created_at, c.id;
end $$;
comment on function restante.claim is
  'Leases the oldest events that may run now to a worker, with a new lease token each.';

-- Finishes attempts that succeeded: moves their rows to the history and lets the next event of each key go. With an owner,
-- the next of a key is leased to it where it was created at `p_until` or before, as restante.unblock() does.
--
-- Answers first, in one row, with the events it finished and with how many others may be claimed now: one that is missing was
-- not this attempt's any more, or is being changed right now. Then with a row for each event that it leased.
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
begin
  with mine as materialized (
    select l.ctid as place, l.key, t.status, t.result
      from unnest(p_ids, p_tokens, p_statuses, p_results) as t (id, token, status, result)
      join restante.outbox_live as l
        on l.id = t.id
       -- The fence: an attempt finishes its event only while it holds the event's lease.
       and l.lease_token = t.token and l.status = 'running'
       for update of l skip locked),
  locked as materialized (
    select pg_advisory_xact_lock(k.lock)
      from (select distinct hashtextextended(m.key, 7) as lock from mine as m where m.key is not null order by 1) as k),
  gone as (
    delete from restante.outbox_live as l using mine as m
     -- By its place, which it keeps while it is locked. One whose lease was renewed just before that is not finished now.
     where l.ctid = m.place and (select count(*) from locked) >= 0
    returning l.*, m.status as status_after, m.result as result_after),
  finished as (
    insert into restante.outbox
      (id, event_id, type, subscriber, key, workspace_id, source, created_at, received_at, payload, raw, status, lane, run_at,
       attempt, max_attempts, crashes, lease_token, lease_owner, last_error, result, finished_at)
    select g.id, g.event_id, g.type, g.subscriber, g.key, g.workspace_id, g.source, g.created_at, g.received_at,
           g.payload, g.raw, g.status_after, 9, '-infinity', g.attempt, g.max_attempts, g.crashes, g.lease_token + 1,
           g.lease_owner, null, g.result_after::json, clock_timestamp()
      from gone as g
    returning outbox.id, outbox.key, outbox.subscriber)
  select array_agg(f.id), array_agg(f.key) filter (where f.key is not null),
         array_agg(f.subscriber) filter (where f.key is not null)
    into v_ids, v_keys, v_subscribers
    from finished as f;

  -- Asked first, because an update that finds nothing costs three times as much. Key by key, or Postgres may begin with
  -- all that waits.
  if v_keys is not null and exists (
       select from unnest(v_keys, v_subscribers) as k (key, subscriber)
        where (select true from restante.outbox_live as w
                where w.key = k.key and w.subscriber = k.subscriber and w.lane = 2 limit 1)) then
    return query
    with heads as materialized (
      select * from restante.unblock(v_keys, v_subscribers, p_owner, p_lease, p_until))
    select v_ids, count(*), null::restante.claimed from heads as h where h.status = 'pending'
    union all
    select null, null, row(h.id, h.event_id, h.type, h.subscriber, h.key, h.workspace_id, h.source, h.created_at,
                           h.received_at, h.payload, h.raw, h.attempt, h.max_attempts, h.crashes,
                           h.lease_token)::restante.claimed
      from heads as h where h.status = 'running';
  else
    return query select v_ids, 0::bigint, null::restante.claimed;
  end if;
end $$;
comment on function restante.finish is
  'Moves the events of attempts that succeeded to the history, and lets the next of each key go, or leases it. Fenced by the '
  'lease token.';

-- Ends one attempt that did not succeed: the event runs again after `p_wait`, or is dead where `p_wait` is null.
-- An attempt that was merely too early has no error and forgives the failures before it: what polls for weeks must not
-- be given up over failures that lie days apart. Answers the new status, or null where the lease was lost.
create function restante.fail(
  p_id bigint, p_token bigint, p_outcome text, p_error text, p_wait interval, p_counts boolean, p_holds_key boolean)
returns text
language plpgsql as $$
declare
  v restante.outbox_live;
begin
  select * into v from restante.outbox_live as l
   where l.id = p_id and l.lease_token = p_token and l.status = 'running' for update;
  if not found then
    return null;
  end if;

  if p_counts then
    insert into restante.failure (outbox_id, event_id, attempt, outcome, error, lease_owner)
    values (v.id, v.event_id, v.attempt, p_outcome, p_error, v.lease_owner);
  end if;

  if p_wait is not null then
    update restante.outbox_live as l
       set status = 'retry', lane = 1, run_at = clock_timestamp() + p_wait, last_error = p_error,
           attempt = case when p_counts then l.attempt when p_error is null then 0 else l.attempt - 1 end,
           crashes = case when p_error is null then 0 else l.crashes end,
           lease_token = l.lease_token + 1, lease_until = '-infinity'
     where l.id = p_id;
    return 'retry';
  end if;

  if v.key is not null then
    perform restante.lock_keys(array[v.key]);
  end if;
  update restante.outbox_live as l
     set status = 'dead', lane = case when p_holds_key then 1 else 3 end, last_error = p_error, holds_key = p_holds_key,
         run_at = case when p_holds_key then 'infinity'::timestamptz else '-infinity'::timestamptz end,
         lease_token = l.lease_token + 1, lease_until = '-infinity'
   where l.id = p_id;
  if v.key is not null and not p_holds_key then
    perform restante.unblock(array[v.key], array[v.subscriber]);
  end if;
  return 'dead';
end $$;
comment on function restante.fail is
  'Ends one attempt that did not succeed: a retry, a snooze or a dead letter. Fenced by the lease token.';

-- Heals keys whose head has gone without a successor (a row deleted by hand, say). Looks at no more than `p_limit`
-- keys that wait, starting after `p_after`, and answers how many it helped and where to go on.
create function restante.sweep(p_after text, p_limit integer default 500)
returns table (healed integer, next_after text)
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_keys        text[];
  v_subscribers text[];
  v_last        text;
begin
  -- A walk from key to key over the index: a key with a hundred thousand waiting events costs one step.
  with recursive walk as (
    (select w.key, w.subscriber, 1 as step from restante.outbox_live as w
      where w.lane = 2 and w.key > coalesce(p_after, '') order by w.key, w.subscriber limit 1)
    union all
    select n.key, n.subscriber, walk.step + 1
      from walk
      cross join lateral (
            select w.key, w.subscriber from restante.outbox_live as w
            where w.lane = 2 and (w.key, w.subscriber) > (walk.key, walk.subscriber)
            order by w.key, w.subscriber limit 1) as n
     -- A page ends between keys, never between the subscribers of one.
     where walk.step < p_limit or n.key = walk.key)
  select array_agg(walk.key) filter (where head.found is null),
         array_agg(walk.subscriber) filter (where head.found is null),
         case when count(*) >= p_limit then max(walk.key) end
    into v_keys, v_subscribers, v_last
    from walk
    left join lateral (
          select true as found from restante.outbox_live as h
          where h.key = walk.key and h.subscriber = walk.subscriber and h.lane < 2 limit 1) as head on true;
  if v_keys is null then
    return query select 0, v_last;
    return;
  end if;
  perform restante.lock_keys(v_keys);
  return query select count(*)::integer, v_last from restante.unblock(v_keys, v_subscribers);
end $$;
comment on function restante.sweep is
  'Gives keys that wait without a head their head back, a page at a time. Workers call it every few seconds.';

-- Makes the partitions of the history for the coming weeks.
-- Each is made apart and then attached, which does not stop those who read and write the outbox meanwhile.
create function restante.make_partitions(p_weeks integer default 26) returns integer
language plpgsql as $$
declare
  v_monday timestamp := date_trunc('week', now() at time zone 'UTC');
  v_name   text;
  v_made   integer := 0;
begin
  -- Two workers that start together must not both make a week.
  perform pg_advisory_xact_lock(hashtextextended('restante.make_partitions', 7));
  for v_week in 0 .. p_weeks loop
    v_name := to_char(v_monday + v_week * interval '1 week', '"outbox_"IYYY"w"IW');
    continue when to_regclass('restante.' || v_name) is not null;
    -- Rows that were finished while their week was missing would have to move; they stay where they are.
    continue when exists (
      select 1 from restante.outbox_overflow as o
       where o.finished_at >= (v_monday + v_week * interval '1 week') at time zone 'UTC'
         and o.finished_at <  (v_monday + (v_week + 1) * interval '1 week') at time zone 'UTC');
    execute format('create table restante.%I (like restante.outbox including all)', v_name);
    execute format('create unique index %I on restante.%I (id)', v_name || '_id', v_name);
    execute format('create index %I on restante.%I (event_id)', v_name || '_event', v_name);
    execute format('create index %I on restante.%I (key, created_at) where key is not null', v_name || '_key', v_name);
    execute format('alter table restante.outbox attach partition restante.%I for values from (%L) to (%L)', v_name,
                   (v_monday + v_week * interval '1 week') at time zone 'UTC',
                   (v_monday + (v_week + 1) * interval '1 week') at time zone 'UTC');
    v_made := v_made + 1;
  end loop;
  return v_made;
end $$;
comment on function restante.make_partitions is
  'Makes the weekly partitions of the history that are missing. Workers call it every hour.';
