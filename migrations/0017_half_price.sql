-- Half the price where there is time: messages whose answer is needed later wait to be packed into a batch with others.
--
-- The deadline comes first. The event that sends a message by itself is stored at once, to run shortly before the deadline: it is the
-- alarm of the message. If the batch has answered by then, the alarm is taken back; if not, the message is sent by itself, and
-- what its batch answers later is not used. A message has one answer, whichever way it went.

-- As in 0011: a session that waits for the lock of a table makes all later ones wait behind it.
set local lock_timeout = '1s';

create table restante.message_lane_setting (
  is_the_one   boolean  not null default true,
  ahead        interval not null default interval '1 hour',
  pack_after   interval not null default interval '5 minutes',
  requests_max integer  not null default 10000,
  bytes_max    bigint   not null default 100000000,
  reserve      interval not null default interval '2 minutes',
  constraint message_lane_setting_once primary key (is_the_one),
  constraint message_lane_setting_is_one_row check (is_the_one),
  constraint message_lane_setting_times_fit check (
    pack_after between interval '1 second' and interval '1 day' and reserve between interval '1 second' and interval '1 day'
    and ahead >= reserve and ahead <= interval '1 year'),
  constraint message_lane_setting_fits_a_batch check (requests_max between 1 and 100000 and bytes_max between 1 and 255000000)
);
insert into restante.message_lane_setting default values;
comment on table restante.message_lane_setting is
  'When messages wait to be packed into a batch, at half the price. One row: change it by UPDATE. It counts for what is done from then on.';
comment on column restante.message_lane_setting.is_the_one is 'Always true, because there is one row.';
comment on column restante.message_lane_setting.ahead is 'A message waits for a batch if deliver_by is at least this far ahead.';
comment on column restante.message_lane_setting.pack_after is 'A batch is packed once a message has waited for this long, and sooner if a deadline needs that.';
comment on column restante.message_lane_setting.requests_max is 'The most messages in a batch. As soon as so many wait, they are packed.';
comment on column restante.message_lane_setting.bytes_max is 'The most bytes of requests in a batch. As soon as so many wait, they are packed.';
comment on column restante.message_lane_setting.reserve is
  'How long before deliver_by a message without an answer is sent by itself. It is sent earlier if our own history says that sending takes longer.';

alter table restante.message
  add column lane       text not null default 'direct',
  add column packs_with text collate "C",
  add column request_bytes bigint,
  add column submission text collate "C",
  add column packed_at  timestamptz,
  add column alarm      bigint,
  add constraint message_lane_known check (lane in ('direct', 'batch')),
  add constraint message_lane_has_its_batch check (lane = 'direct' or packs_with is not null);
comment on column restante.message.lane is 'direct: it is sent by itself. batch: it waits for a batch, or is in one, at half the price.';
comment on column restante.message.packs_with is 'Messages of an account with the same value go into one batch: they have the same model and betas.';
comment on column restante.message.request_bytes is 'What it takes within a batch, in bytes.';
comment on column restante.message.submission is 'The submission that it was packed into.';
comment on column restante.message.packed_at is 'When it was packed.';
comment on column restante.message.alarm is 'The event in the outbox that sends it by itself if it has no answer by then.';
comment on column restante.message.key is
  'Messages of one key that are sent by themselves are answered one after the other, in the order in which they were stored. A batch answers '
  'in any order.';
comment on column restante.message.deliver_by is
  'When the answer is needed. Null: at once. Far enough ahead, the message is packed into a batch at half the price (message_lane_setting).';
comment on column restante.message.attempts_max is 'How often it is sent at most. A batch is counted beside these.';
create index message_to_pack on restante.message (account, packs_with, created_at, id)
  where lane = 'batch' and submission is null and status = 'waiting';
comment on index restante.message_to_pack is 'The messages that wait to be packed, oldest first.';

alter table restante.message_attempt add column submission text collate "C";
comment on column restante.message_attempt.submission is 'The submission that it was packed into, if it went out with a batch.';
create index message_attempt_answered on restante.message_attempt (ended_at) where outcome = 'answered' and sent_as = 'stream';
comment on index restante.message_attempt_answered is 'How long messages took that were sent by themselves.';

