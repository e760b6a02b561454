-- Several senders, and several accounts of the API: an event has the name of its sender, whose identifiers are its own, and of
-- the account that it belongs to. The rows that are there are of the sender and the account `anthropic`.
--
-- The functions whose answers get more columns have new names. Those that the programs of the release before call are kept: they
-- call the new ones.

-- A session that waits for the lock of the outbox makes all later ones wait behind it. So this gives up soon, and `restante migrate`
-- tries again.
set local lock_timeout = '1s';

-- Constant defaults, so that no row is written.
alter table restante.outbox add column sender text collate "C" not null default 'anthropic';
alter table restante.outbox add column account text collate "C" default 'anthropic';
comment on column restante.outbox.sender is
  'Who sent it, by the name in the configuration. Identifiers are unique for each sender.';
comment on column restante.outbox.account is
  'The account of the API that it belongs to, by the name in the configuration. Null: its sender is not the Claude API.';
comment on column restante.outbox_live.sender is
  'Who sent it, by the name in the configuration. Identifiers are unique for each sender.';
comment on column restante.outbox_live.account is
  'The account of the API that it belongs to, by the name in the configuration. Null: its sender is not the Claude API.';
comment on column restante.outbox.event_id is 'The sender''s identifier. Each one is stored once for each sender (outbox_seen).';
comment on column restante.outbox_live.event_id is 'The sender''s identifier. Each one is stored once for each sender (outbox_seen).';

-- What a name stands as where the names of all accounts and senders meet: those of `anthropic` as they are, which is how they were
-- stored before there were others. The separator is a character that no name in the configuration has.
create function restante.order_key(account text, sender text, key text) returns text
language sql immutable parallel safe
return case when coalesce(account, sender) = 'anthropic' then key else coalesce(account, sender) || E'\x1f' || key end;
comment on function restante.order_key is
  'Engine: The key that decides the order of an event. Two accounts, or senders without one, have no key in common.';

create function restante.seen_as(sender text, event_id text) returns text
language sql immutable parallel safe
return case when sender = 'anthropic' then event_id else sender || E'\x1f' || event_id end;
comment on function restante.seen_as is 'Engine: The identifier of an event in outbox_seen. Two senders have no identifier in common.';
comment on column restante.outbox_seen.event_id is 'The identifier of an event as restante.seen_as() says.';

drop index restante.outbox_live_head;
create unique index outbox_live_head on restante.outbox_live (restante.order_key(account, sender, key), subscriber)
  where restante.order_key(account, sender, key) is not null and lane in ('r', 'l');
comment on index restante.outbox_live_head is 'At most one event of a key can be claimed: Postgres itself refuses a second.';
drop index restante.outbox_live_waiting;
create index outbox_live_waiting on restante.outbox_live (restante.order_key(account, sender, key), subscriber, created_at, id)
  where lane = 'b';
comment on index restante.outbox_live_waiting is 'The successors of each head, in their order.';

alter table restante.delivery_differs add column sender text collate "C" not null default 'anthropic';
alter table restante.delivery_differs drop constraint delivery_differs_once;
alter table restante.delivery_differs add constraint delivery_differs_once primary key (sender, event_id, digest);
comment on column restante.delivery_differs.sender is 'Who sent it, by the name in the configuration.';

-- What a worker learns of an event that it may run; or, if `id` is null, of the keys that were settled before a claim.
create type restante.claimed_event as (
  id bigint, event_id text, event_type text, subscriber text, key text, workspace_id text, source text, created_at timestamptz,
  received_at timestamptz, payload text, raw bytea, attempt integer, max_attempts integer, crashes integer,
  lease_token bigint, sender text, account text, keys_settled bigint, keys_left bigint);
comment on type restante.claimed_event is
  'What a worker learns of an event that it may run; or, if id is null, of the keys that were settled before a claim.';

