-- The outbox: every event, from the moment it is stored until it is finished, and after that.
--
-- For people it is one table, `restante.outbox`. In Postgres it is partitioned by `finished_at`: rows that are not finished have
-- `finished_at = 'infinity'` and are in one small partition, `outbox_live`, however large the history is; finished rows are in
-- one partition a week, which can be detached and dropped as a whole.
--
-- No function waits for a row of the outbox (`skip locked`) or for the lock of a key (a try). A session that leaves a transaction
-- open delays only the events that it has changed itself, and no function deadlocks with a hand-written UPDATE.

-- src/database/schema.rs creates the schema before it applies the migrations, or an administrator has created it. `create schema
-- if not exists` would need the right to create one even if it exists.
do $$ begin
  if to_regnamespace('restante') is null then
    create schema restante;
  end if;
end $$;

-- The schema of a release also serves the programs of the release before, so that they are replaced one after the other. A migration
-- that no longer serves the programs of some release replaces this function.
create function restante.serves_programs_since() returns bigint
language sql immutable parallel safe
return 9;
comment on function restante.serves_programs_since is
  'Engine: The oldest schema version that a program may have been built for and still use this schema.';

create sequence restante.outbox_id_seq;

-- Domains, because Postgres caches their checks, while it reads those of a table anew for every statement.
create domain restante.event_status as text constraint event_status_known check (value in
  ('pending', 'blocked', 'running', 'retry', 'paused', 'dead', 'done', 'ignored', 'cancelled'));
comment on domain restante.event_status is 'What state an event is in.';
create domain restante.event_source as text constraint event_source_known check (value in
  ('webhook', 'poll', 'sql', 'worker'));
comment on domain restante.event_source is 'How an event came into the outbox.';

-- Which index a row is in.
create function restante.lane(status text, run_at timestamptz, holds_key boolean) returns "char"
language sql immutable parallel safe
return case
  when status = 'running'                            then 'r'::"char"  -- leased
  when status = 'pending' and run_at = '-infinity'   then 'r'          -- ready: may be claimed
  when status in ('pending', 'retry')                then 'l'          -- later: may be claimed at run_at
  when status = 'dead' and holds_key                 then 'l'          -- dead letter whose successors must wait
  when status = 'blocked'                            then 'b'          -- waits for an older event of its key
  when status in ('paused', 'dead')                  then 'p'          -- waits for a person
  else 'f'                                                             -- finished
end;
comment on function restante.lane is
  'Engine: Which index an event in this state is in. Every statement that changes the state also writes the lane.';

-- Identifiers compare by their bytes (collate "C"), here and in every index: that takes a tenth of the time, and an upgrade
-- of the system's locales cannot break the order of an index.
create table restante.outbox (
  id            bigint      not null default nextval('restante.outbox_id_seq'),
  event_id      text collate "C" not null,
  type          text collate "C" not null,
  subscriber    text collate "C" not null default '',
  key           text collate "C",
  workspace_id  text,
  source        restante.event_source not null default 'sql',
  created_at    timestamptz not null default now(),
  received_at   timestamptz not null default clock_timestamp(),
  payload       json,
  raw           bytea,
  status        restante.event_status not null default 'pending',
  run_at        timestamptz not null default '-infinity',
  holds_key     boolean     not null default false,
  -- Which index a row is in, as restante.lane() says. A claim turns `pending` into `running` and leaves the row in lane r, so
  -- that no indexed column changes and Postgres can make a HOT update. Not a generated column: Postgres would read the expression
  -- anew for every statement, a fifth of what it costs to store or to finish one event.
  lane          "char"      not null,
  attempt       integer     not null default 0,
  max_attempts  integer,
  crashes       integer     not null default 0,
  lease_token   bigint      not null default 0,
  lease_until   timestamptz not null default '-infinity',
  lease_owner   text,
  started_at    timestamptz,
  held_by       text collate "C",
  outcome       text,
  kind          text,
  last_error    text,
  result        json,
  finished_at   timestamptz not null default 'infinity',

  constraint outbox_one_body check ((payload is null) <> (raw is null)),
  constraint outbox_finished_has_a_time check ((lane = 'f') = (finished_at <> 'infinity')),
  constraint outbox_running_has_an_owner check (status <> 'running' or lease_owner is not null)
) partition by range (finished_at);