alter table restante.submission add column packs_with text collate "C";
comment on column restante.submission.packs_with is 'Which messages it was packed of: those of one model and the same betas. Null: an application submitted it.';
alter table restante.submission_part add column betas text[] not null default '{}';
comment on column restante.submission_part.betas is 'Beta features of the API that it needs, beside those of the account.';

create index batch_completed on restante.batch (complete_at) where complete_at is not null;
comment on index restante.batch_completed is 'How long the latest batches took.';

-- What our own history says.

create function restante.direct_takes() returns interval
language sql stable
set enable_seqscan = off set enable_bitmapscan = off
return (select percentile_disc(0.95) within group (order by d.lasted)
          from (select a.ended_at - a.sent_at as lasted
                  from restante.message_attempt as a
                 where a.outcome = 'answered' and a.sent_as = 'stream' order by a.ended_at desc limit 100) as d);
comment on function restante.direct_takes is
  'Engine: How long 95 of the last 100 messages took at most that were sent by themselves; null without history.';

-- Until all answers are here, because that is what a message waits for. What is older than a week says little: if no batch was quick
-- enough for so long, one is tried again.
create function restante.batch_takes(p_account text, p_packs_with text, p_requests bigint) returns interval
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
return (select coalesce(case when count(*) filter (where d.is_alike) >= 10
                             then percentile_disc(0.95) within group (order by d.lasted) filter (where d.is_alike) end,
                        percentile_disc(0.95) within group (order by d.lasted))
          from (select k.complete_at - k.created_at as lasted,
                       (k.account = p_account and s.packs_with = p_packs_with) is true as is_alike
                  from restante.batch as k
                  left join restante.submission_part as p on p.batch_id = k.id and p.account = k.account
                  left join restante.submission as s on s.name = p.submission
                 where k.complete_at > clock_timestamp() - interval '7 days' and k.complete_at > k.created_at
                   and (k.succeeded + k.errored + k.canceled + k.expired) * 3 >= p_requests
                   and k.succeeded + k.errored + k.canceled + k.expired <= p_requests * 3
                 order by k.complete_at desc limit 100) as d);
comment on function restante.batch_takes is
  'Engine: How long 95 of the last 100 batches of about this size took at most, those of the same model and betas if there are ten; null '
  'without history.';

-- The alarms. Nobody waits for a row: one that a person is changing, or that a worker runs, stays as it is.

create function restante.ring(p_alarms bigint[]) returns void
language sql
set enable_seqscan = off set plan_cache_mode = force_generic_plan
begin atomic
  update restante.outbox_live as l
     set run_at = '-infinity', lane = restante.lane(l.status, '-infinity', false), lease_token = l.lease_token + 1
   where l.id in (select f.id from restante.outbox_live as f
                   where f.id = any (p_alarms) and f.status = 'pending' and f.lane = 'l' for update skip locked);
end;
comment on function restante.ring is 'Engine: Has alarms of messages go off at once.';

create function restante.take_back(p_alarms bigint[]) returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
begin
  with mine as materialized (
    select l.id from restante.outbox_live as l
     where l.id = any (p_alarms) and l.status in ('pending', 'retry') and l.lane = 'l' for update skip locked),
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
     attempt, max_attempts, crashes, lease_token, lease_owner, started_at, result, finished_at)
  select g.id, g.sender, g.account, g.event_id, g.type, g.subscriber, g.key, g.workspace_id, g.source, g.created_at, g.received_at,
         g.payload, g.raw, 'done', 'f', '-infinity', g.attempt, g.max_attempts, g.crashes, g.lease_token + 1, g.lease_owner, g.started_at,
         '{"skipped":"the message needs no sending any more"}', clock_timestamp()
    from gone as g;
end $$;
comment on function restante.take_back is 'Engine: Finishes alarms of messages that need no sending any more.';

-- Which way a message goes.

-- The lock tells a packer that is about to end that a transaction may store a message of its lane. Whoever finds the lock taken
-- the other way does not wait for it.
create function restante.try_lock_lane(p_account text, p_packs_with text, p_is_packer boolean) returns boolean
language plpgsql as $$
declare
  v_lock bigint := (select restante.lock_of_key(concat_ws(E'\x1f', 'message.lane', p_account, p_packs_with), min(s.salt)) from restante.key_salt as s);
begin
  -- A transaction with one snapshot for all of its statements would not see what the last holder wrote.
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    return false;
  end if;
  return case when p_is_packer then pg_try_advisory_xact_lock(v_lock) else pg_try_advisory_xact_lock_shared(v_lock) end;
