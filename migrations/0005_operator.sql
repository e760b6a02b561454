-- The outbox for people: the guard that makes any hand-written UPDATE of `status` safe, and the functions that they call.

-- When the engine changes a state, it writes a new lease token. A hand-written UPDATE leaves the token as it is, so the guard
-- recognises it. The guard then sets all columns that belong to the new state. A running attempt loses its lease by that, and its
-- writes roll back.
create function restante.guard_row() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if new.run_at = 'infinity' and not (new.status = 'dead' and old.run_at = 'infinity') then
    if new.run_at <> old.run_at then
      raise exception 'run_at must be a time: an event that waits forever is shown nowhere'
        using hint = 'Set status = ''paused'' to hold an event.', errcode = 'check_violation';
    end if;
    -- A dead letter that held its key has no time to run at.
    new.run_at := '-infinity';
  end if;
  if new.status = old.status then
    -- A change of run_at may make an event wait, or let it run.
    new.lane := restante.lane(new.status, new.run_at, new.holds_key);
    return new;
  end if;
  if new.status = 'running' then
    raise exception 'an event becomes running when a worker claims it, not by hand'
      using hint = 'Set status = ''pending'' to have it run.', errcode = 'check_violation';
  end if;
  if new.status = 'blocked' then
    raise exception 'blocked is kept by Restante: it means that an older event of the key comes first'
      using hint = 'Set status = ''paused'' to hold an event, ''pending'' to let it go.', errcode = 'check_violation';
  end if;

  new.lease_token := old.lease_token + 1;
  new.lease_until := '-infinity';
  new.holds_key   := new.status = 'dead' and old.holds_key;
  if new.status <> 'paused' then
    new.held_by := null;
  end if;
  if new.run_at = old.run_at and new.status <> 'retry' then
    new.run_at := '-infinity';
  end if;

  if new.status in ('done', 'ignored', 'cancelled') then
    if old.finished_at = 'infinity' then
      new.finished_at := clock_timestamp();
    end if;
    new.lane := 'f';
    return new;
  end if;
  new.finished_at := 'infinity';
  if new.status in ('pending', 'retry') then
    if old.status in ('dead', 'done', 'ignored', 'cancelled') then
      -- A replay starts from the beginning.
      new.attempt := 0;
      new.crashes := 0;
      new.result  := null;
    end if;
    if new.key is not null then
      -- Whether the key is free is known only under its lock, and no lock of a key may be taken before all rows are locked. So
      -- the event is blocked here, and when the statement ends, guard_statement gives the key its head.
      new.status := 'blocked';
    end if;
  end if;
  new.lane := restante.lane(new.status, new.run_at, new.holds_key);
  return new;
end $$;
comment on function restante.guard_row is
  'Engine: Completes a hand-written change of status: takes the lease, restarts a replay from zero, blocks an event with a key.';

create trigger outbox_guard_row before update of status, run_at, holds_key, lane on restante.outbox
  for each row when (old.lease_token = new.lease_token) execute function restante.guard_row();

-- A row that is inserted by hand gets the lane of its state.
create function restante.guard_insert() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  new.lane := restante.lane(new.status, new.run_at, new.holds_key);
  return new;
end $$;
comment on function restante.guard_insert is 'Engine: Gives a row that is inserted by hand the lane of its state.';

create trigger outbox_guard_insert before insert on restante.outbox
  for each row when (new.lane is null) execute function restante.guard_insert();

-- When a hand-written statement ends, every key that it touched gets its right head. A key that another session has locked is
-- noted, and so are all keys after the first thousand: after this transaction's commit, the next claim of a worker settles them.
create function restante.guard_statement() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off as $$
declare
  v_keys        text[];
  v_subscribers text[];
  v_missed      text[];
