-- Storing events, each once: the way in for ingest, handlers and applications.

-- Does a pattern of a subscription or a pause cover a type? A trailing * covers any ending.
create function restante.covers(pattern text, type text) returns boolean
language sql immutable parallel safe
return pattern = type or (right(pattern, 1) = '*' and starts_with(type, left(pattern, -1)));
comment on function restante.covers is
  'Does the pattern of a subscription or a pause cover a type? A trailing * covers any ending.';

-- Stores one event, unless it is stored already. Answers with the row made for the handler of its type, or with null.
-- To a lone event this is half of the work that the function for many would be.
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
    v_id := restante.insert_behind(
      array[p_event_id], array[p_type], array[p_key], array[p_workspace_id], array[p_created_at], array[p_payload],
      array[p_raw], array[p_run_at], p_source, array[p_event_id]);
  end if;
  return v_id;
end $$;
comment on function restante.insert_event is
  'Stores one event, unless it is stored already. With insert_events, all that ingest may call.';

-- Stores events that are not stored yet, to be run at once, and answers how many were new. No identifier may be there twice.
create function restante.insert_events(
  p_event_ids text[], p_types text[], p_keys text[], p_workspace_ids text[], p_created_ats timestamptz[],
  p_payloads text[], p_raws bytea[], p_source text)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_new    text[];
  v_stored text[];
begin
  -- Sorted, so that two deliveries of the same events never wait for each other in a circle.
  with seen as (
    insert into restante.outbox_seen (event_id)
    select u.event_id collate "C" from unnest(p_event_ids) as u (event_id) order by 1
    on conflict do nothing
    returning outbox_seen.event_id)
  select array_agg(s.event_id) into v_new from seen as s;
  if v_new is null then
    return 0;
  end if;
  if cardinality(v_new) < cardinality(p_event_ids)
     and cardinality(p_event_ids) > (select count(distinct u.event_id) from unnest(p_event_ids) as u (event_id)) then
    raise exception 'restante.insert_events: an identifier is there twice' using errcode = 'invalid_parameter_value';
  end if;

  perform restante.lock_keys(p_keys);

  -- Most events find their key free, and nobody else waits for them. This step sees what was committed before the locks
  -- of the keys were had, so that no head comes in between.
  with fresh as (
    -- Of several events of one key the oldest.
    select distinct on (coalesce(u.key, u.event_id) collate "C") u.*
      from unnest(p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads, p_raws) with ordinality
           as u (event_id, type, key, workspace_id, created_at, payload, raw, turn)
     where cardinality(v_new) = cardinality(p_event_ids) or u.event_id = any (v_new)
     order by coalesce(u.key, u.event_id) collate "C", u.created_at, u.turn),
  stored as (
    insert into restante.outbox_live
      (event_id, type, key, workspace_id, source, created_at, payload, raw, lane)
    select f.event_id, f.type, f.key, f.workspace_id, p_source, f.created_at, f.payload::json, f.raw, 0
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
    returning outbox_live.event_id)
  select array_agg(s.event_id) into v_stored from stored as s;

  if cardinality(v_new) is distinct from cardinality(v_stored) then
    perform restante.insert_behind(
      p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads, p_raws, null, p_source,
      array(select unnest(v_new) except select unnest(v_stored)));
  end if;
  return cardinality(v_new);
end $$;
comment on function restante.insert_events is
  'Stores events once each, in one statement of the caller. With insert_event, all that ingest may call.';

-- Stores those of some events that can not just be claimed: they wait for an older event of their key, or are paused, or have
-- subscribers, each of whom gets a row of his own. Their identifiers are `p_rest`; what else was given has its row already.
-- Answers with the last row made for the handler of a type. The caller holds the locks of the keys.
create function restante.insert_behind(
  p_event_ids text[], p_types text[], p_keys text[], p_workspace_ids text[], p_created_ats timestamptz[],
  p_payloads text[], p_raws bytea[], p_run_ats timestamptz[], p_source text, p_rest text[])
returns bigint
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_id          bigint;
  v_keys        text[];
  v_subscribers text[];
  v_created_ats timestamptz[];
begin
  with stored as (
    insert into restante.outbox_live
      (event_id, type, subscriber, key, workspace_id, source, created_at, payload, raw, run_at, status, lane)
    select f.event_id, f.type, s.subscriber, f.key, f.workspace_id, p_source, f.created_at, f.payload::json, f.raw,
           coalesce(f.run_at, '-infinity'), a.status, restante.lane(a.status, coalesce(f.run_at, '-infinity'), false)
      from unnest(p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads, p_raws, p_run_ats)
           with ordinality
           as f (event_id, type, key, workspace_id, created_at, payload, raw, run_at, turn)
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
     where f.event_id = any (p_rest)
     order by f.turn, s.subscriber
    returning id, outbox_live.subscriber, outbox_live.key, outbox_live.created_at, outbox_live.status)
  select max(s.id) filter (where s.subscriber = ''),
         array_agg(s.key) filter (where s.status = 'blocked'), array_agg(s.subscriber) filter (where s.status = 'blocked'),
         array_agg(s.created_at) filter (where s.status = 'blocked')
    into v_id, v_keys, v_subscribers, v_created_ats
    from stored as s;

  if v_keys is not null then
    perform restante.step_down(v_keys, v_subscribers, v_created_ats);
    perform restante.unblock(v_keys, v_subscribers);
  end if;
  return v_id;
end $$;
comment on function restante.insert_behind is
  'Stores events that wait for an older one of their key, are paused or have subscribers. The caller holds the locks of the '
  'keys.';