end $$;
comment on function restante.try_lock_lane is
  'Engine: Takes the lock of a lane of messages until the transaction ends, shared by all who store one; or returns false at once.';

-- One packer of a lane works at a time, because all have one key.
create function restante.ensure_packer(p_account text, p_packs_with text) returns void
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_key text := 'message.pack:' || p_packs_with;
begin
  -- One that runs may not see this message. The next one waits behind it.
  if restante.try_lock_lane(p_account, p_packs_with, false) and exists (
       select from restante.outbox_live as l
        where restante.order_key(l.account, l.sender, l.key) = restante.order_key(p_account, p_account, v_key)
          and l.subscriber = '' and l.lane in ('r', 'l') and l.status in ('pending', 'retry')) then
    return;
  end if;
  perform restante.insert_event(
    format('message.pack:%s:%s', p_packs_with, replace(gen_random_uuid()::text, '-', '')), 'message.pack', v_key, null, clock_timestamp(),
    json_build_object('packs_with', p_packs_with)::text, null, null, null, 'sql', p_account, p_account);
end $$;
comment on function restante.ensure_packer is 'Engine: Puts the event into the outbox whose handler packs the messages of a lane, unless it is there.';

-- What messages must have in common to go into one batch; null for one that no batch takes.
create function restante.packs_with(p_message restante.message) returns text
language sql stable
return (select case when v.stream is null and v.speed is null then
                 left(encode(sha256(convert_to(concat_ws(E'\x1f', v.model, v.betas), 'UTF8')), 'hex'), 32) end
          from (select restante.json_part(p_message.request::text, 'model')::text as model,
                       restante.json_part(p_message.request::text, 'stream')::text as stream,
                       restante.json_part(p_message.request::text, 'speed')::text as speed,
                       (select string_agg(distinct b.beta, ',' order by b.beta) from unnest(p_message.betas) as b (beta)) as betas) as v);
comment on function restante.packs_with is
  'Engine: What messages must have in common to go into one batch; null for a message that no batch takes (stream, speed).';

create or replace function restante.place_message(p_message restante.message) returns void
language plpgsql as $$
declare
  v_setting restante.message_lane_setting;
  v_packs   text;
  v_alarm   bigint;
  v_run_at  timestamptz;
begin
  if p_message.deliver_by is not null and not p_message.partial then
    select s.* into v_setting from restante.message_lane_setting as s;
    v_run_at := p_message.deliver_by - greatest(v_setting.reserve, restante.direct_takes());
    -- Counted from the begin of the transaction, with something for the caller's clock: an hour from now is an hour ahead.
    if p_message.deliver_by + least(interval '1 minute', v_setting.ahead / 10) >= now() + v_setting.ahead and v_run_at > clock_timestamp() then
      v_packs := restante.packs_with(p_message);
    end if;
  end if;
  if v_packs is null then
    if p_message.lane = 'batch' then
      update restante.message as m set lane = 'direct', submission = null, packed_at = null, alarm = null where m.id = p_message.id;
    end if;
    perform restante.begin_message(p_message.id, p_message.account, p_message.key, null);
    return;
  end if;
  -- Its key is its own: no other message waits behind an alarm.
  select e.id into v_alarm from restante.insert_event(
    format('message.send:%s:%s', p_message.id, replace(gen_random_uuid()::text, '-', '')), 'message.send', 'message#' || p_message.id, null,
    clock_timestamp(),
    json_build_object('message', p_message.id)::text, null, null, v_run_at, 'sql', p_message.account, p_message.account) as e;
  update restante.message as m
     set lane = 'batch', packs_with = v_packs, request_bytes = octet_length(m.request::text) + octet_length(m.id::text) + 28,
         submission = null, packed_at = null, alarm = v_alarm
   where m.id = p_message.id;
  perform restante.ensure_packer(p_message.account, v_packs);
end $$;
comment on function restante.place_message is
  'Engine: Decides how a new message goes out: packed with others if its deadline leaves time for that, otherwise by itself.';

create function restante.follow_called_off() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform restante.take_back(array[new.alarm]);
  return null;
