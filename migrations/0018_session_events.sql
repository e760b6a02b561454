-- Events that go to sessions: what an application sends to an agent, from its own transaction to the API, in order.
--
-- The API has no key by which it would know an event that it gets twice. So a send says `sending` before its first byte goes out, and is
-- sent again only once the session's own list of events shows that nothing of it arrived.

create domain restante.session_send_status as text constraint session_send_status_known check (value in
  ('waiting', 'sending', 'done', 'refused', 'uncertain', 'cancelled'));
comment on domain restante.session_send_status is
  'How far a send to a session has come. waiting: it will be sent. sending: it may have reached the API. done: the session has it. refused: '
  'the API does not take it. uncertain: the session may have it, and a person decides. cancelled: it is not sent any more.';

create table restante.session_send (
  id            bigint generated always as identity,
  account       text collate "C" not null default 'anthropic',
  session       text collate "C" not null,
  events        json        not null,
  status        restante.session_send_status not null default 'waiting',
  reason        text,
  attempt       integer     not null default 0,
  sent_at       timestamptz,
  unclear_since timestamptz,
  known_before  text,
  event_ids     text[],
  created_at    timestamptz not null default clock_timestamp(),
  created_by    text        not null default session_user,
  done_at       timestamptz,
  constraint session_send_pk primary key (id),
  constraint session_send_events_are_a_list check (json_typeof(events) = 'array'),
  constraint session_send_done_has_its_events check ((status = 'done') = (event_ids is not null))
);
create index session_send_session on restante.session_send (session, account);
comment on index restante.session_send_session is 'What was sent to a session.';
comment on table restante.session_send is
  'What is sent to sessions, one row for each call of restante.send_session_events(). One that is uncertain or was refused: set status = '
  '''waiting'' to send it again, or ''cancelled'' to leave it. While one is uncertain, later ones of its session wait.';
comment on column restante.session_send.account is 'The account, by its name in the configuration, whose session it is.';
comment on column restante.session_send.events is 'The list of events, sent exactly as it stands here.';
comment on column restante.session_send.reason is 'Why it waits, is uncertain or was refused.';
comment on column restante.session_send.attempt is 'How often it has been sent.';
comment on column restante.session_send.sent_at is 'Since when the API may have it. Null: nothing of it has gone out, or the API does not have it.';
comment on column restante.session_send.unclear_since is 'Since when it has been unclear whether the API has it.';
comment on column restante.session_send.known_before is
  'The newest event of these types in the session before this was sent. Later ones may be its own.';
comment on column restante.session_send.event_ids is 'The identifiers that the API gave its events, in their order.';
comment on column restante.session_send.created_by is 'The login that sent it.';
comment on column restante.session_send.done_at is 'When it came to its end: the session has it, the API refused it, or a person called it off.';

-- What is wrong with a list of events; null where nothing is.
create function restante.session_events_fault(p_events json) returns text
language plpgsql immutable as $$
declare
  -- The API takes 32 MB, of which 11 bytes are around the list.
  c_bytes_max constant integer := 32000000 - 11;
  v_fault     text;
begin
  if p_events is null or json_typeof(p_events) <> 'array' then
    return 'events is no list';
  elsif json_array_length(p_events) = 0 then
    return 'events is empty';
  elsif octet_length(p_events::text) > c_bytes_max then
    return 'events is larger than the API takes at once (32 MB)';
  end if;
  select format('event %s: %s', e.nth, f.fault) into v_fault
    from json_array_elements(p_events) with ordinality as e (event, nth)
    cross join lateral (select case
      when json_typeof(e.event) <> 'object' then 'it is no object'
      when json_typeof(e.event->'type') is distinct from 'string' or (e.event->>'type') = '' then 'type must be a text, such as user.message'
    end) as f (fault)
   where f.fault is not null
   order by e.nth limit 1;
  -- What was sent is compared with what the session shows, for which both are taken apart.
  return coalesce(v_fault, case when p_events::jsonb is null then '' end);
exception
  when untranslatable_character or invalid_text_representation or numeric_value_out_of_range then
    return 'events has an escape or a number that Postgres cannot hold (such as \u0000, or half of a surrogate pair)';
end $$;
comment on function restante.session_events_fault is 'Engine: What is wrong with a list of events for a session; null where nothing is.';

-- Has a send carried out. Sends of one session have one key, apart from that of the webhooks about it. The time is that of the call, so
-- that one which is sent again stands before those that were called later.
create function restante.begin_session_send(p_send bigint) returns void
language plpgsql as $$
begin
  perform restante.insert_event(
    format('session_events.send:%s:%s', s.id, replace(gen_random_uuid()::text, '-', '')), 'session_events.send',
    'session_events:' || s.session, null, s.created_at, json_build_object('send', s.id)::text, null, null, null, 'sql', s.account, s.account)
    from restante.session_send as s where s.id = p_send;
end $$;
comment on function restante.begin_session_send is 'Engine: Puts the event into the outbox whose handler sends events to a session.';

-- For applications, in their own transaction: the events are sent once the transaction commits.
create function restante.send_session_events(session text, events json, account text default 'anthropic') returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_fault text;
  v_id    bigint;
begin
  v_fault := case
    when coalesce(send_session_events.session, '') !~ '^[a-zA-Z0-9][a-zA-Z0-9_-]{0,199}$' then
      'session must be the id of a session: 1 to 200 of the characters a-z A-Z 0-9 _ -'
    when coalesce(send_session_events.account, '') = '' or octet_length(send_session_events.account) > 200 then
      'account must have 1 to 200 bytes'
    else restante.session_events_fault(send_session_events.events) end;
  if v_fault is not null then
    raise exception 'restante.send_session_events: %', v_fault using errcode = 'invalid_parameter_value',
      hint = 'Pass (''sesn_...'', ''[{"type": "user.message", "content": [{"type": "text", "text": "Go on."}]}]'').';
  end if;
  insert into restante.session_send (account, session, events)
  values (send_session_events.account, send_session_events.session, send_session_events.events)
  returning id into v_id;
  perform restante.begin_session_send(v_id);
  return v_id;
end $$;
comment on function restante.send_session_events is
  'Sends events such as user.message to a session, as part of your transaction, in the order of the calls. Returns the id of the row of '
  'restante.session_send that says what becomes of them.';

-- What follows when a send changes, whoever changes it: the worker, or a person who decides what becomes of one.
create function restante.guard_session_send() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if new.status = old.status then
    return new;
  end if;
  if old.status = 'done' then
    raise exception 'the session has send %', old.id using errcode = 'check_violation', hint = 'Call restante.send_session_events() again.';
  -- Only the worker, which has looked, also takes back that it was sent.
  elsif old.status = 'sending' and new.status in ('waiting', 'cancelled') and new.sent_at is not null then
    raise exception 'send % is under way', old.id
      using errcode = 'check_violation', hint = 'It ends as done, refused or uncertain. Decide about it then.';
  elsif new.status in ('done', 'uncertain') and old.status <> 'sending' or new.status in ('sending', 'refused') and old.status not in ('waiting', 'sending') then
    raise exception 'a send becomes % by itself', new.status
      using errcode = 'check_violation', hint = 'Write waiting to send again what is uncertain or was refused, or cancelled to leave it.';
  end if;
  new.unclear_since := null;
  if new.status in ('waiting', 'sending', 'done', 'cancelled') and new.reason is not distinct from old.reason then
    new.reason := null;
  end if;
  if new.status = 'waiting' then
    new.sent_at := null;
    new.known_before := null;
  end if;
  new.done_at := case when new.status in ('done', 'refused', 'cancelled') then clock_timestamp() end;
  return new;
end $$;
comment on function restante.guard_session_send is 'Engine: Makes a change of a send whole, and refuses one that could send it twice.';
create trigger session_send_guard before update of status on restante.session_send
  for each row execute function restante.guard_session_send();

create function restante.follow_session_send() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform restante.begin_session_send(new.id);
  return null;
end $$;
comment on function restante.follow_session_send is 'Engine: Has a send carried out that a person wants sent again.';
create trigger session_send_follow after update on restante.session_send
  for each row when (new.status = 'waiting' and old.status in ('uncertain', 'refused', 'cancelled'))
  execute function restante.follow_session_send();

revoke execute on all functions in schema restante from public;
grant select, update on restante.session_send to restante_worker;
grant select on restante.session_send to restante_operator, restante_app;
grant update (status) on restante.session_send to restante_operator;
grant execute on function restante.send_session_events to restante_app;