-- So that a copy of the table includes the current value of its sequence.
alter sequence restante.outbox_id_seq owned by restante.outbox.id;

comment on table restante.outbox is
  'Every event, until it is finished and after. Operate it with UPDATE restante.outbox SET status = ...';
comment on column restante.outbox.id is 'Our own number. Events of one key with equal created_at run in this order.';
comment on column restante.outbox.event_id is 'The sender''s identifier. Each one is stored once (outbox_seen).';
comment on column restante.outbox.type is 'What happened, as the API spells it: session.status_idled.';
comment on column restante.outbox.subscriber is
  'Which subscriber this row is for: empty for the handler of the type, else the name of a subscription with attempts of its own.';
comment on column restante.outbox.key is
  'What it happened to (data.id). Events of one key and subscriber run one at a time, by (created_at, id). Null: no order.';
comment on column restante.outbox.workspace_id is 'The workspace it happened in. Some events of the API have none.';
comment on column restante.outbox.source is 'How it came here: webhook, poll, sql (an application) or worker (a handler).';
comment on column restante.outbox.created_at is 'When it happened, by the sender''s clock. Decides the order.';
comment on column restante.outbox.received_at is 'When it was stored, by this database''s clock.';
comment on column restante.outbox.payload is 'The exact text that was received, if Postgres can hold it as JSON.';
comment on column restante.outbox.raw is 'The exact bytes that were received, if Postgres cannot hold them as JSON.';
comment on column restante.outbox.status is
  'pending, blocked, running, retry, paused, dead; finished: done, ignored, cancelled. The operator''s whole interface.';
comment on column restante.outbox.run_at is 'Not before this time. Set it to now() to run a retry at the next poll.';
comment on column restante.outbox.holds_key is 'Its handler wants this dead letter to keep later events of its key waiting.';
comment on column restante.outbox.lane is
  'Which index a row is in: r is ready or running, l is later, b is blocked, p waits for a person, f is finished.';
comment on column restante.outbox.attempt is 'How many attempts count so far. Snoozes and attempts that were handed back do not.';
comment on column restante.outbox.max_attempts is 'Overrides how many attempts the handler''s policy allows.';
comment on column restante.outbox.crashes is 'Attempts whose worker vanished: their lease ran out, and the worker gave no sign.';
comment on column restante.outbox.lease_token is
  'Grows by one with every change of state. Each write of an attempt names the token it was claimed with.';
comment on column restante.outbox.lease_until is 'When the lease of a running row runs out, by this database''s clock.';
comment on column restante.outbox.lease_owner is 'Which worker runs it, or ran it last.';
comment on column restante.outbox.started_at is 'When the last attempt began.';
comment on column restante.outbox.held_by is
  'The pattern of restante.pause() that holds a paused event; null where a person paused this event alone.';
comment on column restante.outbox.outcome is
  'How the last attempt without success ended: as failure.outcome says, or snoozed (too early), deferred (not its turn), '
  'trouble (something is wrong on our side, or on the other side).';
comment on column restante.outbox.kind is 'What kind of error the last attempt without success had, in a word to group by, as failure.kind.';
comment on column restante.outbox.last_error is 'Why the last attempt did not succeed, or what the event waits for.';
comment on column restante.outbox.result is 'The result that the handler stored.';
comment on column restante.outbox.finished_at is 'When it was finished; infinity until then.';

-- Each page keeps room for a second version of each row, so that claims are HOT updates: 45 was measured to give 100 % HOT
-- claims, 70 gave half. Vacuum comes early and does not pause, because rows of this partition change all the time.
create table restante.outbox_live partition of restante.outbox for values from ('infinity') to (maxvalue)
  with (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_insert_scale_factor = 0.2,
        autovacuum_analyze_scale_factor = 0.2);
comment on table restante.outbox_live is 'Every event that is not finished. Its size is the backlog, not the history.';