end $$;
comment on function restante.follow_called_off is 'Engine: Takes back the alarm of a message that was called off.';
create trigger message_takes_back_its_alarm after update of status on restante.message
  for each row when (new.status = 'cancelled' and old.status <> 'cancelled' and new.lane = 'batch')
  execute function restante.follow_called_off();

-- Packing.

-- Has messages sent by themselves that were to go out with a batch.
create function restante.send_directly(p_messages bigint[], p_reason text) returns void
language plpgsql as $$
begin
  update restante.message as m set lane = 'direct', reason = p_reason where m.id = any (p_messages);
  perform restante.ring(array(select m.alarm from restante.message as m where m.id = any (p_messages)));
end $$;
comment on function restante.send_directly is 'Engine: Has waiting messages sent by themselves, at once. The caller has locked them.';

-- Makes one submission of messages that the caller has locked.
create function restante.pack(p_account text, p_packs_with text, p_messages bigint[]) returns void
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_custom_plan as $$
declare
  v_name  text := 'messages_' || replace(gen_random_uuid()::text, '-', '');
  v_betas text[];
begin
  select array_agg(distinct b.beta order by b.beta) into v_betas
    from restante.message as m cross join unnest(m.betas) as b (beta) where m.id = p_messages[1];
  insert into restante.batch_request (submission, custom_id, params)
  select v_name, 'm' || m.id, m.request from restante.message as m where m.id = any (p_messages) order by m.created_at, m.id;
  insert into restante.submission (name, account, requests, bytes, packs_with)
  select v_name, p_account, count(*), sum(r.bytes), p_packs_with from restante.batch_request as r where r.submission = v_name;
  perform restante.make_parts(v_name, p_account, 1, null);
  if v_betas is not null then
    update restante.submission_part as p set betas = v_betas where p.submission = v_name;
  end if;
  update restante.message as m
     set submission = v_name, packed_at = clock_timestamp(), attempt = m.attempt + 1, attempts_max = least(100, m.attempts_max + 1), reason = null
   where m.id = any (p_messages);
  insert into restante.message_attempt as a (message, attempt, sent_as, submission)
  select m.id, m.attempt, 'batch', v_name from restante.message as m where m.id = any (p_messages)
  -- A time that cannot be paid has left its row for this one.
  on conflict (message, attempt) do update
    set sent_as = 'batch', submission = v_name, batch_id = null, sent_at = clock_timestamp(), ended_at = null, outcome = null,
        may_be_paid = true, error = null
    where not a.may_be_paid;
end $$;
comment on function restante.pack is 'Engine: Makes one submission of messages of a lane. The caller has locked them.';

-- A message that a person is changing at this moment is left for the next look.
create function restante.pack_messages(
  p_account text, p_packs_with text, out packed integer, out sent_directly integer, out look_again_in double precision)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set plan_cache_mode = force_custom_plan as $$
declare
  v_now     timestamptz := clock_timestamp();
  v_setting restante.message_lane_setting;
  v_every   interval;
  v_reserve interval;
  v_takes   interval;
  v_waiting record;
  v_ids     bigint[];
