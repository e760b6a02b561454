-- The reconciler: what changed at the API and no webhook told. A standing job of each account lists its objects, compares them with
-- what is explained, and puts what stays unexplained into the outbox.

-- As in 0011_accounts.sql: `restante migrate` tries again.
set local lock_timeout = '1s';

create table restante.reconcile_state (
  account       text collate "C" not null,
  kind          text collate "C" not null,
  since         timestamptz not null,
  every         interval    not null,
  tried_at      timestamptz,
  looking_since timestamptz,
  is_full       boolean     not null default false,
  horizon       timestamptz,
  parent_id     text collate "C",
  cursor        text,
  restarts      integer     not null default 0,
  complete_at   timestamptz,
  full_at       timestamptz,
  took          interval,
  found         bigint      not null default 0,
  fault         text,
  fault_since   timestamptz,
  constraint reconcile_state_once primary key (account, kind)
);
comment on table restante.reconcile_state is
  'How far the reconciler is with each kind of object of each account. A look that was interrupted goes on at its page.';
comment on column restante.reconcile_state.since is 'Changes from before are taken in without an event: nobody waited for them.';
comment on column restante.reconcile_state.every is 'The time between two looks, as the worker that looked last has it configured.';
comment on column restante.reconcile_state.tried_at is 'When the last look began, or failed.';
comment on column restante.reconcile_state.looking_since is 'When the look in progress began; null while none is.';
comment on column restante.reconcile_state.is_full is 'The look in progress is one at all objects, as there is one a day.';
comment on column restante.reconcile_state.horizon is
  'The look in progress ends at objects that were created before this: they are finished, and were explained. Null: it ends at the last one.';
comment on column restante.reconcile_state.parent_id is 'The last parent whose list is done, of kinds that have lists for each parent.';
comment on column restante.reconcile_state.cursor is 'The page that comes next, as a parameter and its value; null: the first.';
comment on column restante.reconcile_state.restarts is 'How often the look in progress had to begin anew, because the API refused its cursor.';
comment on column restante.reconcile_state.complete_at is
  'The watermark: when the last complete look began. No change from before it is unexplained.';
comment on column restante.reconcile_state.full_at is 'When the last complete look at all objects began.';
comment on column restante.reconcile_state.took is 'How long the last complete look took.';
comment on column restante.reconcile_state.found is 'How many changes the looks have found that no webhook had told by then.';
comment on column restante.reconcile_state.fault is 'Why this kind cannot be looked at.';

create table restante.reconciled (
  account         text collate "C" not null,
  kind            text collate "C" not null,
  id              text collate "C" not null,
  parent_id       text collate "C",
  created_at      timestamptz,
  updated_at      timestamptz,
  archived_at     timestamptz,
  status          text,
  settings        text        not null,
  explained_until timestamptz,
  is_final        boolean     not null,
  is_gone         boolean     not null default false,
  listed_at       timestamptz not null,
  constraint reconciled_once primary key (account, kind, id)
);
comment on table restante.reconciled is
  'The state of each object up to which every change is explained: by a webhook, or by a row of missed_change.';
comment on column restante.reconciled.settings is 'A digest of what the client chose: it differs if the object was updated.';
comment on column restante.reconciled.explained_until is 'The last event of a session''s own history that is explained, by the API''s clock.';
comment on column restante.reconciled.is_final is 'It will not change any more, but may be deleted.';
comment on column restante.reconciled.listed_at is 'When a list had it last, by this database''s clock.';
create index reconciled_open on restante.reconciled (account, kind, created_at) where not is_final and not is_gone;
comment on index restante.reconciled_open is 'Finds the oldest object that may still change, and those that may have been deleted.';
create index reconciled_parent on restante.reconciled (account, kind, parent_id) where parent_id is not null and not is_final and not is_gone;
comment on index restante.reconciled_parent is 'Finds the parts of an object that may still change.';

create table restante.missed_change (
  account      text collate "C" not null,
  event_id     text collate "C" not null,
  kind         text collate "C" not null,
  type         text collate "C" not null,
  key          text collate "C" not null,
  subject      text collate "C" not null,
  payload      json        not null,
  happened_at  timestamptz not null,
  is_once      boolean     not null,
  noticed_at   timestamptz not null default clock_timestamp(),
  polled_at    timestamptz,
  explained_by text collate "C",
  constraint missed_change_once primary key (account, event_id)
);
comment on table restante.missed_change is
  'Each change that no webhook had told when the reconciler looked, for a week: noticed first, and put into the outbox if no webhook '
  'comes soon. A webhook that comes later is settled by the event that was put in.';