-- \d+ restante.outbox_live shows the indexes, so its columns get their comments, too.
do $$
declare
  v_column record;
begin
  for v_column in
    select a.attname, pg_catalog.col_description(a.attrelid, a.attnum) as comment
      from pg_catalog.pg_attribute as a
     where a.attrelid = 'restante.outbox'::regclass and a.attnum > 0 and not a.attisdropped
  loop
    execute format('comment on column restante.outbox_live.%I is %L', v_column.attname, v_column.comment);
  end loop;
end $$;

create unique index outbox_live_id on restante.outbox_live (id);
-- Every table has a replica identity: in a database that publishes all tables, Postgres refuses each UPDATE and DELETE on a table
-- without one.
alter table restante.outbox_live replica identity using index outbox_live_id;
comment on index restante.outbox_live_id is 'By it, workers find the rows to settle and the leases to renew.';
create index outbox_live_ready on restante.outbox_live (subscriber, created_at, id) where lane = 'r';
comment on index restante.outbox_live_ready is 'Events that may be claimed, oldest first, and events that are leased.';
create index outbox_live_due on restante.outbox_live (subscriber, run_at, id) where lane = 'l';
comment on index restante.outbox_live_due is 'Events that may be claimed later. A large backlog of retries costs a claim nothing.';
create unique index outbox_live_head on restante.outbox_live (key, subscriber) where key is not null and lane in ('r', 'l');
comment on index restante.outbox_live_head is 'At most one event of a key can be claimed: Postgres itself refuses a second.';
create index outbox_live_waiting on restante.outbox_live (key, subscriber, created_at, id) where lane = 'b';
comment on index restante.outbox_live_waiting is 'The successors of each head, in their order.';
create index outbox_live_event on restante.outbox_live (event_id) where lane = 'p';
comment on index restante.outbox_live_event is 'Finds a dead or paused event by the sender''s identifier.';
create index outbox_live_held on restante.outbox_live (held_by) where lane = 'p' and held_by is not null;
comment on index restante.outbox_live_held is 'The events that each pause holds.';

create table restante.outbox_overflow partition of restante.outbox default;
create unique index outbox_overflow_id on restante.outbox_overflow (id);
alter table restante.outbox_overflow replica identity using index outbox_overflow_id;
comment on table restante.outbox_overflow is
  'Finished rows whose week has no partition yet. Empty while a worker runs, because it makes the partitions ahead of time.';

create table restante.outbox_seen (
  event_id  text collate "C" not null,
  seen_at   timestamptz not null default now(),
  digest    bigint,
  constraint outbox_seen_once primary key (event_id)
);
comment on table restante.outbox_seen is
  'Every event identifier ever stored, so that a second delivery changes nothing, even if the event finished long ago.';
comment on column restante.outbox_seen.digest is
  'The first eight bytes of the SHA-256 of the body. Tells a repetition from another body under the same identifier.';

create table restante.delivery_differs (
  event_id    text collate "C" not null,
  digest      bigint      not null,
  received_at timestamptz not null default clock_timestamp(),
  payload     json,
  raw         bytea,
  constraint delivery_differs_once primary key (event_id, digest),
  constraint delivery_differs_one_body check ((payload is null) <> (raw is null))
);
comment on table restante.delivery_differs is
  'Deliveries whose identifier was already stored with another body. They changed nothing; this is their body.';

create table restante.failure (
  outbox_id   bigint      not null,
  event_id    text collate "C" not null,
  type        text collate "C" not null,
  subscriber  text collate "C" not null default '',
  attempt     integer     not null,
  started_at  timestamptz,
  failed_at   timestamptz not null default clock_timestamp(),
  outcome     text        not null,
  kind        text        not null,
  error       text        not null,
  lease_owner text,
  constraint failure_outcome_known check (outcome in ('retryable', 'permanent', 'panicked', 'timed_out', 'crashed'))
);
create index failure_outbox_id on restante.failure (outbox_id, failed_at);
create index failure_failed_at on restante.failure (failed_at);
comment on index restante.failure_failed_at is 'Finds recent failures without reading all older ones.';
-- No column is unique, so only the whole row identifies a row. Rows are only inserted, and cleaned up from time to time.
alter table restante.failure replica identity full;
comment on table restante.failure is 'One row for each attempt that failed, with its reason.';
comment on column restante.failure.kind is 'What failed, in a word to group by: database, transport, payload, crash, ...';