begin
  select array_agg(c.key), array_agg(c.subscriber) into v_keys, v_subscribers
    from (select distinct n.key, n.subscriber from changed as n where n.key is not null) as c;
  if v_keys is null then
    return null;
  end if;
  v_missed := restante.try_lock_keys(v_keys);
  -- By a join, because there may be a million keys.
  insert into restante.key_unsettled (key, subscriber)
  select c.key, c.subscriber
    from unnest(v_keys, v_subscribers) as c (key, subscriber)
    join (select distinct m.key from unnest(v_missed) as m (key)) as missed on missed.key = c.key;
  select array_agg(c.key), array_agg(c.subscriber) into v_keys, v_subscribers
    from unnest(v_keys, v_subscribers) as c (key, subscriber)
    left join (select distinct m.key from unnest(v_missed) as m (key)) as missed on missed.key = c.key
   where missed.key is null;
  perform restante.step_down(v_keys, v_subscribers);
  perform restante.unblock(v_keys, v_subscribers);
  return null;
end $$;
comment on function restante.guard_statement is
  'Engine: Gives every key that an UPDATE or a DELETE touched its right head, or notes it for the next claim.';

create trigger outbox_guard_statement after update on restante.outbox
  referencing new table as changed for each statement execute function restante.guard_statement();

-- When a person deletes a head, its successor becomes the head.
create trigger outbox_guard_delete after delete on restante.outbox
  referencing old table as changed for each statement execute function restante.guard_statement();

-- Is a type one that the Claude API sends, or one of the engine's own? Applications cannot enqueue those.
create function restante.is_reserved(type text) returns boolean
language sql immutable parallel safe
return type = 'unreadable' or split_part(type, '.', 1) || '.' = any (array[
  'session.', 'vault.', 'vault_credential.', 'agent.', 'deployment.', 'deployment_run.', 'environment.', 'memory_store.',
  'user_profile.', 'external_key.', 'external_storage.', 'batch.', 'message_batch.']) and strpos(type, '.') > 0;
comment on function restante.is_reserved is
  'Engine: Is a type one that the Claude API sends, or one of Restante''s own? Applications cannot enqueue those.';

-- For applications: stores an event in their own transaction. It may run once the transaction commits.
create function restante.enqueue(
  type text, payload json, key text default null, run_at timestamptz default null,
  event_id text default null, created_at timestamptz default null, workspace_id text default null)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_event_id text := coalesce(enqueue.event_id, 'sql_' || replace(gen_random_uuid()::text, '-', ''));
  v_fault    text;
  v_hint     text;
begin
  -- All of these are in indexes, and Postgres limits an index entry to 2,704 bytes.
  select format('%s must have 1 to 512 bytes', a.name) into v_fault
    from (values ('type', enqueue.type), ('event_id', v_event_id), ('key', enqueue.key),
                 ('workspace_id', enqueue.workspace_id)) as a (name, value)
   where a.value = '' or octet_length(a.value) > 512 limit 1;
  if coalesce(enqueue.type, '') = '' then
    v_fault := 'type is missing';
    v_hint  := 'Name what happened, such as ''order.placed''; a handler answers it by this name.';
  elsif enqueue.payload is null then
    v_fault := 'payload is missing';
    v_hint  := 'Pass a JSON value, such as ''{}''.';
  elsif v_fault is not null then
    v_hint  := 'Leave it out where it says nothing; put what is long into the payload.';
  elsif restante.is_reserved(enqueue.type) then
    v_fault := format('type is reserved: %s is said by the Claude API or by Restante itself', enqueue.type);
    v_hint  := 'Choose a type of your own, such as ''order.placed''. '
               'To have a batch watched: insert into restante.batch (id) values (''msgbatch_...'').';
  elsif v_event_id ~ '^(batch\.|whe_)' then
    v_fault := format('event_id is reserved: one like %s belongs to the Claude API or to Restante itself', left(v_event_id, 80));
    v_hint  := 'Choose one of your own, such as ''order_4711_placed'', or leave it out.';
  else
    -- Beyond these years many clients cannot read the row.
    select format('%s must be a time of the years 1 to 9999', a.name) into v_fault
      from (values ('created_at', enqueue.created_at), ('run_at', enqueue.run_at)) as a (name, value)
     where a.value < make_timestamptz(1, 1, 1, 0, 0, 0, 'UTC') or a.value >= make_timestamptz(10000, 1, 1, 0, 0, 0, 'UTC')
     limit 1;
    v_hint := 'Leave it out for now.';
  end if;
  if v_fault is not null then
    raise exception 'restante.enqueue: %', v_fault using errcode = 'invalid_parameter_value', hint = v_hint;
  end if;
  return e.id from restante.insert_event(
    v_event_id, enqueue.type, enqueue.key, enqueue.workspace_id,
    -- A scheduled event takes its place in the order of its key by the time that it is scheduled for.
    coalesce(enqueue.created_at, enqueue.run_at, clock_timestamp()),
    enqueue.payload::text, null, null, enqueue.run_at, 'sql') as e;
