-- The ops page: a role that reads what it shows, a role that replays dead letters in the name of a person, and what both call.

do $$
declare
  v_role text;
begin
  foreach v_role in array array['restante_page', 'restante_page_replay'] loop
    continue when exists (select from pg_catalog.pg_roles as r where r.rolname = v_role);
    begin
      execute format('create role %I nologin', v_role);
    exception
      when duplicate_object or unique_violation then null;
      when insufficient_privilege then
        raise exception 'the role % is missing, and % may not create it', v_role, current_user
          using hint = format('Have an administrator run: create role %I nologin;', v_role),
                errcode = 'insufficient_privilege';
    end;
  end loop;
end $$;

-- What somebody asked for by name. The role cannot read any other body, nor list them.

create function restante.page_payload(p_id bigint) returns table (payload text, raw bytea)
language sql stable security definer
set search_path = pg_catalog, pg_temp
begin atomic
  select o.payload::text, o.raw from restante.outbox as o where o.id = p_id;
end;
comment on function restante.page_payload is 'Engine: The body of one event, for the ops page: as JSON, or as bytes that are no JSON.';

-- While a message is being written its text is in message_chunk, of the newest attempt.
create function restante.page_message_text(p_message bigint) returns text
language sql stable security definer
set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(m.text,
                  (select string_agg(c.text, '' order by c.seq) from restante.message_chunk as c
                    where c.message = m.id and c.attempt = m.attempt))
    from restante.message as m where m.id = p_message;
end;
comment on function restante.page_message_text is
  'Engine: The text of one message, for the ops page, as far as it is written. Null: there is none.';