begin
  packed := 0;
  sent_directly := 0;
  select s.* into v_setting from restante.message_lane_setting as s;
  -- So that a batch is full, or a deadline needs it, for a tenth of the longest wait at most.
  v_every := least(v_setting.pack_after / 10, interval '30 seconds');
  v_reserve := greatest(v_setting.reserve, restante.direct_takes());
  select count(*) as count, coalesce(sum(m.request_bytes), 0) as bytes, min(m.created_at) as oldest, min(m.deliver_by) as first_deadline
    into v_waiting
    from restante.message as m
   where m.account = p_account and m.packs_with = p_packs_with and m.lane = 'batch' and m.submission is null and m.status = 'waiting';
  if v_waiting.count = 0 then
    -- Who stores a message now either finds no packer, or has the lock.
    if not restante.try_lock_lane(p_account, p_packs_with, true) or exists (
         select from restante.message as m
          where m.account = p_account and m.packs_with = p_packs_with and m.lane = 'batch' and m.submission is null and m.status = 'waiting') then
      look_again_in := extract(epoch from v_every);
    end if;
    return;
  end if;

  v_takes := coalesce(restante.batch_takes(p_account, p_packs_with, least(v_waiting.count, v_setting.requests_max)), interval '0');
  if v_waiting.first_deadline - v_reserve - v_takes < v_now then
    v_ids := array(
      select m.id from restante.message as m
       where m.account = p_account and m.packs_with = p_packs_with and m.lane = 'batch' and m.submission is null and m.status = 'waiting'
         and m.deliver_by - v_reserve - v_takes < v_now
       order by m.created_at, m.id limit v_setting.requests_max for no key update skip locked);
    perform restante.send_directly(v_ids, 'batches have lately taken too long for its deadline');
    sent_directly := cardinality(v_ids);
  elsif v_waiting.count >= v_setting.requests_max or v_waiting.bytes >= v_setting.bytes_max
     or v_waiting.oldest + v_setting.pack_after <= v_now
     or v_waiting.first_deadline - v_reserve - v_takes <= v_now + v_every then
    v_ids := array(
      select m.id from restante.message as m
       where m.account = p_account and m.packs_with = p_packs_with and m.lane = 'batch' and m.submission is null and m.status = 'waiting'
       order by m.created_at, m.id limit v_setting.requests_max for no key update skip locked);
    v_ids := array(
      select s.id
        from (select m.id, row_number() over w as nth, sum(m.request_bytes) over w as bytes
                from restante.message as m where m.id = any (v_ids) window w as (order by m.created_at, m.id)) as s
       where s.nth = 1 or s.bytes <= v_setting.bytes_max order by s.nth);
    if v_ids <> '{}' then
      perform restante.pack(p_account, p_packs_with, v_ids);
    end if;
    packed := cardinality(v_ids);
  end if;
  -- What is left over may be due, too.
  look_again_in := case when packed + sent_directly between 1 and v_waiting.count - 1 then 0 else extract(epoch from v_every) end;
end $$;
comment on function restante.pack_messages is
  'Engine: Packs the waiting messages of a lane into a batch if it is time, and has those sent by themselves for which a batch would come too '
  'late. Returns how many, and in how many seconds to look again; null if nothing waits.';

-- Unpacking.

-- A part has its answers, or never will.
create function restante.follow_messages_of_part() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from restante.submission as s where s.name = new.submission and s.packs_with is not null) then
    perform restante.insert_event(
      format('message.unpack:%s:%s', new.id, replace(gen_random_uuid()::text, '-', '')), 'message.unpack', null, null, clock_timestamp(),
      json_build_object('part', new.id)::text, null, null, null, 'worker', new.account, new.account);
  end if;
  return null;
end $$;
comment on function restante.follow_messages_of_part is 'Engine: Stores the event whose handler gives messages the answers of their batch.';
create trigger submission_part_unpacks after update on restante.submission_part
  for each row when (new.status <> old.status and new.status in ('complete', 'refused', 'cancelled'))
  execute function restante.follow_messages_of_part();

-- The message within a result line, exactly as it stands there. Postgres cannot take a line apart that has \u0000 or half of a surrogate
-- pair. Then the place is looked up in the same line with every escape blotted out, character for character. A line
-- that is no UTF-8 is taken for Latin-1, which has a character for each byte.
create function restante.message_of_line(p_line text, p_raw bytea, out body json, out raw bytea, out message_id text)
language plpgsql immutable as $$
declare
  v_line    text;
  v_blotted text;
  v_message text;
begin
  v_line := coalesce(p_line, convert_from(p_raw, 'LATIN1'));
  begin
    v_message := json_extract_path(v_line::json, 'result', 'message')::text;
  exception
    when untranslatable_character or invalid_text_representation then
      v_blotted := regexp_replace(regexp_replace(v_line, '\\[^u]', 'xx', 'g'), '\\u[0-9a-fA-F]{4}', 'xxxxxx', 'g');
      v_message := json_extract_path(v_blotted::json, 'result', 'message')::text;
      v_message := substr(v_line, strpos(v_blotted, v_message), length(v_message));
  end;
  if json_typeof(v_message::json) is distinct from 'object' then
    return;
  end if;
  message_id := restante.json_part(v_message, 'id') #>> '{}';
  if p_line is null then
    raw := convert_to(v_message, 'LATIN1');
  else
    body := v_message::json;
  end if;
exception
  -- It cannot be read at all, so it is no answer.
  when untranslatable_character or invalid_text_representation or statement_too_complex or character_not_in_repertoire then
    body := null;
    raw := null;
    message_id := null;
