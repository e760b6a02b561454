-- Batches that go out: what an application wants to have answered, from its own transaction to the API.
--
-- A submission is what the application names. Its requests are rows of `batch_request`. The API takes 100,000 requests or 256 MB at
-- a time, so a submission has one part or more, and each accepted part is a batch. The API has no key by which it would know a batch that
-- is sent twice. So a part says `sending` before its first byte goes out, and nothing sends it again before it is known that no batch
-- came of it.

create domain restante.submission_status as text constraint submission_status_known check (value in
  ('waiting', 'sending', 'uncertain', 'refused', 'submitted', 'cancelled', 'complete'));
comment on domain restante.submission_status is
  'How far a submission or a part of it has come. waiting: it will be sent. sending: it may have reached the API. uncertain: several '
  'batches may be the one that came of it. refused: the API does not take it. submitted: the API has it. complete: every answer is here.';

create table restante.submission (
  id           bigint generated always as identity,
  name         text collate "C" not null,
  account      text collate "C" not null default 'anthropic',
  tag          text,
  status       restante.submission_status not null default 'waiting',
  reason       text,
  requests     bigint      not null,
  bytes        bigint      not null,
  resubmit     text[],
  attempts_max integer     not null default 3,
  created_at   timestamptz not null default clock_timestamp(),
  created_by   text        not null default session_user,
  submitted_at timestamptz,
  complete_at  timestamptz,
  constraint submission_pk primary key (id),
  constraint submission_name_once unique (name),
  constraint submission_resubmit_known check (resubmit <@ array['retriable', 'expired', 'errored', 'canceled']),
  constraint submission_attempts_max_fits check (attempts_max between 1 and 100)
);
comment on table restante.submission is
  'What was submitted, one row for each call of restante.submit_batch(). To call it off: update ... set status = ''cancelled''.';
comment on column restante.submission.name is 'The name that its requests and its answers are found by.';
comment on column restante.submission.account is 'The account, by its name in the configuration, whose key pays.';
comment on column restante.submission.tag is 'What its cost is added up by.';
comment on column restante.submission.status is 'How far it has come, by the part that is least far.';
comment on column restante.submission.reason is 'Why it waits, is uncertain or was refused.';
comment on column restante.submission.requests is 'How many requests it has.';
comment on column restante.submission.bytes is 'How much goes to the API, in bytes.';
comment on column restante.submission.resubmit is
  'What of it is sent again by itself as soon as its batch is complete, such as {retriable}; see restante.resubmit(). Null: nothing.';
comment on column restante.submission.attempts_max is 'How often a request of it is sent at most, by itself or by restante.resubmit().';
comment on column restante.submission.created_by is 'The login that submitted it.';
comment on column restante.submission.submitted_at is 'When the API had accepted all of it.';
comment on column restante.submission.complete_at is 'When every answer was here.';

create table restante.submission_part (
  id           bigint generated always as identity,
  submission   text collate "C" not null,
  number       integer     not null,
  attempt      integer     not null default 1,
  account      text collate "C" not null,
  status       restante.submission_status not null default 'waiting',
  reason       text,
  requests     integer     not null,
  bytes        bigint      not null,
  known_before text,
  sent_at      timestamptz,
  unclear_since timestamptz,
  batch_id     text collate "C",
  submitted_at timestamptz,
  constraint submission_part_pk primary key (id),
  constraint submission_part_once unique (submission, number),
  constraint submission_part_of_a_submission foreign key (submission) references restante.submission (name),
  constraint submission_part_has_its_batch check ((batch_id is not null) = (submitted_at is not null))
);
create unique index submission_part_batch on restante.submission_part (batch_id, account) where batch_id is not null;
comment on index restante.submission_part_batch is 'No batch is that of two parts.';
comment on table restante.submission_part is
  'What goes to the API as one batch. An uncertain part: set batch_id to adopt a batch, or status = ''waiting'' to send it again.';
comment on column restante.submission_part.number is 'Which part of its submission it is, from 1.';
comment on column restante.submission_part.attempt is 'Which attempt at its requests it is, from 1.';
comment on column restante.submission_part.known_before is 'The newest batch of the account before this part was sent. Later ones may be its own.';
comment on column restante.submission_part.unclear_since is 'Since when it has been unclear whether the API has it.';
comment on column restante.submission_part.sent_at is 'Since when the API may have it. Null: nothing of it has gone out, or the API has refused it.';

