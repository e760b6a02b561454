-- Message batches and their results.

create table restante.batch (
  id               text collate "C" not null,
  status           text,
  processing       bigint      not null default 0,
  succeeded        bigint      not null default 0,
  errored          bigint      not null default 0,
  canceled         bigint      not null default 0,
  expired          bigint      not null default 0,
  created_at       timestamptz,
  expires_at       timestamptz,
  ended_at         timestamptz,
  -- The API deletes results 29 days after the batch was created, not after it ended.
  results_deadline timestamptz generated always as
    ((created_at at time zone 'UTC' + interval '29 days') at time zone 'UTC') stored,
  results_stored   bigint      not null default 0,
  bytes_stored     bigint      not null default 0,
  complete_at      timestamptz,
  given_up_because text,
  first_seen_at    timestamptz not null default clock_timestamp(),
  checked_at       timestamptz,
  download_started_at timestamptz,
  constraint batch_pk primary key (id)
);
comment on table restante.batch is 'Every message batch that we know of, as the API last described it, and how much of its results is stored.';
comment on column restante.batch.id is 'The API''s identifier. Insert one to have the batch watched and its results stored.';
comment on column restante.batch.status is 'processing_status as the API last reported it; null before the first poll.';
comment on column restante.batch.processing is 'Requests under way. The API counts all requests here until the whole batch has ended.';
comment on column restante.batch.results_deadline is 'When the API deletes the results: 29 days after created_at.';
comment on column restante.batch.results_stored is 'Result lines stored so far.';
comment on column restante.batch.bytes_stored is 'Bytes of result lines stored so far, uncompressed.';
comment on column restante.batch.complete_at is 'When every result was stored and counted; null until then.';
comment on column restante.batch.given_up_because is
  'Why its results cannot be fetched: archived, vanished. Workers then leave the batch alone. Set it to null to have the results '
  'fetched, or to a reason of your own to have the batch left alone.';
comment on column restante.batch.first_seen_at is 'When we first heard of the batch.';
comment on column restante.batch.checked_at is 'When the API was last asked about it.';
comment on column restante.batch.download_started_at is 'When the download of its results last began.';

create index batch_incomplete on restante.batch (created_at) where complete_at is null;

create table restante.batch_result (
  batch_id      text collate "C" not null,
  custom_id     text collate "C" not null,
  outcome       text        not null,
  line          text,
  raw           bytea,
  text          text,
  model         text,
  stop_reason   text,
  error_type    text,
  error_message text,
  input_tokens  bigint,
  output_tokens bigint,
  cache_creation_input_tokens bigint,
  cache_read_input_tokens     bigint,
  stored_at     timestamptz not null default now(),
  constraint batch_result_pk primary key (batch_id, custom_id),
  constraint batch_result_one_line check ((line is null) <> (raw is null))
);
-- pglz, the default of Postgres, takes more time than all the rest of storing a result. Not every server was built with lz4; one
-- that was not stores the results with pglz.
do $$ begin
  if exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any (enumvals)) then
    alter table restante.batch_result
      alter line set compression lz4, alter raw set compression lz4, alter text set compression lz4;
  end if;
end $$;

comment on table restante.batch_result is 'One row for each result of a batch.';
comment on column restante.batch_result.outcome is 'succeeded, errored, canceled, expired, or a new word of the API.';
comment on column restante.batch_result.line is 'The result line, exactly as it was received.';
comment on column restante.batch_result.raw is 'The same as bytes, if it is no text that Postgres can hold.';
comment on column restante.batch_result.text is 'The text blocks of the answer, joined. U+FFFD stands for what text cannot hold.';
comment on column restante.batch_result.error_type is 'Why it errored: invalid_request_error wants a change, anything else may be sent again.';

-- The standing jobs: one event for each batch until it is complete (batch.poll while it runs, batch.ended from then on), and one
-- for the search for batches (batch.reconcile). If one were missing, nothing would report it, so workers check for them again and
-- again: a job that was cancelled, deleted or given up comes back, even if its identifier is taken.

create table restante.standing_job (
  type      text collate "C" not null,
  ensured_at timestamptz,
  constraint standing_job_once primary key (type),
  constraint standing_job_known check (type in ('batch.poll', 'batch.ended', 'batch.reconcile'))
);
comment on table restante.standing_job is 'The types of the standing jobs. Workers put a missing job back.';
comment on column restante.standing_job.ensured_at is 'When a worker last checked whether jobs of this type are missing.';
insert into restante.standing_job (type) values ('batch.poll'), ('batch.ended'), ('batch.reconcile');