-- Makes the oldest waiting event of each key its head, if the key has none, and returns these heads. With an owner, heads that
-- were created at `p_until` or before are leased to it at once: they have their turn among the events of all keys, and leasing
-- them here saves a claim. The caller holds the locks of the keys.
create or replace function restante.unblock(
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
            where restante.order_key(h.account, h.sender, h.key) = k.key and h.subscriber = k.subscriber and h.lane in ('r', 'l') limit 1) as head on true
      cross join lateral (
            select w.id from restante.outbox_live as w
            where restante.order_key(w.account, w.sender, w.key) = k.key and w.subscriber = k.subscriber and w.lane = 'b'
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
create or replace function restante.step_down(p_keys text[], p_subscribers text[]) returns void
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
            where restante.order_key(w.account, w.sender, w.key) = k.key and w.subscriber = k.subscriber and w.lane = 'b'
            order by w.created_at, w.id limit 1) as w
      cross join lateral (
            select h.id from restante.outbox_live as h
            where restante.order_key(h.account, h.sender, h.key) = k.key and h.subscriber = k.subscriber and h.lane in ('r', 'l')
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

-- Repairs keys that have waiting events and no head (because a row was deleted by hand with the triggers off, say). Looks at
-- about `p_limit` keys with waiting events, starting after `p_after`. Returns how many it repaired and where to go on.
create or replace function restante.sweep(p_after text, p_limit integer default 500)
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
    (select restante.order_key(w.account, w.sender, w.key) as key, w.subscriber, 1 as step from restante.outbox_live as w
      where w.lane = 'b' and restante.order_key(w.account, w.sender, w.key) > coalesce(p_after, '')
      order by restante.order_key(w.account, w.sender, w.key), w.subscriber limit 1)
    union all
    select n.key, n.subscriber, walk.step + 1
      from walk
      cross join lateral (
            select restante.order_key(w.account, w.sender, w.key) as key, w.subscriber from restante.outbox_live as w
            where w.lane = 'b' and (restante.order_key(w.account, w.sender, w.key), w.subscriber) > (walk.key, walk.subscriber)
            order by restante.order_key(w.account, w.sender, w.key), w.subscriber limit 1) as n
     -- A page ends between keys, never between the subscribers of one.
     where walk.step < p_limit or n.key = walk.key)
  select array_agg(walk.key) filter (where head.found is null),
         array_agg(walk.subscriber) filter (where head.found is null),
         case when count(*) >= p_limit then max(walk.key) end
    into v_keys, v_subscribers, v_last
    from walk
    left join lateral (
          select true as found from restante.outbox_live as h
          where restante.order_key(h.account, h.sender, h.key) = walk.key and h.subscriber = walk.subscriber and h.lane in ('r', 'l') limit 1) as head on true;
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

drop function restante.note_differing(text[], bigint[], text[], bytea[]);
drop function restante.insert_event(text, text, text, text, timestamptz, text, bytea, bigint, timestamptz, text);
drop function restante.insert_events(text[], text[], text[], text[], timestamptz[], text[], bytea[], bigint[], text);
drop function restante.insert_behind(
  text[], text[], text[], text[], timestamptz[], text[], bytea[], timestamptz[], text, text[], text[]);

-- Stores the bodies of repeated identifiers that differ from the body that is stored. Returns those of `p_seen`, the identifiers as
-- restante.seen_as() says, that differ.
create function restante.note_differing(
  p_seen text[], p_event_ids text[], p_senders text[], p_digests bigint[], p_payloads text[], p_raws bytea[])
returns text[]
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_differing text[];
begin
  select coalesce(array_agg(u.seen), '{}') into v_differing
    from unnest(p_seen, p_digests) as u (seen, digest)
    join restante.outbox_seen as s on s.event_id = u.seen and s.digest <> u.digest;
  if cardinality(v_differing) > 0 then
    insert into restante.delivery_differs (sender, event_id, digest, payload, raw)
    select coalesce(u.sender, 'anthropic'), u.event_id, u.digest, u.payload::json, u.raw
      from unnest(p_seen, p_event_ids, p_senders, p_digests, p_payloads, p_raws)
           as u (seen, event_id, sender, digest, payload, raw)
     where u.seen = any (v_differing)
    on conflict do nothing;
  end if;
  return v_differing;
end $$;
comment on function restante.note_differing is
  'Engine: Stores what was delivered under an identifier that is stored with another body. Returns the identifiers that differ.';

