-- Whatever a person changes is noted, in every table that an operator may write, and no setting of a session ends that. The times of
-- events lie in years that every client can read, whoever stores them.

-- As in 0010: a session that waits for the lock of a table makes all later ones wait behind it.
set local lock_timeout = '1s';

-- Whose hand it was.
--
-- A setting that says "this is noted already" can be written by anybody. Nobody but the owner of the schema can become its owner, though,
-- and each of our functions that writes for its caller runs as the owner. So what a statement does as the owner, in the session of
-- somebody else, was done by one of our functions, which notes it itself; all else was done by hand, also within a function or a trigger
-- that a person made for the purpose. In the conditions of the triggers below, current_user is whoever runs the statement.
--
-- In a session of the owner, or of a superuser, nothing tells the two apart, so there the depth and the setting decide, as before: they may
-- delete what is noted anyway.
--
-- In plpgsql, because Postgres plans the condition of a trigger for each statement, and would read the body of a function in SQL each time.
create function restante.is_by_hand(p_depth integer) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_owner oid := (select n.nspowner from pg_namespace as n where n.nspname = 'restante');
begin
  if pg_has_role(session_user, v_owner, 'member') then
    return p_depth = 0;
  end if;
  -- Applications call off messages of their own, and are no persons.
  return current_user <> pg_get_userbyid(v_owner)
     and (pg_has_role(session_user, 'restante_operator', 'member') or not pg_has_role(session_user, 'restante_app', 'member'));
end $$;
comment on function restante.is_by_hand is
  'Engine: Does the session run this statement itself, and not one of our functions that note what they do? The conditions of triggers ask.';

create or replace function restante.is_noted() returns boolean
language sql stable security definer
set search_path = pg_catalog, pg_temp
return pg_has_role(session_user, current_user, 'member') and exists (
  select from restante.operation as o
   where o.id = case when current_setting('restante.operation', true) ~ '^\d{1,18}$'
                     then current_setting('restante.operation', true)::bigint end
     and o.transaction = pg_current_xact_id_if_assigned());
comment on function restante.is_noted is
  'Engine: Is what happens now, in a session of the owner, a part of an operation that is noted already?';

-- As in 0022. A column that is named with a minus is a secret: only that it was written is said.
create or replace function restante.note_row() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_row jsonb := case tg_op when 'DELETE' then to_jsonb(old) else to_jsonb(new) end;
  v_was jsonb := case tg_op when 'UPDATE' then to_jsonb(old) else '{}' end;
begin
  -- A restore brings back what was done once, as guard_budget() says.
  if not current_setting('check_function_bodies')::boolean and pg_has_role(session_user, current_user, 'member') then
    return null;
  end if;
  if v_row <> v_was and restante.is_person() and not restante.is_noted() then
    insert into restante.operation (what, of_what, how_many, reason, arguments)
    values (case tg_op when 'DELETE' then 'end ' else '' end || tg_argv[0], v_row->>tg_argv[1],
            coalesce((v_row->>tg_argv[2])::bigint, 1), nullif(current_setting('restante.reason', true), ''),
            (select jsonb_object_agg(c.key, case when '-' || c.key = any (tg_argv[3:]) then '"written"' else c.value end)
               from (select r.key, r.value from jsonb_each(v_row) as r (key, value)
                      where (r.key = any (tg_argv[3:]) or tg_op <> 'DELETE' and '-' || r.key = any (tg_argv[3:]))
                        and r.value is distinct from v_was->r.key
                     union all
                     select 'was', v_was->tg_argv[1] where v_was->tg_argv[1] <> v_row->tg_argv[1]) as c));
  end if;
  return null;
end $$;

-- For tables of which one statement may change a great many rows: one row for each statement, as of events. A change is one of the
-- column that is named last; without one, only how many rows there were is noted.
create function restante.note_rows() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_found record;
begin
  if not restante.is_person() or restante.is_noted() then
    return null;
  end if;
  if tg_op = 'DELETE' then
    execute format(
      'select count(*) as changed, count(distinct b.%1$I) as several, min(b.%1$I::text) as one, null::jsonb as changes from before as b', tg_argv[1])
      into v_found;
  else
    execute format(
      'with done as (
         select c.%1$I::text as one, b.%2$I || '' to '' || c.%2$I as change
           from before as b join changed as c on c.id = b.id where b.%2$I is distinct from c.%2$I)
       select (select count(*) from done) as changed, (select count(distinct d.one) from done as d) as several,
              (select min(d.one) from done as d) as one,
              (select jsonb_object_agg(g.change, g.rows) from (select d.change, count(*) as rows from done as d group by 1 order by 1) as g)
              || case when (select count(*) from done) > 1
                      then jsonb_build_object(%3$L, (select jsonb_agg(f.one) from (select d.one from done as d limit 20) as f))
                      else ''{}'' end as changes',
      tg_argv[1], tg_argv[3], 'the first ' || tg_argv[2])
      into v_found;
  end if;
  if v_found.changed > 0 then
    insert into restante.operation (what, of_what, how_many, reason, arguments)
    values (tg_argv[0], case when v_found.several = 1 then v_found.one else v_found.several || ' ' || tg_argv[2] end,
            v_found.changed, nullif(current_setting('restante.reason', true), ''), v_found.changes);
  end if;
  return null;