end $$;
comment on function restante.message_of_line is
  'Engine: The message within a line of results, exact: as JSON, or as bytes if the line is no text; null if there is none that can be read.';

create function restante.unpack_messages(p_part bigint, p_limit integer, out unpacked integer, out left_over integer)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_part     restante.submission_part;
  v_batch_at timestamptz;
  v_ids      bigint[];
  v_free     bigint[];
  v_finished bigint[];
  v_rung     bigint[];
begin
  select p.* into v_part from restante.submission_part as p where p.id = p_part and p.status in ('complete', 'refused', 'cancelled');
  select coalesce(b.created_at, b.first_seen_at) into v_batch_at
    from restante.batch as b where b.id = v_part.batch_id and b.account = v_part.account;
  v_ids := array(
    select t.message
      from restante.batch_request as r
      join restante.message_attempt as t on t.message = substr(r.custom_id, 2)::bigint and t.submission = r.submission
     where r.part = p_part and v_part.id is not null
       and case when v_part.batch_id is null then t.outcome is null else t.batch_id is distinct from v_part.batch_id end
     order by t.message);
  -- In the one order for everybody. A message that somebody is changing at this moment is left for the next look.
  v_free := array(
    select m.id from restante.message as m where m.id = any (v_ids) order by m.id limit p_limit for no key update skip locked);

  with answer as materialized (
    select m.id, m.alarm, m.status, t.attempt, a.outcome, a.text, a.model, a.stop_reason, a.error_type, a.error_message,
           a.input_tokens, a.output_tokens, a.cache_creation_input_tokens, a.cache_read_input_tokens, x.body, x.raw, x.message_id,
           (x.body is not null or x.raw is not null) as is_answer,
           case when a.outcome is not null then 'its batch did not answer it: ' || concat_ws(', ', a.outcome, a.error_type, a.error_message)
                else 'its batch was not sent: ' || coalesce(v_part.reason, v_part.status) end as why_not
      from restante.message as m
      join restante.message_attempt as t on t.message = m.id and t.submission = v_part.submission
      left join restante.batch_result as a on a.batch_id = v_part.batch_id and a.account = v_part.account and a.custom_id = 'm' || m.id
     cross join lateral restante.message_of_line(
           case when a.outcome = 'succeeded' then a.line end, case when a.outcome = 'succeeded' then a.raw end) as x
     where m.id = any (v_free)
       -- Another worker may have unpacked it between the two looks.
       and case when v_part.batch_id is null then t.outcome is null else t.batch_id is distinct from v_part.batch_id end),
  noted as (
    update restante.message_attempt as t
       set batch_id = v_part.batch_id, ended_at = clock_timestamp(), sent_at = coalesce(v_batch_at, t.sent_at),
           outcome = case when a.is_answer and a.status in ('waiting', 'sending') then 'answered'
                          when a.outcome = 'succeeded' then 'unused'
                          when v_part.batch_id is null and v_part.status = 'cancelled' then 'not sent'
                          else 'refused' end,
           may_be_paid = coalesce(a.outcome, '') not in ('errored', 'expired', 'canceled', ''),
           error = case when a.outcome is distinct from 'succeeded' then a.why_not end,
           message_id = a.message_id, model = a.model, input_tokens = a.input_tokens, output_tokens = a.output_tokens,
           cache_creation_input_tokens = a.cache_creation_input_tokens, cache_read_input_tokens = a.cache_read_input_tokens
      from answer as a where t.message = a.id and t.attempt = a.attempt),
  answered as (
    update restante.message as m
       set status = 'done', reason = null, error_type = null, done_at = clock_timestamp(), text = a.text, body = a.body, raw = a.raw, model = a.model,
           stop_reason = a.stop_reason, input_tokens = a.input_tokens, output_tokens = a.output_tokens,
           cache_creation_input_tokens = a.cache_creation_input_tokens, cache_read_input_tokens = a.cache_read_input_tokens
      from answer as a where m.id = a.id and a.is_answer and a.status in ('waiting', 'sending')
    returning m.alarm),
  failed as (
    update restante.message as m set status = 'failed', reason = a.why_not, error_type = a.error_type
      from answer as a
     where m.id = a.id and not a.is_answer and a.status = 'waiting' and a.outcome = 'errored' and a.error_type = 'invalid_request_error'
    returning m.alarm),
  direct as (
    update restante.message as m set lane = 'direct', reason = a.why_not
      from answer as a
     where m.id = a.id and not a.is_answer and a.status = 'waiting'
       and (a.outcome = 'errored' and a.error_type = 'invalid_request_error') is not true
    returning m.alarm)
  select array(select d.alarm from answered as d union all select f.alarm from failed as f), array(select d.alarm from direct as d)
    into v_finished, v_rung;
  perform restante.take_back(v_finished);
  perform restante.ring(v_rung);
  -- For whoever waits for an answer: a hint that may be about any message.
  perform pg_notify('restante_message', '');
  unpacked := cardinality(v_free);
  left_over := cardinality(v_ids) - unpacked;