-- Stores one event, unless it is stored already. Returns the row made for the handler of its type. If the identifier was already
-- stored, the number is null, and `differs` says whether it was stored with another body. For a lone event this takes half of the
-- work of insert_events().
create function restante.insert_event(
  p_event_id text, p_type text, p_key text, p_workspace_id text, p_created_at timestamptz, p_payload text, p_raw bytea,
  p_digest bigint, p_run_at timestamptz, p_source text, p_sender text default 'anthropic', p_account text default 'anthropic',
  out id bigint, out differs boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_seen         text := restante.seen_as(p_sender, p_event_id);
  v_key          text := restante.order_key(p_account, p_sender, p_key);
  v_is_locked    boolean;
  v_lock_timeout text;
begin
  differs := false;
  -- Another session may be storing this identifier in an open transaction. Deliveries share a commit, so none may wait for long.
  if p_source = 'webhook' then
    v_lock_timeout := set_config('lock_timeout', '200ms', true);
  end if;
  insert into restante.outbox_seen (event_id, digest) values (v_seen, p_digest) on conflict do nothing;
  if not found then
    differs := p_digest is not null and cardinality(
      restante.note_differing(array[v_seen], array[p_event_id], array[p_sender], array[p_digest], array[p_payload], array[p_raw])) > 0;
    return;
  end if;
  v_is_locked := p_key is null or restante.try_lock_key(v_key);
  if v_is_locked then
    -- Most events find their key free, with no head and no waiting event.
    insert into restante.outbox_live as l
      (sender, account, event_id, type, key, workspace_id, source, created_at, payload, raw, run_at, lane)
    select p_sender, p_account, p_event_id, p_type, p_key, p_workspace_id, p_source, p_created_at, p_payload::json, p_raw,
           coalesce(p_run_at, '-infinity'), case when p_run_at is null then 'r' else 'l' end
     where not exists (select from restante.subscription)
       and not exists (select from restante.paused_type)
       and (select true from restante.outbox_live as h
             where restante.order_key(h.account, h.sender, h.key) = v_key and h.subscriber = '' and h.lane in ('r', 'l') limit 1) is null
       and (select true from restante.outbox_live as w
             where restante.order_key(w.account, w.sender, w.key) = v_key and w.subscriber = '' and w.lane = 'b' limit 1) is null
    -- A head that a person inserted without the lock of the key.
    on conflict do nothing
    returning l.id into id;
  end if;
  if id is null then
    id := restante.insert_behind(
      array[v_seen], array[p_sender], array[p_account], array[p_event_id], array[p_type], array[p_key], array[p_workspace_id],
      array[p_created_at], array[p_payload], array[p_raw], array[p_run_at], p_source, array[v_seen],
      case when v_is_locked then '{}' else array[v_key] end);
  end if;
end $$;
comment on function restante.insert_event is
  'Engine: Stores one event, unless it is stored already. With insert_events, all that ingest may call.';

-- Stores the events that are not stored yet, so that they may run at once. Returns how many were new, and which were already stored,
-- and which of those are stored with another body: each as restante.seen_as() says. No identifier of a sender may be given twice.
-- Without senders, all of them are of the sender and the account `anthropic`.
create function restante.insert_events(
  p_event_ids text[], p_types text[], p_keys text[], p_workspace_ids text[], p_created_ats timestamptz[],
  p_payloads text[], p_raws bytea[], p_digests bigint[], p_source text, p_senders text[] default null, p_accounts text[] default null,
  out stored integer, out duplicates text[], out differing text[])
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_seen   text[] := p_event_ids;
  v_keys   text[] := p_keys;
  v_new    text[];
  v_stored text[];
  v_missed text[];
  v_lock_timeout text;
begin
  duplicates := '{}';
  differing := '{}';
  -- For the reason given in restante.insert_event().
  if p_source = 'webhook' then
    v_lock_timeout := set_config('lock_timeout', '200ms', true);
  end if;
  if p_senders is not null then
    select array_agg(restante.seen_as(u.sender, u.event_id) order by u.turn),
           array_agg(restante.order_key(u.account, u.sender, u.key) order by u.turn)
      into v_seen, v_keys
      from unnest(p_senders, p_accounts, p_event_ids, p_keys) with ordinality as u (sender, account, event_id, key, turn);
  end if;
  -- Sorted, so that two deliveries of the same events never wait for each other in a circle.
  with seen as (
    insert into restante.outbox_seen (event_id, digest)
    select u.seen collate "C", u.digest from unnest(v_seen, p_digests) as u (seen, digest) order by 1
    on conflict do nothing
    returning outbox_seen.event_id)
  select coalesce(array_agg(s.event_id), '{}') into v_new from seen as s;
  stored := cardinality(v_new);
  if stored < cardinality(v_seen) then
    if cardinality(v_seen) > (select count(distinct u.seen) from unnest(v_seen) as u (seen)) then
      raise exception 'restante.insert_events: an identifier is there twice' using errcode = 'invalid_parameter_value';
    end if;
    duplicates := array(select unnest(v_seen) except select unnest(v_new));
    differing := restante.note_differing(v_seen, p_event_ids, p_senders, p_digests, p_payloads, p_raws);
  end if;
  if stored = 0 then
    return;
  end if;

  v_missed := restante.try_lock_keys(v_keys);

  -- Most events find their key free, with no head and no waiting event. The snapshot of this statement is taken after the locks
  -- of the keys, so that it sees every committed head.
  with fresh as (
    -- Of several events of one key the oldest.
    select distinct on (coalesce(u.order_key, u.seen) collate "C") u.*
      from unnest(v_seen, v_keys, p_senders, p_accounts, p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads,
                  p_raws) with ordinality
           as u (seen, order_key, sender, account, event_id, type, key, workspace_id, created_at, payload, raw, turn)
     where (cardinality(v_new) = cardinality(v_seen) or u.seen = any (v_new))
     order by coalesce(u.order_key, u.seen) collate "C", u.created_at, u.turn),
  new_heads as (
    insert into restante.outbox_live
      (sender, account, event_id, type, key, workspace_id, source, created_at, payload, raw, lane)
    select coalesce(f.sender, 'anthropic'), case when p_senders is null then 'anthropic' else f.account end,
           f.event_id, f.type, f.key, f.workspace_id, p_source, f.created_at, f.payload::json, f.raw, 'r'
      from fresh as f
     where (v_missed = '{}' or f.order_key is null or not f.order_key = any (v_missed))
     -- Without subscriptions and pauses, which is asked once, no type has to be compared.
       and ((select not exists (select from restante.subscription))
            or not exists (select from restante.subscription as b where restante.covers(b.type, f.type)))
       and ((select not exists (select from restante.paused_type))
            or not exists (select from restante.paused_type as t where restante.covers(t.type, f.type)))
       -- Not `not exists`: Postgres would make a join of it, which may read a whole index.
       and (select true from restante.outbox_live as h
             where restante.order_key(h.account, h.sender, h.key) = f.order_key and h.subscriber = '' and h.lane in ('r', 'l')
             limit 1) is null
       and (select true from restante.outbox_live as w
             where restante.order_key(w.account, w.sender, w.key) = f.order_key and w.subscriber = '' and w.lane = 'b' limit 1) is null
     order by f.created_at, f.turn
    returning restante.seen_as(outbox_live.sender, outbox_live.event_id) as seen)
  select array_agg(s.seen) into v_stored from new_heads as s;

  if cardinality(v_new) is distinct from cardinality(v_stored) then
    perform restante.insert_behind(
      v_seen, p_senders, case when p_senders is null then array_fill('anthropic'::text, array[cardinality(v_seen)]) else p_accounts end,
      p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads, p_raws, null, p_source,
      array(select unnest(v_new) except select unnest(v_stored)), v_missed);
  end if;
end $$;
comment on function restante.insert_events is
  'Engine: Stores events once each, in one statement of the caller. With insert_event, all that ingest may call.';

-- The slow path of insert_event() and insert_events(). It stores the events whose identifiers are in `p_rest`: those that wait for
-- an older event of their key, whose key another session has locked, that are paused, or that have subscribers, each of which gets a
-- row of its own. The caller has stored the others already. Returns the last row made for the handler of a type. The caller holds
-- the locks of the keys, except those of `p_missed`.
create function restante.insert_behind(
  p_seen text[], p_senders text[], p_accounts text[], p_event_ids text[], p_types text[], p_keys text[], p_workspace_ids text[],
  p_created_ats timestamptz[], p_payloads text[], p_raws bytea[], p_run_ats timestamptz[], p_source text, p_rest text[], p_missed text[])
returns bigint
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_id          bigint;
  v_keys        text[];
  v_subscribers text[];
  v_noted       text[];
  v_noted_for   text[];
begin
  with stored as (
    insert into restante.outbox_live
      (sender, account, event_id, type, subscriber, key, workspace_id, source, created_at, payload, raw, run_at, status, lane, held_by)
    select coalesce(f.sender, 'anthropic'), f.account, f.event_id, f.type, s.subscriber, f.key, f.workspace_id, p_source, f.created_at,
           f.payload::json, f.raw, coalesce(f.run_at, '-infinity'), a.status,
           restante.lane(a.status, coalesce(f.run_at, '-infinity'), false), h.held_by
      from unnest(p_seen, p_senders, p_accounts, p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads, p_raws,
                  p_run_ats) with ordinality
           as f (seen, sender, account, event_id, type, key, workspace_id, created_at, payload, raw, run_at, turn)
      cross join lateral (
            select '' as subscriber
            union
            select b.subscriber from restante.subscription as b where restante.covers(b.type, f.type)) as s
      cross join lateral (select restante.held_by(f.type) as held_by) as h
      cross join lateral (
            select case
                     when h.held_by is not null then 'paused'
                     when f.key is null then 'pending'
                     else 'blocked'
                   end as status) as a
     where f.seen = any (p_rest)
     order by f.turn, s.subscriber
    returning id, outbox_live.subscriber, restante.order_key(outbox_live.account, outbox_live.sender, outbox_live.key) as key,
              outbox_live.status)
  select max(s.id) filter (where s.subscriber = ''),
         array_agg(s.key) filter (where s.status = 'blocked' and not s.key = any (p_missed)),
         array_agg(s.subscriber) filter (where s.status = 'blocked' and not s.key = any (p_missed)),
         array_agg(s.key) filter (where s.status = 'blocked' and s.key = any (p_missed)),
         array_agg(s.subscriber) filter (where s.status = 'blocked' and s.key = any (p_missed))
    into v_id, v_keys, v_subscribers, v_noted, v_noted_for
    from stored as s;

  if v_keys is not null then
    perform restante.step_down(v_keys, v_subscribers);
    perform restante.unblock(v_keys, v_subscribers);
  end if;
  if v_noted is not null then
    perform restante.note_keys(v_noted, v_noted_for);
  end if;
  return v_id;
end $$;
comment on function restante.insert_behind is
  'Engine: Stores events that wait for an older one of their key, are paused or have subscribers. The caller holds the locks of the '
  'keys but those of p_missed, which are noted.';

-- With `p_settles` the noted keys first get their heads. If there were any, the first row says how many were settled and how many
-- were left.
create function restante.claim_events(
  p_owner text, p_subscribers text[], p_limit bigint, p_lease interval, p_floor timestamptz, p_bytes bigint, p_settles boolean)
returns setof restante.claimed_event
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
begin
  if p_settles and exists (select from restante.key_unsettled) then
    return query
    select null::bigint, null, null, null, null, null, null, null::timestamptz, null::timestamptz, null, null::bytea,
           null::integer, null::integer, null::integer, null::bigint, null, null, k.settled, k.left_over
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
      case when p.held_by is not null then restante.note_keys(array[restante.order_key(o.account, o.sender, o.key)], array[o.subscriber]) end as is_noted)
  select c.id, c.event_id, c.type, c.subscriber, c.key, c.workspace_id, c.source::text,
         -- Clients cannot read other years. Only the owner of the table can write them.
         least(greatest(c.created_at, '0001-01-01Z'), '9999-12-31Z'), least(greatest(c.received_at, '0001-01-01Z'), '9999-12-31Z'),
         c.payload::text, c.raw, c.attempt, c.max_attempts, c.crashes, c.lease_token, c.sender, c.account,
         null::bigint, null::bigint
    from claimed as c where c.status = 'running' order by c.created_at, c.id;
