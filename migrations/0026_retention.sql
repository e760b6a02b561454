-- Retention: what is deleted by itself, and when. Each kind of row has a time of its own, in a table that people edit. A worker does the
-- work in small portions, one worker at a time; dead letters are never touched.
--
-- A week of which no row has to stay is detached and dropped. Postgres refuses to detach a partition concurrently while there is a default
-- partition, and only the owner may detach one at all (decision 29). So it is detached plainly, by a function of the owner that takes all
-- of its locks at once, or waits for them for 100 ms at most: nobody behind it in the queue of the lock waits for longer.

-- As in 0011: a session that waits for the lock of a table makes all later ones wait behind it.
set local lock_timeout = '1s';

create table restante.retention (
  what   text collate "C" not null,
  status text collate "C" not null default '',
  type   text collate "C" not null default '*',
  keep   interval,
  constraint retention_once primary key (what, status, type),
  constraint retention_what_known check (what in (
    'event', 'result', 'message', 'session_send', 'resource', 'seen', 'failure', 'delivery_differs', 'endpoint_delivery', 'operation', 'replay',
    'throughput')),
  constraint retention_status_is_that_of_an_event check (
    case when what = 'event' then status in ('done', 'ignored', 'cancelled') else status = '' end),
  constraint retention_type_is_that_of_an_event check (type <> '' and (what = 'event' or type = '*')),
  -- The engine itself looks back for some days. A sender may repeat an event for days, a journal of ingest may be older, and a batch is
  -- asked for until it is 29 days old.
  constraint retention_keeps_what_is_needed check (keep >= case when what = 'seen' then interval '45 days' else interval '7 days' end)
);
comment on table restante.retention is
  'How long each kind of row is kept; change it with UPDATE. A finished event goes by the row of its status whose type matches, the longest '
  'pattern first. What is not finished, and dead letters with it, stays.';
comment on column restante.retention.what is
  'event (finished), result (of a batch, with its requests), message (answered or given up), session_send, resource (gone at the API), seen '
  '(identifiers that events are known by), failure, delivery_differs, endpoint_delivery, operation, replay, throughput.';
comment on column restante.retention.status is 'done, ignored or cancelled, for events; else empty.';
comment on column restante.retention.type is 'Which events: a type, or a beginning with a star. * is any.';
comment on column restante.retention.keep is 'For how long. Null: for ever. At least 7 days, and 45 days for identifiers.';

-- What people may want stays until they say otherwise. What only grows has a time.
insert into restante.retention (what, status, keep) values
  ('event', 'done', null), ('event', 'ignored', null), ('event', 'cancelled', null),
  ('result', '', null), ('message', '', null), ('session_send', '', null), ('resource', '', null),
  ('seen', '', '400 days'), ('failure', '', '180 days'), ('delivery_differs', '', '180 days'), ('endpoint_delivery', '', '90 days'),
  ('operation', '', '2 years'), ('replay', '', '2 years'), ('throughput', '', '2 years');

create table restante.retention_work (
  relation      text collate "C" not null,
  what          text collate "C" not null,
  step          text        not null default 'waiting',
  due_at        timestamptz not null default clock_timestamp(),
  page          bigint      not null default 0,
  position      text collate "C" not null default '',
  expired_before timestamptz,
  number_below  bigint,
  deleted       bigint      not null default 0,
  began_at      timestamptz,
  ended_at      timestamptz,
  pending_since timestamptz,
  tries         integer     not null default 0,
  constraint retention_work_once primary key (relation),
  constraint retention_work_step_known check (step in ('waiting', 'looking', 'deleting', 'detaching', 'dropping'))
);
comment on table restante.retention_work is
  'How far retention is with each table and each past week of the history. restante.retention_overview shows it with what it means.';
comment on column restante.retention_work.step is
  'waiting (until due_at), looking (for a row that must stay), deleting (row by row), detaching and dropping (a whole week).';
comment on column restante.retention_work.page is 'The next page of the table to go through.';
comment on column restante.retention_work.position is 'The last row of a batch that was gone through.';
comment on column restante.retention_work.expired_before is 'What is older goes, in the round that is under way.';
comment on column restante.retention_work.number_below is 'Events with a lower number are old enough that their identifiers would go.';
comment on column restante.retention_work.deleted is 'Rows deleted in this round, or in the last one.';
comment on column restante.retention_work.pending_since is 'Since when a week waits for a lock that somebody holds on the outbox.';
comment on column restante.retention_work.tries is 'How often its lock could not be had.';

