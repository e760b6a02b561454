-- The console: views and functions for each question of an operator, a log of what people changed, replays of many events, and
-- pauses of a key or of a subscriber.

-- A session that waits for the lock of the outbox makes all later ones wait behind it. So this gives up soon, and `restante migrate`
-- tries again.
set local lock_timeout = '1s';

-- What people changed.

create table restante.operation (
  id          bigint      not null generated always as identity,
  at          timestamptz not null default clock_timestamp(),
  who         text        not null default session_user,
  what        text        not null,
  of_what     text,
  how_many    bigint      not null,
  reason      text,
  arguments   jsonb,
  transaction xid8        not null default pg_current_xact_id(),
  constraint operation_once primary key (id)
);
create index operation_at on restante.operation (at);
comment on index restante.operation_at is 'Finds what was done at a time.';
comment on table restante.operation is
  'What people did: one row for each call of a function and for each hand-written statement that changed something. What programs do is '
  'not in it.';
comment on column restante.operation.who is 'The login, also if it had taken another role.';
comment on column restante.operation.what is
  'In a word: replay, cancel, pause, let go, resume, reschedule, budget, ... If one statement did several things: several.';
comment on column restante.operation.of_what is
  'The event, type, key, subscriber, submission, part, batch or tag; how many types if there were several.';
comment on column restante.operation.how_many is 'How many events, requests or rows it changed.';
comment on column restante.operation.reason is
  'What the call gave as its reason; for a statement by hand, the setting restante.reason of its session.';
comment on column restante.operation.arguments is
  'The arguments of the call; for a statement by hand, what became what in how many events.';
comment on column restante.operation.transaction is 'The transaction of this database that did it. A restored copy shows the former one.';

-- A superuser, and whoever owns the schema, may be a person or a program: then the name of the connection decides.
create function restante.is_person() returns boolean
language sql stable
begin atomic
  select not (l.may_work or l.owns) or ((l.may_operate or l.owns)
           and current_setting('application_name') not in ('restante-worker', 'restante-ingest'))
    from (select exists (select from pg_roles as r
                          where r.rolname = 'restante_worker' and pg_has_role(session_user, r.oid, 'member')) as may_work,
                 exists (select from pg_roles as r
                          where r.rolname = 'restante_operator' and pg_has_role(session_user, r.oid, 'member')) as may_operate,
                 (select pg_has_role(session_user, n.nspowner, 'member') from pg_namespace as n where n.nspname = 'restante') as owns) as l;
end;
comment on function restante.is_person is 'Engine: Is the session that of a person, and not that of a service?';

-- Notes what a person does. Triggers of the same transaction then do not note it again, until noted_fully().
create function restante.note_operation(p_what text, p_of_what text, p_how_many bigint, p_reason text, p_arguments jsonb) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_id   bigint;
  v_made text;
begin
  if not restante.is_person() then
    return null;
  end if;
  insert into restante.operation (what, of_what, how_many, reason, arguments)
  values (p_what, p_of_what, p_how_many, coalesce(p_reason, nullif(current_setting('restante.reason', true), '')), p_arguments)
  returning id into v_id;
  v_made := set_config('restante.operation', v_id::text, true);
  return v_id;
end $$;
comment on function restante.note_operation is 'Engine: Notes what a person does, once for the call and not again for its statements.';