end $$;
comment on function restante.claim_events is
  'Engine: Leases the oldest events that may run now to a worker, each with a new lease token.';

-- Makes the successor in each key its head after the old head was finished, or leases it to an owner, as restante.unblock() says.
-- Returns the same columns as restante.finish_events(). The caller holds the locks of the keys.
create function restante.release_next(
  p_finished bigint[], p_keys text[], p_subscribers text[], p_owner text, p_lease interval, p_until timestamptz)
returns table (finished bigint[], unblocked bigint, next restante.claimed_event)
language plpgsql as $$
begin
  return query
  with heads as materialized (
    select * from restante.unblock(p_keys, p_subscribers, p_owner, p_lease, p_until))
  select p_finished, count(*), null::restante.claimed_event from heads as h where h.status = 'pending'
  union all
  select null, null, row(h.id, h.event_id, h.type, h.subscriber, h.key, h.workspace_id, h.source,
                         least(greatest(h.created_at, '0001-01-01Z'), '9999-12-31Z'),
                         least(greatest(h.received_at, '0001-01-01Z'), '9999-12-31Z'), h.payload, h.raw, h.attempt, h.max_attempts, h.crashes,
                         h.lease_token, h.sender, h.account, null, null)::restante.claimed_event
    from heads as h where h.status = 'running';
