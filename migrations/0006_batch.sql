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
  -- Results vanish 29 days after the batch was created, not after it ended.
  results_deadline timestamptz generated always as
    ((created_at at time zone 'UTC' + interval '29 days') at time zone 'UTC') stored,
  results_stored   bigint      not null default 0,
  bytes_stored     bigint      not null default 0,
  complete_at      timestamptz,
  first_seen_at    timestamptz not null default clock_timestamp(),
  checked_at       timestamptz,
  download_started_at timestamptz,
  constraint batch_pk primary key (id)
);
comment on table restante.batch is 'Every message batch we know of, as the API last described it, and how much of its results is here.';
comment on column restante.batch.id is 'The API''s identifier. Insert one to have the batch watched and its results stored.';
comment on column restante.batch.status is 'processing_status as the API last said it; null until it was asked.';
comment on column restante.batch.processing is 'Requests under way. The API counts all of them here until the whole batch has ended.';
comment on column restante.batch.results_deadline is 'When the API forgets the results: 29 days after created_at.';
comment on column restante.batch.results_stored is 'Result lines stored so far.';
comment on column restante.batch.bytes_stored is 'Bytes of result lines stored so far, uncompressed.';
comment on column restante.batch.complete_at is 'When every result was here and counted; null until then.';
comment on column restante.batch.first_seen_at is 'When we first heard of it.';
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
-- pglz, which Postgres takes by itself, needs more time than all the rest of storing a result. Not every server was built
-- with lz4; where this one was not, results are stored all the same.
do $$ begin
  if exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any (enumvals)) then
    alter table restante.batch_result
      alter line set compression lz4, alter raw set compression lz4, alter text set compression lz4;
  end if;
end $$;

comment on table restante.batch_result is 'One row for each result of a batch.';
comment on column restante.batch_result.outcome is 'succeeded, errored, canceled, expired, or what the API newly says.';
comment on column restante.batch_result.line is 'The result line, exactly as it came.';
comment on column restante.batch_result.raw is 'The same as bytes, where it is no text that Postgres can hold.';
comment on column restante.batch_result.text is 'The text blocks of the answer, joined. U+FFFD stands for what text can not hold.';
comment on column restante.batch_result.error_type is 'Why it errored: invalid_request_error wants a change, anything else may be sent again.';

-- Every batch that is known and may not have ended is watched, however it became known.
create function restante.watch_batch() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform restante.insert_event(
    'batch.poll:' || new.id, 'batch.poll', null, null, clock_timestamp(),
    json_build_object('batch_id', new.id)::text, null, null, null, 'poll');
  return null;
end $$;
comment on function restante.watch_batch is
  'Puts the event into the outbox that has a new batch watched until it has ended.';

-- Not while pg_dump's output is read, whose sessions alone do not check the bodies of functions: there the event comes by
-- itself, and one that is made before it would take its number and its identifier.
create trigger batch_is_watched after insert on restante.batch
  for each row when (new.complete_at is null and new.ended_at is null
                     and current_setting('check_function_bodies')::boolean)
  execute function restante.watch_batch();

create view restante.batch_overview as
  select id, status, processing + succeeded + errored + canceled + expired as requests, succeeded, errored, canceled,
         expired, results_stored, bytes_stored,
         case
           when complete_at is not null then 'complete'
           when download_started_at is not null then 'downloading'
           when ended_at is not null then 'ended'
           else 'under way'
         end as progress,
         created_at, ended_at, complete_at, results_deadline,
         results_deadline - clock_timestamp() as results_vanish_in
    from restante.batch;
comment on view restante.batch_overview is 'Each batch in a line: what the API says of it, what is stored, how long the results can still be had.';