create function restante.noted_fully(p_id bigint, p_how_many bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_made text := set_config('restante.operation', '', true);
begin
  update restante.operation as o set how_many = p_how_many where o.id = p_id;
end $$;
comment on function restante.noted_fully is 'Engine: Ends what note_operation() began, and notes how many there were.';

-- Is what happens now a part of what is noted already? The setting alone would not do, because anybody can write it.
create function restante.is_noted() returns boolean
language sql stable security definer
set search_path = pg_catalog, pg_temp
return exists (
  select from restante.operation as o
   where o.id = case when current_setting('restante.operation', true) ~ '^\d{1,18}$'
                     then current_setting('restante.operation', true)::bigint end
     and o.transaction = pg_current_xact_id_if_assigned());
comment on function restante.is_noted is 'Engine: Is what happens now a part of an operation that is noted already?';

-- Our own functions write the outbox too, also for a login that may be a person's or a program's: the calls that led here show it.
-- The text of a statement, which is in quotes, does not count.
create function restante.is_by_engine(p_calls text) returns boolean
language sql stable
begin atomic
  select pg_has_role(session_user, n.nspowner, 'member')
     and exists (select from pg_proc as p
                  where p.pronamespace = n.oid and p.prorettype <> 'trigger'::regtype
                    and obj_description(p.oid, 'pg_proc') like 'Engine: %' and p_calls ~ ('(^|\n)[^"\n]*\m' || p.proname || '\('))
    from pg_namespace as n where n.nspname = 'restante';
end;
comment on function restante.is_by_engine is 'Engine: Do these calls, as Postgres shows them, lead through one of our own functions?';

-- One row for each statement, with what became what. The engine finishes, fails and claims events in the partition itself, so none of
-- its statements fires this.
create function restante.note_statement() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_calls text;
  v_found record;
begin
  get diagnostics v_calls = pg_context;
  if not restante.is_person() or restante.is_noted() or restante.is_by_engine(v_calls) then
    return null;
  end if;
  if tg_op = 'DELETE' then
    select array['delete'] as whats, count(*) as events, count(distinct b.type) as types, min(b.type) as type, min(b.event_id) as event_id,
           (select jsonb_object_agg(g.status, g.events) from (
              select a.status, count(*) as events from before as a group by a.status order by a.status) as g) as changes
      into v_found
      from before as b;
  else
    with done as (
      select c.event_id, c.type, b.status::text as was, case c.status when 'blocked' then 'pending' else c.status::text end as is_now,
             case
               when c.status in ('pending', 'blocked', 'retry') and b.status in ('dead', 'done', 'ignored', 'cancelled') then 'replay'
               when c.status in ('pending', 'blocked') and b.status = 'paused' then 'let go'
               when c.status = 'paused' and b.status <> 'paused' then 'pause'
               when c.status = 'cancelled' and b.status <> 'cancelled' then 'cancel'
               when c.status <> b.status and (c.status, b.status) is distinct from ('blocked', 'pending') then 'set to ' || c.status
               when c.run_at <> b.run_at then 'reschedule'
               when c.max_attempts is distinct from b.max_attempts then 'allow attempts'
               else 'change'
             end as what
        from before as b join changed as c on c.id = b.id
       where (c.status, c.run_at, c.max_attempts, c.held_by) is distinct from (b.status, b.run_at, b.max_attempts, b.held_by)
          or c.payload::text is distinct from b.payload::text)
    select array_agg(distinct d.what) as whats, count(*) as events, count(distinct d.type) as types, min(d.type) as type,
           min(d.event_id) as event_id,
           (select jsonb_object_agg(g.was || ' to ' || g.is_now, g.events) from (
              select a.was, a.is_now, count(*) as events from done as a group by 1, 2 order by 1, 2) as g) as changes
      into v_found
      from done as d;
  end if;
  if v_found.events > 0 then
    insert into restante.operation (what, of_what, how_many, reason, arguments)
    values (case when cardinality(v_found.whats) = 1 then v_found.whats[1] else 'several' end,
            case when v_found.events = 1 then v_found.event_id
                 when v_found.types = 1 then v_found.type else v_found.types || ' types' end,
            v_found.events, nullif(current_setting('restante.reason', true), ''), v_found.changes);
  end if;
  return null;
end $$;
comment on function restante.note_statement is 'Engine: Notes what a hand-written UPDATE or DELETE did to events.';

create trigger outbox_note_update after update on restante.outbox
  referencing old table as before new table as changed for each statement execute function restante.note_statement();
create trigger outbox_note_delete after delete on restante.outbox
  referencing old table as before for each statement execute function restante.note_statement();

-- The other tables that people change. Their triggers fire for the columns that people write, and not for what follows from that.
create function restante.note_row() returns trigger
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
  if restante.is_person() and not restante.is_noted() then
    insert into restante.operation (what, of_what, how_many, reason, arguments)
    values (case tg_op when 'DELETE' then 'end ' else '' end || tg_argv[0], v_row->>tg_argv[1],
            coalesce((v_row->>tg_argv[2])::bigint, 1), nullif(current_setting('restante.reason', true), ''),
            (select jsonb_object_agg(c.key, c.value) from jsonb_each(v_row) as c (key, value)
              where c.key = any (tg_argv[3:]) and c.value is distinct from v_was->c.key));
  end if;
  return null;
end $$;
comment on function restante.note_row is
  'Engine: Notes that a person changed a row: what that is called, the column that says of what, the one that says how many, those shown.';

create trigger submission_note after update of status, resubmit, attempts_max on restante.submission
  for each row when (pg_trigger_depth() = 0
    and (old.status, old.resubmit, old.attempts_max) is distinct from (new.status, new.resubmit, new.attempts_max))
  execute function restante.note_row('submission', 'name', 'requests', 'status', 'resubmit', 'attempts_max');
create trigger submission_part_note after update of status, batch_id on restante.submission_part
  for each row when (pg_trigger_depth() = 0 and (old.status, old.batch_id) is distinct from (new.status, new.batch_id))
  execute function restante.note_row('part', 'submission', 'requests', 'number', 'status', 'batch_id');
create trigger submission_part_note_resubmit after insert on restante.submission_part
  for each row when (pg_trigger_depth() = 0 and new.attempt > 1)
  execute function restante.note_row('resubmit', 'submission', 'requests', 'number', 'attempt');
create trigger batch_note after update of given_up_because on restante.batch
  for each row when (pg_trigger_depth() = 0 and old.given_up_because is distinct from new.given_up_because)
  execute function restante.note_row('batch', 'id', '', 'account', 'given_up_because');
create trigger batch_note_watch after insert on restante.batch
  for each row when (pg_trigger_depth() = 0) execute function restante.note_row('watch', 'id', '', 'account');
create trigger budget_limit_note after insert or update of amount or delete on restante.budget_limit
  for each row execute function restante.note_row('budget', 'tag', '', 'per', 'amount');
create trigger price_note after insert or update or delete on restante.price
  for each row execute function restante.note_row(
    'price', 'model', '', 'valid_from', 'input', 'output', 'cache_write_5m', 'cache_write_1h', 'cache_read', 'batch_factor');
create trigger subscription_note after delete on restante.subscription
  for each row execute function restante.note_row('subscription', 'subscriber', '', 'type');

-- Throughput, hour by hour.

-- Finished events are stored in the order in which they finish, so that an index of ranges of pages is enough: adding an event to it
-- takes no measurable time. New weeks copy it from the parent table. Of the weeks that are there, those get it that are still to be
-- filled: nobody finishes an event while it is built, about a second for each gigabyte of the current week.
create index outbox_finished on only restante.outbox using brin (finished_at) with (autosummarize = on);
comment on index restante.outbox_finished is 'Finds the events that were finished at a time.';
do $$
declare
  v_week text;
begin
  for v_week in
    select c.relname from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
     where i.inhparent = 'restante.outbox'::regclass
       and (c.relname = 'outbox_overflow' or c.relname >= to_char(now() at time zone 'UTC', '"outbox_"IYYY"w"IW') and c.relname ~ '^outbox_\d{4}w\d\d$')
  loop
    execute format('create index %I on restante.%I using brin (finished_at) with (autosummarize = on)', v_week || '_finished', v_week);
    execute format('alter index restante.outbox_finished attach partition restante.%I', v_week || '_finished');
  end loop;
end $$;

-- After a copy of the data the overflow has all of the history of before.
create index outbox_overflow_event on restante.outbox_overflow (event_id);
create index outbox_overflow_key on restante.outbox_overflow (key, created_at) where key is not null;

create table restante.throughput_hour (
  hour       timestamptz not null,
  type       text collate "C" not null,
  subscriber text collate "C" not null,
  done       bigint      not null,
  ignored    bigint      not null,
  cancelled  bigint      not null,
  failed_attempts bigint not null,
  waited_p50 interval,
  waited_p95 interval,
  ran_p50    interval,
  ran_p95    interval,
  constraint throughput_hour_once primary key (hour, type, subscriber)
);
comment on table restante.throughput_hour is 'What was finished in each past hour, added up by workers. restante.throughput() reads it.';
comment on column restante.throughput_hour.hour is 'When the hour began.';
comment on column restante.throughput_hour.failed_attempts is 'Attempts that failed in this hour, whatever became of their events.';
comment on column restante.throughput_hour.waited_p50 is
  'Half of the done events waited no longer than this, from their receipt to the beginning of their last attempt.';
comment on column restante.throughput_hour.ran_p50 is 'Half of the done events were done within this time from the beginning of their last attempt.';

create table restante.throughput_known (
  since timestamptz not null,
  up_to timestamptz not null
);
alter table restante.throughput_known replica identity full;
insert into restante.throughput_known (since, up_to)
select h.hour, h.hour from (select date_trunc('hour', now(), 'UTC') - interval '1 day' as hour) as h;
comment on table restante.throughput_known is
  'The hours for which throughput_hour is complete. After a copy of the data there are two rows, and the older one counts.';

-- What was finished between two times, from the history itself. An hour of 50,000 events takes half of the time with these settings: its rows are sorted in memory.
create function restante.throughput_counted(p_since timestamptz, p_until timestamptz) returns setof restante.throughput_hour
language sql stable
set jit = off set max_parallel_workers_per_gather = 0 set work_mem = '64MB' as $$
  with ended as (
    select date_trunc('hour', o.finished_at, 'UTC') as hour, o.type, o.subscriber,
           count(*) filter (where o.status = 'done') as done, count(*) filter (where o.status = 'ignored') as ignored,
           count(*) filter (where o.status = 'cancelled') as cancelled,
           percentile_disc(array[0.5, 0.95]) within group (order by o.started_at - o.received_at) filter (where o.status = 'done') as waited,
           percentile_disc(array[0.5, 0.95]) within group (order by o.finished_at - o.started_at) filter (where o.status = 'done') as ran
      from restante.outbox as o
     where o.finished_at >= p_since and o.finished_at < least(p_until, 'infinity')
       and o.type <> 'restante.paused_key'
     group by 1, 2, 3),
  failed as (
    select date_trunc('hour', f.failed_at, 'UTC') as hour, f.type, f.subscriber, count(*) as attempts
      from restante.failure as f
     where f.failed_at >= p_since and f.failed_at < least(p_until, 'infinity')
     group by 1, 2, 3)
  select hour, type, subscriber, coalesce(e.done, 0), coalesce(e.ignored, 0), coalesce(e.cancelled, 0), coalesce(f.attempts, 0),
         e.waited[1], e.waited[2], e.ran[1], e.ran[2]
    from ended as e full join failed as f using (hour, type, subscriber)
$$;
comment on function restante.throughput_counted is 'Engine: What was finished between two times, read from the history itself.';

-- Adds up one past hour. Returns whether there was one. An hour counts as past five minutes after its end: what a transaction
-- finishes that was open for longer is not in it.
create function restante.add_up_hour() returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_since timestamptz;
  v_hour  timestamptz;
begin
  select k.since, k.up_to into v_since, v_hour from restante.throughput_known as k order by k.since limit 1 for update skip locked;
  if not found or v_hour + interval '1 hour' > clock_timestamp() - interval '5 minutes' then
    return false;
  end if;
  insert into restante.throughput_hour select * from restante.throughput_counted(v_hour, v_hour + interval '1 hour') on conflict do nothing;
  update restante.throughput_known as k set up_to = v_hour + interval '1 hour' where k.since = v_since;
  return true;
end $$;
comment on function restante.add_up_hour is 'Engine: Adds up the throughput of one past hour. Returns whether there was one. Workers call it.';

create function restante.throughput(since timestamptz, until timestamptz default null)
returns table (hour timestamptz, type text, subscriber text, done bigint, ignored bigint, cancelled bigint, failed_attempts bigint,
               waited_p50 interval, waited_p95 interval, ran_p50 interval, ran_p95 interval)
language plpgsql stable as $$
declare
  v_since timestamptz := date_trunc('hour', throughput.since, 'UTC');
  v_until timestamptz := coalesce(throughput.until, clock_timestamp());
  v_known restante.throughput_known;
begin
  if throughput.since is null then
    raise exception 'restante.throughput: since is missing' using errcode = 'invalid_parameter_value',
      hint = 'Give a time, such as now() - interval ''1 day''.';
  end if;
  select * into v_known from restante.throughput_known as k order by k.since limit 1;
  return query
  select h.* from restante.throughput_hour as h
   where h.hour >= greatest(v_since, v_known.since) and h.hour < least(v_until, v_known.up_to)
  union all
  select c.* from restante.throughput_counted(v_since, least(v_until, v_known.since)) as c where v_since < v_known.since
  union all
  select c.* from restante.throughput_counted(greatest(v_since, v_known.up_to), v_until) as c where v_until > v_known.up_to
  order by 1 desc, 4 desc, 2, 3;
end $$;
comment on function restante.throughput is
  'How many events of each type were finished in each hour (UTC) since a time, how many attempts failed, and how long the done ones waited '
  'and ran: half of them no longer than p50, 95 of 100 no longer than p95.';

create view restante.outbox_throughput as
  select t.* from restante.throughput(statement_timestamp() - interval '1 day') as t;
comment on view restante.outbox_throughput is
  'The last day, by hour and type: what was finished, failed attempts, how long the done events waited and ran (p50, p95). Other times: '
  'restante.throughput(since, until).';

-- What fails.

create view restante.failures_by_kind as
  select g.kind, g.type, sum(g.last_hour)::bigint as failed_last_hour, sum(g.last_day)::bigint as failed_last_day,
         sum(g.retrying)::bigint as events_retrying, sum(g.dead)::bigint as events_dead, max(g.failed_at) as last_failed_at,
         coalesce((select left(restante.cause(f.error), 200) from restante.failure as f
                    where f.failed_at = max(g.failed_at) and f.kind = g.kind and f.type = g.type limit 1), max(g.example)) as for_example
    from (select f.kind, f.type, count(*) filter (where f.failed_at >= statement_timestamp() - interval '1 hour') as last_hour,
                 count(*) as last_day, 0 as retrying, 0 as dead, max(f.failed_at) as failed_at, null as example
            from restante.failure as f
           where f.failed_at >= statement_timestamp() - interval '1 day'
           group by f.kind, f.type
          union all
          select coalesce(l.kind, 'unknown'), l.type, 0, 0, count(*) filter (where l.status = 'retry'),
                 count(*) filter (where l.status = 'dead'), null, max(left(l.last_error, 200))
            from restante.outbox_live as l
           where l.lane in ('l', 'p') and l.status in ('retry', 'dead') and l.last_error is not null
             and not restante.is_standing(l.type, l.status, l.outcome)
             and l.outcome is distinct from 'snoozed' and l.outcome is distinct from 'deferred'
           group by 1, 2) as g
   group by g.kind, g.type;
comment on view restante.failures_by_kind is
  'What fails, by kind of failure and type: attempts that failed in the last hour and day, and the events that are tried again or dead '
  'because of it.';

-- Pauses of a key and of a subscriber.
--
-- A key is held by an event of its own, older than any other and scheduled for the last day that clients can read: while it is the
-- head, the others wait behind it. A subscriber is held by a row of paused_type that no type matches: workers claim nothing for it.

create index outbox_live_paused_key on restante.outbox_live (key) where type = 'restante.paused_key';
comment on index restante.outbox_live_paused_key is 'The keys that restante.pause() holds.';
comment on table restante.paused_type is
  'Types whose new events are paused (a trailing * matches any ending), and subscribers for which nothing is claimed, as '
  'subscriber:NAME. restante.pause and restante.resume write it.';

create view restante.paused_key as
  select l.key, coalesce(l.account, l.sender) as keys_of, l.subscriber, l.received_at as paused_at, l.payload->>'reason' as reason,
         (select count(*) from restante.outbox_live as w
           where restante.order_key(w.account, w.sender, w.key) = restante.order_key(l.account, l.sender, l.key)
             and w.subscriber = l.subscriber and w.lane = 'b' and w.type <> 'restante.paused_key') as waiting
    from restante.outbox_live as l where l.type = 'restante.paused_key';
comment on view restante.paused_key is 'The keys that restante.pause() holds, for each subscriber, and how many events wait for their release.';

create function restante.pause_key(p_key text, p_keys_of text, p_reason text) returns bigint
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_key         text := restante.order_key(p_keys_of, p_keys_of, p_key);
  v_subscribers text[] := array(select '' union select s.subscriber from restante.subscription as s);
  v_keys        text[] := array_fill(v_key, array[cardinality(v_subscribers)]);
begin
  if exists (select from restante.outbox_live as l
              where l.type = 'restante.paused_key' and l.key = p_key and coalesce(l.account, l.sender) = p_keys_of) then
    raise exception 'restante.pause: the key % is paused already', p_key using errcode = 'invalid_parameter_value',
      hint = 'select * from restante.paused_key shows what is.';
  end if;
  insert into restante.outbox (event_id, type, subscriber, key, sender, account, source, created_at, payload, status, run_at, lane)
  select 'paused_key:' || left(p_key, 300) || ':' || replace(gen_random_uuid()::text, '-', ''), 'restante.paused_key', s.subscriber, p_key,
         p_keys_of, p_keys_of, 'sql', '0001-01-01 00:00Z', json_build_object('reason', p_reason), 'blocked', '9999-12-31 00:00Z', 'b'
    from unnest(v_subscribers) as s (subscriber);
  if restante.try_lock_key(v_key) then
    perform restante.step_down(v_keys, v_subscribers);
    perform restante.unblock(v_keys, v_subscribers);
  else
    perform restante.note_keys(v_keys, v_subscribers);
  end if;
  -- What is to be tried again comes after it, too.
  update restante.outbox as o set status = 'pending'
   where o.finished_at = 'infinity' and o.status = 'retry'
     and o.id in (select l.id from restante.outbox_live as l
                   where restante.order_key(l.account, l.sender, l.key) = v_key and l.lane in ('r', 'l') and l.status = 'retry'
                     for update skip locked);
  return (select count(*) from restante.outbox_live as w
           where restante.order_key(w.account, w.sender, w.key) = v_key and w.lane = 'b' and w.type <> 'restante.paused_key');
end $$;
comment on function restante.pause_key is 'Engine: Holds the events of a key, for each subscriber. Returns how many wait.';

create function restante.resume_key(p_key text, p_keys_of text) returns bigint
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_waiting bigint;
begin
  select sum(k.waiting) into v_waiting from restante.paused_key as k where k.key = p_key and k.keys_of = p_keys_of;
  if v_waiting is null then
    raise exception 'restante.resume: the key % is not paused', p_key using errcode = 'invalid_parameter_value',
      hint = 'select * from restante.paused_key shows what is.';
  end if;
  update restante.outbox as o set status = 'cancelled'
   where o.finished_at = 'infinity'
     and o.id in (select l.id from restante.outbox_live as l
                   where l.type = 'restante.paused_key' and l.key = p_key and coalesce(l.account, l.sender) = p_keys_of);
  return v_waiting;
end $$;
comment on function restante.resume_key is 'Engine: Lets the events of a key go. Returns how many waited.';

-- The name of a pause of a type or a subscriber, as paused_type has it. One of the three has to be given.
create function restante.pause_name(p_call text, p_type text, p_key text, p_subscriber text) returns text
language plpgsql immutable as $$
begin
  if num_nonnulls(p_type, p_key, p_subscriber) <> 1 or p_type = '' or p_key = '' then
    raise exception 'restante.%: %', p_call,
      case when num_nonnulls(p_type, p_key, p_subscriber) > 1 then 'type, key and subscriber exclude each other'
           when p_key = '' then 'key is missing' else 'type is missing' end
      using errcode = 'invalid_parameter_value',
            hint = 'Name a type, or a beginning with a star: ''session.*''; or key => ..., or subscriber => ... ('''' for the handlers).';
  end if;
  return coalesce(p_type, 'subscriber:' || p_subscriber);
end $$;
comment on function restante.pause_name is 'Engine: The name of a pause of a type or a subscriber.';

drop function restante.pause(text, text);
create function restante.pause(
  type text default null, reason text default null, key text default null, subscriber text default null, keys_of text default 'anthropic')
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_name      text := restante.pause_name('pause', pause.type, pause.key, pause.subscriber);
  v_operation bigint := restante.note_operation('pause', coalesce(pause.key, v_name), 0, pause.reason,
    jsonb_strip_nulls(jsonb_build_object('type', pause.type, 'key', pause.key, 'subscriber', pause.subscriber,
                                       'keys_of', case when pause.key is not null then pause.keys_of end)));
  v_paused    bigint;
begin
  if pause.key is not null then
    v_paused := restante.pause_key(pause.key, pause.keys_of, pause.reason);
  else
    insert into restante.paused_type (type, reason) values (v_name, pause.reason) on conflict do nothing;
    if pause.type is not null then
      update restante.outbox as o set status = 'paused', held_by = pause.type
       where o.finished_at = 'infinity' and o.status in ('pending', 'retry', 'blocked') and restante.covers(pause.type, o.type)
         and o.type <> 'restante.paused_key';
      get diagnostics v_paused = row_count;
    else
      select count(*) into v_paused from restante.outbox_live as l
       where l.subscriber = pause.subscriber and l.status in ('pending', 'retry', 'blocked') and l.type <> 'restante.paused_key';
    end if;
  end if;
  perform restante.noted_fully(v_operation, v_paused);
  return v_paused;
end $$;
comment on function restante.pause is
  'Holds the events of a type, of a key, or of a subscriber until restante.resume: those that wait now, running ones when they are to run '
  'again, and new ones. Returns how many it held at once. keys_of: the account of the key, or its sender.';

drop function restante.resume(text);
create function restante.resume(
  type text default null, key text default null, subscriber text default null, keys_of text default 'anthropic')
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_name      text := restante.pause_name('resume', resume.type, resume.key, resume.subscriber);
  v_operation bigint := restante.note_operation('resume', coalesce(resume.key, v_name), 0, null,
    jsonb_strip_nulls(jsonb_build_object('type', resume.type, 'key', resume.key, 'subscriber', resume.subscriber,
                                       'keys_of', case when resume.key is not null then resume.keys_of end)));
  v_resumed   bigint;
begin
  if resume.key is not null then
    v_resumed := restante.resume_key(resume.key, resume.keys_of);
  else
    delete from restante.paused_type as t where t.type = v_name;
    if not found then
      raise exception 'restante.resume: the % is not paused', case when resume.type is null then v_name else 'type ' || v_name end
        using errcode = 'invalid_parameter_value', hint = 'select type from restante.paused_type shows what is.';
    end if;
    if resume.type is not null then
      -- Events that another pause matches stay held, and so do events that a person paused one by one.
      update restante.outbox as o set status = 'pending'
       where o.finished_at = 'infinity' and o.status = 'paused' and o.held_by is not null
         and restante.covers(resume.type, o.type) and restante.held_by(o.type) is null;
      get diagnostics v_resumed = row_count;
    else
      select count(*) into v_resumed from restante.outbox_live as l
       where l.subscriber = resume.subscriber and l.status in ('pending', 'retry', 'blocked') and l.type <> 'restante.paused_key';
    end if;
  end if;
  perform restante.noted_fully(v_operation, v_resumed);
  return v_resumed;
end $$;
comment on function restante.resume is
  'Ends a pause and makes the held events pending, except those that another pause matches or that a person paused one by one. '
  'Returns how many.';

-- It updates the outbox as people do, which a worker may not.
alter function restante.let_held_go(integer) security definer;
alter function restante.let_held_go(integer) set search_path = pg_catalog, pg_temp;

-- Replays of many events, at a rate.
--
-- What is to be replayed is decided once, by the call. Workers then replay it, a portion at a time, so that no transaction holds many
-- rows. What is not replayed yet stays as it was, and holds no key.

create table restante.replay (
  name       text collate "C" not null,
  id         bigint      not null generated always as identity,
  asked_at   timestamptz not null default clock_timestamp(),
  asked_by   text        not null default session_user,
  status     text        not null default 'running',
  reason     text,
  arguments  jsonb       not null,
  was        restante.event_status not null,
  per_second numeric,
  events     bigint      not null,
  replayed   bigint      not null default 0,
  left_out   bigint      not null default 0,
  paid_until timestamptz not null default clock_timestamp(),
  ended_at   timestamptz,
  constraint replay_once primary key (name),
  constraint replay_has_a_number unique (id),
  constraint replay_status_known check (status in ('running', 'paused', 'cancelled', 'done')),
  constraint replay_per_second_fits check (per_second between 0.001 and 100000)
);
comment on table restante.replay is
  'Each call of restante.replay(). To hold one, or to call off the rest of it: update restante.replay set status = ''paused'', '
  '''running'' or ''cancelled''. per_second can be changed too.';
comment on column restante.replay.was is 'The status that its events had. One that has another by now is left out.';
comment on column restante.replay.per_second is 'How many events at most begin again each second. Null: as fast as workers get to it.';
comment on column restante.replay.left_out is 'How many had another status when their turn came, because somebody had changed them.';
comment on column restante.replay.paid_until is 'Up to when its rate has been used up.';

create table restante.replay_event (
  replay    bigint  not null,
  outbox_id bigint  not null,
  tries     integer not null default 0,
  constraint replay_event_once primary key (replay, outbox_id),
  constraint replay_event_of_a_replay foreign key (replay) references restante.replay (id) on delete cascade
);
create index replay_event_next on restante.replay_event (replay, tries, outbox_id);
comment on index restante.replay_event_next is 'The next portion of a replay.';
comment on table restante.replay_event is 'Events that a replay has yet to begin again. tries: how often another session had locked the event.';

create function restante.guard_replay() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if old.status in ('done', 'cancelled') and new.status <> old.status then
    raise exception 'the replay % is %: it does not go on', old.name, old.status using errcode = 'check_violation',
      hint = 'Call restante.replay() again for what is left.';
  end if;
  if new.status in ('done', 'cancelled') and old.ended_at is null then
    new.ended_at := clock_timestamp();
  end if;
  if new.status = 'cancelled' then
    delete from restante.replay_event as e where e.replay = new.id;
  end if;
  return new;
end $$;
comment on function restante.guard_replay is 'Engine: A replay that has ended does not go on.';
create trigger replay_guard before update of status on restante.replay for each row execute function restante.guard_replay();
create trigger replay_note after update of status, per_second on restante.replay
  for each row when (pg_trigger_depth() = 0 and (old.status, old.per_second) is distinct from (new.status, new.per_second)
                     and new.status <> 'done')
  execute function restante.note_row('replay', 'name', 'events', 'status', 'per_second');

-- Which events a replay would begin again.
create function restante.replayable(
  p_type text, p_status text, p_kind text, p_key text, p_subscriber text, p_since timestamptz, p_until timestamptz)
returns setof bigint
language plpgsql stable as $$
begin
  if p_status = 'dead' then
    return query
    select l.id from restante.outbox_live as l
     where l.lane in ('p', 'l') and l.status = 'dead' and (p_type is null or restante.covers(p_type, l.type))
       and (p_kind is null or l.kind = p_kind) and (p_key is null or l.key = p_key) and (p_subscriber is null or l.subscriber = p_subscriber)
       and (p_since is null or l.started_at >= p_since) and (p_until is null or l.started_at < p_until);
  else
    return query
    select o.id from restante.outbox as o
     where o.finished_at >= p_since and o.finished_at < least(p_until, 'infinity') and o.status = p_status
       and o.type <> 'restante.paused_key' and (p_type is null or restante.covers(p_type, o.type))
       and (p_key is null or o.key = p_key) and (p_subscriber is null or o.subscriber = p_subscriber);
  end if;
end $$;
comment on function restante.replayable is 'Engine: Which events a replay would begin again.';

create function restante.replay(
  type text default null, status text default 'dead', kind text default null, key text default null, subscriber text default null,
  since timestamptz default null, until timestamptz default null, per_second numeric default null, name text default null,
  reason text default null, dry_run boolean default true)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_fault     text;
  v_hint      text;
  v_name      text := coalesce(replay.name, 'replay-' || to_char(clock_timestamp() at time zone 'UTC', 'YYYYMMDD-HH24MISS-US'));
  v_arguments jsonb := jsonb_strip_nulls(jsonb_build_object(
    'type', replay.type, 'status', replay.status, 'kind', replay.kind, 'key', replay.key, 'subscriber', replay.subscriber,
    'since', replay.since, 'until', replay.until, 'per_second', replay.per_second, 'name', v_name));
  v_id        bigint;
  v_operation bigint;
  v_events    bigint;
begin
  if replay.status is null or replay.status not in ('dead', 'done', 'ignored', 'cancelled') then
    v_fault := 'status must be dead, done, ignored or cancelled';
    v_hint  := 'What waits or runs goes on by itself.';
  elsif replay.status <> 'dead' and replay.since is null then
    v_fault := format('since is missing: say from when on the events became %s', replay.status);
    v_hint  := 'Without it the whole history would be read.';
  elsif replay.status <> 'dead' and replay.kind is not null then
    v_fault := 'kind is for dead letters';
    v_hint  := format('What is %s has not failed.', replay.status);
  elsif replay.per_second is not null and (replay.per_second between 0.001 and 100000) is not true then
    v_fault := 'per_second must be 0.001 to 100000';
    v_hint  := 'Leave it out to replay as fast as workers get to it.';
  elsif v_name = '' or octet_length(v_name) > 200 then
    v_fault := 'name must have 1 to 200 bytes';
    v_hint  := 'Leave it out to have one made.';
  elsif replay.dry_run is null then
    v_fault := 'dry_run is null';
    v_hint  := 'Say true or false.';
  elsif exists (select from restante.replay as r where r.name = v_name) then
    v_fault := format('there is a replay named %s already', v_name);
    v_hint  := 'Choose another name; restante.replay_overview has those that are taken.';
  end if;
  if v_fault is not null then
    raise exception 'restante.replay: %', v_fault using errcode = 'invalid_parameter_value', hint = v_hint;
  end if;

  if replay.dry_run then
    select count(*) into v_events from restante.replayable(
      replay.type, replay.status, replay.kind, replay.key, replay.subscriber, replay.since, replay.until);
    raise notice 'nothing is replayed yet: % events would be; add dry_run => false', v_events;
    return v_events;
  end if;
  insert into restante.replay (name, reason, arguments, was, per_second, events)
  values (v_name, replay.reason, v_arguments, replay.status, replay.per_second, 0) returning id into v_id;
  insert into restante.replay_event (replay, outbox_id)
  select v_id, r.id from restante.replayable(
    replay.type, replay.status, replay.kind, replay.key, replay.subscriber, replay.since, replay.until) as r (id);
  get diagnostics v_events = row_count;
  update restante.replay as r
     set events = v_events, status = case when v_events = 0 then 'done' else r.status end where r.id = v_id;
  v_operation := restante.note_operation('replay', v_name, v_events, replay.reason, v_arguments);
  perform restante.noted_fully(v_operation, v_events);
  return v_events;
end $$;
comment on function restante.replay is
  'Replays events in bulk: dead ones, or those that became done, ignored or cancelled since a time. By default it only returns how many '
  'they are; with dry_run => false workers begin them again, oldest number first, per_second of them. restante.replay_overview shows '
  'how far it is.';

-- Begins a portion of one replay again. Returns how many events it looked at; 0 if there is nothing to do at the moment.
create function restante.replay_portion(p_limit integer default 500) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_replay restante.replay;
  v_limit  integer := p_limit;
  v_now    timestamptz := clock_timestamp();
  v_ids    bigint[];
  v_free   bigint[];
  v_gone   bigint[];
begin
  select r.* into v_replay from restante.replay as r
   where r.status = 'running' and (r.per_second is null or r.paid_until + make_interval(secs => (1 / r.per_second)::float8) <= v_now)
   order by r.paid_until limit 1 for update skip locked;
  if not found then
    return 0;
  end if;
  if v_replay.per_second is not null then
    -- What was not used for more than ten seconds, because no worker ran, is not made up for.
    v_replay.paid_until := greatest(v_replay.paid_until, v_now - greatest(interval '10 seconds', make_interval(secs => (1 / v_replay.per_second)::float8)));
    v_limit := least(p_limit, floor(v_replay.per_second * extract(epoch from v_now - v_replay.paid_until)))::integer;
  end if;

  v_ids := array(select e.outbox_id from restante.replay_event as e
                  where e.replay = v_replay.id order by e.tries, e.outbox_id limit v_limit);
  v_free := array(select o.id from restante.outbox as o where o.id = any (v_ids) and o.status = v_replay.was for update skip locked);
  v_gone := array(
    select w.id from unnest(v_ids) as w (id)
     where w.id <> all (v_free) and not exists (select from restante.outbox as o where o.id = w.id and o.status = v_replay.was));
  delete from restante.replay_event as e where e.replay = v_replay.id and e.outbox_id = any (v_free || v_gone);
  update restante.replay_event as e set tries = e.tries + 1 where e.replay = v_replay.id and e.outbox_id = any (v_ids);
  update restante.outbox as o set status = 'pending' where o.id = any (v_free);
  update restante.replay as r
     set replayed = r.replayed + cardinality(v_free), left_out = r.left_out + cardinality(v_gone),
         paid_until = case when r.per_second is null then v_now
                           else v_replay.paid_until + make_interval(secs => (v_limit / r.per_second)::float8) end,
         status = case when exists (select from restante.replay_event as e where e.replay = r.id) then r.status else 'done' end
   where r.id = v_replay.id;
  return cardinality(v_free) + cardinality(v_gone);
end $$;
comment on function restante.replay_portion is
  'Engine: Begins a portion of a replay again. Workers call it every other second. Returns how many events it dealt with.';

create view restante.replay_overview as
  select r.name, r.status, r.asked_at, r.asked_by, r.reason, r.events, r.replayed, r.left_out,
         r.events - r.replayed - r.left_out as left_over, r.per_second,
         case when r.status = 'running' and r.per_second is not null
              then clock_timestamp() + make_interval(secs => ((r.events - r.replayed - r.left_out) / r.per_second)::float8) end as likely_end_at,
         r.ended_at, r.arguments
    from restante.replay as r;
comment on view restante.replay_overview is 'Each replay in a row: what it is of, how far it is, when it is likely to have begun all of its events again.';

-- Why something waits, with the pauses of keys and subscribers. They are looked up for the rows that are shown, not joined with all that wait.
create or replace view restante.outbox_waiting as
  select l.id, l.event_id, l.type, l.subscriber, l.key, l.status, l.attempt, l.received_at,
         case when l.type <> 'restante.paused_key' then nullif(nullif(l.run_at, '-infinity'), 'infinity') end as next_attempt_at,
         case
           when l.type = 'restante.paused_key' then 'person'
           when restante.is_standing(l.type, l.status, l.outcome) then 'next look'
           when l.status = 'blocked' and (l.key, l.subscriber, coalesce(l.account, l.sender)) in (
             select p.key, p.subscriber, coalesce(p.account, p.sender) from restante.outbox_live as p
              where p.type = 'restante.paused_key') then 'person'
           when l.status = 'blocked' then 'older event'
           when l.status in ('paused', 'dead') then 'person'
           when 'subscriber:' || l.subscriber in (select s.type from restante.paused_type as s) then 'person'
           when l.run_at <= statement_timestamp() then 'worker'
           when l.status = 'pending' then 'time'
           when l.outcome = 'trouble' then 'repair'
           when l.outcome in ('snoozed', 'deferred') then 'time'
           else 'next attempt'
         end as waits_for,
         case
           when l.type = 'restante.paused_key' then 'it holds its key for restante.pause()' || coalesce(': ' || (l.payload->>'reason'), '')
           when l.status = 'blocked' then coalesce(
             (select format('held by restante.pause(key => %L)', l.key) || coalesce(': ' || (p.payload->>'reason'), '')
                from restante.outbox_live as p
               where p.type = 'restante.paused_key' and p.key = l.key and p.subscriber = l.subscriber
                 and coalesce(p.account, p.sender) = coalesce(l.account, l.sender) limit 1),
             'an older event of its key comes first')
           when l.status = 'paused' and l.held_by is null then 'a person paused it'
           when l.status = 'paused' then
             format('held by restante.pause(%L)', l.held_by) || coalesce(': ' || t.reason, '')
           when l.status = 'dead' then
             'it was given up' || case when l.holds_key then ', and later events of its key wait for it' else '' end
               || coalesce(': ' || l.last_error, '')
           when 'subscriber:' || l.subscriber in (select s.type from restante.paused_type as s) then
             format('held by restante.pause(subscriber => %L)', l.subscriber)
               || coalesce(': ' || (select s.reason from restante.paused_type as s where s.type = 'subscriber:' || l.subscriber), '')
           when l.status = 'pending' and l.run_at > statement_timestamp() then 'it is scheduled for a later time'
           when l.status = 'pending' then
             case when l.subscriber = '' then 'the next worker with a free place claims it'
                  else format('the next worker of the subscriber %L with a free place claims it', l.subscriber) end
           when l.outcome is null or l.outcome in ('snoozed', 'deferred', 'trouble') then
             coalesce(l.last_error, 'it was too early, and its handler did not say for what')
           else format('attempt %s failed: %s', l.attempt, l.last_error)
         end as reason,
         l.sender, l.account,
         case when l.lane = 'b' then
           (select h.event_id from restante.outbox_live as h
             where restante.order_key(h.account, h.sender, h.key) = restante.order_key(l.account, l.sender, l.key)
               and h.subscriber = l.subscriber and h.lane in ('r', 'l')) end as behind
    from restante.outbox_live as l
    left join restante.paused_type as t on l.status = 'paused' and t.type = l.held_by
   where l.status <> 'running';
comment on view restante.outbox_waiting is
  'Every event that is not finished and does not run, with what it waits for and why, and behind which event of its key. Dead letters '
  'wait for a person.';

create or replace view restante.outbox_stuck as
  select l.id, l.event_id, l.type, l.subscriber, l.key, l.status, l.attempt,
         nullif(nullif(l.run_at, '-infinity'), 'infinity') as run_at, l.last_error,
         case
           when l.status = 'running' then 'its worker is gone; the next claim takes it over'
           when l.run_at < clock_timestamp() - interval '1 minute' and l.subscriber <> ''
             then format('it could have been claimed a minute ago: is a worker of the subscriber %L running?', l.subscriber)
           when l.run_at < clock_timestamp() - interval '1 minute'
             then 'it could have been claimed a minute ago: is a worker running?'
           when l.outcome = 'trouble'
             then 'something is wrong with us, or with the other side; once that is mended, it goes on by itself'
           else 'it has failed three times or more, and holds its key meanwhile'
         end as reason,
         l.sender, l.account
    from restante.outbox_live as l
   where ((l.lane = 'r' and l.status = 'running' and l.lease_until <= clock_timestamp())
       or (l.lane = 'r' and l.status = 'pending' and l.received_at < clock_timestamp() - interval '1 minute')
       or (l.lane = 'l' and l.status in ('pending', 'retry') and l.run_at < clock_timestamp() - interval '1 minute')
       or (l.lane = 'l' and l.status = 'retry' and (l.outcome = 'trouble' or l.attempt >= 3)))
     -- What a person holds is not stuck.
     and not exists (select from restante.paused_type as t where t.type = 'subscriber:' || l.subscriber);

-- Which key is stuck. What waits is counted once for all keys, because in an outage most of them may be stuck.
create view restante.key_stuck as
  select l.key, coalesce(l.account, l.sender) as keys_of, l.subscriber, l.id as front_id, l.event_id as front, l.type as front_type,
         l.status as front_status,
         case l.status when 'pending' then l.received_at else coalesce(l.started_at, l.received_at) end as front_since,
         case
           when l.type = 'restante.paused_key' then 'restante.pause() holds the key' || coalesce(': ' || (l.payload->>'reason'), '')
           when l.status = 'dead' then 'the event in front was given up, and its handler keeps the key: ' || coalesce(l.last_error, '')
           when l.status = 'running' and l.lease_until <= statement_timestamp() then 'the worker of the event in front is gone'
           when l.status = 'running' then 'the event in front has run for more than 5 minutes'
           when l.status = 'pending' and l.run_at > statement_timestamp() then 'the event in front is scheduled for a later time'
           when l.status = 'pending' then 'no worker has claimed the event in front for a minute'
           else 'the event in front is tried again: ' || coalesce(l.last_error, '')
         end as reason,
         case when l.type <> 'restante.paused_key' and l.status in ('pending', 'retry') and l.run_at > statement_timestamp()
              then l.run_at end as next_attempt_at,
         w.waiting, w.oldest_received_at
    from (select restante.order_key(b.account, b.sender, b.key) as order_key, b.subscriber, count(*) as waiting,
                 min(b.received_at) as oldest_received_at
            from restante.outbox_live as b where b.lane = 'b' group by 1, 2) as w
    join restante.outbox_live as l
      on restante.order_key(l.account, l.sender, l.key) = w.order_key and l.subscriber = w.subscriber and l.lane in ('r', 'l')
   where case l.status
           when 'running' then l.lease_until <= statement_timestamp() or l.started_at < statement_timestamp() - interval '5 minutes'
           when 'pending' then l.run_at > statement_timestamp() or l.received_at < statement_timestamp() - interval '1 minute'
           else true
         end;
comment on view restante.key_stuck is
  'Keys whose events wait because the one in front does not finish: which one that is, since when, why, and how many wait behind it.';

create view restante.subscriber_lag as
  select n.subscriber, n.types, n.since, coalesce(l.waiting, 0) as waiting, coalesce(l.running, 0) as running,
         coalesce(l.retrying, 0) as retrying, coalesce(l.dead, 0) as dead, l.oldest_received_at,
         clock_timestamp() - l.oldest_claimable_at as behind_by, l.last_attempt_at,
         case
           when t.type is not null then format('held by restante.pause(subscriber => %L)', n.subscriber) || coalesce(': ' || t.reason, '')
           when l.subscriber is null then 'nothing is left to do'
           when l.oldest_claimable_at < statement_timestamp() - interval '1 minute'
                and coalesce(l.last_attempt_at, '-infinity') < statement_timestamp() - interval '1 minute'
             then 'behind: nothing was claimed for a minute or more; does a worker of it run?'
           when l.oldest_claimable_at < statement_timestamp() - interval '1 minute' then 'behind: its workers have more than they can do'
           when l.waiting + l.running + l.retrying = 0 then 'only dead or paused events are left'
           else 'keeps up'
         end as how
    from (select s.subscriber, array_agg(s.type order by s.type) as types, min(s.since) as since
            from restante.subscription as s group by s.subscriber
          union all
          select '', null, null
          union all
          select distinct o.subscriber, null::text[], null::timestamptz from restante.outbox_live as o
           where o.subscriber <> '' and not exists (select from restante.subscription as s where s.subscriber = o.subscriber)) as n
    left join (
          select o.subscriber, count(*) filter (where o.status in ('pending', 'blocked')) as waiting,
                 count(*) filter (where o.status = 'running') as running, count(*) filter (where o.status = 'retry') as retrying,
                 count(*) filter (where o.status = 'dead') as dead,
                 min(o.received_at) filter (where o.status <> 'dead' and o.status <> 'paused') as oldest_received_at,
                 min(case when o.run_at = '-infinity' then o.received_at else greatest(o.run_at, o.received_at) end)
                   filter (where o.lane in ('r', 'l') and o.status in ('pending', 'retry') and o.run_at <= statement_timestamp()) as oldest_claimable_at,
                 max(o.started_at) as last_attempt_at
            from restante.outbox_live as o
           where o.type <> 'restante.paused_key' and not restante.is_standing(o.type, o.status, o.outcome)
           group by o.subscriber) as l on l.subscriber = n.subscriber
    left join restante.paused_type as t on t.type = 'subscriber:' || n.subscriber;
comment on view restante.subscriber_lag is
  'Each subscriber (empty: the handlers of the types), how much waits for it, for how long the oldest event could have run, and how it does.';

-- Events of a time.

-- The number from which on events were received at a time or later. Numbers are given out as events are stored, so it halves the
-- range again and again, and reads some thirty rows.
create function restante.id_at(p_time timestamptz) returns bigint
language plpgsql stable
set enable_seqscan = off set enable_sort = off as $$
declare
  v_low      bigint;
  v_high     bigint;
  v_middle   bigint;
  v_received timestamptz;
begin
  select o.id into v_low from restante.outbox as o order by o.id limit 1;
  select o.id + 1 into v_high from restante.outbox as o order by o.id desc limit 1;
  while v_low < v_high loop
    v_middle := v_low + (v_high - v_low) / 2;
    select o.received_at into v_received from restante.outbox as o where o.id >= v_middle order by o.id limit 1;
    if v_received < p_time then
      v_low := v_middle + 1;
    else
      v_high := v_middle;
    end if;
  end loop;
  return v_low;
end $$;
comment on function restante.id_at is 'Engine: The number from which on events were received at a time or later, more or less.';

-- Two events that are stored at once may have their numbers in the other order, so it begins a minute earlier and ends one later.
create function restante.received(since timestamptz, until timestamptz default null) returns setof restante.outbox_events
language sql stable as $$
  select e.* from restante.outbox_events as e
   where e.id >= (select restante.id_at(received.since - interval '1 minute'))
     and e.id <= (select case when received.until is null then 9223372036854775807
                              else restante.id_at(received.until + interval '1 minute') end)
     and e.received_at >= received.since and e.received_at < coalesce(received.until, 'infinity')
     and e.type <> 'restante.paused_key'
   order by e.id
$$;
comment on function restante.received is
  'The events that were received between two times, as restante.outbox_events shows them, in the order in which they were stored.';

-- Everything about one object.

create function restante.history(id text)
returns table (at timestamptz, what text, event_id text, type text, subscriber text, detail text)
language sql stable as $$
  with events as materialized (
    select e.* from restante.outbox_events as e where e.key = history.id and e.type <> 'restante.paused_key')
  select h.at, h.what, h.event_id, h.type, h.subscriber, h.detail
    from (
      select e.received_at as at, 1 as turn, 'received' as what, e.event_id, e.type, e.subscriber,
             format('by %s from %s; it happened at %s', e.source, e.sender, e.created_at) as detail
        from events as e
      union all
      select d.received_at, 2, 'received with another body', d.event_id, null, null, 'see restante.delivery_differs'
        from restante.delivery_differs as d
       where (d.sender, d.event_id) in (select e.sender, e.event_id from events as e)
      union all
      select f.failed_at, 4, 'attempt ' || f.attempt || ' ' || f.outcome, f.event_id, f.type, f.subscriber, f.kind || ': ' || f.error
        from events as e join restante.failure as f on f.outbox_id = e.id
      union all
      select case when e.finished_at is not null then e.finished_at when e.status = 'running' then e.started_at else statement_timestamp() end, 5,
             case when e.finished_at is null and e.status <> 'running' then 'now ' else '' end || e.status, e.event_id, e.type, e.subscriber,
             case
               when e.status = 'running' then format('attempt %s, on %s', e.attempt, e.lease_owner)
               when e.finished_at is not null then
                 concat_ws('; ', 'attempt ' || e.attempt || coalesce(' took ' || (e.finished_at - e.started_at), ''),
                           'result ' || left(e.result::text, 200))
               else (select w.reason from restante.outbox_waiting as w where w.id = e.id)
             end
        from events as e
      union all
      select r.observed_at, 3, 'fetched', null, r.type, null,
             concat_ws(', ', r.id, r.status, r.stop_reason, r.error_type, r.error_message, 'changed at ' || r.updated_at)
        from restante.resource as r where r.id = history.id or r.parent_id = history.id
      union all
      select r.gone_at, 3, 'gone', null, r.type, null, concat_ws(', ', r.id, r.gone_because)
        from restante.resource as r where (r.id = history.id or r.parent_id = history.id) and r.gone_at is not null
      union all
      select coalesce(o.completed_at, o.observed_at), 3, 'evaluated', null, null, null,
             concat_ws(', ', o.outcome_id, 'iteration ' || o.iteration, o.result)
        from restante.outcome_evaluation as o where o.session_id = history.id
      union all
      select b.at, 6, b.what, null, null, null, b.detail
        from restante.batch as q
       cross join lateral (values
         (q.created_at, 'batch created', q.account),
         (q.ended_at, 'batch ended', concat_ws(', ', q.succeeded || ' succeeded', q.errored || ' errored', q.expired || ' expired')),
         (q.download_started_at, 'download began', null),
         (q.complete_at, 'results complete', q.results_stored || ' results'),
         (q.deleted_at, 'deleted at the API', null)) as b (at, what, detail)
       where q.id = history.id and b.at is not null
      union all
      select p.submitted_at, 6, 'submitted', null, null, null, format('part %s of %s, requests: %s', p.number, p.submission, p.requests)
        from restante.submission_part as p where p.batch_id = history.id and p.submitted_at is not null
      union all
      select o.at, 7, 'operator', null, null, null, concat_ws(' ', o.who || ':', o.what, o.of_what, o.arguments, o.reason)
        from restante.operation as o where o.of_what = history.id or o.of_what in (select e.event_id from events as e)
    ) as h
   order by h.at, h.turn, h.event_id, h.subscriber
$$;
create index operation_of_what on restante.operation (of_what collate "C") where of_what is not null;
comment on index restante.operation_of_what is 'Finds what was done to one event, key, batch or submission.';
comment on function restante.history is
  'Everything about one object of the API, or any key: its events, failed attempts, what was fetched, its batch, and what people did, oldest first.';

revoke execute on all functions in schema restante from public;
grant select on restante.operation, restante.throughput_hour, restante.throughput_known, restante.outbox_throughput,
  restante.failures_by_kind, restante.paused_key, restante.replay, restante.replay_event, restante.replay_overview, restante.key_stuck,
  restante.subscriber_lag to restante_operator;
grant update (status, per_second) on restante.replay to restante_operator;
grant execute on function restante.pause, restante.resume, restante.replay, restante.throughput, restante.received, restante.history
  to restante_operator;
-- Who reads a view or calls a function runs the functions in it.
grant execute on function restante.throughput_counted, restante.id_at to restante_operator;
grant execute on function restante.add_up_hour, restante.replay_portion to restante_worker;