-- The rows are short, and what they ask is stored apart: a change of the status does not write the parameters again.
create table restante.batch_request (
  submission text collate "C" not null,
  custom_id  text collate "C" not null,
  params     json        not null,
  batch_id   text collate "C",
  status     text        not null default 'collected',
  position   bigint generated always as identity,
  attempt    integer     not null default 0,
  part       bigint,
  bytes      bigint generated always as (octet_length(custom_id) + octet_length(params::text) + 27) stored,
  constraint batch_request_once primary key (submission, custom_id),
  constraint batch_request_status_known check (status in
    ('collected', 'waiting', 'submitted', 'succeeded', 'errored', 'canceled', 'expired', 'cancelled', 'other')),
  constraint batch_request_custom_id_fits check (custom_id ~ '^[a-zA-Z0-9_-]{1,64}$'),
  constraint batch_request_params_is_an_object check (json_typeof(params) = 'object'),
  constraint batch_request_fits_a_batch check (octet_length(params::text) < 255000000)
) with (toast_tuple_target = 128, fillfactor = 70);
create index batch_request_part on restante.batch_request (part, position) where part is not null;
comment on index restante.batch_request_part is 'The requests of a part, in the order in which they were written.';
comment on table restante.batch_request is
  'What is asked. Write rows under a name (COPY is quickest) and call restante.submit_batch(name => ...).';
comment on column restante.batch_request.submission is 'The name of the submission.';
comment on column restante.batch_request.custom_id is 'Yours: the answer has it too. 1 to 64 of the characters a-z A-Z 0-9 _ -, once in a submission.';
comment on column restante.batch_request.params is 'A request of the Messages API, sent exactly as it stands here.';
comment on column restante.batch_request.batch_id is 'The batch that it went out with last.';
comment on column restante.batch_request.status is
  'collected: written, not submitted. waiting: it will be sent. submitted: the API has it. Then its outcome, or cancelled.';
comment on column restante.batch_request.position is 'The order in which it was written.';
comment on column restante.batch_request.attempt is 'How often it has been sent.';
comment on column restante.batch_request.part is 'The part that it goes out with, or went out with last.';
comment on column restante.batch_request.bytes is 'What it takes within a batch, in bytes.';

-- Rows that come after the submission would never be sent.
create function restante.guard_collected() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_name text;
begin
  select s.name into v_name
    from restante.submission as s
   where s.name = any (array(select distinct w.submission from written as w)) limit 1;
  if found then
    raise exception 'the submission % has been submitted already, so it takes no more requests', v_name
      using errcode = 'check_violation', hint = 'Write them under another name.';
  end if;
  return null;
end $$;
comment on function restante.guard_collected is 'Engine: Refuses requests that come after their submission.';
create trigger batch_request_guard_insert after insert on restante.batch_request
  referencing new table as written for each statement execute function restante.guard_collected();

-- Has a part sent. One part of an account after the other, because they have one key: so of the batches that came up since a part
-- was sent, none is that of another part of ours.
create function restante.begin_part(p_part bigint, p_account text) returns void
language plpgsql as $$
begin
  perform restante.insert_event(
    format('batch.submit:%s:%s', p_part, replace(gen_random_uuid()::text, '-', '')), 'batch.submit', 'batch.submit', null,
    clock_timestamp(), json_build_object('part', p_part)::text, null, null, null, 'sql', p_account, p_account);
end $$;
comment on function restante.begin_part is 'Engine: Puts the event into the outbox whose handler sends a part.';

-- Divides requests of a submission into parts that the API takes, and has them sent. `p_attempt` is 1, or higher for requests that are
-- sent again.
create function restante.make_parts(p_submission text, p_account text, p_attempt integer, p_custom_ids text[]) returns integer
language plpgsql as $$
declare
  c_requests_max constant integer := 100000;
  -- The API's limit is on the whole body, of which 14 bytes are around the requests.
  c_bytes_max    constant bigint  := 256000000 - 14;
  v_number   integer := coalesce((select max(p.number) from restante.submission_part as p where p.submission = p_submission), 0);
  v_request  record;
  v_first    bigint;
  v_last     bigint;
  v_requests integer := 0;
  v_bytes    bigint  := 0;
  v_parts    integer := 0;
