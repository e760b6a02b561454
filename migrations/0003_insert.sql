-- Stores events, each once: for ingest, handlers and applications.

-- Does a pattern of a subscription or a pause match a type? A trailing * matches any ending.
create function restante.covers(pattern text, type text) returns boolean
language sql immutable parallel safe
return pattern = type or (right(pattern, 1) = '*' and starts_with(type, left(pattern, -1)));
comment on function restante.covers is
  'Engine: Does the pattern of a subscription or a pause match a type? A trailing * matches any ending.';

-- The pattern of a pause that matches a type; null if there is none.
create function restante.held_by(type text) returns text
language sql stable
return (select min(t.type) from restante.paused_type as t where restante.covers(t.type, held_by.type));
comment on function restante.held_by is 'Engine: The pattern of a pause that matches a type; null if there is none.';

-- Stores the bodies of repeated identifiers that differ from the body that is stored. Returns the identifiers that differ.
create function restante.note_differing(
  p_event_ids text[], p_digests bigint[], p_payloads text[], p_raws bytea[])
returns text[]
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_differing text[];
begin
  select coalesce(array_agg(u.event_id), '{}') into v_differing
    from unnest(p_event_ids, p_digests) as u (event_id, digest)
    join restante.outbox_seen as s on s.event_id = u.event_id and s.digest <> u.digest;
  if cardinality(v_differing) > 0 then
    insert into restante.delivery_differs (event_id, digest, payload, raw)
    select u.event_id, u.digest, u.payload::json, u.raw
      from unnest(p_event_ids, p_digests, p_payloads, p_raws) as u (event_id, digest, payload, raw)
     where u.event_id = any (v_differing)
    on conflict do nothing;
  end if;
  return v_differing;
end $$;
comment on function restante.note_differing is
  'Engine: Stores bodies whose identifier is already stored with another body. Returns the identifiers that differ.';

