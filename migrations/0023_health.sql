-- "Am I safe?": a view with one answer for each question, the usual rhythm of each sender, and alarms that are events of our own.

-- As in 0010: a session that waits for the lock of a table makes all later ones wait behind it.
set local lock_timeout = '1s';

-- How often each sender sends.

create table restante.sender_rhythm (
  sender   text collate "C" not null,
  first_at timestamptz not null,
  last_at  timestamptz not null,
  constraint sender_rhythm_once primary key (sender)
);
comment on table restante.sender_rhythm is
  'Each sender of webhooks, and when its events came, as workers read it from the outbox about twice a minute. Delete the row of a '
  'sender that is to send nothing any more.';
comment on column restante.sender_rhythm.first_at is 'When the first event came that was counted here.';
comment on column restante.sender_rhythm.last_at is 'When the last one came.';

create table restante.sender_gap (
  sender  text collate "C" not null,
  day     date     not null,
  longest interval not null,
  constraint sender_gap_once primary key (sender, day),
  constraint sender_gap_of_a_sender foreign key (sender) references restante.sender_rhythm (sender) on delete cascade
);
comment on table restante.sender_gap is
  'For each sender and day (UTC) the longest time between two of its events, of which the second one came on that day. For 14 days.';

create trigger sender_rhythm_note after delete on restante.sender_rhythm
  for each row execute function restante.note_row('sender', 'sender', '');

create table restante.health_look (
  id           boolean     not null default true,
  read_up_to   bigint      not null,
  is_caught_up boolean     not null default false,
  looked_at    timestamptz,
  constraint health_look_once primary key (id),
  constraint health_look_is_one check (id)
);
comment on table restante.health_look is
  'How far workers have read the outbox for restante.sender_rhythm, and when they looked for alarms. One row, once a worker has looked.';
comment on column restante.health_look.read_up_to is 'The number of the last event that was read.';
comment on column restante.health_look.is_caught_up is 'Whether that was the newest event then. Until it is, nobody knows which sender is silent.';
comment on column restante.health_look.looked_at is 'When restante.note_alarms() last compared the findings with the alarms.';

-- Numbers are given out as events are stored, so the new ones are at the end of an index. A transaction that was slow to commit may add
-- some behind the last one, so the last thousand are read again; what is not later than last_at changes nothing.
create function restante.note_rhythm(p_limit integer) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_read_up_to bigint;
  v_last       bigint;
  v_new        integer;
begin
  if not exists (select from restante.health_look) then
    insert into restante.health_look (read_up_to)
    values (coalesce(restante.id_at(clock_timestamp() - interval '14 days'), 1) - 1)
    on conflict do nothing;
  end if;
  -- One worker at a time.
  select k.read_up_to into v_read_up_to from restante.health_look as k for update skip locked;
  if not found then
    return 0;
  end if;
  with page as materialized (
    select o.id, o.sender, o.source, o.received_at from restante.outbox as o
     where o.id > v_read_up_to - 1000 order by o.id limit p_limit + 1000),
  -- A row that a person has locked, to delete it perhaps, misses this page.
  known as materialized (
    select r.sender, r.last_at from restante.sender_rhythm as r for update skip locked),
  came as (
    select p.sender, p.received_at,
           p.received_at - coalesce(lag(p.received_at) over (partition by p.sender order by p.received_at), k.last_at) as gap
      from page as p left join known as k on k.sender = p.sender
     where p.source = 'webhook'
       -- A sender whose row an operator deleted has to send again before it has one.
       and case when k.sender is not null then p.received_at > k.last_at
                else p.id > v_read_up_to and not exists (select from restante.sender_rhythm as r where r.sender = p.sender) end),
  last as (
    insert into restante.sender_rhythm as r (sender, first_at, last_at)
    select c.sender, min(c.received_at), max(c.received_at) from came as c group by c.sender order by c.sender
    on conflict (sender) do update set last_at = greatest(r.last_at, excluded.last_at)),
  gaps as (
    insert into restante.sender_gap as g (sender, day, longest)
    select c.sender, (c.received_at at time zone 'UTC')::date as day, max(c.gap) from came as c
     where c.gap > interval '0' group by 1, 2
    on conflict (sender, day) do update set longest = greatest(g.longest, excluded.longest))
  select max(p.id), count(*) filter (where p.id > v_read_up_to) into v_last, v_new from page as p;
  update restante.health_look as k
     set read_up_to = greatest(v_read_up_to, v_last), is_caught_up = v_new < p_limit;
  delete from restante.sender_gap as g
   where (g.sender, g.day) in (select o.sender, o.day from restante.sender_gap as o
                                where o.day < (clock_timestamp() at time zone 'UTC')::date - 14 for update skip locked);
  return v_new;