begin
  for v_request in
    select r.position, r.bytes from restante.batch_request as r
     where r.submission = p_submission and (p_custom_ids is null or r.custom_id = any (p_custom_ids)) order by r.position
  loop
    if v_requests = c_requests_max or v_bytes + v_request.bytes > c_bytes_max then
      perform restante.make_part(p_submission, p_account, p_attempt, p_custom_ids, v_number + v_parts + 1, v_first, v_last, v_requests, v_bytes);
      v_parts := v_parts + 1;
      v_requests := 0;
      v_bytes := 0;
    end if;
    if v_requests = 0 then
      v_first := v_request.position;
    end if;
    v_last := v_request.position;
    v_requests := v_requests + 1;
    v_bytes := v_bytes + v_request.bytes;
  end loop;
  if v_requests > 0 then
    perform restante.make_part(p_submission, p_account, p_attempt, p_custom_ids, v_number + v_parts + 1, v_first, v_last, v_requests, v_bytes);
    v_parts := v_parts + 1;
  end if;
  return v_parts;
end $$;
comment on function restante.make_parts is 'Engine: Divides requests of a submission into parts that the API takes, and has them sent.';

create function restante.make_part(
  p_submission text, p_account text, p_attempt integer, p_custom_ids text[], p_number integer, p_first bigint, p_last bigint,
  p_requests integer, p_bytes bigint)
returns void
language plpgsql as $$
declare
  v_part bigint;
begin
  insert into restante.submission_part (submission, number, attempt, account, requests, bytes)
  values (p_submission, p_number, p_attempt, p_account, p_requests, p_bytes + 14)
  returning id into v_part;
  update restante.batch_request as r set part = v_part, status = 'waiting', attempt = p_attempt
   where r.submission = p_submission and r.position between p_first and p_last
     and (p_custom_ids is null or r.custom_id = any (p_custom_ids));
  perform restante.begin_part(v_part, p_account);
end $$;
comment on function restante.make_part is 'Engine: Makes one part of a submission of requests that follow each other.';

-- What is wrong with a request as it was given to submit_batch(); null where nothing is.
create function restante.request_fault(p_request json) returns text
language plpgsql immutable as $$
begin
  return case
    when json_typeof(p_request) <> 'object' then 'it is no object with custom_id and params'
    when p_request->'custom_id' is null then 'custom_id is missing'
    -- The text is looked at, and not what it stands for: nobody needs an escape in such an identifier.
    when (p_request->'custom_id')::text !~ '^"[a-zA-Z0-9_-]{1,64}"$' then
      format('custom_id %s must have 1 to 64 of the characters a-z A-Z 0-9 _ -', left((p_request->'custom_id')::text, 80))
    when p_request->'params' is null then 'params is missing'
    when json_typeof(p_request->'params') <> 'object' then 'params is no object'
    when octet_length((p_request->'params')::text) >= 255000000 then 'it alone is larger than a batch may be (256 MB)'
  end;
exception
  -- Postgres cannot take such JSON apart, though it can store it.
  when untranslatable_character or invalid_text_representation then
    return 'it has an escape that no text of Postgres can hold (\u0000, or half of a surrogate pair): '
           'write it into restante.batch_request instead';
end $$;
comment on function restante.request_fault is 'Engine: What is wrong with a request of a submission; null where nothing is.';

create function restante.resubmit_fault(what text[]) returns text
language sql immutable
return (select format('%s is nothing that is sent again', coalesce(quote_literal(w.word), 'null')) from unnest(what) as w (word)
         where w.word is null or w.word not in ('retriable', 'expired', 'errored', 'canceled') limit 1);
comment on function restante.resubmit_fault is 'Engine: What is wrong with a list of outcomes that are to be sent again; null where nothing is.';


-- For applications, in their own transaction: requests are sent once the transaction commits.
create function restante.submit_batch(
  requests json default null, name text default null, tag text default null, account text default 'anthropic',
  resubmit text[] default null, attempts_max integer default null)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_name     text := coalesce(submit_batch.name, 'submission_' || replace(gen_random_uuid()::text, '-', ''));
  v_requests json := submit_batch.requests;
  v_fault    text;
  v_id       bigint;
  v_count    bigint;
  v_bytes    bigint;
