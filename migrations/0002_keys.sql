-- The order of a key: its oldest event is its head. Only the head can be claimed; the others wait behind it.
--
-- A session that stores, settles or changes an event decides under the lock of its key which event is the head. **No session
-- waits for that lock.** A session that does not get it stores its event as blocked, or finishes one without a look at its
-- successors, and notes the key in `key_unsettled` in the same transaction. The next claim of a worker settles the noted keys.
--
-- Here and in the files that follow, work in several steps is a function in plpgsql: each step sees everything that was committed
-- before it began, and a step after the lock of a key has to see what the last holder of that lock wrote.
--
-- Plans must not depend on statistics. Plan nodes that are cheap on an empty table and ruinous on a full one are turned off, and
-- the generic plan is kept (planning anew cost 0.7 ms of the 0.9 ms of a call). `lane::text` keeps Postgres from looking up an id
-- by a scan of a partial index.

-- Part of the number of each key's lock. Only workers and functions with the rights of the owner read it: another login that
-- could compute the number could hold the lock for no reason, and so keep the events of the key waiting. The index is there
-- because Postgres estimates a scan of a table as very expensive while such scans are turned off, and then compiles the statement
-- (JIT). The index is not unique, because a restore of the data may bring the same salt again.
create table restante.key_salt (salt bigint not null);
create index key_salt_salt on restante.key_salt (salt);
insert into restante.key_salt (salt)
values (('x' || left(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint);
alter table restante.key_salt replica identity full;
comment on table restante.key_salt is 'Part of the number of each key''s lock, and secret. The smallest one counts.';

create table restante.key_unsettled (
  key        text collate "C" not null,
  subscriber text collate "C" not null,
  noted_at   timestamptz not null default clock_timestamp()
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
create index key_unsettled_key on restante.key_unsettled (key);
-- A key may be there several times, so only the whole row identifies a row.
alter table restante.key_unsettled replica identity full;
comment on table restante.key_unsettled is
  'Keys whose head has yet to be decided: another session held the lock of the key, or of a row of it. The next claim settles '
  'them. A key may be noted several times.';

-- The number of the lock of a key.
create function restante.lock_of_key(key text, salt bigint) returns bigint
language sql immutable parallel safe
return hashtextextended(key, salt);
comment on function restante.lock_of_key is 'Engine: The number of the lock of a key.';

-- Takes the locks of keys until the transaction ends, and returns the keys whose lock it did not get.
--
-- A transaction with one snapshot for all of its statements gets no lock, because it would not see what the last holder wrote.
-- And no transaction takes more than 1,000, because by default the server has room for some 6,400 in all. A key that is given
-- twice is locked twice, which does no harm and costs less than finding it out. The function has no settings and no rights of its
-- own, and assigns the results of its calls instead of using `perform`: it runs for each event, so that time matters.
create function restante.try_lock_keys(p_keys text[]) returns text[]
language plpgsql as $$
declare
  v_taken  integer := coalesce(nullif(current_setting('restante.keys_taken', true), ''), '0')::integer;
  v_noted  text;
  v_salt   bigint;
  v_missed text[];
begin
  if v_taken >= 1000 or current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    return array_remove(p_keys, null);
  end if;
  select min(s.salt) into v_salt from restante.key_salt as s;
  select coalesce(array_agg(u.key), '{}') into v_missed
    from unnest(p_keys) with ordinality as u (key, nth)
   where u.key is not null
     and (u.nth > 1000 - v_taken or not pg_try_advisory_xact_lock(restante.lock_of_key(u.key, v_salt)));
  v_noted := set_config('restante.keys_taken', (v_taken + cardinality(p_keys))::text, true);
  return v_missed;
end $$;
comment on function restante.try_lock_keys is
  'Engine: Takes the locks of keys until the transaction ends, and returns the keys whose lock it did not get. Never waits.';

-- As restante.try_lock_keys(), for one key, in a third of the time.
create function restante.try_lock_key(p_key text) returns boolean
language plpgsql as $$
declare
  v_taken integer := coalesce(nullif(current_setting('restante.keys_taken', true), ''), '0')::integer;
  v_noted text;
begin
  if v_taken >= 1000 or current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    return false;
  end if;
  v_noted := set_config('restante.keys_taken', (v_taken + 1)::text, true);
  return pg_try_advisory_xact_lock(restante.lock_of_key(p_key, (select min(s.salt) from restante.key_salt as s)));
end $$;
comment on function restante.try_lock_key is 'Engine: Takes the lock of a key until the transaction ends, or returns false at once.';

-- Notes keys whose lock another session holds.
create function restante.note_keys(p_keys text[], p_subscribers text[]) returns void
language sql
begin atomic
  insert into restante.key_unsettled (key, subscriber)
  select distinct u.key, u.subscriber from unnest(p_keys, p_subscribers) as u (key, subscriber) where u.key is not null;
end;
comment on function restante.note_keys is 'Engine: Notes keys whose lock another session holds. The next claim settles them.';

-- Makes the oldest waiting event of each key its head, if the key has none, and returns these heads. With an owner, heads that
-- were created at `p_until` or before are leased to it at once: they have their turn among the events of all keys, and leasing
-- them here saves a claim. The caller holds the locks of the keys.
create function restante.unblock(
  p_keys text[], p_subscribers text[],
  p_owner text default null, p_lease interval default null, p_until timestamptz default null)
returns setof restante.outbox_live
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
begin
  return query
  with first as materialized (
    select k.key, k.subscriber, w.id
      from (select distinct u.key, u.subscriber from unnest(p_keys, p_subscribers) as u (key, subscriber)
            where u.key is not null) as k
      left join lateral (
            select true as found from restante.outbox_live as h
            where h.key = k.key and h.subscriber = k.subscriber and h.lane in ('r', 'l') limit 1) as head on true
      cross join lateral (
            select w.id from restante.outbox_live as w
            where w.key = k.key and w.subscriber = k.subscriber and w.lane = 'b'
            order by w.created_at, w.id limit 1) as w
     where head.found is null),
  free as materialized (
    select f.id, r.has_turn
      from first as f
      cross join lateral (
            select (l.created_at <= p_until and l.run_at <= statement_timestamp()
                    and (select not exists (select from restante.paused_type))) is true as has_turn
              from restante.outbox_live as l
             where l.id = f.id and l.lane::text = 'b' for update skip locked) as r),
  -- A person is changing the oldest row by hand: whether it stays the oldest is known only after that.
  noted as (
    insert into restante.key_unsettled (key, subscriber)
    select f.key, f.subscriber from first as f where f.id not in (select r.id from free as r))
  update restante.outbox_live as l
     set status = case when f.has_turn then 'running' else 'pending' end,
         lane = case when f.has_turn then 'r' else restante.lane('pending', l.run_at, false) end,
         attempt = least(l.attempt, 2147483646) + f.has_turn::integer, lease_token = l.lease_token + 1,
         lease_owner = case when f.has_turn then p_owner else l.lease_owner end,
         lease_until = case when f.has_turn then clock_timestamp() + p_lease else l.lease_until end,
         started_at = case when f.has_turn then clock_timestamp() else l.started_at end
    from free as f where l.id = f.id
  returning l.*;
end $$;
comment on function restante.unblock is
  'Engine: Makes the oldest waiting event of each key its head, if the key has none, and leases those that have their turn. The caller '
  'holds the locks of the keys.';

-- Blocks a head that no worker has claimed, if an older event of its key waits. The caller holds the locks of the keys.
create function restante.step_down(p_keys text[], p_subscribers text[]) returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
begin
  with younger as materialized (
    select k.key, k.subscriber, h.id
      from (select distinct u.key, u.subscriber from unnest(p_keys, p_subscribers) as u (key, subscriber)
            where u.key is not null) as k
      cross join lateral (
            select w.created_at, w.id from restante.outbox_live as w
            where w.key = k.key and w.subscriber = k.subscriber and w.lane = 'b'
            order by w.created_at, w.id limit 1) as w
      cross join lateral (
            select h.id from restante.outbox_live as h
            where h.key = k.key and h.subscriber = k.subscriber and h.lane in ('r', 'l')
              and h.status = 'pending' and (h.created_at, h.id) > (w.created_at, w.id)) as h),
  free as materialized (
    select y.id
      from younger as y
      cross join lateral (
            select from restante.outbox_live as l
             where l.id = y.id and l.status = 'pending' and l.lane::text in ('r', 'l') for update skip locked) as r),
  -- A worker is claiming the head at this moment, or a person is changing it: whether it stays the head is known only after that.
  noted as (
    insert into restante.key_unsettled (key, subscriber)
    select y.key, y.subscriber from younger as y where y.id not in (select f.id from free as f))
  update restante.outbox_live as l
     set status = 'blocked', lane = 'b', lease_token = l.lease_token + 1
    from free as f where l.id = f.id;
end $$;
comment on function restante.step_down is
  'Engine: Blocks a head that no worker has claimed, if an older event of its key waits. The caller holds the locks of the keys.';

-- Settles noted keys whose lock it gets, a page of `p_limit` at a time, until it has at least that many. Returns how many it
-- settled and how many it had to leave.
create function restante.settle_keys(p_limit integer default 500)
returns table (settled bigint, left_over bigint)
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_page        text[];
  v_after       text;
  v_keys        text[];
  v_subscribers text[];
  v_missed      text[];
  v_locked      text[] := '{}';
  v_left        bigint := 0;
begin
  -- Steps from key to key over the index, a page at a time, until it has enough locks: a key that is noted a thousand times costs
  -- one step. A key that another session holds costs no more than that, and does not keep others from being settled.
  for v_page_number in 1 .. 20 loop
    with recursive walk as (
      (select u.key, 1 as step from restante.key_unsettled as u
        where v_after is null or u.key > v_after order by u.key limit 1)
      union all
      select n.key, walk.step + 1
        from walk
        cross join lateral (
              select u.key from restante.key_unsettled as u where u.key > walk.key order by u.key limit 1) as n
       where walk.step < p_limit)
    select array_agg(walk.key), max(walk.key) into v_page, v_after from walk;
    exit when v_page is null;
    v_missed := restante.try_lock_keys(v_page);
    v_locked := v_locked || array(select unnest(v_page) except select unnest(v_missed));
    v_left := v_left + cardinality(v_missed);
    exit when cardinality(v_page) < p_limit or cardinality(v_locked) >= p_limit;
  end loop;
  if v_locked = '{}' then
    return query select 0::bigint, v_left;
    return;
  end if;

  with gone as (
    delete from restante.key_unsettled as u using unnest(v_locked) as k (key) where u.key = k.key
    returning u.key, u.subscriber)
  select array_agg(g.key), array_agg(g.subscriber) into v_keys, v_subscribers
    from (select distinct gone.key, gone.subscriber from gone) as g;
  perform restante.step_down(v_keys, v_subscribers);
  perform restante.unblock(v_keys, v_subscribers);
  -- Keys that were noted again meanwhile count as left.
  return query
  select cardinality(v_locked)::bigint,
         v_left + (select count(*) from unnest(v_locked) as k (key)
                    where (select true from restante.key_unsettled as u where u.key = k.key limit 1));
end $$;
comment on function restante.settle_keys is
  'Engine: Gives the keys noted in key_unsettled their right heads, as far as it gets their locks. Each claim calls it.';

-- Repairs keys that have waiting events and no head (because a row was deleted by hand with the triggers off, say). Looks at
-- about `p_limit` keys with waiting events, starting after `p_after`. Returns how many it repaired and where to go on.
create function restante.sweep(p_after text, p_limit integer default 500)
returns table (healed integer, next_after text)
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_keys        text[];
  v_subscribers text[];
  v_missed      text[];
  v_last        text;
begin
  -- Steps from key to key over the index: a key with a hundred thousand waiting events costs one step.
  with recursive walk as (
    (select w.key, w.subscriber, 1 as step from restante.outbox_live as w
      where w.lane = 'b' and w.key > coalesce(p_after, '') order by w.key, w.subscriber limit 1)
    union all
    select n.key, n.subscriber, walk.step + 1
      from walk
      cross join lateral (
            select w.key, w.subscriber from restante.outbox_live as w
            where w.lane = 'b' and (w.key, w.subscriber) > (walk.key, walk.subscriber)
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
          where h.key = walk.key and h.subscriber = walk.subscriber and h.lane in ('r', 'l') limit 1) as head on true;
  if v_keys is null then
    return query select 0, v_last;
    return;
  end if;
  -- A key that another session holds gets its head from that session, or in the next round.
  v_missed := restante.try_lock_keys(v_keys);
  select array_agg(u.key), array_agg(u.subscriber) into v_keys, v_subscribers
    from unnest(v_keys, v_subscribers) as u (key, subscriber) where not u.key = any (v_missed);
  return query select count(*)::integer, v_last from restante.unblock(v_keys, v_subscribers);
end $$;
comment on function restante.sweep is
  'Engine: Gives keys that have waiting events and no head a head again, a page at a time. Workers call it every few seconds.';
