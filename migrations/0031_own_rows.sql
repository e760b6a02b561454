-- What reads rows of its own keys or numbers finds them by these, and by nothing else. A session that plans while the outbox is empty takes
-- all ways for equally short, and keeps to its plan while the outbox grows, until Postgres has counted the rows anew.

-- As in 0010. Without a limit Postgres made a join of the second look, and read the heads of all keys: with 20,000 of them, storing 64
-- events beside a subscription took 200 ms.
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
              and h.status = 'pending' and (h.created_at, h.id) > (w.created_at, w.id)
            -- A key has one head at most.
            limit 1) as h),
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

-- As in 0017 and 0029. The number of a row says enough: the lane is compared as a text, so that no index of a lane serves.
create or replace function restante.ring(p_alarms bigint[]) returns void
language sql
set enable_seqscan = off set plan_cache_mode = force_generic_plan
begin atomic
  update restante.outbox_live as l
     set run_at = '-infinity', lane = restante.lane(l.status, '-infinity', false), lease_token = l.lease_token + 1
   where l.id in (select f.id from restante.outbox_live as f
                   where f.id = any (p_alarms) and f.status = 'pending' and f.lane::text = 'l' for update skip locked);
end;

create or replace function restante.take_back(p_alarms bigint[]) returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
begin
  with mine as materialized (
    select l.id from restante.outbox_live as l
     where l.id = any (p_alarms) and l.status in ('pending', 'retry') and l.lane::text = 'l' for update skip locked),
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

revoke execute on all functions in schema restante from public;