create table restante.retention_run (
  is_the_one boolean     not null default true,
  began_at   timestamptz,
  ended_at   timestamptz,
  rows       bigint      not null default 0,
  weeks      integer     not null default 0,
  deleted    jsonb       not null default '{}',
  constraint retention_run_once primary key (is_the_one),
  constraint retention_run_is_one_row check (is_the_one)
);
insert into restante.retention_run default values;
comment on table restante.retention_run is
  'The run of retention that is under way, or the last one. One row, which the worker has locked that does a portion: so there is one at a time.';
comment on column restante.retention_run.is_the_one is 'Always true, because there is one row.';
comment on column restante.retention_run.deleted is 'How many rows of which table. Of a dropped week, what Postgres estimated.';

create function restante.kept_for(p_status text, p_type text) returns interval
language sql stable
return (select r.keep from restante.retention as r
         where r.what = 'event' and r.status = p_status and restante.covers(r.type, p_type)
         order by (r.type = p_type) desc, length(r.type) desc limit 1);
comment on function restante.kept_for is 'Engine: For how long a finished event is kept; null for ever.';

-- The weeks of the history, with their limits. `outbox_overflow` has none.
create function restante.weeks()
returns table (week text, relation oid, begins_at timestamptz, ends_at timestamptz)
language sql stable
set "TimeZone" = 'UTC' set "DateStyle" = 'ISO, MDY' as $$
  select c.relname::text, c.oid, b.limits[1]::timestamptz, b.limits[2]::timestamptz
    from pg_catalog.pg_inherits as i
    join pg_catalog.pg_class as c on c.oid = i.inhrelid
   cross join lateral (
         select regexp_match(pg_catalog.pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM \(''(.+)''\) TO \(''(.+)''\)$') as limits) as b
   where i.inhparent = 'restante.outbox'::regclass and b.limits is not null and b.limits[1] <> 'infinity'
$$;
comment on function restante.weeks is 'Engine: The weeks of the history, with their limits.';

-- The tables that are gone through by their pages, and which of their rows have expired ($1: before when; $2: below which number). An
-- interval of nothing is added to a time that has an index: so no plan reads that index, which would be read anew for each portion.
create function restante.retained_tables() returns table (what text, relation text, condition text)
language sql immutable as $$
  values
    ('failure', 'failure', 't.failed_at + interval ''0'' < $1 and (select true from restante.outbox_live as l where l.id = t.outbox_id) is null'),
    ('delivery_differs', 'delivery_differs', 't.received_at < $1'),
    ('endpoint_delivery', 'endpoint_delivery', 't.delivered_at < $1'),
    ('operation', 'operation', 't.at + interval ''0'' < $1'),
    ('replay', 'replay', 't.ended_at < $1'),
    ('throughput', 'throughput_hour', 't.hour + interval ''0'' < $1'),
    -- Of what was given up or called off the last attempt counts.
    ('message', 'message', 't.status in (''done'', ''failed'', ''cancelled'') and coalesce(t.done_at, '
       '(select max(a.ended_at) from restante.message_attempt as a where a.message = t.id), t.created_at) < $1'),
    ('session_send', 'session_send', 't.status in (''done'', ''cancelled'') and coalesce(t.done_at, t.created_at) < $1'),
    ('resource', 'resource', 't.gone_at < $1'),
    -- An identifier stays as long as its event.
    ('seen', 'outbox_seen', 't.seen_at < $1 and not exists (select from restante.outbox as o where o.id < $2 '
       'and restante.seen_as(o.sender, o.event_id) = t.event_id)')
$$;
comment on function restante.retained_tables is 'Engine: The tables that retention goes through by their pages, and which of their rows have expired.';

-- Deletes what has expired of some pages. It goes by pages and not by an index, so that it costs the same under an old transaction, which
-- keeps what was deleted at the front of every index. Rows that somebody has locked wait for the next round.
create function restante.delete_expired(p_relation text, p_condition text, p_first_page bigint, p_pages bigint, p_before timestamptz, p_number bigint)
returns bigint
language plpgsql
set enable_seqscan = off as $$
declare
  v_rows bigint;
begin
  execute format(
    'delete from restante.%1$I where ctid = any (array(
       select t.ctid from restante.%1$I as t
        where t.ctid >= %2$L::tid and t.ctid < %3$L::tid and %4$s for update of t skip locked))',
    p_relation, format('(%s,0)', p_first_page), format('(%s,0)', p_first_page + p_pages), p_condition)
    using p_before, p_number;
  get diagnostics v_rows = row_count;
  return v_rows;