end $$;
comment on function restante.note_rhythm is
  'Engine: Reads the next events of the outbox and notes when each sender sent. Returns how many were new; fewer than p_limit means that no '
  'more are left, or that another worker reads.';

create view restante.sender_overview as
  select s.sender, s.first_at, s.last_at, u.usual_gap, greatest(u.usual_gap * 3, interval '1 hour') as allowed_gap,
         statement_timestamp() - s.last_at as silent_for,
         -- A sender that sent for less than a day has no rhythm yet.
         s.last_at - s.first_at >= interval '1 day' and s.is_caught_up
           and statement_timestamp() - s.last_at > greatest(u.usual_gap * 3, interval '1 hour') as is_silent
    from (select r.sender, r.first_at, greatest(r.last_at, n.last_at) as last_at, coalesce(k.is_caught_up, false) as is_caught_up
            from restante.sender_rhythm as r
            left join restante.health_look as k on true
            -- What came since workers last read, or would have, if one ran.
            left join (
                  select e.sender, max(e.received_at) as last_at
                    from (select o.sender, o.source, o.received_at from restante.outbox as o order by o.id desc limit 1000) as e
                   where e.source = 'webhook' group by e.sender) as n on n.sender = r.sender) as s
    -- An outage of one day is not what is usual, so from seven days on the longest gap of all does not count.
    left join lateral (
          select g.longest as usual_gap
            from (select d.longest, row_number() over (order by d.longest desc) as nth, count(*) over () as days
                    from restante.sender_gap as d
                   where d.sender = s.sender and d.day >= (statement_timestamp() at time zone 'UTC')::date - 14) as g
           where g.nth = case when g.days >= 7 then 2 else 1 end) as u on true;
comment on view restante.sender_overview is
  'Each sender of webhooks: when its last event came, how long it usually sends nothing at most, and whether it is silent for longer than '
  'that: three times, and at least an hour.';
comment on column restante.sender_overview.usual_gap is
  'The longest gap between two of its events in the last 14 days; from seven days with events on, the longest but for one day.';

-- What is not as it should be.

create function restante.lasting(p_time interval) returns text
language sql immutable parallel safe
return case
  when p_time < interval '2 minutes' then greatest(floor(extract(epoch from p_time)), 0) || ' s'
  when p_time < interval '2 hours' then floor(extract(epoch from p_time) / 60) || ' min'
  when p_time < interval '2 days' then floor(extract(epoch from p_time) / 3600) || ' h'
  else floor(extract(epoch from p_time) / 86400) || ' d'
end;
comment on function restante.lasting is 'Engine: A time as people say it, in its largest unit: 90 s, 12 min, 30 h, 5 d.';

create function restante.counted(p_count bigint, p_one text, p_many text) returns text
language sql immutable parallel safe
return p_count || ' ' || case p_count when 1 then p_one else p_many end;
comment on function restante.counted is 'Engine: A number with its noun: 1 event, 2 events.';

-- What a pause holds may be a million events, and has held_by. So dead letters are found beside them.
create index outbox_live_given_up on restante.outbox_live (id) where lane = 'p' and held_by is null;
comment on index restante.outbox_live_given_up is 'Dead letters, and the events that a person paused one by one.';

create function restante.silent_senders()
returns table (question text, subject text, state text, sentence text, next_step text, since timestamptz)
language sql stable
set enable_seqscan = off set jit = off as $$
  select 'silence', s.sender, 'act',
         format('The sender %s has sent nothing for %s; it usually sends within %s.',
                s.sender, restante.lasting(s.silent_for), restante.lasting(coalesce(s.usual_gap, interval '1 hour'))),
         'See whether the sender still has the URL and whether ingest is reached. It is to send nothing any more: delete from restante.sender_rhythm where sender = '
           || quote_literal(s.sender) || ';',
         s.last_at
    from restante.sender_overview as s where s.is_silent