-- Stores one event, unless it is stored already. Returns the row made for the handler of its type; or null if the identifier is
-- already stored, and then whether it is stored with another body. For one event this is half the work of the function for many.
create function restante.insert_event(
  p_event_id text, p_type text, p_key text, p_workspace_id text, p_created_at timestamptz, p_payload text, p_raw bytea,
  p_digest bigint, p_run_at timestamptz, p_source text,
  out id bigint, out differs boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_is_locked    boolean;
  v_lock_timeout text;
begin
  differs := false;
  -- Another session may be storing this identifier in an open transaction. Deliveries share a commit, so none may wait for long.
  if p_source = 'webhook' then
    v_lock_timeout := set_config('lock_timeout', '200ms', true);
  end if;
  insert into restante.outbox_seen (event_id, digest) values (p_event_id, p_digest) on conflict do nothing;
  if not found then
    differs := p_digest is not null and cardinality(
      restante.note_differing(array[p_event_id], array[p_digest], array[p_payload], array[p_raw])) > 0;
    return;
  end if;
  v_is_locked := p_key is null or restante.try_lock_key(p_key);
  if v_is_locked then
    -- Most events find their key free, with no head and no waiting event.
    insert into restante.outbox_live as l
      (event_id, type, key, workspace_id, source, created_at, payload, raw, run_at, lane)
    select p_event_id, p_type, p_key, p_workspace_id, p_source, p_created_at, p_payload::json, p_raw,
           coalesce(p_run_at, '-infinity'), case when p_run_at is null then 'r' else 'l' end
     where not exists (select from restante.subscription)
       and not exists (select from restante.paused_type)
       and (select true from restante.outbox_live as h
             where h.key = p_key and h.subscriber = '' and h.lane in ('r', 'l') limit 1) is null
       and (select true from restante.outbox_live as w
             where w.key = p_key and w.subscriber = '' and w.lane = 'b' limit 1) is null
    -- A person may have inserted a head by hand, without the lock of the key.
    on conflict (key, subscriber) where key is not null and lane in ('r', 'l') do nothing
    returning l.id into id;
  end if;
  if id is null then
    id := restante.insert_behind(
      array[p_event_id], array[p_type], array[p_key], array[p_workspace_id], array[p_created_at], array[p_payload],
      array[p_raw], array[p_run_at], p_source, array[p_event_id],
      case when v_is_locked then '{}' else array[p_key] end);
  end if;
end $$;
comment on function restante.insert_event is
  'Engine: Stores one event, unless it is stored already. Ingest may call only this and insert_events.';

-- Stores the events that are not stored yet, so that they may run at once. Returns how many were new, which identifiers were
-- already stored, and which of those are stored with another body. No identifier may be given twice.
create function restante.insert_events(
  p_event_ids text[], p_types text[], p_keys text[], p_workspace_ids text[], p_created_ats timestamptz[],
  p_payloads text[], p_raws bytea[], p_digests bigint[], p_source text,
  out stored integer, out duplicates text[], out differing text[])
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
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
  -- Sorted, so that two deliveries of the same events never wait for each other in a circle.
  with seen as (
    insert into restante.outbox_seen (event_id, digest)
    select u.event_id collate "C", u.digest from unnest(p_event_ids, p_digests) as u (event_id, digest) order by 1
    on conflict do nothing
    returning outbox_seen.event_id)
  select coalesce(array_agg(s.event_id), '{}') into v_new from seen as s;
  stored := cardinality(v_new);
  if stored < cardinality(p_event_ids) then
    if cardinality(p_event_ids) > (select count(distinct u.event_id) from unnest(p_event_ids) as u (event_id)) then
      raise exception 'restante.insert_events: an identifier is there twice' using errcode = 'invalid_parameter_value';
    end if;
    duplicates := array(select unnest(p_event_ids) except select unnest(v_new));
    differing := restante.note_differing(p_event_ids, p_digests, p_payloads, p_raws);
  end if;
  if stored = 0 then
    return;
  end if;

  v_missed := restante.try_lock_keys(p_keys);

  -- Most events find their key free, with no head and no waiting event. The snapshot of this statement is taken after the locks
  -- of the keys, so that it sees every committed head.
  with fresh as (
    -- Of several events of one key only the oldest.
    select distinct on (coalesce(u.key, u.event_id) collate "C") u.*
      from unnest(p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads, p_raws) with ordinality
           as u (event_id, type, key, workspace_id, created_at, payload, raw, turn)
     where (cardinality(v_new) = cardinality(p_event_ids) or u.event_id = any (v_new))
     order by coalesce(u.key, u.event_id) collate "C", u.created_at, u.turn),
  new_heads as (
    insert into restante.outbox_live
      (event_id, type, key, workspace_id, source, created_at, payload, raw, lane)
    select f.event_id, f.type, f.key, f.workspace_id, p_source, f.created_at, f.payload::json, f.raw, 'r'
      from fresh as f
     where (v_missed = '{}' or f.key is null or not f.key = any (v_missed))
     -- Without subscriptions and pauses, which each subselect checks once, no type has to be compared.
       and ((select not exists (select from restante.subscription))
            or not exists (select from restante.subscription as b where restante.covers(b.type, f.type)))
       and ((select not exists (select from restante.paused_type))
            or not exists (select from restante.paused_type as t where restante.covers(t.type, f.type)))
       -- Not `not exists`: Postgres would turn that into a join, which may read a whole index.
       and (select true from restante.outbox_live as h
             where h.key = f.key and h.subscriber = '' and h.lane in ('r', 'l') limit 1) is null
       and (select true from restante.outbox_live as w
             where w.key = f.key and w.subscriber = '' and w.lane = 'b' limit 1) is null
     order by f.created_at, f.turn
    returning outbox_live.event_id)
  select array_agg(s.event_id) into v_stored from new_heads as s;

  if cardinality(v_new) is distinct from cardinality(v_stored) then
    perform restante.insert_behind(
      p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads, p_raws, null, p_source,
      array(select unnest(v_new) except select unnest(v_stored)), v_missed);
  end if;
end $$;
comment on function restante.insert_events is
  'Engine: Stores events once each, in one statement of the caller. Ingest may call only this and insert_event.';

-- The slow path of insert_event() and insert_events(). It stores the events whose identifiers are in `p_rest`: those that wait for
-- an older event of their key, whose key another session has locked, that are paused, or that have subscribers, each of which gets a
-- row of its own. The caller has stored the others already. Returns the last row made for the handler of a type. The caller holds
-- the locks of the keys, except those of `p_missed`.
create function restante.insert_behind(
  p_event_ids text[], p_types text[], p_keys text[], p_workspace_ids text[], p_created_ats timestamptz[],
  p_payloads text[], p_raws bytea[], p_run_ats timestamptz[], p_source text, p_rest text[], p_missed text[])
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
      (event_id, type, subscriber, key, workspace_id, source, created_at, payload, raw, run_at, status, lane, held_by)
    select f.event_id, f.type, s.subscriber, f.key, f.workspace_id, p_source, f.created_at, f.payload::json, f.raw,
           coalesce(f.run_at, '-infinity'), a.status, restante.lane(a.status, coalesce(f.run_at, '-infinity'), false), h.held_by
      from unnest(p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads, p_raws, p_run_ats)
           with ordinality
           as f (event_id, type, key, workspace_id, created_at, payload, raw, run_at, turn)
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
     where f.event_id = any (p_rest)
     order by f.turn, s.subscriber
    returning id, outbox_live.subscriber, outbox_live.key, outbox_live.status)
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
  'keys, except those of p_missed, which this function notes.';
