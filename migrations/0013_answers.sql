-- The answers of submissions: the best one of each request, sending again, calling off, what is at risk, and what the API can forget.

-- As in 0011: a session that waits for the lock of a table makes all later ones wait behind it.
set local lock_timeout = '1s';

-- A request is sent again as a part of a higher attempt. Each batch keeps its results, so nothing that succeeded is ever lost.
create view restante.batch_answer as
  select r.submission, r.custom_id, a.outcome, a.text, a.line, a.raw, a.model, a.stop_reason, a.error_type, a.error_message,
         r.attempt as attempts, a.input_tokens, a.output_tokens, a.cache_creation_input_tokens, a.cache_read_input_tokens,
         a.batch_id, s.account, a.stored_at
    from restante.batch_request as r
    join restante.submission as s on s.name = r.submission
    -- Only what was sent more than once has several answers to choose from.
    left join lateral (
          select p.batch_id
            from restante.submission_part as p
           -- By its batch always: to look for the custom_id alone would read the whole index.
           cross join lateral (
                 select a.outcome from restante.batch_result as a
                  where a.batch_id = p.batch_id and a.account = p.account and a.custom_id = r.custom_id offset 0) as e
           where r.attempt > 1 and p.submission = r.submission
           order by (e.outcome = 'succeeded') desc, p.number desc limit 1) as best on true
    left join restante.batch_result as a
      on a.batch_id = coalesce(best.batch_id, r.batch_id) and a.account = s.account and a.custom_id = r.custom_id;
comment on view restante.batch_answer is
  'The answer to each request of a submission: what succeeded in any attempt, otherwise what came of the last one. Without an outcome where '
  'no answer is here yet.';
comment on column restante.batch_answer.attempts is 'How often the request was sent, or is about to be.';
comment on column restante.batch_answer.batch_id is 'The batch that the answer came with.';

-- Sending again.

alter table restante.submission
  add column cancelled_at timestamptz;
comment on column restante.submission.cancelled_at is
  'When a person called it off. Nothing of it is sent again by itself from then on. Null again once a person has something of it sent.';
comment on column restante.submission.status is
  'How far it has come, by the part that is least far. Write cancelled to call it off: it stays so until every batch that the API had '
  'accepted has ended and its results are here, and is complete then, with what had succeeded. If no batch came of it, it stays cancelled.';

-- Has requests of a submission sent again, of one part or of all. Who calls it holds the lock of the row of the submission, so that
-- nobody else does the same at the same time. The arrays may be long, and a plan that does not know them would compare each with each.
create function restante.send_again(p_name text, p_what text[], p_part bigint, p_dry_run boolean) returns bigint
language plpgsql
set plan_cache_mode = force_custom_plan as $$
declare
  v_same  record;
  v_count bigint := 0;
begin
  for v_same in
    select s.account, a.attempts, array_agg(a.custom_id) as custom_ids
      from restante.submission as s
      join restante.batch_request as r on r.submission = s.name
      join restante.submission_part as p on p.id = r.part
      join restante.batch_answer as a on a.submission = r.submission and a.custom_id = r.custom_id
     where s.name = p_name and (p_part is null or r.part = p_part) and r.attempt < s.attempts_max
       -- Whatever else its part is, an answer may still come of it.
       and p.status in ('complete', 'cancelled')
       and case a.outcome
             when 'expired' then p_what && array['retriable', 'expired']
             when 'errored' then p_what && array['retriable', 'errored'] and a.error_type is distinct from 'invalid_request_error'
             when 'canceled' then p_what && array['canceled']
             else false
           end
     group by s.account, a.attempts order by a.attempts
  loop
    v_count := v_count + cardinality(v_same.custom_ids);
    if not p_dry_run then
      perform restante.make_parts(p_name, v_same.account, v_same.attempts + 1, v_same.custom_ids);
    end if;
  end loop;
  return v_count;
end $$;
comment on function restante.send_again is 'Engine: Has requests of a submission sent again, of one part or of all. Returns how many.';