-- Notifications are stored right after the event that they tell of, in the same commit. So they are among as many rows as one commit
-- stores at most. Each begins as restante.insert_notifications and restante.notification_body write it, so no body is taken apart.
create function restante.notifications_of(p_id bigint)
returns table (id bigint, event_id text, endpoint text, status restante.event_status, attempt integer, max_attempts integer,
               next_attempt_at timestamptz, last_attempt_at timestamptz, answer integer, error text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off
begin atomic
  select o.id, o.event_id, substr(o.type, 8), o.status, o.attempt, o.max_attempts,
         case when o.status in ('retry', 'pending') then nullif(o.run_at, '-infinity') end, d.delivered_at, d.status, coalesce(d.error, o.last_error)
    from restante.outbox as e
    join restante.outbox as o
      on o.id > p_id and o.id <= p_id + 20000 and starts_with(o.type, 'notify.') and o.sender in (e.sender, e.account)
     and starts_with(split_part(left(o.payload::text, 16384), ',"body":', 2),
                     format('{"type":%s,"id":%s,', to_json(e.type), to_json(e.event_id)))
    left join lateral (
          select l.delivered_at, l.status, l.error from restante.endpoint_delivery as l
           where l.outbox_id = o.id order by l.id desc limit 1) as d on true
   where e.id = p_id
   order by o.id limit 30;
end;
comment on function restante.notifications_of is
  'Engine: The first 30 notifications that tell of an event, with the last answer of each endpoint, for restante explain and the ops page.';

-- Replays in the name of a person.

create function restante.page_person(p_person text) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp as $$
begin
  if trim(coalesce(p_person, '')) = '' or octet_length(p_person) > 200 then
    raise exception 'restante: the name of the person is missing, or longer than 200 bytes' using errcode = 'invalid_parameter_value',
      hint = 'Give the name of whoever decides.';
  end if;
  return trim(p_person);
end $$;
comment on function restante.page_person is 'Engine: The name of a person who decides something on the ops page; an error without one.';

create function restante.page_replay(p_person text, p_id bigint, p_reason text) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_person    text := restante.page_person(p_person);
  v_event_id  text;
  v_status    text;
  v_operation bigint;
  v_made      text;
begin
  -- A row that somebody has locked is not waited for.
  select l.event_id, l.status into v_event_id, v_status
    from restante.outbox_live as l where l.id = p_id for update skip locked;
  if v_event_id is null then
    return case when exists (select from restante.outbox_live as l where l.id = p_id) then 'locked' else 'not dead' end;
  elsif v_status <> 'dead' then
    return 'not dead';
  end if;
  insert into restante.operation (who, what, of_what, how_many, reason, arguments)
  values (v_person, 'replay', v_event_id, 1, nullif(p_reason, ''),
          jsonb_build_object('id', p_id, 'by', 'the ops page', 'login', session_user))
  returning id into v_operation;
  -- It is noted already: the triggers do not note it again.
  v_made := set_config('restante.operation', v_operation::text, true);
  update restante.outbox as o set status = 'pending' where o.finished_at = 'infinity' and o.id = p_id;
  v_made := set_config('restante.operation', '', true);
  return 'replayed';
end $$;
comment on function restante.page_replay is
  'Engine: Makes one dead letter pending, and notes who asked for that on the ops page. Returns replayed, locked or not dead.';

create function restante.page_replay_all(p_person text, p_type text, p_kind text, p_per_second numeric, p_reason text) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_person text := restante.page_person(p_person);
  v_name   text := 'page-' || to_char(clock_timestamp() at time zone 'UTC', 'YYYYMMDD-HH24MISS-US');
  v_by     jsonb := jsonb_build_object('by', 'the ops page', 'login', session_user);
  v_events bigint;
begin
  if coalesce(p_type, '') = '' or coalesce(p_kind, '') = '' then
    raise exception 'restante: the type and the kind of the dead letters are missing' using errcode = 'invalid_parameter_value',
      hint = 'All dead letters of one type and kind are replayed together.';
  end if;
  v_events := restante.replay(type => p_type, kind => p_kind, per_second => p_per_second, name => v_name,
                              reason => nullif(p_reason, ''), dry_run => false);
  -- The type is that of some dead letters, as its sender chose it: a star at its end is a letter, and no pattern.
  if right(p_type, 1) = '*' then
    delete from restante.replay_event as e
     using restante.replay as r, restante.outbox as o
     where r.name = v_name and e.replay = r.id and o.finished_at = 'infinity' and o.id = e.outbox_id and o.type <> p_type;
    select count(*) into v_events
      from restante.replay as r join restante.replay_event as e on e.replay = r.id where r.name = v_name;
    update restante.replay as r
       set events = v_events, status = case when v_events = 0 then 'done' else r.status end where r.name = v_name;
  end if;
  update restante.replay as r set asked_by = v_person where r.name = v_name;
  update restante.operation as o set who = v_person, how_many = v_events, arguments = o.arguments || v_by
   where o.transaction = pg_current_xact_id() and o.what = 'replay' and o.of_what = v_name;
  -- restante.replay() notes nothing for a login that may also be a worker's.
  if not found then
    insert into restante.operation (who, what, of_what, how_many, reason, arguments)
    select v_person, 'replay', v_name, v_events, nullif(p_reason, ''), r.arguments || v_by from restante.replay as r where r.name = v_name;
  end if;
  return v_name;
end $$;
comment on function restante.page_replay_all is
  'Engine: Replays the dead letters of a type and a kind at a rate, and notes who asked for that on the ops page. Returns the name of the replay.';

revoke execute on all functions in schema restante from public;
grant usage on schema restante to restante_page, restante_page_replay;
grant execute on function restante.page_replay, restante.page_replay_all to restante_page_replay;
grant execute on function restante.notifications_of to restante_operator;

-- What the page shows. No body of an event, no answer of a message, no request of a batch and no secret is among it.
grant select on restante.health, restante.health_finding, restante.sender_overview, restante.outbox_overview, restante.outbox_waiting,
  restante.outbox_running, restante.outbox_dead, restante.outbox_throughput, restante.failures_by_kind, restante.subscriber_lag,
  restante.key_stuck, restante.replay_overview, restante.operation, restante.failure, restante.delivery_differs,
  restante.batch_overview, restante.batch_cost, restante.submission_overview, restante.submission_part, restante.budget_overview,
  restante.message_attempt, restante.endpoint_overview, restante.endpoint_delivery, restante.throughput_hour,
  restante.throughput_known to restante_page;
grant select (id, event_id, type, subscriber, key, workspace_id, source, status, attempt, max_attempts, created_at, received_at, started_at,
  run_at, lease_until, lease_owner, outcome, last_error, held_by, result, finished_at, sender, account) on restante.outbox_events to restante_page;
grant select (id, event_id, type, subscriber, key, status, attempt, created_at, received_at, started_at, finished_at, kind, last_error, sender,
  account) on restante.outbox to restante_page;
grant select (event_id, seen_at) on restante.outbox_seen to restante_page;
grant select (id, key, tag, account, state, reason, attempt, age, deliver_by, due_in, model, stop_reason, input_tokens, output_tokens, dollars,
  attempts_that_may_be_paid, created_at, sent_at, done_at, lane, submission, packed_at) on restante.message_overview to restante_page;
grant select (id) on restante.message to restante_page;
grant select (name, created_at) on restante.submission to restante_page;
grant select (id, account, created_at, first_seen_at) on restante.batch to restante_page;
grant select (batch_id, account, outcome, stored_at) on restante.batch_result to restante_page;
grant select (type, id, account, status, stop_reason, error_type, error_message, updated_at, observed_at, gone_at, gone_because)
  on restante.resource to restante_page;
-- Who reads a view runs its functions.
grant execute on function restante.page_payload, restante.page_message_text, restante.notifications_of, restante.is_standing, restante.cause, restante.order_key,
  restante.health_findings, restante.error_of, restante.throughput, restante.throughput_counted, restante.id_at, restante.price_at, restante.cost_of,
  restante.usage_of_batch, restante.budget_spent, restante.period_start, restante.direct_cost_of, restante.json_part, restante.usage_of_line,
  restante.whole_number to restante_page;