begin
  select format('%s must have 1 to 200 bytes', a.name) into v_fault
    from (values ('name', v_name), ('tag', submit_batch.tag), ('account', coalesce(submit_batch.account, ''))) as a (name, value)
   where a.value = '' or octet_length(a.value) > 200 limit 1;
  if v_fault is not null then
    raise exception 'restante.submit_batch: %', v_fault using errcode = 'invalid_parameter_value',
      hint = 'Leave it out where it says nothing.';
  end if;
  v_fault := coalesce(
    'resubmit: ' || restante.resubmit_fault(submit_batch.resubmit),
    case when submit_batch.attempts_max not between 1 and 100 then 'attempts_max must be 1 to 100' end);
  if v_fault is not null then
    raise exception 'restante.submit_batch: %', v_fault using errcode = 'invalid_parameter_value',
      hint = 'resubmit is a list of expired, errored, canceled and retriable, which is expired and errored.';
  end if;
  if json_typeof(v_requests) <> 'array' then
    raise exception 'restante.submit_batch: requests is no list' using errcode = 'invalid_parameter_value',
      hint = 'Pass [{"custom_id": "a", "params": {"model": "...", "max_tokens": 100, "messages": [...]}}, ...].';
  end if;
  if exists (select from restante.submission as s where s.name = v_name) then
    raise exception 'restante.submit_batch: there is a submission named % already', v_name using errcode = 'unique_violation',
      hint = 'Choose another name. If this is the same work once more, it has been submitted.';
  end if;

  if v_requests is not null then
    select format('request %s: %s', r.nth, f.fault) into v_fault
      from json_array_elements(v_requests) with ordinality as r (request, nth)
      cross join lateral (select restante.request_fault(r.request) as fault) as f
     where f.fault is not null
     order by r.nth limit 1;
    if v_fault is null then
      select format('request %s: custom_id "%s" is there twice', max(r.nth), r.request->>'custom_id') into v_fault
        from json_array_elements(v_requests) with ordinality as r (request, nth)
       group by r.request->>'custom_id' having count(*) > 1 order by max(r.nth) limit 1;
    end if;
    if v_fault is not null then
      raise exception 'restante.submit_batch: %', v_fault using errcode = 'invalid_parameter_value',
        hint = 'Nothing was submitted. Correct it and call again.';
    end if;
    insert into restante.batch_request (submission, custom_id, params)
    select v_name, r.request->>'custom_id', r.request->'params'
      from json_array_elements(v_requests) with ordinality as r (request, nth) order by r.nth;
  end if;
  select count(*), sum(r.bytes) into v_count, v_bytes from restante.batch_request as r where r.submission = v_name;
  if v_count = 0 then
    raise exception 'restante.submit_batch: there are no requests%', case when submit_batch.name is null then '' else ' under the name ' || v_name end
      using errcode = 'invalid_parameter_value',
      hint = 'Pass them as the first argument, or write them into restante.batch_request under a name.';
  end if;

  insert into restante.submission (name, account, tag, requests, bytes, resubmit, attempts_max)
  values (v_name, submit_batch.account, submit_batch.tag, v_count, v_bytes, submit_batch.resubmit, coalesce(submit_batch.attempts_max, 3))
  returning id into v_id;
  perform restante.make_parts(v_name, submit_batch.account, 1, null);
  return v_id;
end $$;
comment on function restante.submit_batch is
  'Submits requests as a batch, as part of your transaction: those given, and those that batch_request has under the name. Returns the id '
  'of the submission. resubmit and attempts_max: what is sent again by itself, and how often.';

