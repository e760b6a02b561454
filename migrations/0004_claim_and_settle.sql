-- An attempt, from its claim to its end. Every end is fenced by the lease token that the claim gave it.

-- What a worker gets to know of an event that it may run.
create type restante.claimed as (
  id bigint, event_id text, event_type text, subscriber text, key text, workspace_id text, source text, created_at timestamptz,
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

-- Lets the next of each key go after its head was finished, or leases it to an owner where it was created at `p_until` or
-- before, as restante.unblock() does. Answers as restante.finish() does. The caller holds the locks of the keys.
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
  select null, null, row(h.id, h.event_id, h.type, h.subscriber, h.key, h.workspace_id, h.source, h.created_at,
                         h.received_at, h.payload, h.raw, h.attempt, h.max_attempts, h.crashes,
                         h.lease_token)::restante.claimed
    from heads as h where h.status = 'running';
end $$;
comment on function restante.let_next_go is
  'Lets the next of each key go after its head was finished, or leases it. The caller holds the locks of the keys.';

-- Finishes attempts that succeeded: moves their rows to the history and lets the next event of each key go, or leases it, as
-- restante.let_next_go() says.
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
    select * from restante.let_next_go(v_ids, v_keys, v_subscribers, p_owner, p_lease, p_until);
  else
    return query select v_ids, 0::bigint, null::restante.claimed;
  end if;
end $$;
comment on function restante.finish is
  'Moves the events of attempts that succeeded to the history, and lets the next of each key go, or leases it. Fenced by the '
  'lease token.';

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
  -- By its place, which it keeps while it is locked. One whose lease was renewed just before that is not finished now.
  delete from restante.outbox_live as l where l.ctid = v_place returning l.* into v;
  if not found then
    return query select null::bigint[], 0::bigint, null::restante.claimed;
    return;
  end if;

  insert into restante.outbox
    (id, event_id, type, subscriber, key, workspace_id, source, created_at, received_at, payload, raw, status, lane, run_at,
     attempt, max_attempts, crashes, lease_token, lease_owner, last_error, result, finished_at)
  values
    (v.id, v.event_id, v.type, v.subscriber, v.key, v.workspace_id, v.source, v.created_at, v.received_at, v.payload, v.raw,
     p_status, 9, '-infinity', v.attempt, v.max_attempts, v.crashes, v.lease_token + 1, v.lease_owner, null, p_result::json,
     clock_timestamp());

  if v.key is not null then
    perform pg_advisory_xact_lock(hashtextextended(v.key, 7));
    if (select true from restante.outbox_live as w
         where w.key = v.key and w.subscriber = v.subscriber and w.lane = 2 limit 1) then
      return query
      select * from restante.let_next_go(array[p_id], array[v.key], array[v.subscriber], p_owner, p_lease, p_until);
      return;
    end if;
  end if;
  return query select array[p_id], 0::bigint, null::restante.claimed;
end $$;
comment on function restante.finish_one is
  'Moves the event of one attempt that succeeded to the history, as restante.finish() does. Fenced by the lease token.';

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