end $$;
comment on function restante.release_next is
  'Engine: Makes the successor in each key its head after the old head was finished, or leases it. The caller holds the locks of the keys.';

-- Returns the events that it finished (if one is missing, its lease was lost or another session has locked it), how many others
-- may be claimed now, and a row for each event that it leased.
create function restante.finish_events(
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
       attempt, max_attempts, crashes, lease_token, lease_owner, started_at, last_error, result, finished_at)
    select g.id, g.sender, g.account, g.event_id, g.type, g.subscriber, g.key, g.workspace_id, g.source, g.created_at, g.received_at,
           g.payload, g.raw, g.status_after, 'f', '-infinity', g.attempt, g.max_attempts, g.crashes, g.lease_token + 1,
           g.lease_owner, g.started_at, null, g.result_after::json, clock_timestamp()
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
comment on function restante.finish_events is
  'Engine: Moves the events of attempts that succeeded to the history, and makes the successor in each key its head, or leases it. '
  'Fenced by the lease token.';

-- Finishes one attempt that succeeded, as restante.finish_events() does, in two thirds of its time.
create function restante.finish_event(
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
     attempt, max_attempts, crashes, lease_token, lease_owner, started_at, last_error, result, finished_at)
  values
    (v.id, v.sender, v.account, v.event_id, v.type, v.subscriber, v.key, v.workspace_id, v.source, v.created_at, v.received_at, v.payload, v.raw,
     p_status, 'f', '-infinity', v.attempt, v.max_attempts, v.crashes, v.lease_token + 1, v.lease_owner, v.started_at, null,
     p_result::json, clock_timestamp());

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
comment on function restante.finish_event is
  'Engine: Moves the event of one attempt that succeeded to the history, as restante.finish_events() does. Fenced by the lease token.';

