-- As in 0010, and deliveries take the short way although there are endpoints, as long as none of these gets any delivery. An endpoint
-- without event_types gets what applications and Restante itself store, and made all deliveries take the long way, which costs three
-- times as much.

create or replace function restante.insert_events(
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
       and ((select not exists (
               select from restante.subscription as b
                where b.subscriber <> 'notify' or p_source in ('sql', 'worker')
                   or exists (select from restante.endpoint as e where e.event_types <> '{}')))
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

revoke execute on all functions in schema restante from public;