end $$;
comment on function restante.delete_expired is 'Engine: Deletes the rows of some pages that have expired. Returns how many.';

-- Is there an event within these pages of a week that has to stay?
create function restante.must_stay(p_week text, p_first_page bigint, p_pages bigint) returns boolean
language plpgsql
set enable_seqscan = off as $$
declare
  v_stays boolean;
begin
  execute format(
    'select exists (
       select from (select t.status, t.type, max(t.finished_at) as last_at from restante.%I as t
                     where t.ctid >= %L::tid and t.ctid < %L::tid group by t.status, t.type) as g
        where (g.last_at < clock_timestamp() - restante.kept_for(g.status, g.type)) is not true)',
    p_week, format('(%s,0)', p_first_page), format('(%s,0)', p_first_page + p_pages))
    into v_stays;
  return v_stays;
end $$;
comment on function restante.must_stay is 'Engine: Is there an event within these pages of a week that has to stay?';

create function restante.pages_of(p_relation text) returns bigint
language sql volatile
return pg_catalog.pg_relation_size(to_regclass(format('restante.%I', p_relation))) / current_setting('block_size')::bigint;
comment on function restante.pages_of is 'Engine: How many pages a table has.';

-- Detaches a week, or returns false because somebody holds a lock on the outbox. Mostly it does not wait at all. Where there is never a
-- moment without a lock, every twentieth try waits, for as long as lock_timeout of its caller says.
create function restante.detach_week(p_week text, p_waits boolean) returns boolean
language plpgsql as $$
declare
  v_nowait text := case when p_waits then '' else 'nowait' end;
begin
  execute format('lock table only restante.outbox in access exclusive mode %s', v_nowait);
  execute format('lock table restante.outbox_overflow, restante.%I in access exclusive mode nowait', p_week);
  execute format('alter table restante.outbox detach partition restante.%I', p_week);
  return true;
exception
  when lock_not_available then
    return false;
end $$;
comment on function restante.detach_week is 'Engine: Detaches a week from the outbox, or returns false because somebody holds a lock.';

-- The results of one batch and the requests that they answer, a portion at a time. The batch itself stays, with its sums.
alter table restante.batch add column results_dropped_at timestamptz;
comment on column restante.batch.results_dropped_at is 'When retention deleted its results and the requests they answer.';
create index batch_with_results on restante.batch (complete_at) where complete_at is not null and results_dropped_at is null;
comment on index restante.batch_with_results is 'The complete batches whose results are here.';

create function restante.delete_results(p_before timestamptz, p_after text, p_limit integer, out rows bigint, out reached text)
language plpgsql
set enable_seqscan = off as $$
declare
  v_batch restante.batch;
  v_last  text;
begin
  rows := 0;
  -- Costs are read from the results until they are added up, so those stay.
  select b.* into v_batch from restante.batch as b
   where b.complete_at < p_before and b.results_dropped_at is null
     and exists (select from restante.batch_usage as u where u.batch_id = b.id and u.account = b.account)
   order by b.complete_at limit 1 for update skip locked;
  if not found then
    return;
  end if;
  select max(r.custom_id) into v_last
    from (select r.custom_id from restante.batch_result as r
           where r.batch_id = v_batch.id and r.account = v_batch.account and r.custom_id > p_after
           order by r.custom_id limit p_limit) as r;
  if v_last is null then
    update restante.batch as b set results_dropped_at = clock_timestamp() where b.id = v_batch.id and b.account = v_batch.account;
    reached := '';
    return;
  end if;
  delete from restante.batch_request as q
   using restante.submission_part as p
   where p.batch_id = v_batch.id and p.account = v_batch.account and q.submission = p.submission and q.part = p.id
     and q.custom_id > p_after and q.custom_id <= v_last;
  delete from restante.batch_result as r
   where r.batch_id = v_batch.id and r.account = v_batch.account and r.custom_id > p_after and r.custom_id <= v_last;
  get diagnostics rows = row_count;
  reached := v_last;