end $$;
comment on function restante.enqueue is
  'Puts an event into the outbox as part of your transaction. Returns its id, or null if event_id is already stored.';

create function restante.pause(type text, reason text default null) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_paused bigint;
begin
  if coalesce(pause.type, '') = '' then
    raise exception 'restante.pause: type is missing' using errcode = 'invalid_parameter_value',
      hint = 'Name a type, or a beginning with a star: ''session.*''.';
  end if;
  insert into restante.paused_type (type, reason) values (pause.type, pause.reason) on conflict do nothing;
  update restante.outbox as o set status = 'paused', held_by = pause.type
   where o.finished_at = 'infinity' and o.status in ('pending', 'retry', 'blocked') and restante.covers(pause.type, o.type);
  get diagnostics v_paused = row_count;
  return v_paused;
end $$;
comment on function restante.pause is
  'Holds the events of a type until restante.resume: those that wait now, running ones when they are to run again, and new ones. '
  'Returns how many it held at once.';

create function restante.resume(type text) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_resumed bigint;
begin
  delete from restante.paused_type as t where t.type = resume.type;
  if not found then
    raise exception 'restante.resume: the type % is not paused', coalesce(resume.type, 'null')
      using errcode = 'invalid_parameter_value', hint = 'select type from restante.paused_type shows what is.';
  end if;
  -- Events that another pause matches stay held, and so do events that a person paused one by one.
  update restante.outbox as o set status = 'pending'
   where o.finished_at = 'infinity' and o.status = 'paused' and o.held_by is not null
     and restante.covers(resume.type, o.type) and restante.held_by(o.type) is null;
  get diagnostics v_resumed = row_count;
  return v_resumed;
end $$;
comment on function restante.resume is
  'Ends a pause and makes the held events pending, except those that another pause matches or that a person paused one by one. '
  'Returns how many.';

-- Makes events pending whose pause has ended: they were stored, or came back, while the transaction of resume() was still open.
-- Finds them by steps from pattern to pattern over the index, however many events other pauses hold. Returns how many rows it
-- changed.
create function restante.let_held_go(p_limit integer default 1000) returns bigint
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_ended text[];
  v_ids   bigint[];
begin
  with recursive held as (
    (select l.held_by from restante.outbox_live as l
      where l.lane = 'p' and l.held_by is not null order by l.held_by limit 1)
    union all
    select n.held_by
      from held
      cross join lateral (
            select l.held_by from restante.outbox_live as l
             where l.lane = 'p' and l.held_by is not null and l.held_by > held.held_by order by l.held_by limit 1) as n)
  select array_agg(h.held_by) into v_ended
    from held as h where not exists (select from restante.paused_type as t where t.type = h.held_by);
  if v_ended is null then
    return 0;
  end if;
  select array_agg(r.id) into v_ids
    from (select l.id from restante.outbox_live as l
           where l.lane = 'p' and l.held_by is not null and l.held_by = any (v_ended) and l.status = 'paused'
           limit p_limit for update skip locked) as r;
  -- On the parent table, whose trigger gives the keys their heads. If another pause matches by now, it holds the event.
  update restante.outbox as o
     set held_by = restante.held_by(o.type),
         status = case when restante.held_by(o.type) is null then 'pending' else 'paused' end
   where o.finished_at = 'infinity' and o.id = any (v_ids);
  return coalesce(cardinality(v_ids), 0);
end $$;
comment on function restante.let_held_go is
  'Engine: Makes events pending whose pause ended while they were being stored. Workers call it every few seconds.';