comment on column restante.missed_change.event_id is 'The identifier of the event that is put into the outbox, made of the change itself.';
comment on column restante.missed_change.key is 'The key of the event.';
comment on column restante.missed_change.subject is 'The object: the same as the key, but for threads of sessions.';
comment on column restante.missed_change.is_once is 'It happens to an object once, so that any webhook of the type tells of it.';
comment on column restante.missed_change.polled_at is 'When its event was put into the outbox; null while a webhook may still come.';
comment on column restante.missed_change.explained_by is 'The webhook that tells of the same change.';
create index missed_change_waiting on restante.missed_change (account, happened_at) where polled_at is null and explained_by is null;
comment on index restante.missed_change_waiting is 'The changes whose event is not in the outbox yet.';
create index missed_change_key on restante.missed_change (account, key, type);
comment on index restante.missed_change_key is 'Finds the change that a webhook tells of.';

-- Without it, a look would read all dead letters to see whether the webhook of a change is one of them.
create index outbox_live_parked on restante.outbox_live (restante.order_key(account, sender, key))
  where lane = 'p' and restante.order_key(account, sender, key) is not null;
comment on index restante.outbox_live_parked is 'Finds dead and paused events by their key.';

-- The webhooks that an account got about these keys since a time. It reads the rows of the handlers of their types, which every
-- event has, and of the history the weeks since then.
create function restante.webhooks_of(p_account text, p_keys text[], p_since timestamptz)
returns table (event_id text, type text, key text, created_at timestamptz, body bytea)
language plpgsql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
begin
  return query
  select w.event_id, w.type, k.key, w.created_at, coalesce(w.raw, convert_to(w.payload::text, 'UTF8'))
    from (select distinct u.key, restante.order_key(p_account, p_account, u.key) as order_key from unnest(p_keys) as u (key)) as k
    cross join lateral (
          select l.event_id, l.type, l.created_at, l.payload, l.raw, l.source, l.subscriber from restante.outbox_live as l
           where restante.order_key(l.account, l.sender, l.key) = k.order_key and l.subscriber = '' and l.lane in ('r', 'l')
          union all
          select l.event_id, l.type, l.created_at, l.payload, l.raw, l.source, l.subscriber from restante.outbox_live as l
           where restante.order_key(l.account, l.sender, l.key) = k.order_key and l.subscriber = '' and l.lane = 'b'
          union all
          select l.event_id, l.type, l.created_at, l.payload, l.raw, l.source, l.subscriber from restante.outbox_live as l
           where restante.order_key(l.account, l.sender, l.key) = k.order_key and l.lane = 'p'
          union all
          select o.event_id, o.type, o.created_at, o.payload, o.raw, o.source, o.subscriber from restante.outbox as o
           where o.key = k.key and o.account = p_account and o.finished_at >= p_since and o.finished_at < 'infinity'
             and o.created_at >= p_since) as w
   where w.source = 'webhook' and w.subscriber = '' and w.created_at >= p_since;
end $$;
comment on function restante.webhooks_of is 'Engine: The webhooks that an account got about these objects since a time, finished or not.';

-- A worker is about to run a webhook. If the reconciler has noticed the change that it tells of, they are noted as one. If the
-- event of the change is in the outbox already, its identifier is returned: that event stands for the webhook.
create function restante.explain_change(
  p_account text, p_type text, p_key text, p_subject text, p_event_id text, p_created_at timestamptz, p_tolerance interval)
returns text
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_polled text;
begin
  update restante.missed_change as c
     set explained_by = p_event_id
   where c.account = p_account
     and c.event_id = (
       select m.event_id from restante.missed_change as m
        where m.account = p_account and m.key = p_key and m.type = p_type and m.subject = p_subject
          and (m.explained_by is null or m.explained_by = p_event_id)
          and (m.is_once or m.happened_at between p_created_at - p_tolerance and p_created_at + p_tolerance)
        -- The webhook may have been here before, in an attempt that did not end.
        order by m.explained_by is null, abs(extract(epoch from m.happened_at - p_created_at)), m.event_id limit 1)
     and (c.explained_by is null or c.explained_by = p_event_id)
  returning case when c.polled_at is not null then c.event_id end into v_polled;
  return v_polled;