-- Returns the new status; null if the lease was lost, or if another session has locked the event.
create or replace function restante.fail(
  p_id bigint, p_token bigint, p_verdict text, p_outcome text, p_kind text, p_error text, p_wait interval,
  p_holds_key boolean)
returns text
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v         restante.outbox_live;
  v_held_by text;
  v_key     text;
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
  v_key := restante.order_key(v.account, v.sender, v.key);
  if v_key is not null then
    if restante.try_lock_key(v_key) then
      perform restante.unblock(array[v_key], array[v.subscriber]);
    else
      perform restante.note_keys(array[v_key], array[v.subscriber]);
    end if;
  end if;
  return case when v_held_by is null then 'dead' else 'paused' end;
end $$;
comment on function restante.fail is
  'Engine: Ends one attempt that did not succeed: a retry, a snooze, a deferral, a trouble or a dead letter. Fenced by the lease token.';

-- Hands events back unfinished. Any worker may claim them at once; their attempts do not count. Events whose type is paused are
-- held. Returns how many it handed back, which leaves out those whose lease was lost or that another session has locked.
create or replace function restante.hand_back(p_ids bigint[], p_tokens bigint[]) returns bigint
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
    returning restante.order_key(l.account, l.sender, l.key) as key, l.subscriber),
  -- An older event may have come meanwhile. It runs first, because nothing of this attempt counts.
  noted as (
    insert into restante.key_unsettled (key, subscriber)
    select b.key, b.subscriber from back as b where b.key is not null)
  select count(*) into v_count from back;
  return v_count;
end $$;
comment on function restante.hand_back is
  'Engine: Hands events back unfinished. Any worker may claim them at once. Fenced by the lease token.';

-- When a hand-written statement ends, every key that it touched gets its right head. A key that another session has locked is
-- noted, and so are all keys after the first thousand: after this transaction's commit, the next claim of a worker settles them.
create or replace function restante.guard_statement() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off as $$
declare
  v_keys        text[];
  v_subscribers text[];
  v_missed      text[];
begin
  select array_agg(c.key), array_agg(c.subscriber) into v_keys, v_subscribers
    from (select distinct restante.order_key(n.account, n.sender, n.key) as key, n.subscriber from changed as n where n.key is not null) as c;
  if v_keys is null then
    return null;
  end if;
  v_missed := restante.try_lock_keys(v_keys);
  -- By a join, because there may be a million keys.
  insert into restante.key_unsettled (key, subscriber)
  select c.key, c.subscriber
    from unnest(v_keys, v_subscribers) as c (key, subscriber)
    join (select distinct m.key from unnest(v_missed) as m (key)) as missed on missed.key = c.key;
  select array_agg(c.key), array_agg(c.subscriber) into v_keys, v_subscribers
    from unnest(v_keys, v_subscribers) as c (key, subscriber)
    left join (select distinct m.key from unnest(v_missed) as m (key)) as missed on missed.key = c.key
   where missed.key is null;
  perform restante.step_down(v_keys, v_subscribers);
  perform restante.unblock(v_keys, v_subscribers);
  return null;
end $$;
comment on function restante.guard_statement is
  'Engine: Gives every key that an UPDATE or a DELETE touched its right head, or notes it for the next claim.';

drop function restante.enqueue(text, json, text, timestamptz, text, timestamptz, text);
-- For applications: stores an event in their own transaction. It may run once the transaction commits.
create function restante.enqueue(
  type text, payload json, key text default null, run_at timestamptz default null,
  event_id text default null, created_at timestamptz default null, workspace_id text default null, account text default 'anthropic')
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_event_id text := coalesce(enqueue.event_id, 'sql_' || replace(gen_random_uuid()::text, '-', ''));
  v_fault    text;
  v_hint     text;