end $$;
comment on function restante.delete_results is
  'Engine: Deletes a portion of the results of the oldest complete batch that has expired. Returns how many, and up to which; an empty one at '
  'the end of a batch; null if none has expired.';

-- What there is to go through.
create function restante.list_retained() returns void
language sql
begin atomic
  insert into restante.retention_work (relation, what)
  select t.relation, t.what from restante.retained_tables() as t
  union all select 'batch_result', 'result'
  union all select 'outbox_overflow', 'event'
  union all select w.week, 'event' from restante.weeks() as w where w.ends_at <= clock_timestamp()
  on conflict do nothing;
  delete from restante.retention_work as w where to_regclass(format('restante.%I', w.relation)) is null;
end;
comment on function restante.list_retained is 'Engine: Notes the tables and the past weeks that retention goes through.';

-- The next step of a table or a week.
create function restante.begin_round(w restante.retention_work) returns restante.retention_work
language plpgsql
set "TimeZone" = 'UTC' as $$
declare
  v_week  record;
  v_least interval;
  v_most  interval;
begin
  w.page := 0;
  w.position := '';
  w.deleted := 0;
  w.began_at := clock_timestamp();
  if w.what <> 'event' then
    select clock_timestamp() - r.keep into w.expired_before from restante.retention as r where r.what = w.what;
    if w.what = 'seen' then
      -- An identifier outlives its event, whatever it says in restante.retention.
      w.expired_before := least(w.expired_before, (select case when restante.has_events('outbox_overflow') then '-infinity'::timestamptz end),
                                (select min(k.begins_at) from restante.weeks() as k where k.begins_at < clock_timestamp() and restante.has_events(k.week)));
      w.number_below := restante.id_at(w.expired_before + interval '1 day');
    end if;
    w.step := case when w.expired_before > '-infinity' then 'deleting' else 'waiting' end;
    return w;
  end if;
  select min(r.keep), case when bool_and(r.keep is not null) then max(r.keep) end into v_least, v_most
    from restante.retention as r where r.what = 'event';
  -- A status without a row is kept for ever.
  if (select count(*) from restante.retention as r where r.what = 'event' and r.type = '*') < 3 then
    v_most := null;
  end if;
  select k.* into v_week from restante.weeks() as k where k.week = w.relation;
  w.step := case
    when v_least is null or v_week.begins_at > clock_timestamp() - v_least then 'waiting'
    when w.relation = 'outbox_overflow' then 'deleting'
    when v_week.ends_at <= clock_timestamp() - v_most then 'detaching'
    else 'looking'
  end;
  return w;
end $$;
comment on function restante.begin_round is 'Engine: Decides how a table or a week is gone through now.';

create function restante.has_events(p_relation text) returns boolean
language plpgsql stable as $$
declare
  v_has boolean;
begin
  execute format('select exists (select from restante.%I limit 1)', p_relation) into v_has;
  return v_has;
end $$;
comment on function restante.has_events is 'Engine: Is there a row in a week of the history?';

-- One step of one round. Returns the work as it is after it.
create function restante.go_through(w restante.retention_work, p_pages bigint, out after restante.retention_work, out rows bigint)
language plpgsql as $$
declare
  v_found record;
begin
  rows := 0;
  after := w;
  case w.step
    when 'waiting' then
      after := restante.begin_round(w);
    when 'looking' then
      after.page := w.page + p_pages * 8;
      if restante.must_stay(w.relation, w.page, p_pages * 8) then
        after.step := 'deleting';
        after.page := 0;
      elsif after.page >= restante.pages_of(w.relation) then
        after.step := 'detaching';
      end if;
    when 'deleting' then
      if w.what = 'result' then
        select d.* into v_found from restante.delete_results(w.expired_before, w.position, (p_pages * 16)::integer) as d;
        rows := v_found.rows;
        after.position := v_found.reached;
        after.step := case when v_found.reached is null then 'waiting' else 'deleting' end;
      else
        rows := restante.delete_expired(
          w.relation,
          coalesce((select t.condition from restante.retained_tables() as t where t.relation = w.relation),
                   't.finished_at < clock_timestamp() - restante.kept_for(t.status, t.type)'),
          w.page, p_pages, w.expired_before, w.number_below);
        after.page := w.page + p_pages;
        after.step := case when after.page >= restante.pages_of(w.relation) then 'waiting' else 'deleting' end;
      end if;
    when 'detaching' then
      if restante.detach_week(w.relation, w.tries % 20 = 19) then
        after.step := 'dropping';
      end if;
    when 'dropping' then
      rows := greatest((select c.reltuples from pg_catalog.pg_class as c where c.oid = format('restante.%I', w.relation)::regclass), 0)::bigint;
      begin
        execute format('drop table restante.%I', w.relation);
        after := null;
      exception when lock_not_available then
        rows := 0;
      end;
  end case;