-- What follows when a part changes, whoever changes it: the worker, or a person who decides what becomes of an uncertain part.
create function restante.guard_part() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if new.batch_id is distinct from old.batch_id then
    if new.batch_id is null or old.batch_id is not null then
      raise exception 'part % has its batch, %', old.id, old.batch_id using errcode = 'check_violation';
    end if;
    new.status := 'submitted';
    new.submitted_at := clock_timestamp();
  elsif new.status <> old.status then
    if old.status in ('submitted', 'complete') and new.status <> 'complete' then
      raise exception 'the API has part %: cancel its submission, or have its requests sent again', old.id
        using errcode = 'check_violation';
    end if;
    if new.status in ('submitted', 'complete') and old.batch_id is null then
      raise exception 'the API does not have part %', old.id
        using errcode = 'check_violation', hint = 'Set batch_id to adopt a batch, or status = ''waiting'' to send the part again.';
    end if;
  end if;
  if new.status in ('waiting', 'submitted', 'cancelled') then
    new.unclear_since := null;
    if new.status <> old.status then
      new.reason := case when new.reason is distinct from old.reason then new.reason end;
    end if;
  end if;
  if new.status = 'waiting' then
    new.sent_at := null;
    new.known_before := null;
  end if;
  return new;
end $$;
comment on function restante.guard_part is 'Engine: Makes a change of a part whole, and refuses one that could pay twice.';
create trigger submission_part_guard before update of status, batch_id on restante.submission_part
  for each row execute function restante.guard_part();

create function restante.follow_part() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if new.batch_id is not null and old.batch_id is null then
    insert into restante.batch (id, account) values (new.batch_id, new.account) on conflict do nothing;
    update restante.batch_request as r set status = 'submitted', batch_id = new.batch_id where r.part = new.id;
    perform restante.tell('batch.submitted', new.account, new.submission, new.batch_id, new.id);
    -- It may have ended before it was adopted.
    perform restante.settle_part(new.id) from restante.batch as b
      where b.id = new.batch_id and b.account = new.account and b.complete_at is not null;
  elsif new.status = 'uncertain' and old.status <> 'uncertain' then
    perform restante.tell('batch.uncertain', new.account, new.submission, null, new.id);
  elsif new.status = 'cancelled' and old.status <> 'cancelled' then
    update restante.batch_request as r set status = 'cancelled' where r.part = new.id;
  elsif new.status = 'waiting' and old.status in ('uncertain', 'refused', 'cancelled') then
    update restante.batch_request as r set status = 'waiting' where r.part = new.id and r.status = 'cancelled';
    perform restante.begin_part(new.id, new.account);
  end if;
  if new.status <> old.status or new.reason is distinct from old.reason then
    perform restante.refresh_submission(new.submission);
  end if;
  return null;
end $$;
comment on function restante.follow_part is 'Engine: Carries out what follows from a change of a part: its requests, its events, its submission.';
create trigger submission_part_follow after update on restante.submission_part
  for each row execute function restante.follow_part();

-- An event of our own that says what has become of a submission. It is stored in the same commit as the fact.
create function restante.tell(p_type text, p_account text, p_submission text, p_batch_id text, p_part bigint) returns void
language plpgsql as $$
begin
  perform restante.insert_event(
    concat_ws(':', p_type, coalesce(p_batch_id, p_part::text), replace(gen_random_uuid()::text, '-', '')), p_type, p_batch_id, null,
    clock_timestamp(),
    json_build_object('submission', p_submission, 'part', p_part, 'batch_id', p_batch_id)::text, null, null, null, 'worker',
    p_account, p_account);
end $$;
comment on function restante.tell is 'Engine: Stores an event that says what has become of a submission.';

-- A submission is as far as the part that is least far.
create function restante.refresh_submission(p_name text) returns void
language plpgsql as $$
begin
  update restante.submission as s
     set status = n.status, reason = n.reason,
         submitted_at = case when n.status in ('submitted', 'complete') then coalesce(s.submitted_at, clock_timestamp()) end,
         complete_at = case when n.status = 'complete' then coalesce(s.complete_at, clock_timestamp()) end
    from (select p.status, p.reason
            from restante.submission_part as p
           where p.submission = p_name
             -- What was sent again counts by its latest part; a cancelled part is the end of it.
           order by array_position(array['uncertain', 'refused', 'sending', 'waiting', 'submitted', 'complete', 'cancelled'], p.status::text),
                    p.number
           limit 1) as n
   where s.name = p_name and (s.status <> n.status or s.reason is distinct from n.reason)
     -- What a person called off stays so until its last batch has ended.
     and not (s.status = 'cancelled' and n.status in ('waiting', 'sending', 'submitted'));