create function restante.resubmit(name text, what text default 'retriable', dry_run boolean default false) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_fault  text := restante.resubmit_fault(array[resubmit.what]);
  v_status text;
  v_count  bigint;
begin
  if v_fault is not null then
    raise exception 'restante.resubmit: %', v_fault using errcode = 'invalid_parameter_value',
      hint = 'Say expired, errored, canceled or retriable, which is expired and errored. What succeeded, and an invalid_request_error, is never sent again.';
  end if;
  if resubmit.dry_run is null then
    raise exception 'restante.resubmit: dry_run is null' using errcode = 'invalid_parameter_value', hint = 'Say true or false.';
  end if;
  select s.status into v_status from restante.submission as s where s.name = resubmit.name for update;
  if not found then
    raise exception 'restante.resubmit: there is no submission named %', coalesce(resubmit.name, 'null')
      using errcode = 'invalid_parameter_value', hint = 'The table restante.submission has the names.';
  end if;
  if v_status = 'cancelled' then
    raise exception 'restante.resubmit: the submission % has been called off', resubmit.name
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Once its last batch has ended it is complete, and what was canceled can be sent again.';
  end if;
  v_count := restante.send_again(resubmit.name, array[resubmit.what], null, resubmit.dry_run);
  if v_count > 0 and not resubmit.dry_run then
    update restante.submission as s set cancelled_at = null where s.name = resubmit.name and s.cancelled_at is not null;
  end if;
  return v_count;
end $$;
comment on function restante.resubmit is
  'Sends requests of a submission again that expired, errored or were canceled, as part of your transaction. Returns how many; with dry_run '
  'it changes nothing. See restante.submission.attempts_max.';

-- What follows once the API has a part, or all results of it are here. The submission is locked first: two parts that become complete at
-- once would each see the other as under way, and a person may be calling it off.
create function restante.follow_answers() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_submission restante.submission;
begin
  select s.* into v_submission from restante.submission as s where s.name = new.submission for update;
  if new.status = 'submitted' and v_submission.cancelled_at is not null then
    -- It was on its way to the API when it was called off.
    perform restante.cancel_batch(new.batch_id, new.account, 'worker');
  elsif new.status = 'complete' then
    if v_submission.resubmit is not null and v_submission.cancelled_at is null then
      perform restante.send_again(new.submission, v_submission.resubmit, new.id, false);
    end if;
    perform restante.refresh_submission(new.submission);
  end if;
  return null;
end $$;
comment on function restante.follow_answers is
  'Engine: Sends again what the submission wants sent again once a part is complete, and cancels a batch whose submission was called off.';
-- Its name comes after submission_part_follow, so that it runs after it.
create trigger submission_part_goes_on after update on restante.submission_part
  for each row when (new.status <> old.status and new.status in ('submitted', 'complete')) execute function restante.follow_answers();

create function restante.follow_new_part() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform restante.refresh_submission(new.submission);
  return null;
end $$;
comment on function restante.follow_new_part is 'Engine: A submission of which something is sent again is no longer complete.';
create trigger submission_part_sent_again after insert on restante.submission_part
  for each row when (new.attempt > 1) execute function restante.follow_new_part();

create function restante.note_called_off() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if new.status = 'cancelled' then
    if old.status = 'complete' then
      raise exception 'the submission % is complete: there is nothing left to call off', old.name using errcode = 'check_violation';
    end if;
    new.cancelled_at := clock_timestamp();
  elsif new.status = 'waiting' then
    new.cancelled_at := null;
  end if;
  return new;
end $$;
comment on function restante.note_called_off is 'Engine: Notes when a person called a submission off.';
create trigger submission_called_off before update of status on restante.submission
  for each row when (pg_trigger_depth() = 0 and new.status <> old.status) execute function restante.note_called_off();

-- What is at risk, and what the API may forget.

alter table restante.batch
  add column deleted_at timestamptz,
  add constraint batch_is_complete_before_it_is_deleted check (deleted_at is null or complete_at is not null);
comment on column restante.batch.deleted_at is
  'When it was deleted at the API, with its results there. Ours are all stored by then. It is complete for good, so nobody asks for it.';