$$;
comment on function restante.silent_senders is 'Engine: Senders that are silent for longer than is usual for them.';

-- Of the hour in which the last good delivery came it is not known how many were refused after it: then only one counts.
create function restante.refused_senders()
returns table (question text, subject text, state text, sentence text, next_step text, since timestamptz)
language sql stable
set enable_seqscan = off set jit = off as $$
  with runs as (
    select r.sender, sum(case when r.first_at > coalesce(s.last_at, '-infinity') then r.requests else 1 end)::bigint as requests,
           min(greatest(r.first_at, s.last_at)) as since, max(r.last_at) as last_at, s.last_at as good_at,
           (array_agg(r.reason order by r.requests desc, r.reason))[1] as reason
      from restante.refusal as r
      left join restante.sender_overview as s on s.sender = r.sender
     -- Anybody can ask for a path that is no sender's, or by another method. That says nothing of a sender.
     where r.sender not in ('-', 'other') and r.reason <> 'wrong_method'
       and r.hour > statement_timestamp() - interval '25 hours' and r.last_at > coalesce(s.last_at, '-infinity')
     group by r.sender, s.last_at)
  select 'refusals', r.sender, 'act',
         format('Ingest has refused %s deliveries of %s%s, most of them as %s.', r.requests, r.sender,
                case when r.good_at is null then ', and has taken none' else ' since it last took one, ' || restante.lasting(statement_timestamp() - r.good_at) || ' ago' end,
                r.reason),
         coalesce(restante.refusal_hint(r.reason), 'select * from restante.refusal_overview;'),
         r.since
    from runs as r where r.requests >= 3
$$;
comment on function restante.refused_senders is
  'Engine: Senders of whom at least three deliveries were refused since the last one that was stored.';

create function restante.unfinished_findings()
returns table (question text, subject text, state text, sentence text, next_step text, since timestamptz)
language sql stable
set enable_seqscan = off set jit = off as $$
  -- From each subscriber's end of the index: a backlog of a million costs no more than one of ten.
  select 'workers', s.subscriber, 'act',
         format('An event%s could have been claimed for %s.', case when s.subscriber = '' then '' else ' for ' || s.subscriber end,
                restante.lasting(statement_timestamp() - r.received_at)),
         'Is a worker running? select owner, alive_until from restante.worker; with one that runs: start more, or raise RESTANTE_CONCURRENCY.',
         r.received_at
    from (select '' as subscriber union select n.subscriber from restante.subscription as n where n.subscriber <> 'notify') as s
    cross join lateral (
          select l.received_at from restante.outbox_live as l
           where l.lane = 'r' and l.status = 'pending' and l.subscriber = s.subscriber
           order by l.created_at, l.id limit 1) as r
   where r.received_at < statement_timestamp() - interval '1 minute'
     -- Nobody claims what a person holds.
     and not exists (select from restante.paused_type as t where t.type = 'subscriber:' || s.subscriber)
  union all
  select 'trouble', t.account, case when t.since < statement_timestamp() - interval '5 minutes' then 'act' else 'look' end,
         format('%s of the account %s cannot go on because something is wrong with us, or with the API: %s',
                case when t.events >= 10000 then '10000 or more events' else restante.counted(t.events, 'event', 'events') end,
                t.account, t.cause),
         'select * from restante.outbox_trouble; they go on by themselves once it is mended.', t.since
    from (select coalesce(w.account, w.sender) as account, count(*) as events, min(w.received_at) as since,
                 mode() within group (order by restante.cause(w.last_error)) as cause
            from (select l.account, l.sender, l.received_at, l.last_error, l.status, l.outcome
                    from restante.outbox_live as l
                   where l.lane = 'l' order by l.subscriber, l.run_at, l.id limit 10000) as w
           where w.status = 'retry' and w.outcome = 'trouble' group by 1) as t
  union all
  select 'dead', '', 'act', format('Until a person decides, %s given up: %s.', case when d.events >= 10000 then '10000 or more events are' else restante.counted(d.events, 'event is', 'events are') end,
                case d.events when 1 then d.type else 'most of them ' || d.type end),
         'select event_id, type, last_error from restante.outbox_dead; then update restante.outbox set status = ''pending'' (or ''cancelled'') where event_id = ...;',
         d.since
    from (select count(*) as events, mode() within group (order by w.type) as type, min(coalesce(w.started_at, w.received_at)) as since
            from ((select l.type, l.status, l.started_at, l.received_at from restante.outbox_live as l
                    where l.lane = 'p' and l.held_by is null order by l.id limit 10000)
                  union all
                  (select l.type, l.status, l.started_at, l.received_at from restante.outbox_live as l
                    where l.lane = 'l' order by l.subscriber, l.run_at, l.id limit 10000)) as w
           where w.status = 'dead') as d
   where d.events > 0