-- Finds the jobs in any backlog. Their types never change, so that no claim has to write to the index.
create index outbox_live_standing on restante.outbox_live (type, id)
  where type in ('batch.poll', 'batch.ended', 'batch.reconcile') and subscriber = '';
comment on index restante.outbox_live_standing is 'Finds the standing jobs, however large the backlog is.';

-- Puts a job into the outbox. If its identifier is taken, the job gets another one.
create function restante.begin_standing_job(p_type text, p_batch_id text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_event_id text := concat_ws(':', p_type, p_batch_id);
begin
  if exists (select from restante.outbox_seen as s where s.event_id = v_event_id) then
    v_event_id := v_event_id || ':' || replace(gen_random_uuid()::text, '-', '');
  end if;
  perform restante.insert_event(
    v_event_id, p_type,
    -- The same key as the sender's own events of the batch, so that only one event at a time stores its results.
    case when p_type = 'batch.ended' then p_batch_id end, null, clock_timestamp(),
    case when p_batch_id is null then '{}' else json_build_object('batch_id', p_batch_id)::text end, null, null, null,
    case when p_batch_id is null then 'worker' else 'poll' end);
end $$;
comment on function restante.begin_standing_job is 'Engine: Puts a standing job into the outbox.';

-- Puts missing jobs of the given types into the outbox, and replays those that were given up. Returns how many there were.
create function restante.ensure_standing_jobs(p_types text[]) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_type  text;
  v_dead  bigint[] := '{}';
  v_made  integer := 0;
  v_batch record;
begin
  -- One worker at a time looks after a type, and the others skip it. So each step below sees the jobs of the last worker.
  for v_type in
    select s.type from restante.standing_job as s where s.type = any (p_types) order by s.type for update skip locked
  loop
    update restante.standing_job as s set ensured_at = clock_timestamp() where s.type = v_type;
    if v_type = 'batch.reconcile' then
      v_dead := v_dead || array(
        select l.id from restante.outbox_live as l
         where l.type = 'batch.reconcile' and l.subscriber = '' and l.source = 'worker' and l.status = 'dead');
      if not exists (
           select from restante.outbox_live as l
            where l.type = 'batch.reconcile' and l.subscriber = '' and l.source = 'worker') then
        perform restante.begin_standing_job(v_type, null);
        v_made := v_made + 1;
      end if;
      continue;
    end if;
    for v_batch in
      with jobs as materialized (
        select l.id, l.status, l.payload->>'batch_id' as batch_id from restante.outbox_live as l
         where l.type in ('batch.poll', 'batch.ended') and l.subscriber = '' and l.source = 'poll'),
      dead as (select j.batch_id, min(j.id) as id from jobs as j where j.status = 'dead' group by j.batch_id)
      select b.id, d.id as dead_id
        from restante.batch as b left join dead as d on d.batch_id = b.id
       where b.complete_at is null and b.given_up_because is null
         and (b.ended_at is not null) = (v_type = 'batch.ended')
         and not exists (select from jobs as j where j.batch_id = b.id and j.status <> 'dead')
         -- If an event of the sender is about to do the same, no job is needed.
         and not exists (
             select from restante.outbox_live as h
              where h.key = b.id and h.subscriber = '' and h.lane in ('r', 'l') and h.status <> 'dead'
                and (starts_with(h.type, 'batch.') or starts_with(h.type, 'message_batch.')))
       order by b.created_at limit 1000
    loop
      if v_batch.dead_id is not null then
        v_dead := v_dead || v_batch.dead_id;
      else
        perform restante.begin_standing_job(v_type, v_batch.id);
        v_made := v_made + 1;
      end if;
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
  'Engine: Puts missing standing jobs into the outbox, and replays those that were given up. Workers call it every ten seconds. '
  'Returns how many there were.';

-- Starts the poll of every new batch that may not have ended, however its row was inserted.
create function restante.watch_batch() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform restante.begin_standing_job('batch.poll', new.id);
  return null;
end $$;
comment on function restante.watch_batch is
  'Engine: Puts the event into the outbox that polls a new batch until it has ended.';

-- Not during a restore, which is recognised by check_function_bodies: only the sessions of pg_dump's output turn it off. The
-- restore brings the event itself, and one that was made before it would take its number and its identifier.
create trigger batch_is_watched after insert on restante.batch
  for each row when (new.complete_at is null and new.ended_at is null
                     and current_setting('check_function_bodies')::boolean)
  execute function restante.watch_batch();

create view restante.batch_overview as
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
         results_deadline - clock_timestamp() as results_vanish_in
    from restante.batch;
comment on view restante.batch_overview is 'Each batch in a row: what the API says about it, what is stored, how long the API still keeps the results.';