end $$;
comment on function restante.note_rows is
  'Engine: Notes that a person changed or deleted rows: what that is called, the column that says of what, its plural, the column that changed.';

-- The functions that note themselves: what is new in them are the calls of note_operation() and noted_fully().

create or replace function restante.budget(tag text, amount numeric, per text default 'month') returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_operation bigint;
begin
  if coalesce(budget.tag, '') = '' or octet_length(budget.tag) > 200 then
    raise exception 'restante.budget: tag must have 1 to 200 bytes' using errcode = 'invalid_parameter_value';
  elsif budget.per is null or budget.per not in ('day', 'week', 'month', 'total') then
    raise exception 'restante.budget: per must be day, week, month or total' using errcode = 'invalid_parameter_value';
  elsif (budget.amount between 0 and 1000000000000) is not true then
    raise exception 'restante.budget: amount must be dollars, 0 or more' using errcode = 'invalid_parameter_value',
      hint = 'To end a budget: delete from restante.budget_limit where tag = ...';
  end if;
  v_operation := restante.note_operation(
    'budget', budget.tag, 1, null, jsonb_build_object('per', budget.per, 'amount', budget.amount));
  insert into restante.budget_limit (tag, per, amount) values (budget.tag, budget.per, budget.amount)
  on conflict on constraint budget_limit_once do update set amount = excluded.amount;
  perform restante.estimate_requests(budget.tag, restante.period_start(budget.per, clock_timestamp()));
  perform restante.noted_fully(v_operation, 1);
end $$;

create or replace function restante.resubmit(name text, what text default 'retriable', dry_run boolean default false) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_fault     text := restante.resubmit_fault(array[resubmit.what]);
  v_status    text;
  v_operation bigint;
  v_count     bigint;
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
  if not resubmit.dry_run then
    v_operation := restante.note_operation('resubmit', resubmit.name, 0, null, jsonb_build_object('what', resubmit.what));
  end if;
  v_count := restante.send_again(resubmit.name, array[resubmit.what], null, resubmit.dry_run);
  if v_count > 0 and not resubmit.dry_run then
    update restante.submission as s set cancelled_at = null where s.name = resubmit.name and s.cancelled_at is not null;
  end if;
  if not resubmit.dry_run then
    perform restante.noted_fully(v_operation, v_count);
  end if;
  return v_count;
end $$;

create or replace function restante.rotate_secret(endpoint text, drop_old boolean default false, secret text default null) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_secret    text := coalesce(rotate_secret.secret, restante.new_secret());
  v_operation bigint := restante.note_operation('rotate secret', rotate_secret.endpoint, 1, null,
    jsonb_build_object('drop_old', rotate_secret.drop_old, 'new', not (rotate_secret.drop_old and rotate_secret.secret is null)));
begin
  if rotate_secret.drop_old and rotate_secret.secret is null then
    update restante.endpoint as e set secret = split_part(e.secret, ' ', 1) where e.name = rotate_secret.endpoint;
    v_secret := null;
  else
    update restante.endpoint as e
       set secret = v_secret || case when rotate_secret.drop_old then '' else ' ' || e.secret end
     where e.name = rotate_secret.endpoint;
  end if;
  if not found then
    raise exception 'restante.rotate_secret: there is no endpoint named %', coalesce(rotate_secret.endpoint, 'null')
      using errcode = 'invalid_parameter_value', hint = 'The table restante.endpoint has the names.';
  end if;
  perform restante.noted_fully(v_operation, 1);
  return v_secret;
end $$;

create or replace function restante.test_endpoint(endpoint text) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_endpoint  restante.endpoint;
  v_event_id  text := 'test_' || replace(gen_random_uuid()::text, '-', '');
  v_operation bigint;
  v_stored    text;
