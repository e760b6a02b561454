-- What ingests say of their journals, and one more question of "am I safe?".

-- As in 0010: a session that waits for the lock of a table makes all later ones wait behind it.
set local lock_timeout = '1s';

-- The database cannot know what is in a journal while it is away itself. So each ingest that has one says so whenever it can, also that
-- nothing is in it: then one that falls silent is noticed, and its journal with it.
create table restante.journal (
  journal       text collate "C" not null,
  place         text        not null,
  since         timestamptz,
  events        bigint      not null,
  bytes         bigint      not null,
  bytes_max     bigint      not null,
  oldest_at     timestamptz,
  aside         integer     not null,
  is_full       boolean     not null,
  waiting_since timestamptz,
  reported_at   timestamptz not null default clock_timestamp(),
  ended_at      timestamptz,
  constraint journal_once primary key (journal),
  constraint journal_names_are_short check (octet_length(journal) <= 200 and octet_length(place) <= 1000),
  constraint journal_counts_are_not_negative check (events >= 0 and bytes >= 0 and bytes_max >= 0 and aside >= 0)
);
comment on table restante.journal is
  'The journals of ingests (RESTANTE_JOURNAL_DIR), as each ingest last reported; a few times a minute while it runs. An ingest that stops '
  'with nothing in its journal takes its row along. Delete the row of a journal that is gone for good.';
comment on column restante.journal.journal is 'The identifier of the journal, which is in its folder and moves with it.';
comment on column restante.journal.place is 'The machine and the folder where it was last.';
comment on column restante.journal.since is 'Since when deliveries go to the journal, by the clock of ingest. Null: they go to the database.';
comment on column restante.journal.events is 'How many events are not in the outbox yet.';
comment on column restante.journal.bytes is 'The size of its files.';
comment on column restante.journal.bytes_max is 'The largest size that it may have: RESTANTE_JOURNAL_BYTES_MAX.';
comment on column restante.journal.oldest_at is 'When the oldest of the events was delivered, by the clock of ingest.';
comment on column restante.journal.aside is 'How many of its files were kept aside, because they are damaged or this database refuses their events.';
comment on column restante.journal.is_full is 'Whether it took no more events when ingest last wrote to it.';
comment on column restante.journal.waiting_since is 'Since when each report tells of events that wait. Null: the last one told of none.';
comment on column restante.journal.reported_at is 'When ingest last reported.';
comment on column restante.journal.ended_at is 'When ingest stopped and left something in the journal.';

create trigger journal_note after delete on restante.journal
  for each row execute function restante.note_row('journal', 'journal', '');

-- Of a hundred journals at most, so that a folder with a new name each day fills nothing.
create function restante.note_journal(
  p_journal text, p_place text, p_since timestamptz, p_events bigint, p_bytes bigint, p_bytes_max bigint, p_oldest_at timestamptz,
  p_aside integer, p_is_full boolean, p_is_last boolean)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_lock_timeout text;
begin
  -- A row that a person has locked is left for the next report.
  v_lock_timeout := set_config('lock_timeout', '200ms', true);
  if p_is_last and p_events = 0 and p_aside = 0 then
    delete from restante.journal as j where j.journal = p_journal;
    return;
  end if;
  if not exists (select from restante.journal as j where j.journal = p_journal)
     and (select count(*) from restante.journal) >= 100 then
    delete from restante.journal as j
     where j.journal = (select o.journal from restante.journal as o
                         where o.events = 0 and o.aside = 0 order by o.reported_at limit 1 for update skip locked);
    if not found then
      return;
    end if;
  end if;
  insert into restante.journal as j (journal, place, since, events, bytes, bytes_max, oldest_at, aside, is_full, waiting_since, ended_at)
  values (p_journal, p_place, p_since, p_events, p_bytes, p_bytes_max, p_oldest_at, p_aside, p_is_full,
          case when p_events > 0 then clock_timestamp() end, case when p_is_last then clock_timestamp() end)
  on conflict (journal) do update
    set place = excluded.place, since = excluded.since, events = excluded.events, bytes = excluded.bytes, bytes_max = excluded.bytes_max,
        oldest_at = excluded.oldest_at, aside = excluded.aside, is_full = excluded.is_full,
        waiting_since = case when excluded.events > 0 then coalesce(j.waiting_since, excluded.waiting_since) end,
        reported_at = clock_timestamp(), ended_at = excluded.ended_at;
end $$;
comment on function restante.note_journal is
  'Engine: Notes what an ingest says of its journal. The last report of an ingest that leaves nothing in it removes its row.';