end $$;
comment on function restante.go_through is 'Engine: Does one step of retention with one table or week. Returns how it stands then, and the rows deleted.';

-- When a table or a week is to be gone on with. A lock that is not to be had is tried soon again for a while, then each minute, and at
-- last each quarter of an hour.
create function restante.goes_on_in(p_was text, p_work restante.retention_work) returns interval
language sql immutable
return case
  when p_work.step = 'waiting' then case p_work.what when 'seen' then interval '7 days' else interval '6 hours' end
  when p_work.step <> p_was or p_work.step not in ('detaching', 'dropping') then interval '0'
  when p_work.tries % 20 <> 0 then interval '100 milliseconds'
  else least(interval '1 minute' * (p_work.tries / 20), interval '15 minutes')
end;
comment on function restante.goes_on_in is 'Engine: In how long a table or a week is to be gone on with, after a step.';

-- Notes what a portion did in the run that is under way, which begins with it if there is none.
create function restante.note_portion(p_run restante.retention_run, p_relation text, p_rows bigint, p_weeks integer) returns void
language sql
begin atomic
  update restante.retention_run as r
     set began_at = coalesce(p_run.began_at, clock_timestamp()), rows = n.rows + p_rows, weeks = n.weeks + p_weeks,
         deleted = n.deleted || case when p_rows = 0 then '{}'::jsonb else jsonb_build_object(
                                  p_relation, p_rows + coalesce((n.deleted->>p_relation)::bigint, 0)) end
    from (select case when p_run.began_at is null then 0 else p_run.rows end as rows,
                 case when p_run.began_at is null then 0 else p_run.weeks end as weeks,
                 case when p_run.began_at is null then '{}'::jsonb else p_run.deleted end as deleted) as n;
end;
comment on function restante.note_portion is 'Engine: Notes what a portion of retention did.';

-- Nothing is due: if that ends a run, it leaves its row for people.
create function restante.end_run(p_run restante.retention_run) returns boolean
language plpgsql as $$
begin
  perform restante.list_retained();
  if p_run.began_at is null or exists (select from restante.retention_work as w where w.due_at <= clock_timestamp()) then
    return false;
  end if;
  if p_run.rows > 0 or p_run.weeks > 0 then
    insert into restante.operation (what, how_many, reason, arguments)
    values ('retention', p_run.rows, 'restante.retention says so', p_run.deleted);
  end if;
  update restante.retention_run as r set began_at = null, ended_at = clock_timestamp();
  return true;
end $$;
comment on function restante.end_run is 'Engine: Ends a run of retention, if one is under way. Returns whether it did.';

-- One portion, for whichever worker comes by.
create function restante.retain_portion(
  p_pages bigint default 64, out relation text, out what text, out step text, out rows bigint, out weeks integer,
  out next_in_seconds double precision, out pending_seconds double precision)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms' set jit = off as $$
declare
  v_run   restante.retention_run;
  v_work  restante.retention_work;
  v_after restante.retention_work;
  v_done  record;