begin
  select e.* into v_endpoint from restante.endpoint as e where e.name = test_endpoint.endpoint;
  if not found then
    raise exception 'restante.test_endpoint: there is no endpoint named %', coalesce(test_endpoint.endpoint, 'null')
      using errcode = 'invalid_parameter_value', hint = 'The table restante.endpoint has the names.';
  end if;
  v_stored := (restante.insert_notifications(
    array[v_endpoint.name], array[null::text],
    array[restante.notification_body('thin', v_endpoint.body_bytes_max, 'endpoint.test', v_event_id, null, clock_timestamp(), null)],
    array[null::text], array['anthropic'], array['anthropic'], array[null::text], array[clock_timestamp()], array[null::timestamptz],
    'sql'))[1];
  v_operation := restante.note_operation(
    'test endpoint', v_endpoint.name, 1, null, jsonb_build_object('url', v_endpoint.url, 'event_id', v_stored));
  perform restante.noted_fully(v_operation, 1);
  return v_stored;
end $$;

-- Events of years that not every client can read.
--
-- A client shows a time in the time zone of its session, and fails at a whole answer if that is before the year 1 or after the year 9999.
-- So the first and the last time are a day and a half from these years, as ingest has it. What holds a key has to be older than any
-- other event of it, and is an hour older. This stands where all events pass, also those of the programs of the release before.

create function restante.keep_to_known_years() returns trigger
-- Without a search_path of its own, as restante.keep_trace().
language plpgsql as $$
begin
  new.created_at := least(greatest(
    new.created_at,
    case when new.type = 'restante.paused_key' and new.source = 'sql' then timestamptz '0001-01-02 11:00Z' else timestamptz '0001-01-02 12:00Z' end),
    timestamptz '9999-12-30 12:00Z');
  if pg_catalog.isfinite(new.run_at) then
    new.run_at := least(greatest(new.run_at, timestamptz '0001-01-02 12:00Z'), timestamptz '9999-12-30 12:00Z');
  end if;
  return new;
end $$;
comment on function restante.keep_to_known_years is
  'Engine: Moves the times of an event that is stored into the years that every client can read, in any time zone.';

-- What is stored already. Before the triggers are made, so that nobody waits for it.
update restante.outbox_live as l
   set created_at = case when l.type = 'restante.paused_key' and l.source = 'sql' then timestamptz '0001-01-02 11:00Z'
                         when l.created_at < '0001-01-02 12:00Z' then timestamptz '0001-01-02 12:00Z' else timestamptz '9999-12-30 12:00Z' end
 where l.created_at < '0001-01-02 11:00Z' or l.created_at > '9999-12-30 12:00Z'
    or l.created_at < '0001-01-02 12:00Z' and not (l.type = 'restante.paused_key' and l.source = 'sql');

create trigger outbox_live_keep_to_known_years before insert on restante.outbox_live
  for each row when (new.created_at < '0001-01-02 12:00Z' or new.created_at > '9999-12-30 12:00Z'
    or new.run_at > '9999-12-30 12:00Z' or new.run_at > '-infinity' and new.run_at < '0001-01-02 12:00Z')
  execute function restante.keep_to_known_years();

-- Every table that an operator may write.

revoke execute on all functions in schema restante from public;
-- Postgres asks for the right to what the condition of a trigger calls, of whoever runs the statement.
grant execute on function restante.is_by_hand to restante_ingest, restante_worker, restante_operator, restante_app, restante_page_replay;

-- As in 0022, 0023, 0025 and 0026, but for that condition, and columns that were left out.
create or replace trigger outbox_note_update after update on restante.outbox
  referencing old table as before new table as changed
  for each statement when (restante.is_by_hand(0)) execute function restante.note_statement();
create or replace trigger outbox_note_delete after delete on restante.outbox
  referencing old table as before
  for each statement when (restante.is_by_hand(0)) execute function restante.note_statement();

create or replace trigger submission_note after update of status, resubmit, attempts_max on restante.submission
  for each row when ((old.status, old.resubmit, old.attempts_max) is distinct from (new.status, new.resubmit, new.attempts_max)
    and restante.is_by_hand(pg_trigger_depth()))
  execute function restante.note_row('submission', 'name', 'requests', 'status', 'resubmit', 'attempts_max');
create or replace trigger submission_part_note after update of status, batch_id on restante.submission_part
  for each row when ((old.status, old.batch_id) is distinct from (new.status, new.batch_id) and restante.is_by_hand(pg_trigger_depth()))
  execute function restante.note_row('part', 'submission', 'requests', 'number', 'status', 'batch_id');
create or replace trigger submission_part_note_resubmit after insert on restante.submission_part
  for each row when (new.attempt > 1 and restante.is_by_hand(pg_trigger_depth()))
  execute function restante.note_row('resubmit', 'submission', 'requests', 'number', 'attempt');
create or replace trigger batch_note after update of given_up_because on restante.batch
  for each row when (old.given_up_because is distinct from new.given_up_because and restante.is_by_hand(pg_trigger_depth()))
  execute function restante.note_row('batch', 'id', '', 'account', 'given_up_because');
