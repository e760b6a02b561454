-- Batches, results and objects of several accounts: an identifier of the API is unique within its workspace only. What was stored
-- before belongs to the account `anthropic`, and programs of the release before, which know no other, read and write that one.

-- A session that waits for the lock of a table makes all later ones wait behind it. So this gives up soon, and `restante migrate`
-- tries again. Once it has the lock, the new key of `batch_result` takes about as long as an index of that table.
set local lock_timeout = '1s';

-- The identifier comes first in each key, so that a query that does not name the account is as quick as before.
alter table restante.batch add column account text collate "C" not null default 'anthropic';
alter table restante.batch drop constraint batch_pk, add constraint batch_pk primary key (id, account);
comment on column restante.batch.account is 'The account, by its name in the configuration, whose key reads the batch.';

alter table restante.batch_result add column account text collate "C" not null default 'anthropic';
alter table restante.batch_result
  drop constraint batch_result_pk, add constraint batch_result_pk primary key (batch_id, account, custom_id);
comment on column restante.batch_result.account is 'The account of the batch.';

alter table restante.resource add column account text collate "C" not null default 'anthropic';
alter table restante.resource drop constraint resource_pk, add constraint resource_pk primary key (type, id, account);
comment on column restante.resource.account is 'The account, by its name in the configuration, whose key read the object.';

alter table restante.outcome_evaluation add column account text collate "C" not null default 'anthropic';
alter table restante.outcome_evaluation
  drop constraint outcome_evaluation_pk,
  add constraint outcome_evaluation_pk primary key (session_id, account, outcome_id, iteration);
comment on column restante.outcome_evaluation.account is 'The account of the session.';

grant insert (account) on restante.batch to restante_operator;

-- The standing jobs: one for each batch of an account, and one search for each account. Their sender is the account, so that each
-- account has identifiers and keys of its own.

-- Puts a job into the outbox. If its identifier is taken, the job gets another one.
drop function restante.begin_standing_job(text, text);
create function restante.begin_standing_job(p_type text, p_batch_id text, p_account text default 'anthropic') returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_event_id text := concat_ws(':', p_type, p_batch_id);
  v_id       bigint;
begin
  loop
    select e.id into v_id from restante.insert_event(
      v_event_id, p_type,
      -- The same key as the sender's own events of the batch, so that only one event at a time stores its results.
      case when p_type = 'batch.ended' then p_batch_id end, null, clock_timestamp(),
      case when p_batch_id is null then '{}' else json_build_object('batch_id', p_batch_id)::text end, null, null, null,
      case when p_batch_id is null then 'worker' else 'poll' end, p_account, p_account) as e;
    exit when v_id is not null;
    v_event_id := concat_ws(':', p_type, p_batch_id, replace(gen_random_uuid()::text, '-', ''));
  end loop;
end $$;
comment on function restante.begin_standing_job is 'Engine: Puts a standing job into the outbox.';

-- Puts missing jobs of the given types and accounts into the outbox, and replays those that were given up. Returns how many there
-- were. Jobs of other accounts stay as they are: an account that is not configured any more may come back. Programs of the release
-- before give no accounts.
drop function restante.ensure_standing_jobs(text[]);
create function restante.ensure_standing_jobs(p_types text[], p_accounts text[] default array['anthropic']) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_type    text;
  v_account text;
  v_dead    bigint[] := '{}';
  v_made    integer := 0;
  v_batch   record;