end $$;
comment on function restante.unpack_messages is
  'Engine: Gives messages the answers of a part, up to a limit, and has those sent by themselves that it does not answer. Returns how many, and '
  'how many are left over.';

-- What people see.

-- The caller of a message is told of the message. A batch that only a person can decide about is told all the same.
create or replace function restante.tell(p_type text, p_account text, p_submission text, p_batch_id text, p_part bigint) returns void
language plpgsql as $$
declare
  v_event_id text := concat_ws(':', p_type, coalesce(p_batch_id, p_part::text), replace(gen_random_uuid()::text, '-', ''));
  v_data     text := json_build_object('submission', p_submission, 'part', p_part, 'batch_id', p_batch_id)::text;
  v_at       timestamptz := clock_timestamp();
  v          restante.submission;
begin
  select s.* into v from restante.submission as s where s.name = p_submission;
  if v.packs_with is not null and p_type <> 'batch.uncertain' then
    return;
  end if;
  perform restante.insert_event(
    v_event_id, p_type, p_batch_id, null, v_at, v_data, null, null, null, 'worker', p_account, p_account);
  if p_type in ('batch.results_ready', 'batch.uncertain') then
    perform restante.tell_callback(v.callback, p_type, v_event_id, p_batch_id, v_at, v_data, null, p_account);
  end if;
end $$;
comment on function restante.tell is
  'Engine: Stores an event that says what has become of a submission. Of one that messages were packed into, only what a person must decide.';

-- What a batch answered costs what the views of batches say.
create or replace view restante.message_cost as
  select a.message, m.tag, m.account, a.attempt, a.sent_as, a.outcome, a.may_be_paid,
         case a.sent_as
           when 'batch' then b.dollars
           else restante.direct_cost_of(p, a.input_tokens, a.output_tokens, a.cache_creation_input_tokens, a.cache_read_input_tokens)
         end as dollars,
         a.sent_at
    from restante.message_attempt as a
    join restante.message as m on m.id = a.message
    left join lateral restante.price_at(a.model, a.sent_at) as p on a.sent_as <> 'batch'
    left join lateral (
          select c.dollars from restante.result_cost as c
           where c.batch_id = a.batch_id and c.account = m.account and c.custom_id = 'm' || a.message) as b on a.sent_as = 'batch';