$$;
comment on function restante.unfinished_findings is
  'Engine: What is wrong with events that are not finished. Of each kind the first 10,000 are counted.';

create function restante.api_findings()
returns table (question text, subject text, state text, sentence text, next_step text, since timestamptz)
language sql stable
set enable_seqscan = off set jit = off as $$
  select 'batches', b.account, 'act',
         format('Results of %s of the account %s are at risk; the API deletes the first %s.',
                restante.counted(b.batches, 'batch', 'batches'), b.account,
                case when b.deadline is null then 'within 29 days of its creation'
                     else 'in ' || restante.lasting(b.deadline - statement_timestamp()) end),
         'select id, progress, results_vanish_in from restante.batch_overview where at_risk order by results_vanish_in;', b.since
    from (select o.account, count(*) as batches, min(o.results_deadline) as deadline, min(coalesce(o.ended_at, o.created_at)) as since
            from restante.batch_overview as o where o.at_risk group by o.account) as b
  union all
  select 'reconciler', r.account, 'act',
         format('What no webhook told was last looked for %s ago for the account %s (%s); %s is allowed.',
                restante.lasting(r.age), r.account, r.kind, restante.lasting(r.allowed))
           || coalesce(' The last error: ' || restante.cause(r.fault), ''),
         'select * from restante.reconcile_overview where is_late;', statement_timestamp() - r.age
    from (select distinct on (o.account) o.account, o.kind, o.unexplained_for_at_most as age, o.allowed, o.fault
            from restante.reconcile_overview as o
           where o.is_late
             -- Kinds that the API refuses do not count: the account may not have them.
             and (o.last_look_at is not null or o.fault is null)
             -- Without the job nobody is asked to look.
             and exists (select from restante.outbox_live as l
                          where l.type = 'resource.reconcile' and l.subscriber = '' and l.account = o.account)
           order by o.account, o.unexplained_for_at_most desc) as r
$$;
comment on function restante.api_findings is 'Engine: Results that the API may delete before they are here, and changes that nobody has looked for.';

create function restante.database_findings()
returns table (question text, subject text, state text, sentence text, next_step text, since timestamptz)
language sql stable
set jit = off as $$
  select 'horizon', '', case when h.open_for > interval '1 hour' or h.open_for is null then 'act' else 'look' end,
         format('Vacuum is held back by the %s %s%s.', case h.kind when 'slot' then 'replication slot' when 'prepared' then 'prepared transaction' else h.kind end,
                h.holder, case when h.open_for is null then format(', %s transactions old', h.transactions)
                               else ', open for ' || restante.lasting(h.open_for) end),
         case h.kind
           when 'session' then format('select pg_terminate_backend(%s); if it may end.', h.holder)
           when 'slot' then format('select pg_drop_replication_slot(%L); if nothing needs it.', h.holder)
           else format('rollback prepared %L; or commit prepared.', h.holder)
         end,
         statement_timestamp() - h.open_for
    from (select o.* from restante.outbox_horizon as o
           where o.open_for > interval '5 minutes' or (o.open_for is null and o.transactions > 1000000)
           order by o.open_for desc nulls first, o.transactions desc limit 1) as h
  union all
  select 'partitions', '', case when w.weeks < 2 then 'act' else 'look' end,
         format('The history has partitions for %s of the 4 weeks from now on.', w.weeks),
         'A worker makes them, unless something keeps a lock on the outbox: select pid, query from pg_stat_activity where query ~ ''outbox'';',
         null
    from (select count(to_regclass('restante.' || to_char((statement_timestamp() at time zone 'UTC') + n.nth * interval '1 week', '"outbox_"IYYY"w"IW')))
                 as weeks from generate_series(0, 3) as n (nth)) as w
   where w.weeks < 4
$$;
comment on function restante.database_findings is 'Engine: What keeps vacuum from cleaning up, and weeks without a partition.';