begin
  -- One worker at a time looks after a type, and the others skip it. So each step below sees the jobs of the last worker.
  for v_type in
    select s.type from restante.standing_job as s where s.type = any (p_types) order by s.type for update skip locked
  loop
    update restante.standing_job as s set ensured_at = clock_timestamp() where s.type = v_type;
    -- One account after the other, so that none waits until another has no more missing jobs.
    foreach v_account in array p_accounts loop
      if v_type = 'batch.reconcile' then
        v_dead := v_dead || array(
          select l.id from restante.outbox_live as l
           where l.type = 'batch.reconcile' and l.subscriber = '' and l.source = 'worker' and l.status = 'dead'
             and l.account = v_account);
        if not exists (
             select from restante.outbox_live as l
              where l.type = 'batch.reconcile' and l.subscriber = '' and l.source = 'worker' and l.account = v_account) then
          perform restante.begin_standing_job(v_type, null, v_account);
          v_made := v_made + 1;
        end if;
        continue;
      end if;
      for v_batch in
        with jobs as materialized (
          select l.id, l.status, l.payload->>'batch_id' as batch_id from restante.outbox_live as l
           where l.type in ('batch.poll', 'batch.ended') and l.subscriber = '' and l.source = 'poll' and l.account = v_account),
        dead as (select j.batch_id, min(j.id) as id from jobs as j where j.status = 'dead' group by j.batch_id)
        select b.id, d.id as dead_id
          from restante.batch as b left join dead as d on d.batch_id = b.id
         where b.account = v_account and b.complete_at is null and b.given_up_because is null
           and (b.ended_at is not null) = (v_type = 'batch.ended')
           and not exists (select from jobs as j where j.batch_id = b.id and j.status <> 'dead')
           -- If an event of the sender is about to do the same, no job is needed.
           and not exists (
               select from restante.outbox_live as h
                where restante.order_key(h.account, h.sender, h.key) = restante.order_key(v_account, v_account, b.id)
                  and h.subscriber = '' and h.lane in ('r', 'l') and h.status <> 'dead'
                  and (starts_with(h.type, 'batch.') or starts_with(h.type, 'message_batch.')))
         order by b.created_at limit 1000
      loop
        if v_batch.dead_id is not null then
          v_dead := v_dead || v_batch.dead_id;
        else
          perform restante.begin_standing_job(v_type, v_batch.id, v_account);
          v_made := v_made + 1;
        end if;
      end loop;
    end loop;
  end loop;

  -- A job that has just been given up would fail again, so it stays a dead letter for some minutes, in which an operator can see
  -- it. A job that a person is changing at this moment is left for the next call.
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
comment on function restante.ensure_standing_jobs is
  'Engine: Puts missing standing jobs of the accounts into the outbox, and replays those that were given up. Workers call it every '
  'ten seconds with the accounts that they have. Returns how many there were.';
grant execute on function restante.ensure_standing_jobs to restante_worker;

create or replace function restante.watch_batch() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform restante.begin_standing_job('batch.poll', new.id, new.account);
  return null;
end $$;

-- The views, each with the account as its last column: a view keeps the columns that it has.

create or replace view restante.batch_overview as
  select id, status, processing + succeeded + errored + canceled + expired as requests, succeeded, errored, canceled,
         expired, results_stored, bytes_stored,
         case
           when complete_at is not null then 'complete'
           when given_up_because is not null then 'given up'
           when download_started_at is not null then 'downloading'
           when ended_at is not null then 'ended'
           else 'under way'
         end as progress,
         created_at, ended_at, complete_at, results_deadline,
         results_deadline - clock_timestamp() as results_vanish_in, account
    from restante.batch;

create or replace view restante.session_overview as
  select id, status, stop_reason,
         stop_reason = 'requires_action' as waits_for_a_person,
         archived_at, gone_at, updated_at, observed_at, account
    from restante.resource where type = 'session';

create or replace view restante.deployment_run_failed as
  select id, parent_id as deployment_id, error_type, error_message, observed_at, account
    from restante.resource where type = 'deployment_run' and error_type is not null;

create or replace view restante.credential_refresh_failed as
  select id, parent_id as vault_id, refresh_failed_at, updated_at, account
    from restante.resource
   where type = 'vault_credential' and refresh_failed_at is not null and gone_at is null and archived_at is null
     -- A credential that was changed since counts as repaired.
     and (updated_at is null or updated_at <= refresh_failed_at);

create or replace view restante.resource_never_seen as
  select type, id, parent_id, workspace_id, gone_at as not_found_at, account
    from restante.resource where gone_because = 'not_found' and body is null and raw is null;
comment on view restante.resource_never_seen is
  'Objects that an event named and that the API never returned. If there are many: is the key of the account of another workspace?';

revoke execute on all functions in schema restante from public;
