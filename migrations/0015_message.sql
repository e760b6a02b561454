-- Messages that go out: an application hands a request to Claude in its own transaction, and finds the answer in the row.
--
-- The API has no key by which it would know a request that is sent twice. So each time that a request goes out is a row of
-- `message_attempt`, committed before the first byte. An attempt whose answer was lost may have been paid, and its row says so.

create domain restante.message_status as text constraint message_status_known check (value in
  ('waiting', 'sending', 'done', 'failed', 'cancelled'));
comment on domain restante.message_status is
  'How far a message has come. waiting: it will be sent. sending: the API may be answering it. done: its answer is here. failed: no '
  'answer will come of it. cancelled: a person or the application called it off.';

create table restante.message (
  id           bigint generated always as identity,
  account      text collate "C" not null default 'anthropic',
  key          text collate "C",
  tag          text collate "C",
  request      json        not null,
  betas        text[]      not null default '{}',
  partial      boolean     not null default false,
  deliver_by   timestamptz,
  callback     text,
  attempts_max integer     not null default 5,
  status       restante.message_status not null default 'waiting',
  reason       text,
  error_type   text,
  attempt      integer     not null default 0,
  text         text,
  body         json,
  raw          bytea,
  model        text,
  stop_reason  text,
  input_tokens  bigint,
  output_tokens bigint,
  cache_creation_input_tokens bigint,
  cache_read_input_tokens     bigint,
  created_at   timestamptz not null default clock_timestamp(),
  created_by   text        not null default session_user,
  sent_at      timestamptz,
  done_at      timestamptz,
  constraint message_pk primary key (id),
  constraint message_attempts_max_fits check (attempts_max between 1 and 100),
  constraint message_has_one_body check (body is null or raw is null),
  constraint message_done_has_its_answer check (
    (status = 'done') = (body is not null or raw is not null) and (status = 'done') = (done_at is not null))
);
create index message_waiting on restante.message (created_at) where status in ('waiting', 'sending');
comment on index restante.message_waiting is 'The messages that have no answer yet, oldest first.';
create index message_key on restante.message (key, id) where key is not null;
comment on index restante.message_key is 'The messages of a key.';
create index message_tag on restante.message (tag, created_at) where tag is not null;
comment on index restante.message_tag is 'The messages of a tag, for sums of their cost.';