end $$;
comment on function restante.refresh_submission is 'Engine: Gives a submission the status of the part that is least far.';

-- Every answer of a part is here.
create function restante.settle_part(p_part bigint) returns void
language plpgsql as $$
begin
  update restante.batch_request as r
     set status = case when a.outcome in ('succeeded', 'errored', 'canceled', 'expired') then a.outcome else 'other' end
    from restante.submission_part as p
    join restante.batch_result as a on a.batch_id = p.batch_id and a.account = p.account
   where p.id = p_part and r.part = p.id and r.custom_id = a.custom_id;
  update restante.submission_part as p set status = 'complete' where p.id = p_part and p.status = 'submitted';
  perform restante.tell('batch.results_ready', p.account, p.submission, p.batch_id, p.id)
     from restante.submission_part as p where p.id = p_part;
end $$;
comment on function restante.settle_part is 'Engine: Gives the requests of a part their outcomes, once all results of its batch are stored.';

create function restante.settle_batch() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform restante.settle_part(p.id)
     from restante.submission_part as p where p.batch_id = new.id and p.account = new.account and p.status = 'submitted';
  return null;
end $$;
comment on function restante.settle_batch is 'Engine: Settles the part whose batch has become complete.';
create trigger batch_settles_its_part after update of complete_at on restante.batch
  for each row when (old.complete_at is null and new.complete_at is not null) execute function restante.settle_batch();

-- Has a batch cancelled at the API. What has succeeded by then is stored all the same.
create function restante.cancel_batch(p_batch_id text, p_account text, p_source text) returns void
language plpgsql as $$
begin
  perform restante.insert_event(
    format('batch.cancel:%s:%s', p_batch_id, replace(gen_random_uuid()::text, '-', '')), 'batch.cancel', null, null,
    clock_timestamp(), json_build_object('batch_id', p_batch_id)::text, null, null, null, p_source, p_account, p_account);
end $$;
comment on function restante.cancel_batch is 'Engine: Stores the event whose handler cancels a batch at the API.';

-- What a person writes: `cancelled` calls it off, `waiting` sends again what is uncertain or was refused.
create function restante.guard_submission() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if new.status = 'cancelled' then
    -- A part that a worker is changing at this moment is called off once its batch is known. To wait for it here could be a deadlock,
    -- because the worker then waits for the submission.
    update restante.submission_part as p set status = 'cancelled'
     where p.id in (select q.id from restante.submission_part as q
                     where q.submission = new.name and q.status in ('waiting', 'uncertain', 'refused') for update skip locked);
    -- The API has these.
    perform restante.cancel_batch(p.batch_id, p.account, 'sql')
       from restante.submission_part as p where p.submission = new.name and p.status = 'submitted';
  elsif new.status = 'waiting' then
    update restante.submission_part as p set status = 'waiting'
     where p.id in (select q.id from restante.submission_part as q
                     where q.submission = new.name and q.status in ('uncertain', 'refused') for update skip locked);
  else
    raise exception 'a submission becomes % by itself', new.status
      using errcode = 'check_violation', hint = 'Write cancelled to call it off, or waiting to send again what is uncertain or was refused.';
  end if;
  return null;
end $$;
comment on function restante.guard_submission is 'Engine: Carries out what a person writes into the status of a submission.';
create trigger submission_guard after update of status on restante.submission
  for each row when (pg_trigger_depth() = 0 and new.status <> old.status) execute function restante.guard_submission();

revoke execute on all functions in schema restante from public;
grant select, insert on restante.batch_request to restante_worker;
grant update (batch_id, status, attempt, part) on restante.batch_request to restante_worker;
grant select, update on restante.submission_part to restante_worker;
grant select on restante.submission to restante_worker;
grant select on restante.submission, restante.submission_part, restante.batch_request to restante_operator;
grant update (status) on restante.submission to restante_operator;
grant update (status, batch_id) on restante.submission_part to restante_operator;
grant execute on function restante.submit_batch to restante_app;
grant insert (submission, custom_id, params) on restante.batch_request to restante_app;
grant select on restante.submission, restante.submission_part, restante.batch_request, restante.batch_result to restante_app;