end $$;
comment on function restante.explain_change is
  'Engine: Notes that a webhook tells of a change that the reconciler noticed. Returns the event that stands for both, if it is in the outbox.';

-- The search for batches and the reconciler are one job for each account.
alter table restante.standing_job drop constraint standing_job_known;
alter table restante.standing_job add constraint standing_job_known
  check (type in ('batch.poll', 'batch.ended', 'batch.reconcile', 'resource.reconcile'));
insert into restante.standing_job (type) values ('resource.reconcile');

drop index restante.outbox_live_standing;
create index outbox_live_standing on restante.outbox_live (type, id)
  where type in ('batch.poll', 'batch.ended', 'batch.reconcile', 'resource.reconcile') and subscriber = '';
comment on index restante.outbox_live_standing is 'Finds the standing jobs, however large the backlog is.';

create or replace function restante.is_standing(type text, status text, outcome text) returns boolean
language sql immutable parallel safe
return type in ('batch.poll', 'batch.reconcile', 'resource.reconcile')
   and status in ('pending', 'running', 'retry')
   and coalesce(outcome, 'snoozed') = 'snoozed';

-- As restante.ensure_standing_jobs(), for a type of which each account has one job. A function of its own, because programs of the
-- release before call that one.
create function restante.ensure_account_jobs(p_type text, p_accounts text[]) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_account text;
  v_dead    bigint[] := '{}';
  v_made    integer := 0;
begin
  if p_type <> 'resource.reconcile' then
    raise exception 'restante.ensure_account_jobs: % is no job of an account', p_type using errcode = 'invalid_parameter_value';
  end if;
  -- One worker at a time, as there.
  perform from restante.standing_job as s where s.type = p_type for update skip locked;
  if not found then
    return 0;
  end if;
  update restante.standing_job as s set ensured_at = clock_timestamp() where s.type = p_type;
  foreach v_account in array p_accounts loop
    v_dead := v_dead || array(
      select l.id from restante.outbox_live as l
       where l.type = 'resource.reconcile' and l.subscriber = '' and l.source = 'worker' and l.status = 'dead'
         and l.account = v_account);
    if not exists (
         select from restante.outbox_live as l
          where l.type = 'resource.reconcile' and l.subscriber = '' and l.source = 'worker' and l.account = v_account) then
      perform restante.begin_standing_job(p_type, null, v_account);
      v_made := v_made + 1;
    end if;
  end loop;

  v_dead := array(
    select l.id from restante.outbox_live as l
     where l.id = any (v_dead) and l.status = 'dead'
       and not exists (select from restante.failure as f
                        where f.outbox_id = l.id and f.failed_at > clock_timestamp() - interval '10 minutes')
       for update skip locked);
  if v_dead <> '{}' then
    -- As an operator would replay them.
    update restante.outbox as o set status = 'pending' where o.finished_at = 'infinity' and o.id = any (v_dead);
    v_made := v_made + cardinality(v_dead);
  end if;
  return v_made;
end $$;
comment on function restante.ensure_account_jobs is
  'Engine: Puts the missing jobs of a type into the outbox, one for each account, and replays those that were given up. Returns how many.';

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

create view restante.reconcile_overview as
  select s.account, s.kind, s.complete_at as last_look_at, clock_timestamp() - coalesce(s.complete_at, s.since) as unexplained_for_at_most,
         s.every * 2 as allowed,
         clock_timestamp() - coalesce(s.complete_at, s.since) > s.every * 2 as is_late,
         s.looking_since, s.took, s.found,
         (select count(*) from restante.missed_change as c
           where c.account = s.account and c.kind = s.kind and c.polled_at is null and c.explained_by is null) as noticed,
         s.fault, s.fault_since
    from restante.reconcile_state as s;
comment on view restante.reconcile_overview is
  'How old a change may be at this moment that no webhook told and the reconciler has not seen, for each account and kind of object, and how '
  'old it may get (twice RESTANTE_RECONCILE_SECONDS).';

grant select, insert, update, delete on restante.reconcile_state, restante.reconciled, restante.missed_change to restante_worker;
grant select on restante.reconcile_state, restante.reconciled, restante.missed_change, restante.reconcile_overview to restante_operator;

revoke execute on all functions in schema restante from public;
grant execute on function restante.webhooks_of, restante.explain_change, restante.ensure_account_jobs, restante.settle_waiting
  to restante_worker;