begin
  -- All of these are in indexes, and Postgres limits an index entry to 2,704 bytes.
  select format('%s must have 1 to 512 bytes', a.name) into v_fault
    from (values ('type', enqueue.type), ('event_id', v_event_id), ('key', enqueue.key),
                 ('workspace_id', enqueue.workspace_id), ('account', coalesce(enqueue.account, ''))) as a (name, value)
   where a.value = '' or octet_length(a.value) > 512 limit 1;
  if coalesce(enqueue.type, '') = '' then
    v_fault := 'type is missing';
    v_hint  := 'Name what happened, such as ''order.placed''; a handler answers it by this name.';
  elsif enqueue.payload is null then
    v_fault := 'payload is missing';
    v_hint  := 'Pass a JSON value, such as ''{}''.';
  elsif v_fault is not null then
    v_hint  := 'Leave it out where it says nothing; put what is long into the payload.';
  elsif restante.is_reserved(enqueue.type) then
    v_fault := format('type is reserved: %s is said by the Claude API or by Restante itself', enqueue.type);
    v_hint  := 'Choose a type of your own, such as ''order.placed''. '
               'To have a batch watched: insert into restante.batch (id) values (''msgbatch_...'').';
  elsif v_event_id ~ '^(batch\.|whe_)' then
    v_fault := format('event_id is reserved: one like %s belongs to the Claude API or to Restante itself', left(v_event_id, 80));
    v_hint  := 'Choose one of your own, such as ''order_4711_placed'', or leave it out.';
  else
    -- Beyond these years many clients cannot read the row.
    select format('%s must be a time of the years 1 to 9999', a.name) into v_fault
      from (values ('created_at', enqueue.created_at), ('run_at', enqueue.run_at)) as a (name, value)
     where a.value < make_timestamptz(1, 1, 1, 0, 0, 0, 'UTC') or a.value >= make_timestamptz(10000, 1, 1, 0, 0, 0, 'UTC')
     limit 1;
    v_hint := 'Leave it out for now.';
  end if;
  if v_fault is not null then
    raise exception 'restante.enqueue: %', v_fault using errcode = 'invalid_parameter_value', hint = v_hint;
  end if;
  return e.id from restante.insert_event(
    v_event_id, enqueue.type, enqueue.key, enqueue.workspace_id,
    -- A scheduled event takes its place in the order of its key by the time that it is scheduled for.
    coalesce(enqueue.created_at, enqueue.run_at, clock_timestamp()),
    enqueue.payload::text, null, null, enqueue.run_at, 'sql', 'anthropic', enqueue.account) as e;
end $$;
comment on function restante.enqueue is
  'Puts an event into the outbox as part of your transaction. Returns its id, or null if event_id is already stored.';

-- For the programs of the release before, until they are replaced. They know one sender and one account, so an operator adds others
-- when the last of those workers has ended.
create or replace function restante.claim(
  p_owner text, p_subscribers text[], p_limit bigint, p_lease interval, p_floor timestamptz, p_bytes bigint, p_settles boolean)
returns setof restante.claimed
language sql
begin atomic
  select c.id, c.event_id, c.event_type, c.subscriber, c.key, c.workspace_id, c.source, c.created_at, c.received_at, c.payload, c.raw,
         c.attempt, c.max_attempts, c.crashes, c.lease_token, c.keys_settled, c.keys_left
    from restante.claim_events(p_owner, p_subscribers, p_limit, p_lease, p_floor, p_bytes, p_settles) as c;
end;
comment on function restante.claim is 'Engine: claim_events() for workers of the release before.';

create function restante.claimed_of(event restante.claimed_event) returns restante.claimed
language sql immutable parallel safe
return case when (event).id is not null then
  row((event).id, (event).event_id, (event).event_type, (event).subscriber, (event).key, (event).workspace_id, (event).source,
      (event).created_at, (event).received_at, (event).payload, (event).raw, (event).attempt, (event).max_attempts, (event).crashes,
      (event).lease_token, (event).keys_settled, (event).keys_left)::restante.claimed end;
comment on function restante.claimed_of is 'Engine: What a worker of the release before knows of an event.';

create or replace function restante.finish(
  p_ids bigint[], p_tokens bigint[], p_statuses text[], p_results text[],
  p_owner text default null, p_lease interval default null, p_until timestamptz default null)
returns table (finished bigint[], unblocked bigint, next restante.claimed)
language sql
begin atomic
  select f.finished, f.unblocked, restante.claimed_of(f.next)
    from restante.finish_events(p_ids, p_tokens, p_statuses, p_results, p_owner, p_lease, p_until) as f;
end;
comment on function restante.finish is 'Engine: finish_events() for workers of the release before.';

create or replace function restante.finish_one(
  p_id bigint, p_token bigint, p_status text, p_result text,
  p_owner text default null, p_lease interval default null, p_until timestamptz default null)
returns table (finished bigint[], unblocked bigint, next restante.claimed)
language sql
begin atomic
  select f.finished, f.unblocked, restante.claimed_of(f.next)
    from restante.finish_event(p_id, p_token, p_status, p_result, p_owner, p_lease, p_until) as f;
end;
comment on function restante.finish_one is 'Engine: finish_event() for workers of the release before.';

drop function restante.let_next_go(bigint[], text[], text[], text, interval, timestamptz);