create table restante.worker (
  owner           text collate "C" not null,
  connected_since timestamptz not null,
  alive_until     timestamptz not null,
  constraint worker_once primary key (owner)
) with (fillfactor = 50);
comment on table restante.worker is
  'Each worker that runs, as its lease renewer last wrote. A lease that ran out is a crash only if its worker gives no sign of life.';
comment on column restante.worker.owner is 'The lease_owner of its events.';
comment on column restante.worker.connected_since is 'Since when it has given its sign of life without a gap.';
comment on column restante.worker.alive_until is 'Until when its last sign of life counts. After that, the worker counts as gone.';

create table restante.subscription (
  subscriber text collate "C" not null,
  type       text collate "C" not null,
  since      timestamptz not null default now(),
  constraint subscription_once primary key (subscriber, type),
  constraint subscription_has_a_name check (subscriber <> ''),
  constraint subscription_has_a_type check (type <> '')
);
comment on table restante.subscription is
  'Which subscribers get a row of their own for each event of a type (a trailing * matches any ending), next to the row for the '
  'type''s handler. Workers write their rows when they start; delete a row to end the subscription.';

create table restante.paused_type (
  type      text collate "C" not null,
  paused_at timestamptz not null default now(),
  reason    text,
  constraint paused_type_once primary key (type)
);
comment on table restante.paused_type is
  'Types whose new events are paused (a trailing * matches any ending). restante.pause and restante.resume write it.';

-- Makes the partitions of the history for the coming weeks.
--
-- Each partition is created separately and then attached, so that other sessions can read and write the outbox meanwhile. But
-- attaching locks the default partition exclusively, and a session that waits for such a lock makes all later ones wait behind
-- it. So this takes the locks at once or not at all: while a report or a backup reads the outbox, it fails with
-- lock_not_available (55P03) and has done nothing. The lock on the table also keeps two workers that start together from making
-- the same week.
--
-- TimeZone and DateStyle are set, because the limits of a week are written and read as text.
create function restante.make_partitions(p_weeks integer default 26) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set "TimeZone" = 'UTC' set "DateStyle" = 'ISO, MDY' as $$
declare
  v_monday timestamptz := date_trunc('week', now());
  v_from   timestamptz;
  v_to     timestamptz;
  v_name   text;
  v_made   integer := 0;
begin
  for v_week in 0 .. p_weeks loop
    v_from := v_monday + v_week * interval '1 week';
    v_to   := v_from + interval '1 week';
    v_name := to_char(v_from, '"outbox_"IYYY"w"IW');
    continue when to_regclass('restante.' || v_name) is not null;
    if v_made = 0 then
      lock table only restante.outbox in share update exclusive mode nowait;
      lock table restante.outbox_overflow in access exclusive mode nowait;
      -- Another session may have made it just before.
      continue when to_regclass('restante.' || v_name) is not null;
    end if;
    -- Rows that finished while their week was missing would have to move, so they stay in the overflow.
    continue when exists (
      select 1 from restante.outbox_overflow as o where o.finished_at >= v_from and o.finished_at < v_to);
    execute format('create table restante.%I (like restante.outbox including all)', v_name);
    execute format('create unique index %I on restante.%I (id)', v_name || '_id', v_name);
    execute format('create index %I on restante.%I (event_id)', v_name || '_event', v_name);
    execute format('create index %I on restante.%I (key, created_at) where key is not null', v_name || '_key', v_name);
    execute format('alter table restante.%I replica identity using index %I', v_name, v_name || '_id');
    execute format('alter table restante.outbox attach partition restante.%I for values from (%L) to (%L)',
                   v_name, v_from, v_to);
    v_made := v_made + 1;
  end loop;
  return v_made;
end $$;
comment on function restante.make_partitions is
  'Engine: Makes the missing weekly partitions of the history, or fails at once while another session reads the outbox. Workers call '
  'it every hour.';
