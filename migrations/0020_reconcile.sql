-- One attempt settles events that wait for the same newest state.

-- The events that one attempt settles beside its own: those of its key that waited when it began, and that its handler names. Each
-- is done without an attempt, and its result names the event of the attempt.
--
-- They are blocked behind the event of the attempt, which runs, so nobody chooses among them at this moment. The caller finishes its
-- event in the same transaction, or rolls back.
create function restante.settle_waiting(p_ids bigint[], p_event_id text) returns bigint
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
       attempt, max_attempts, crashes, lease_token, lease_owner, started_at, last_error, result, finished_at)
    select g.id, g.sender, g.account, g.event_id, g.type, g.subscriber, g.key, g.workspace_id, g.source, g.created_at, g.received_at,
           g.payload, g.raw, 'done', 'f', '-infinity', g.attempt, g.max_attempts, g.crashes, g.lease_token + 1,
           g.lease_owner, g.started_at, null, json_build_object('settled_by', p_event_id), clock_timestamp()
      from gone as g
    returning 1)
  select count(*) into v_settled from settled;
  return v_settled;
end $$;
comment on function restante.settle_waiting is
  'Engine: Finishes events that wait behind the event of an attempt and are settled by it. Part of the commit of the attempt.';

revoke execute on all functions in schema restante from public;
grant execute on function restante.settle_waiting to restante_worker;