create or replace trigger batch_note_watch after insert on restante.batch
  for each row when (restante.is_by_hand(pg_trigger_depth())) execute function restante.note_row('watch', 'id', '', 'account');
create or replace trigger budget_limit_note after insert or update of tag, per, amount or delete on restante.budget_limit
  for each row when (restante.is_by_hand(pg_trigger_depth())) execute function restante.note_row('budget', 'tag', '', 'per', 'amount');
-- A submission notes here when it asked, through a function of ours.
create trigger budget_limit_note_check after update of checked_at on restante.budget_limit
  for each row when (old.checked_at is distinct from new.checked_at
    and (old.tag, old.per, old.amount) = (new.tag, new.per, new.amount) and restante.is_by_hand(1))
  execute function restante.note_row('budget', 'tag', '', 'per', 'checked_at');
create or replace trigger price_note after insert or update or delete on restante.price
  for each row when (restante.is_by_hand(pg_trigger_depth())) execute function restante.note_row(
    'price', 'model', '', 'valid_from', 'input', 'output', 'cache_write_5m', 'cache_write_1h', 'cache_read', 'batch_factor');
create or replace trigger subscription_note after delete on restante.subscription
  for each row when (restante.is_by_hand(pg_trigger_depth())) execute function restante.note_row('subscription', 'subscriber', '', 'type');
-- A replay that is through becomes done by itself: in a session of the owner that is not taken for a person's.
create or replace trigger replay_note after update of status, per_second on restante.replay
  for each row when ((old.status, old.per_second) is distinct from (new.status, new.per_second)
    and restante.is_by_hand(case when new.status = 'done' then 1 else pg_trigger_depth() end))
  execute function restante.note_row('replay', 'name', 'events', 'status', 'per_second');
create or replace trigger sender_rhythm_note after delete on restante.sender_rhythm
  for each row when (restante.is_by_hand(pg_trigger_depth())) execute function restante.note_row('sender', 'sender', '');
create or replace trigger journal_note after delete on restante.journal
  for each row when (restante.is_by_hand(pg_trigger_depth())) execute function restante.note_row('journal', 'journal', '');
create or replace trigger retention_note after insert or update or delete on restante.retention
  for each row when (restante.is_by_hand(pg_trigger_depth()))
  execute function restante.note_row('retention', 'what', '', 'status', 'type', 'keep');

-- Workers write how an endpoint fares into other columns.
create trigger endpoint_note
  after insert or delete or update of name, url, secret, event_types, status, disabled_because, body, body_bytes_max, per_second, concurrency,
                                      disable_after on restante.endpoint
  for each row when (restante.is_by_hand(pg_trigger_depth()))
  execute function restante.note_row('endpoint', 'name', '', 'url', '-secret', 'event_types', 'status', 'disabled_because', 'body',
                                     'body_bytes_max', 'per_second', 'concurrency', 'disable_after');
create trigger message_lane_setting_note after update on restante.message_lane_setting
  for each row when (restante.is_by_hand(pg_trigger_depth()))
  execute function restante.note_row('message lane', '', '', 'is_the_one', 'ahead', 'pack_after', 'requests_max', 'bytes_max', 'reserve');
create trigger api_breaker_note after delete on restante.api_breaker
  for each row when (restante.is_by_hand(pg_trigger_depth())) execute function restante.note_row('breaker', 'account', '', 'parts', 'kind');
create trigger api_budget_note after delete on restante.api_budget
  for each row when (restante.is_by_hand(pg_trigger_depth())) execute function restante.note_row('api budget', 'account', '', 'class');

-- Workers write these all day. What they do is told from the rest first, by what takes no look into a table, as restante.is_person() does.
create trigger message_note after update on restante.message
  referencing old table as before new table as changed
  for each statement when ((not pg_has_role(session_user, 'restante_worker', 'member')
      or current_setting('application_name') not in ('restante-worker', 'restante-ingest'))
    and restante.is_by_hand(pg_trigger_depth()))
  execute function restante.note_rows('message', 'id', 'messages', 'status');
create trigger session_send_note after update on restante.session_send
  referencing old table as before new table as changed
  for each statement when ((not pg_has_role(session_user, 'restante_worker', 'member')
      or current_setting('application_name') not in ('restante-worker', 'restante-ingest'))
    and restante.is_by_hand(pg_trigger_depth()))
  execute function restante.note_rows('session send', 'id', 'sends', 'status');
create trigger endpoint_delivery_note after delete on restante.endpoint_delivery
  referencing old table as before
  for each statement when ((not pg_has_role(session_user, 'restante_worker', 'member')
      or current_setting('application_name') not in ('restante-worker', 'restante-ingest'))
    and restante.is_by_hand(pg_trigger_depth()))
  execute function restante.note_rows('delete deliveries', 'endpoint', 'endpoints');