-- Journals, the worst first. An ingest reports every 15 s, and one that starts again may take a minute.
create function restante.journal_findings()
returns table (question text, subject text, state text, sentence text, next_step text, since timestamptz)
language sql stable
set enable_seqscan = off set jit = off as $$
  select 'journal', j.place, case when w.wrong is null then 'look' else 'act' end,
         case
           when w.wrong = 'silent' and j.ended_at is not null then
             format('The ingest of the journal %s stopped %s ago and left %s in it.', j.place, restante.lasting(statement_timestamp() - j.ended_at),
                    case when j.events > 0 then restante.counted(j.events, 'event', 'events') else restante.counted(j.aside, 'file', 'files') || ' that could not be replayed' end)
           when w.wrong = 'silent' then
             format('The ingest of the journal %s has not reported for %s; %s waited in it then, and deliveries may have come since.', j.place,
                    restante.lasting(statement_timestamp() - j.reported_at), restante.counted(j.events, 'event', 'events'))
           when w.wrong = 'full' then format('The journal %s takes no more events.', j.place)
           when w.wrong = 'aside' then
             format('%s of the journal %s could not be replayed.', restante.counted(j.aside, 'file', 'files'), j.place)
           else
             format('%s in the journal %s, %s of %s bytes; the oldest was delivered %s ago.',
                    restante.counted(j.events, 'event waits', 'events wait'), j.place, j.bytes, j.bytes_max,
                    restante.lasting(statement_timestamp() - coalesce(j.oldest_at, j.reported_at)))
         end,
         case w.wrong
           when 'silent' then
             'Start ingest there again: it replays the journal first. It is gone for good: delete from restante.journal where journal = '
               || quote_literal(j.journal) || ';'
           when 'full' then 'Make room on the disk, or raise RESTANTE_JOURNAL_BYTES_MAX: until then deliveries wait for the database or get a 503.'
           when 'aside' then 'The log of ingest names the files. Keep them for the search, and move them out of the folder.'
           when 'slow' then 'The log of ingest says why the database does not take them.'
           else 'Ingest replays them by itself: look again in some minutes.'
         end,
         case when w.wrong = 'silent' then coalesce(j.ended_at, j.reported_at) else coalesce(j.since, j.waiting_since, j.reported_at) end
    from restante.journal as j
    cross join lateral (
          select case
                   when j.reported_at < statement_timestamp() - interval '5 minutes' then 'silent'
                   when j.is_full then 'full'
                   when j.aside > 0 then 'aside'
                   when j.waiting_since < statement_timestamp() - interval '10 minutes' then 'slow'
                 end as wrong) as w
   where w.wrong is not null or j.events > 0
$$;
comment on function restante.journal_findings is
  'Engine: Journals of ingest in which events wait, which take no more, or of which nothing was heard.';

-- As in 0023, but without what the API said.
create or replace function restante.api_findings()
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
                restante.lasting(r.age), r.account, r.kind, restante.lasting(r.allowed)),
         'select * from restante.reconcile_overview where is_late;', statement_timestamp() - r.age
    from (select distinct on (o.account) o.account, o.kind, o.unexplained_for_at_most as age, o.allowed
            from restante.reconcile_overview as o
           where o.is_late
             -- Kinds that the API refuses do not count: the account may not have them.
             and (o.last_look_at is not null or o.fault is null)
             -- Without the job nobody is asked to look.
             and exists (select from restante.outbox_live as l
                          where l.type = 'resource.reconcile' and l.subscriber = '' and l.account = o.account)
           order by o.account, o.unexplained_for_at_most desc) as r
$$;

-- What the API or a person wrote of it, which is read anew each time and never stored.
create function restante.error_of(p_question text, p_subject text) returns text
language sql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off as $$
  select restante.cause(case p_question
    when 'trouble' then coalesce(
      (select k.said from restante.api_breaker as k where k.opened_at is not null and k.account = p_subject),
      (select mode() within group (order by restante.cause(w.last_error))
         from (select l.account, l.sender, l.last_error, l.status, l.outcome
                 from restante.outbox_live as l
                where l.lane = 'l' order by l.subscriber, l.run_at, l.id limit 10000) as w
        where w.status = 'retry' and w.outcome = 'trouble' and coalesce(w.account, w.sender) = p_subject))
    when 'reconciler' then
      (select o.fault from restante.reconcile_overview as o
        where o.account = p_subject and o.is_late and (o.last_look_at is not null or o.fault is null)
        order by o.unexplained_for_at_most desc limit 1)
  end)
$$;
comment on function restante.error_of is 'Engine: The error behind an answer of restante.health, as the API or a person wrote it; null where there is none.';

-- As in 0023, with the journals.
create or replace function restante.health_findings()
returns table (question text, subject text, state text, sentence text, next_step text, since timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp as $$
  select f.* from restante.silent_senders() as f
  union all select f.* from restante.refused_senders() as f
  union all select f.* from restante.unfinished_findings() as f
  union all select f.* from restante.api_findings() as f
  union all select f.* from restante.database_findings() as f
  union all select f.* from restante.journal_findings() as f
$$;

create or replace view restante.health_finding as
  select f.question, f.subject, f.state, concat_ws(' The error: ', f.sentence, restante.error_of(f.question, f.subject)) as sentence, f.next_step,
         f.since
    from restante.health_findings() as f;

create or replace view restante.health as
  select q.question, coalesce(f.state, 'ok') as state,
         coalesce(concat_ws(' The error: ', f.sentence, restante.error_of(f.question, f.subject))
                    || case when f.others > 0 then format(' And %s more: see restante.health_finding.', f.others) else '' end,
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
      (9, 'partitions', 'The history has partitions for the coming weeks.'),
      (10, 'journal', 'No ingest has told of events that wait in its journal.')) as q (nth, question, sentence)
    left join (
      select distinct on (r.question) r.*, count(*) over (partition by r.question) - 1 as others
        from restante.health_findings() as r
       order by r.question, r.state, r.since nulls last, r.subject) as f on f.question = q.question
   order by q.nth;
comment on view restante.health is
  'Am I safe? A row for each question: ok, look (soon) or act (now), in a sentence, with the next step and since when. An ingest tells of '
  'its journal once the database is back; while it is away, ask restante status, or /readyz and the metrics of ingest.';

revoke execute on all functions in schema restante from public;
grant select on restante.journal to restante_operator;
grant delete on restante.journal to restante_operator;
-- Who reads a view runs the functions in it.
grant execute on function restante.error_of to restante_operator, restante_worker;
grant execute on function restante.note_journal to restante_ingest;