create index batch_open on restante.batch ((coalesce(created_at, first_seen_at))) where complete_at is null and given_up_because is null;
comment on index restante.batch_open is 'The batches whose results are still to come, by how long the API has kept them.';
create index batch_kept_at_the_api on restante.batch (complete_at) where complete_at is not null and deleted_at is null;
comment on index restante.batch_kept_at_the_api is 'The complete batches that the API may still have.';

-- The times are those of the statement, because an index cannot be searched by a clock that goes on.
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
         results_deadline - clock_timestamp() as results_vanish_in, account,
         -- A batch that has just ended, or that we have just found, is about to be downloaded. One whose results have vanished is at no risk any more.
         (complete_at is null and given_up_because is null
          and coalesce(created_at, first_seen_at) > statement_timestamp() - interval '29 days'
          and first_seen_at < statement_timestamp() - interval '1 hour'
          and (coalesce(created_at, first_seen_at) < statement_timestamp() - interval '22 days'
               or (ended_at is not null and ended_at < statement_timestamp() - interval '1 hour'))) as at_risk,
         deleted_at
    from restante.batch;
comment on column restante.batch_overview.at_risk is
  'Its results are not all here although it ended more than an hour ago, or although the API deletes them within 7 days.';

create function restante.note_at_risk(p_accounts text[]) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_batch record;
  v_made  integer := 0;
begin
  for v_batch in
    select b.id, b.account, coalesce(b.results_deadline, k.first_seen_at + interval '29 days') as results_deadline, p.submission
      from restante.batch_overview as b
      join restante.batch as k on k.id = b.id and k.account = b.account
      left join restante.submission_part as p on p.batch_id = b.id and p.account = b.account
     where b.at_risk and b.account = any (p_accounts)
       and not exists (select from restante.outbox_seen as s where s.event_id = restante.seen_as(b.account, 'batch.at_risk:' || b.id))
     limit 1000
  loop
    -- Without a key: an event of its key would wait behind the download that does not come to its end.
    if (select e.id is not null from restante.insert_event(
          'batch.at_risk:' || v_batch.id, 'batch.at_risk', null, null, clock_timestamp(),
          json_build_object('batch_id', v_batch.id, 'submission', v_batch.submission, 'results_deadline', v_batch.results_deadline)::text,
          null, null, null, 'worker', v_batch.account, v_batch.account) as e) then
      v_made := v_made + 1;
    end if;
  end loop;
  return v_made;
end $$;
comment on function restante.note_at_risk is
  'Engine: Stores an event, once, for each batch of the accounts whose results are at risk. Workers call it every few minutes. Returns how '
  'many were new.';

create function restante.delete_complete(p_accounts text[], p_after interval) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_batch record;
  v_made  integer := 0;
begin
  for v_batch in
    select b.id, b.account from restante.batch as b
     where b.complete_at < statement_timestamp() - p_after and b.deleted_at is null and b.account = any (p_accounts)
       and not exists (select from restante.outbox_seen as s where s.event_id = restante.seen_as(b.account, 'batch.delete:' || b.id))
     order by b.complete_at limit 1000
  loop
    if (select e.id is not null from restante.insert_event(
          'batch.delete:' || v_batch.id, 'batch.delete', null, null, clock_timestamp(),
          json_build_object('batch_id', v_batch.id)::text, null, null, null, 'worker', v_batch.account, v_batch.account) as e) then
      v_made := v_made + 1;
    end if;
  end loop;
  return v_made;
end $$;
comment on function restante.delete_complete is
  'Engine: Stores the event, once, that deletes a batch at the API, for batches of the accounts that have been complete for some time. '
  'Workers call it where they are told to delete. Returns how many were new.';

revoke execute on all functions in schema restante from public;
grant execute on function restante.note_at_risk, restante.delete_complete to restante_worker;
grant execute on function restante.resubmit to restante_app, restante_operator;
grant select on restante.batch_answer to restante_app, restante_worker, restante_operator;
grant update (resubmit, attempts_max) on restante.submission to restante_operator;