-- The views show whose an event is, in columns at their end.
create or replace view restante.outbox_overview as
  select l.type, l.subscriber, l.status, count(*) as events, min(l.created_at) as oldest_created_at,
         clock_timestamp() - min(l.received_at) as longest_wait, l.sender
    from restante.outbox_live as l
   where not restante.is_standing(l.type, l.status, l.outcome)
   group by l.type, l.subscriber, l.status, l.sender;

create or replace view restante.outbox_standing as
  select id, event_id, type, status, nullif(nullif(run_at, '-infinity'), 'infinity') as next_look_at, last_error as reason, account
    from restante.outbox_live as l
   where restante.is_standing(l.type, l.status, l.outcome);

create or replace view restante.outbox_waiting as
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
         end as reason,
         l.sender, l.account
    from restante.outbox_live as l
    left join restante.paused_type as t on l.status = 'paused' and t.type = l.held_by
   where l.status <> 'running';

create or replace view restante.outbox_running as
  select id, event_id, type, subscriber, key, attempt, lease_owner, started_at,
         clock_timestamp() - started_at as running_for, nullif(lease_until, '-infinity') as lease_until,
         lease_until <= clock_timestamp() as lease_ran_out, sender, account
    from restante.outbox_live where lane = 'r' and status = 'running';

create or replace view restante.outbox_dead as
  select o.id, o.event_id, o.type, o.subscriber, o.key, o.created_at, o.attempt, o.crashes, o.last_error,
         f.failed_at, f.outcome, f.kind, o.sender, o.account
    from restante.outbox_live as o
    left join lateral (
          select failed_at, outcome, kind from restante.failure
           where outbox_id = o.id order by failed_at desc limit 1) as f on true
   where o.status = 'dead';

create or replace view restante.outbox_stuck as
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
         end as reason,
         l.sender, l.account
    from restante.outbox_live as l
   where (l.lane = 'r' and l.status = 'running' and l.lease_until <= clock_timestamp())
      or (l.lane = 'r' and l.status = 'pending' and l.received_at < clock_timestamp() - interval '1 minute')
      or (l.lane = 'l' and l.status in ('pending', 'retry') and l.run_at < clock_timestamp() - interval '1 minute')
      or (l.lane = 'l' and l.status = 'retry' and (l.outcome = 'trouble' or l.attempt >= 3));

create or replace view restante.outbox_trouble as
  select restante.cause(last_error) as cause, count(*) as events, min(received_at) as waiting_since, min(run_at) as next_attempt_at, account
    from restante.outbox_live
   where lane = 'l' and status = 'retry' and outcome = 'trouble'
   group by 1, account;

create or replace view restante.outbox_keys as
  select key, subscriber, count(*) as waiting, min(created_at) as oldest_created_at, coalesce(account, sender) as keys_of
    from restante.outbox_live where lane = 'b' group by key, subscriber, coalesce(account, sender);

create or replace view restante.outbox_events as
  select id, event_id, type, subscriber, key, workspace_id, source, status, attempt, max_attempts, created_at, received_at,
         started_at, nullif(nullif(run_at, '-infinity'), 'infinity') as run_at,
         nullif(lease_until, '-infinity') as lease_until, lease_owner, outcome, last_error, held_by, result,
         null::timestamptz as finished_at, payload, raw, sender, account
    from restante.outbox_live
  union all
  select id, event_id, type, subscriber, key, workspace_id, source, status, attempt, max_attempts, created_at, received_at,
         started_at, null, null, lease_owner, outcome, last_error, held_by, result, finished_at, payload, raw, sender, account
    from restante.outbox where finished_at < 'infinity';


revoke execute on all functions in schema restante from public;
grant execute on function restante.insert_event, restante.insert_events to restante_ingest, restante_worker;
-- Those that 0007_roles.sql names together with the function that is dropped here: `restante migrate --grants` skips that line.
grant execute on function restante.covers, restante.lane, restante.held_by, restante.claimed_bytes, restante.lock_of_key,
  restante.try_lock_keys, restante.try_lock_key, restante.note_keys, restante.unblock, restante.step_down, restante.settle_keys,
  restante.give_sign, restante.may_take_over, restante.has_vanished, restante.note_failed, restante.claim, restante.finish,
  restante.finish_one, restante.fail, restante.hand_back, restante.hand_back_strays, restante.sweep, restante.let_held_go,
  restante.make_partitions, restante.ensure_standing_jobs to restante_worker;
grant execute on function restante.order_key, restante.seen_as, restante.claim_events, restante.finish_events, restante.finish_event,
  restante.release_next, restante.claimed_of to restante_worker;
grant execute on function restante.order_key, restante.seen_as to restante_operator;
grant execute on function restante.enqueue to restante_app;