begin
  rows := 0;
  weeks := 0;
  select r.* into v_run from restante.retention_run as r for update skip locked;
  if found then
    select w.* into v_work from restante.retention_work as w
     where w.due_at <= clock_timestamp() order by w.due_at, w.relation limit 1 for update skip locked;
    if found then
      relation := v_work.relation;
      what := v_work.what;
      step := v_work.step;
      select g.* into v_done from restante.go_through(v_work, p_pages) as g;
      v_after := v_done.after;
      rows := v_done.rows;
      if v_after.relation is null then
        weeks := 1;
        delete from restante.retention_work as w where w.relation = v_work.relation;
      else
        v_after.deleted := v_after.deleted + rows;
        v_after.tries := case when v_after.step = step and step in ('detaching', 'dropping') then v_work.tries + 1 else 0 end;
        update restante.retention_work as w
           set step = v_after.step, page = v_after.page, position = coalesce(v_after.position, ''), began_at = v_after.began_at,
               expired_before = v_after.expired_before, number_below = v_after.number_below, deleted = v_after.deleted, tries = v_after.tries,
               ended_at = case when v_after.step = 'waiting' then clock_timestamp() else w.ended_at end,
               pending_since = case when v_after.tries > 0 then coalesce(v_work.pending_since, clock_timestamp()) end,
               due_at = clock_timestamp() + restante.goes_on_in(retain_portion.step, v_after)
         where w.relation = v_work.relation;
      end if;
      perform restante.note_portion(v_run, relation, rows, weeks);
    elsif restante.end_run(v_run) then
      step := 'ended';
      rows := v_run.rows;
      weeks := v_run.weeks;
    end if;
  end if;
  select extract(epoch from min(w.due_at) - clock_timestamp()), coalesce(extract(epoch from clock_timestamp() - min(w.pending_since)), 0)
    into next_in_seconds, pending_seconds
    from restante.retention_work as w;
end $$;
comment on function restante.retain_portion is
  'Engine: Does one portion of retention, unless another session does one. Returns what it went through, if anything is due; at the end of a '
  'run, how many rows and weeks that deleted; in how long something is due; and for how long a week has waited for a lock. Workers call it '
  'all the time.';

-- What people change counts at once.
create function restante.follow_retention() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  update restante.retention_work as w set due_at = least(w.due_at, clock_timestamp())
   where w.relation in (select n.relation from restante.retention_work as n where n.step = 'waiting' for update skip locked);
  return null;
end $$;
comment on function restante.follow_retention is 'Engine: Has everything gone through again, because somebody changed what is kept.';
create trigger retention_follow after insert or update or delete on restante.retention
  for each statement execute function restante.follow_retention();
create trigger retention_note after insert or update or delete on restante.retention
  for each row execute function restante.note_row('retention', 'what', '', 'status', 'type', 'keep');

create view restante.retention_overview as
  select c.relname::text as relation, coalesce(w.what, 'event') as what, k.begins_at, k.ends_at,
         case when c.reltuples >= 0 then c.reltuples::bigint end as rows_estimated, pg_total_relation_size(c.oid) as bytes,
         s.keep,
         case when k.week is not null then k.ends_at + e.most end as goes_at,
         coalesce(k.ends_at + e.most, w.due_at) < statement_timestamp() - interval '1 day' as is_overdue,
         w.step, w.pending_since, w.deleted as rows_deleted, w.ended_at as last_round_at
    from pg_class as c
    left join restante.retention_work as w on w.relation = c.relname
    left join restante.weeks() as k on k.relation = c.oid
    left join restante.retention as s on s.what = w.what and w.what <> 'event'
   cross join (select case when bool_and(r.keep is not null) and count(*) filter (where r.type = '*') = 3 then max(r.keep) end as most
                 from restante.retention as r where r.what = 'event') as e
   where c.relnamespace = 'restante'::regnamespace and (w.relation is not null or k.begins_at <= statement_timestamp());
comment on view restante.retention_overview is
  'What is kept for how long, table by table and week by week: its size, when it goes, and how far retention is with it.';
comment on column restante.retention_overview.rows_estimated is 'As Postgres estimates it; null before it has counted.';
comment on column restante.retention_overview.goes_at is
  'When a week goes as a whole. Null: something of it may be kept for ever; what has a time goes row by row.';
comment on column restante.retention_overview.is_overdue is 'It should have gone a day ago: does a worker run, and what does pending_since say?';
comment on column restante.retention_overview.pending_since is 'Since when a week waits for a lock that somebody holds on the outbox.';

comment on table restante.operation is
  'What people did: one row for each call of a function and for each hand-written statement that changed something. Of what programs do, '
  'only what retention and forgetting delete is in it.';

revoke execute on all functions in schema restante from public;
grant execute on function restante.retain_portion to restante_worker;
grant select on restante.retention, restante.retention_work, restante.retention_run, restante.retention_overview to restante_operator;
grant select on restante.retention_overview to restante_worker;
grant insert, update, delete on restante.retention to restante_operator;
-- Who reads a view runs the functions in it.
grant execute on function restante.weeks to restante_operator, restante_worker;