-- With the rights of the owner, so that everybody who asks gets the same answer.
create function restante.health_findings()
returns table (question text, subject text, state text, sentence text, next_step text, since timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp as $$
  select f.* from restante.silent_senders() as f
  union all select f.* from restante.refused_senders() as f
  union all select f.* from restante.unfinished_findings() as f
  union all select f.* from restante.api_findings() as f
  union all select f.* from restante.database_findings() as f
$$;
comment on function restante.health_findings is 'Engine: All that is not as it should be, one row for each question and subject.';

create view restante.health_finding as
  select f.question, f.subject, f.state, f.sentence, f.next_step, f.since from restante.health_findings() as f;
comment on view restante.health_finding is
  'What is not as it should be, a row for each question and subject (a sender, an account, a subscriber). restante.health sums it up.';

create view restante.health as
  select q.question, coalesce(f.state, 'ok') as state,
         coalesce(f.sentence || case when f.others > 0 then format(' And %s more: see restante.health_finding.', f.others) else '' end,
                  q.sentence) as sentence,
         f.next_step, f.since
    from (values
      (1, 'silence', 'Every sender sends as often as it usually does.'),
      (2, 'refusals', 'No sender is refused.'),
      (3, 'workers', 'What can be claimed is claimed within a minute.'),
      (4, 'trouble', 'No event waits because of us or the API.'),
      (5, 'dead', 'There are no dead letters.'),
      (6, 'batches', 'No results of batches are at risk.'),
      (7, 'reconciler', 'What no webhook told is looked for in time.'),
      (8, 'horizon', 'Nothing keeps vacuum from cleaning up.'),
      (9, 'partitions', 'The history has partitions for the coming weeks.')) as q (nth, question, sentence)
    left join (
      select distinct on (r.question) r.*, count(*) over (partition by r.question) - 1 as others
        from restante.health_findings() as r
       order by r.question, r.state, r.since nulls last, r.subject) as f on f.question = q.question
   order by q.nth;
comment on view restante.health is
  'Am I safe? A row for each question: ok, look (soon) or act (now), in a sentence, with the next step and since when. While ingest keeps '
  'events in its journal the database does not know of them: ask restante status or the metrics of ingest.';

-- Alarms.

create table restante.health_alarm (
  id         bigint      not null generated always as identity,
  question   text collate "C" not null,
  subject    text collate "C" not null,
  noticed_at timestamptz not null default clock_timestamp(),
  raised_at  timestamptz,
  raised_event_id text collate "C",
  good_looks integer     not null default 0,
  cleared_at timestamptz,
  cleared_event_id text collate "C",
  constraint health_alarm_pk primary key (id),
  constraint health_alarm_cleared_after_raised check (cleared_at is null or raised_at is not null)
);
create unique index health_alarm_open_once on restante.health_alarm (question, subject) where cleared_at is null;
comment on index restante.health_alarm_open_once is 'A question and subject has one open alarm: Postgres itself refuses a second.';
comment on table restante.health_alarm is
  'When an answer of restante.health turned to act, and when it was good again. Each stored an event, health.raised and health.cleared. '
  'Cleared ones are kept for 90 days.';
comment on column restante.health_alarm.subject is 'The sender, account or subscriber; empty where there is none.';
comment on column restante.health_alarm.noticed_at is 'When a worker first saw it.';
comment on column restante.health_alarm.raised_at is
  'When the event was stored. Trouble is often over soon, so its alarm is raised when it has been there for five minutes.';
comment on column restante.health_alarm.good_looks is 'How many looks in a row found nothing. Two clear it.';

create function restante.store_alarm_event(p_id bigint, p_type text, p_question text, p_subject text, p_sentence text, p_next_step text)
returns text
language plpgsql as $$
declare
  v_event_id text := p_type || ':' || p_id || ':' || replace(gen_random_uuid()::text, '-', '');
begin
  perform restante.insert_event(
    v_event_id, p_type, null, null, clock_timestamp(),
    json_build_object('id', p_id, 'question', p_question, 'subject', p_subject, 'sentence', p_sentence, 'next_step', p_next_step)::text,
    null, null, null, 'worker', 'anthropic', 'anthropic');
  return v_event_id;
end $$;
comment on function restante.store_alarm_event is 'Engine: Stores health.raised or health.cleared for an alarm. Returns its event_id.';

-- Two workers that look one after the other within seconds are one look.
create function restante.note_alarms(out raised integer, out cleared integer)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_found record;
  v_alarm restante.health_alarm;
begin
  raised := 0;
  cleared := 0;
  perform from restante.health_look as k
   where k.looked_at is null or k.looked_at < clock_timestamp() - interval '20 seconds' for update skip locked;
  if not found then
    return;
  end if;
  update restante.health_look as k set looked_at = clock_timestamp();
  update restante.health_alarm as a set good_looks = a.good_looks + 1
   where a.id in (select o.id from restante.health_alarm as o where o.cleared_at is null for update skip locked);

  for v_found in select f.* from restante.health_findings() as f loop
    if v_found.state = 'act' then
      insert into restante.health_alarm (question, subject) values (v_found.question, v_found.subject) on conflict do nothing;
    end if;
    -- A person may have locked it: then the next look goes on.
    select a.* into v_alarm from restante.health_alarm as a
     where a.question = v_found.question and a.subject = v_found.subject and a.cleared_at is null for update skip locked;
    continue when not found;
    update restante.health_alarm as a set good_looks = 0 where a.id = v_alarm.id;
    if v_found.state = 'act' and v_alarm.raised_at is null
       and v_alarm.noticed_at <= clock_timestamp() - (case v_found.question when 'trouble' then interval '5 minutes' else interval '0' end) then
      update restante.health_alarm as a
         set raised_at = clock_timestamp(),
             raised_event_id = restante.store_alarm_event(
               a.id, 'health.raised', a.question, a.subject, v_found.sentence, v_found.next_step)
       where a.id = v_alarm.id;
      raised := raised + 1;
    end if;
  end loop;

  -- What was over before it was raised never was an alarm.
  delete from restante.health_alarm as a
   where a.id in (select o.id from restante.health_alarm as o
                   where (o.raised_at is null and o.good_looks > 0) or o.cleared_at < clock_timestamp() - interval '90 days'
                     for update skip locked);
  for v_alarm in
    select a.* from restante.health_alarm as a where a.cleared_at is null and a.good_looks >= 2 for update skip locked
  loop
    update restante.health_alarm as a
       set cleared_at = clock_timestamp(),
           cleared_event_id = restante.store_alarm_event(
             a.id, 'health.cleared', a.question, a.subject, format('It is good again; it was not since %s UTC.',
             to_char(a.noticed_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI')), null)
     where a.id = v_alarm.id;
    cleared := cleared + 1;
  end loop;
end $$;
comment on function restante.note_alarms is
  'Engine: Stores an event for each answer that turned to act, once, and one when it was good for two looks. Workers call it twice a minute. '
  'Returns how many it raised and cleared.';

-- As in 0016, with the alarms.
create or replace function restante.is_own_fact(p_type text) returns boolean
language sql immutable parallel safe
return p_type = any (array[
  'message.completed', 'message.failed', 'message.cancelled', 'batch.results_ready', 'batch.submitted', 'batch.uncertain', 'batch.at_risk',
  'submission.completed', 'health.raised', 'health.cleared']);

create or replace function restante.is_reserved(type text) returns boolean
language sql immutable parallel safe
return type = any (array[
    'unreadable', 'message.send', 'message.pack', 'message.unpack', 'message.completed', 'message.failed', 'message.cancelled', 'session_events.send',
    'submission.completed', 'endpoint.test', 'health.raised', 'health.cleared'])
  or (split_part(type, '.', 1) || '.' = any (array[
    'session.', 'vault.', 'vault_credential.', 'agent.', 'deployment.', 'deployment_run.', 'environment.', 'memory_store.',
    'user_profile.', 'external_key.', 'external_storage.', 'batch.', 'message_batch.', 'notify.']) and strpos(type, '.') > 0);

revoke execute on all functions in schema restante from public;
grant select on restante.sender_rhythm, restante.sender_gap, restante.health_look, restante.sender_overview, restante.health_finding,
  restante.health, restante.health_alarm to restante_operator;
grant delete on restante.sender_rhythm to restante_operator;
grant select on restante.health, restante.health_alarm to restante_worker;
-- Who reads a view runs the functions in it.
grant execute on function restante.health_findings to restante_operator, restante_worker;
grant execute on function restante.note_rhythm, restante.note_alarms to restante_worker;