comment on table restante.message is
  'Requests to Claude, one row for each call of restante.send_message(), with their answers. To call one off: update ... set status = '
  '''cancelled''. To send a failed or cancelled one again: status = ''waiting''.';
comment on column restante.message.account is 'The account, by its name in the configuration, whose key pays.';
comment on column restante.message.key is 'Messages of one key are answered one after the other, in the order in which they were stored.';
comment on column restante.message.tag is 'What its cost is added up by.';
comment on column restante.message.request is 'The request of the Messages API, as it was given. It is sent with "stream": true.';
comment on column restante.message.betas is 'Beta features of the API that it needs, beside those of the account.';
comment on column restante.message.partial is 'Is the text shown in message_chunk while it is being written?';
comment on column restante.message.deliver_by is 'When the answer is needed. Null: at once.';
comment on column restante.message.callback is 'The URL, or the name of the endpoint, that is told by a signed webhook what came of it.';
comment on column restante.message.attempts_max is 'How often it is sent at most.';
comment on column restante.message.reason is 'Why it waits or failed.';
comment on column restante.message.error_type is 'The type of the error that it failed with, as the API names it.';
comment on column restante.message.attempt is
  'How often it has been sent; message_attempt has a row for each time. A time that the API surely has not taken does not count.';
comment on column restante.message.text is 'The text blocks of the answer, joined. U+FFFD stands for what text cannot hold.';
comment on column restante.message.body is 'The final message, exact.';
comment on column restante.message.raw is 'The same as bytes, if it is no JSON that Postgres can hold.';
comment on column restante.message.created_by is 'The login that stored it.';
comment on column restante.message.sent_at is 'When it was sent last.';

create table restante.message_attempt (
  message     bigint      not null,
  attempt     integer     not null,
  sent_as     text        not null default 'stream',
  batch_id    text collate "C",
  sent_at     timestamptz not null default clock_timestamp(),
  ended_at    timestamptz,
  outcome     text,
  may_be_paid boolean     not null default true,
  error       text,
  message_id  text,
  model       text,
  input_tokens  bigint,
  output_tokens bigint,
  cache_creation_input_tokens bigint,
  cache_read_input_tokens     bigint,
  constraint message_attempt_once primary key (message, attempt),
  constraint message_attempt_of_a_message foreign key (message) references restante.message (id) on delete cascade,
  constraint message_attempt_sent_as_known check (sent_as in ('stream', 'batch')),
  constraint message_attempt_outcome_known check (outcome in ('answered', 'unused', 'cut', 'lost', 'refused', 'not sent')),
  constraint message_attempt_ends_with_an_outcome check ((outcome is null) = (ended_at is null))
);
comment on table restante.message_attempt is
  'Each time that a message was sent. The API bills an attempt that it read whole, even if its answer never came here.';
comment on column restante.message_attempt.sent_as is 'stream: at once, at the full price. batch: with others, at the price of a batch.';
comment on column restante.message_attempt.outcome is
  'answered: the message has this answer. unused: the message was called off meanwhile, or another attempt answered first. cut: the answer '
  'broke off. lost: nobody knows what came of it, because the connection or the worker ended. refused: the API does not take it. not sent: '
  'nothing of it reached the API. The row of a time that cannot be paid becomes that of the next one.';
comment on column restante.message_attempt.may_be_paid is 'The API has read it, or may have.';
comment on column restante.message_attempt.message_id is 'The id that the API gave the answer.';
comment on column restante.message_attempt.output_tokens is 'What it used, as far as the API said so before the answer ended or broke off.';

create table restante.message_chunk (
  message   bigint      not null,
  attempt   integer     not null,
  seq       bigint      not null,
  events    json        not null,
  text      text,
  stored_at timestamptz not null default clock_timestamp(),
  -- No foreign key: its check would wait for whoever deletes a message in a transaction that stays open, and with it all other streams.
  constraint message_chunk_once primary key (message, attempt, seq)
);
comment on table restante.message_chunk is
  'What a message says while it is being written, if it was sent with partial => true. Read on with (attempt, seq) > (the last ones that you '
  'saw), in that order. A higher attempt replaces all that you showed. The rows are kept for an hour after the last of them.';
comment on column restante.message_chunk.attempt is 'The attempt that says it. An answer is never joined of two attempts.';
comment on column restante.message_chunk.seq is 'The number of the last event in the row, counted from 1 in each attempt.';
comment on column restante.message_chunk.events is 'The events of the API, a list in their order.';
comment on column restante.message_chunk.text is 'The text in them, joined. U+FFFD stands for what text cannot hold.';

-- What is wrong with a request; null where nothing is.
create function restante.message_fault(p_request json) returns text
language plpgsql immutable as $$
begin
  return case
    when p_request is null then 'request is missing'
    when json_typeof(p_request) <> 'object' then 'request is no object'
    when octet_length(p_request::text) > 32000000 then 'request is larger than the API takes (32 MB)'
    when coalesce(json_typeof(restante.json_part(p_request::text, 'model')), '') <> 'string'
      or restante.json_part(p_request::text, 'model')::text in ('""') then 'request has no model'
    when coalesce(restante.json_part(p_request::text, 'max_tokens')::text, '') !~ '^[1-9]\d{0,14}$' then
      'request has no max_tokens, a whole number of 1 or more'
    when coalesce(json_typeof(restante.json_part(p_request::text, 'messages')), '') <> 'array'
      or json_array_length(restante.json_part(p_request::text, 'messages')) = 0 then 'request has no messages, a list of at least one'
  end;
end $$;
comment on function restante.message_fault is 'Engine: What is wrong with a request of the Messages API; null where nothing is.';

-- Has a message sent. Messages of one key are sent one after the other; the key is not that of the application's own events, so
-- neither waits for the other. A message without a key has one of its own: so two events of one message, as after a replay, never run
-- side by side, and an attempt that is found open is that of a worker which is gone.
create function restante.begin_message(p_message bigint, p_account text, p_key text, p_run_at timestamptz) returns void
language plpgsql as $$
begin
  perform restante.insert_event(
    format('message.send:%s:%s', p_message, replace(gen_random_uuid()::text, '-', '')), 'message.send', coalesce('message:' || p_key, 'message#' || p_message), null,
    coalesce(p_run_at, clock_timestamp()), json_build_object('message', p_message)::text, null, null, p_run_at, 'sql', p_account, p_account);
end $$;
comment on function restante.begin_message is 'Engine: Puts the event into the outbox whose handler sends a message.';

-- How a new message goes out.
create function restante.place_message(p_message restante.message) returns void
language plpgsql as $$
begin
  perform restante.begin_message(p_message.id, p_message.account, p_message.key, null);
end $$;
comment on function restante.place_message is 'Engine: Decides how a new message goes out.';

-- For applications, in their own transaction: the message is sent once the transaction commits.
create function restante.send_message(
  request json, key text default null, deliver_by timestamptz default null, callback text default null, tag text default null,
  account text default 'anthropic', partial boolean default false, betas text[] default null, attempts_max integer default null)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_fault   text := restante.message_fault(send_message.request);
  v_message restante.message;
begin
  if v_fault is null then
    -- The longest key of an event is 512 bytes, and that of a message is part of one.
    select format('%s must have 1 to 400 bytes', a.name) into v_fault
      from (values ('key', send_message.key), ('tag', send_message.tag), ('account', coalesce(send_message.account, ''))) as a (name, value)
     where a.value = '' or octet_length(a.value) > 400 limit 1;
  end if;
  v_fault := coalesce(
    v_fault,
    case
      when send_message.partial is null then 'partial is null: say true or false'
      when send_message.attempts_max not between 1 and 100 then 'attempts_max must be 1 to 100'
      when send_message.deliver_by < make_timestamptz(1, 1, 1, 0, 0, 0, 'UTC')
        or send_message.deliver_by >= make_timestamptz(10000, 1, 1, 0, 0, 0, 'UTC') then 'deliver_by must be a time of the years 1 to 9999'
      when exists (select from unnest(send_message.betas) as b (beta) where b.beta is null or b.beta !~ '^[\x21-\x2b\x2d-\x7e]{1,200}$') then
        'betas must be names of beta features'
    end,
    -- A URL, or the name of an endpoint (0016).
    restante.callback_fault(send_message.callback));
  if v_fault is not null then
    raise exception 'restante.send_message: %', v_fault using errcode = 'invalid_parameter_value',
      hint = 'Pass a request of the Messages API, such as {"model": "...", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}.';
  end if;
  insert into restante.message (account, key, tag, request, betas, partial, deliver_by, callback, attempts_max)
  values (send_message.account, send_message.key, send_message.tag, send_message.request, coalesce(send_message.betas, '{}'),
          send_message.partial, send_message.deliver_by, send_message.callback, coalesce(send_message.attempts_max, 5))
  returning * into v_message;
  perform restante.place_message(v_message);
  return v_message.id;
end $$;
comment on function restante.send_message is
  'Sends a request to Claude, as part of your transaction. Returns the id of its row in restante.message, where the answer will be. key: '
  'one after the other. partial: show the text while it is written. callback: the URL that is told.';

-- A change of a message, by whoever makes it: the worker, a person or the application.
create function restante.guard_message() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if old.status = 'done' then
    raise exception 'message % has its answer', old.id using errcode = 'check_violation',
      hint = 'To ask again, call restante.send_message() with its request.';
  end if;
  if new.status = 'sending' and new.attempt = old.attempt then
    raise exception 'a message is sent by a worker, not by hand' using errcode = 'check_violation',
      hint = 'Write waiting to have it sent again, or cancelled to call it off.';
  end if;
  if new.status = 'waiting' and old.status = 'sending' and (new.attempt, new.reason) is not distinct from (old.attempt, old.reason) then
    -- A worker says why it waits again.
    raise exception 'message % is being sent', old.id using errcode = 'check_violation',
      hint = 'Write cancelled to call it off, and then waiting to have it sent again.';
  end if;
  if new.status = 'failed' and new.reason is null then
    raise exception 'a message fails by itself' using errcode = 'check_violation', hint = 'Write cancelled to call it off.';
  end if;
  if new.status = 'waiting' and old.status in ('failed', 'cancelled') then
    -- The attempts of before stay counted, and it gets as many again.
    new.attempts_max := least(100, old.attempt + old.attempts_max);
    new.error_type := null;
    new.reason := null;
  end if;
  return new;
end $$;
comment on function restante.guard_message is 'Engine: Makes a change of a message whole, and refuses one that nobody can mean.';
create trigger message_guard before update of status on restante.message
  for each row when (new.status <> old.status) execute function restante.guard_message();

-- An event of our own that says what has become of a message. It is stored in the same commit as the fact.
create function restante.follow_message() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_type     text := case new.status when 'done' then 'message.completed' when 'failed' then 'message.failed'
                                     when 'cancelled' then 'message.cancelled' end;
  v_event_id text := format('%s:%s:%s', v_type, new.id, replace(gen_random_uuid()::text, '-', ''));
  v_at       timestamptz := clock_timestamp();
  v_data     text;
begin
  if v_type is not null then
    v_data := json_build_object('id', new.id, 'key', new.key, 'tag', new.tag, 'status', new.status, 'stop_reason', new.stop_reason,
                                'error_type', new.error_type)::text;
    perform restante.insert_event(
      v_event_id, v_type, new.key, null, v_at, v_data, null, null, null, 'worker', new.account, new.account);
    perform restante.tell_callback(new.callback, v_type, v_event_id, new.key, v_at, v_data, null, new.account);
  elsif new.status = 'waiting' and old.status in ('failed', 'cancelled') then
    perform restante.place_message(new);
  end if;
  return null;
end $$;
comment on function restante.follow_message is 'Engine: Stores the event that says what has become of a message, or has it sent again.';
create trigger message_follow after update of status on restante.message
  for each row when (new.status <> old.status) execute function restante.follow_message();

-- Whoever reads along has an hour to come back. The messages are walked in the order of their numbers, and the young ones come last, so
-- a walk ends at the first of them. What an attempt says late, and of a message that was deleted, goes with the rest.
create function restante.forget_chunks(p_after bigint, out messages bigint, out next_after bigint)
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_message bigint := p_after;
  v_newest  timestamptz;
begin
  messages := 0;
  for i in 1 .. 200 loop
    select c.message into v_message from restante.message_chunk as c where c.message > v_message order by c.message limit 1;
    if not found then
      return;
    end if;
    select max(c.stored_at) into v_newest from restante.message_chunk as c where c.message = v_message;
    if v_newest > clock_timestamp() - interval '1 hour' then
      return;
    end if;
    -- One that is being sent for so long may only be silent.
    if not exists (select from restante.message as m where m.id = v_message and m.status = 'sending') then
      delete from restante.message_chunk where (message, attempt, seq) in (
        select c.message, c.attempt, c.seq from restante.message_chunk as c where c.message = v_message for update skip locked);
      messages := messages + 1;
    end if;
  end loop;
  next_after := v_message;
end $$;
comment on function restante.forget_chunks is 'Engine: Deletes partial text that is older than an hour, of a page of messages.';

-- What messages cost. As for batches it is an estimate: the usage comes from the API, the prices from an operator.
create function restante.direct_cost_of(p_price restante.price, p_input bigint, p_output bigint, p_written bigint, p_read bigint)
returns numeric
language sql immutable parallel safe
return (p_input * (p_price).input + p_output * (p_price).output + coalesce(p_written, 0) * (p_price).cache_write_5m
        + coalesce(p_read, 0) * (p_price).cache_read) * 0.000001;
comment on function restante.direct_cost_of is
  'Engine: What tokens cost that were asked for one by one, in dollars (an estimate); null without a price.';

create view restante.message_cost as
  select a.message, m.tag, m.account, a.attempt, a.sent_as, a.outcome, a.may_be_paid,
         restante.direct_cost_of(p, a.input_tokens, a.output_tokens, a.cache_creation_input_tokens, a.cache_read_input_tokens)
           * case a.sent_as when 'batch' then (p).batch_factor else 1 end as dollars,
         a.sent_at
    from restante.message_attempt as a
    join restante.message as m on m.id = a.message
    left join lateral restante.price_at(a.model, a.sent_at) as p on true;
comment on view restante.message_cost is
  'What each attempt at a message cost, in dollars: an estimate. Null where nobody knows what it used, or where its model has no price.';

create view restante.message_overview as
  select m.id, m.key, m.tag, m.account,
         case
           when m.status = 'waiting' and m.attempt = 0 and m.reason is null then 'waits to be sent'
           when m.status = 'waiting' then 'will be sent again'
           when m.status = 'sending' then 'is being answered'
           else m.status::text
         end as state,
         m.reason, m.attempt, clock_timestamp() - m.created_at as age, m.deliver_by, m.deliver_by - clock_timestamp() as due_in,
         m.text, restante.json_part(m.body::text, 'content') as content, m.model, m.stop_reason, m.input_tokens, m.output_tokens,
         c.dollars, c.attempts_that_may_be_paid, m.created_at, m.sent_at, m.done_at
    from restante.message as m
    left join lateral (
          select trim_scale(sum(a.dollars)) as dollars, count(*) filter (where a.may_be_paid) as attempts_that_may_be_paid
            from restante.message_cost as a where a.message = m.id) as c on true;
comment on view restante.message_overview is
  'Each message in a row: what it is at, its answer, its cost so far. With more than one attempt that may be paid, one of them was lost or cut.';

revoke execute on all functions in schema restante from public;
grant select, update on restante.message to restante_worker;
grant select, insert, update on restante.message_attempt to restante_worker;
grant select, insert, update, delete on restante.message_chunk to restante_worker;
grant execute on function restante.forget_chunks to restante_worker;
grant select on restante.message, restante.message_attempt, restante.message_chunk, restante.message_cost, restante.message_overview
  to restante_operator, restante_app;
grant update (status) on restante.message to restante_operator, restante_app;
grant execute on function restante.direct_cost_of to restante_operator, restante_app;
grant execute on function restante.json_part to restante_app;
grant execute on function restante.send_message to restante_app;