create or replace view restante.submission_overview as
  select s.name as submission, s.tag, s.account,
         case
           when s.status = 'complete' then 'complete'
           when s.status = 'cancelled' and p.under_way + p.ended > 0 then 'called off; what the API has ends first'
           when s.status = 'cancelled' then 'called off'
           when s.status = 'uncertain' then 'uncertain: a person decides'
           when s.status = 'refused' then 'refused by the API'
           when s.status = 'waiting' then 'waits to be sent'
           when s.status = 'sending' then 'is being sent'
           when p.given_up > 0 then 'its results cannot be fetched'
           when p.downloading > 0 then 'is being downloaded'
           when p.under_way > 0 then 'the API works on it'
           else 'has ended'
         end as state,
         s.reason, clock_timestamp() - s.created_at as age, p.parts, s.requests, r.waiting, r.submitted, r.succeeded, r.errored,
         r.canceled, r.expired, r.cancelled, r.other, p.expires_at - clock_timestamp() as expires_in,
         p.results_deadline - clock_timestamp() as results_vanish_in,
         case when p.without_history = 0 then p.likely_end_at end as likely_end_at, p.results_stored, p.results_ready,
         (select trim_scale(coalesce(sum(c.dollars), 0))
            from restante.submission_part as q
            join restante.usage_cost as c on c.batch_id = q.batch_id and c.account = q.account
           where q.submission = s.name) as dollars,
         s.created_at, s.created_by, s.complete_at, s.packs_with is not null as for_messages
    from restante.submission as s
    left join lateral (
      select count(*) as parts,
             count(*) filter (where o.is_open and b.ended_at is null and q.batch_id is not null) as under_way,
             count(*) filter (where o.is_open and b.ended_at is not null) as ended,
             count(*) filter (where o.is_open and b.given_up_because is not null) as given_up,
             count(*) filter (where o.is_open and b.download_started_at is not null) as downloading,
             min(b.expires_at) filter (where o.is_open and b.ended_at is null) as expires_at,
             min(b.results_deadline) filter (where o.is_open) as results_deadline,
             max(h.likely_end_at) as likely_end_at,
             count(*) filter (where o.is_open and b.ended_at is null and h.likely_end_at is null) as without_history,
             coalesce(sum(b.results_stored), 0)::bigint as results_stored,
             coalesce(sum(b.succeeded + b.errored + b.canceled + b.expired) filter (where b.ended_at is not null), 0)::bigint as results_ready
        from restante.submission_part as q
        left join restante.batch as b on b.id = q.batch_id and b.account = q.account
       cross join lateral (
         select q.status not in ('complete', 'cancelled') and b.complete_at is null as is_open,
                clock_timestamp() - coalesce(b.created_at, b.first_seen_at, clock_timestamp()) as age) as o
        left join lateral (
          select clock_timestamp() - o.age + percentile_disc(0.5) within group (order by d.lasted) as likely_end_at
            from (select k.ended_at - k.created_at as lasted
                    from restante.batch as k
                   where k.complete_at is not null and k.ended_at > k.created_at
                     and (k.succeeded + k.errored + k.canceled + k.expired) * 3 >= q.requests
                     and k.succeeded + k.errored + k.canceled + k.expired <= q.requests::bigint * 3
                   order by k.ended_at desc limit 100) as d
           where d.lasted > o.age) as h on o.is_open and b.ended_at is null and q.status not in ('uncertain', 'refused')
       where q.submission = s.name) as p on true
    left join lateral (
      select count(*) filter (where a.status in ('collected', 'waiting')) as waiting,
             count(*) filter (where a.status = 'submitted') as submitted, count(*) filter (where a.status = 'succeeded') as succeeded,
             count(*) filter (where a.status = 'errored') as errored, count(*) filter (where a.status = 'canceled') as canceled,
             count(*) filter (where a.status = 'expired') as expired, count(*) filter (where a.status = 'cancelled') as cancelled,
             count(*) filter (where a.status = 'other') as other
        from restante.batch_request as a
       where a.submission = s.name) as r on true;
comment on column restante.submission_overview.for_messages is 'It was packed of messages: their rows have the answers.';

create or replace view restante.message_overview as
  select m.id, m.key, m.tag, m.account,
         case
           when m.status = 'waiting' and m.lane = 'batch' and m.reason is null and m.submission is null then 'waits to be packed'
           when m.status = 'waiting' and m.lane = 'batch' and m.reason is null then 'is in a batch'
           when m.status = 'waiting' and m.attempt = 0 and m.reason is null then 'waits to be sent'
           when m.status = 'waiting' then 'will be sent again'
           when m.status = 'sending' then 'is being answered'
           else m.status::text
         end as state,
         m.reason, m.attempt, clock_timestamp() - m.created_at as age, m.deliver_by, m.deliver_by - clock_timestamp() as due_in,
         m.text, restante.json_part(m.body::text, 'content') as content, m.model, m.stop_reason, m.input_tokens, m.output_tokens,
         c.dollars, c.attempts_that_may_be_paid, m.created_at, m.sent_at, m.done_at,
         m.lane, m.submission, m.packed_at
    from restante.message as m
    left join lateral (
          select trim_scale(sum(a.dollars)) as dollars, count(*) filter (where a.may_be_paid) as attempts_that_may_be_paid
            from restante.message_cost as a where a.message = m.id) as c on true;

revoke execute on all functions in schema restante from public;
grant execute on function restante.pack_messages, restante.unpack_messages to restante_worker;
grant select, update on restante.message_lane_setting to restante_operator;
grant select on restante.message_lane_setting to restante_app;
-- Who reads a view runs its functions.
grant execute on function restante.usage_of_line, restante.whole_number to restante_app;
