-- The breaker: while the API does not answer an account, no worker claims what needs it. One row for each account, which all workers
-- read; one worker at a time tries whether the API answers again.

-- As in 0010: a session that waits for the lock of a table makes all later ones wait behind it.
set local lock_timeout = '1s';

create table restante.api_breaker (
  account      text collate "C" not null,
  parts        text[]      not null default '{}',
  opened_at    timestamptz,
  kind         text,
  said         text,
  closed_at    timestamptz,
  times_opened bigint      not null default 0,
  generation   bigint      not null default 0,
  is_releasing boolean     not null default false,
  probe_event  bigint,
  probe_owner  text,
  probe_token  bigint      not null default 0,
  probe_until  timestamptz not null default '-infinity',
  probed_at    timestamptz,
  probes       bigint      not null default 0,
  constraint api_breaker_one_for_each_account primary key (account),
  constraint api_breaker_texts_are_short check (octet_length(account) <= 200 and cardinality(parts) <= 100 and char_length(said) <= 500),
  constraint api_breaker_open_has_a_part check ((opened_at is not null) = (parts <> '{}'))
) with (fillfactor = 50);
comment on table restante.api_breaker is
  'Whether the API answers each account, as all workers know it together. Open: what needs these parts of the API is not claimed, and one '
  'worker at a time tries one event. An operator may delete a row: then the breaker is closed, and opens again after ten failures.';
comment on column restante.api_breaker.parts is 'The parts of the API that do not answer (sessions, messages, batches); empty while it is closed.';
comment on column restante.api_breaker.opened_at is 'Since when it is open; null while it is closed.';
comment on column restante.api_breaker.kind is 'The kind of the last error, in a word: account, unavailable, transport.';
comment on column restante.api_breaker.said is 'What the API said last, without the identifier of the request; null while it is closed.';
comment on column restante.api_breaker.closed_at is 'When the API answered again.';
comment on column restante.api_breaker.generation is 'Grows by one with each part that is added or taken out, so that late news changes nothing.';
comment on column restante.api_breaker.is_releasing is 'Events that went into trouble before the repair are still to be made due.';
comment on column restante.api_breaker.probe_event is 'The event that is tried, or was tried last.';
comment on column restante.api_breaker.probe_owner is 'The worker that tries it.';
comment on column restante.api_breaker.probe_token is 'Grows by one with each try. A worker ends a try only with the token that it got for it.';
comment on column restante.api_breaker.probe_until is 'Until then nobody else tries one, unless the worker has renewed it.';

-- What the breaker leaves out, and what a probe is taken from, is one pattern over this name.
create function restante.need_name(account text, subscriber text, type text) returns text
language sql immutable parallel safe
return coalesce(account, '') || '/' || subscriber || '/' || type;
comment on function restante.need_name is 'Engine: The account, the subscriber and the type of an event as one name, for the patterns of the breaker.';

-- Notes that a part of the API does not answer. `p_generation` is what the worker knows of: after a repair that it has not heard of,
-- its failures are old.
--
-- Returns `opened` to one worker only, `joined` if another part was known, `known` if this one was, `stale`, or `busy` if somebody
-- has locked the row: then the worker tries again.
create function restante.open_breaker(p_account text, p_part text, p_kind text, p_said text, p_generation bigint) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_row restante.api_breaker;
begin
  select * into v_row from restante.api_breaker as b where b.account = p_account for update skip locked;
  if not found then
    -- An insert would wait for whoever has the row.
    if exists (select from restante.api_breaker as b where b.account = p_account) then return 'busy'; end if;
    if not pg_try_advisory_xact_lock(hashtextextended('restante.api_breaker', 0)) then return 'busy'; end if;
    insert into restante.api_breaker (account) values (p_account) on conflict do nothing returning * into v_row;
    if not found then return 'busy'; end if;
    -- An operator has deleted the row that the worker knew.
    p_generation := 0;
  end if;
  if p_part = any (v_row.parts) then return 'known'; end if;
  if v_row.generation <> p_generation then return 'stale'; end if;
  update restante.api_breaker as b
     set parts = v_row.parts || p_part, opened_at = coalesce(v_row.opened_at, clock_timestamp()), kind = p_kind, said = left(p_said, 500),
         closed_at = null, times_opened = v_row.times_opened + (v_row.parts = '{}')::integer, generation = v_row.generation + 1,
         probed_at = coalesce(v_row.probed_at, clock_timestamp())
   where b.account = p_account;
  return case when v_row.parts = '{}' then 'opened' else 'joined' end;
end $$;
comment on function restante.open_breaker is
  'Engine: Notes that a part of the API does not answer an account, once for all workers. Says opened to the worker that is the first.';

-- Leases the try to a worker: one at a time for each account, and two seconds apart. The event is one that needs this part: one in
-- trouble, which is made due, or else the oldest that may be claimed. `p_waits` is the pattern of such events.
--
-- Returns no event if it is not this worker's turn, or if none waits.
create function restante.lease_probe(
  p_account text, p_owner text, p_part text, p_waits text, p_lease interval, out probe_event bigint, out probe_token bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  select b.probe_token + 1 into probe_token from restante.api_breaker as b
   where b.account = p_account and p_part = any (b.parts) and b.probe_until <= v_now
     and (b.probed_at is null or b.probed_at <= v_now - interval '2 seconds') for update skip locked;
  if not found then return; end if;

  select o.id into probe_event
    from (select w.id, w.run_at
            from (select l.id, l.account, l.subscriber, l.type, l.status, l.outcome, l.run_at from restante.outbox_live as l
                   where l.lane = 'l' order by l.subscriber, l.run_at, l.id limit 10000) as w
           where w.status = 'retry' and w.outcome = 'trouble' and restante.need_name(w.account, w.subscriber, w.type) ~ p_waits
           order by w.run_at, w.id limit 1) as first
   cross join lateral (
         select l.id from restante.outbox_live as l
          where l.id = first.id and l.status = 'retry' and l.lane = 'l' for update skip locked) as o;
  if found then
    update restante.outbox_live as l set run_at = least(l.run_at, v_now) where l.id = lease_probe.probe_event;
  else
    select w.id into probe_event
      from (select r.id, r.account, r.subscriber, r.type, r.status from restante.outbox_live as r
             where r.lane = 'r' order by r.subscriber, r.created_at, r.id limit 10000) as w
     where w.status = 'pending' and restante.need_name(w.account, w.subscriber, w.type) ~ p_waits limit 1;
  end if;
  update restante.api_breaker as b
     set probed_at = v_now, probe_event = coalesce(lease_probe.probe_event, b.probe_event),
         probe_owner = case when lease_probe.probe_event is null then b.probe_owner else p_owner end,
         probe_until = case when lease_probe.probe_event is null then b.probe_until else v_now + p_lease end,
         probe_token = case when lease_probe.probe_event is null then b.probe_token else lease_probe.probe_token end,
         probes = b.probes + (lease_probe.probe_event is not null)::integer
   where b.account = p_account;
end $$;
comment on function restante.lease_probe is
  'Engine: Lets one worker at a time try one event of an account whose breaker is open, and makes that event due.';

-- Keeps a try that is still under way. Returns false if it is another worker's by now.
create function restante.keep_probe(p_account text, p_token bigint, p_lease interval) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  update restante.api_breaker as b set probe_until = clock_timestamp() + p_lease
   where b.account in (select o.account from restante.api_breaker as o
                        where o.account = p_account and o.probe_token = p_token for update skip locked);
  -- A row that somebody has locked is left as it is: then the lease may run out, and another worker tries as well.
  return found or exists (select from restante.api_breaker as b where b.account = p_account and b.probe_token = p_token);
end $$;
comment on function restante.keep_probe is 'Engine: Renews the lease of a try. Fenced by its token.';

-- Ends a try. If the API answered it, the part is taken out; with the last one the breaker is closed, and what went into trouble
-- is released.
--
-- Returns `closed` to one worker only, `answered` if other parts are left, `ended`, `lost` if the try is another worker's by now, or
-- `busy` if somebody has locked the row.
create function restante.end_probe(p_account text, p_token bigint, p_part text, p_is_answered boolean, p_kind text, p_said text) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_row restante.api_breaker;
begin
  -- The fence: a worker whose lease ran out ends no try of another.
  select * into v_row from restante.api_breaker as b
   where b.account = p_account and b.probe_token = p_token for update skip locked;
  if not found then
    return case when exists (select from restante.api_breaker as b where b.account = p_account and b.probe_token = p_token)
                then 'busy' else 'lost' end;
  end if;
  if not p_is_answered then
    update restante.api_breaker as b
       set probe_until = '-infinity', kind = coalesce(p_kind, v_row.kind), said = coalesce(left(p_said, 500), v_row.said)
     where b.account = p_account;
    return 'ended';
  end if;
  v_row.parts := array_remove(v_row.parts, p_part);
  update restante.api_breaker as b
     set parts = v_row.parts, generation = v_row.generation + 1, probe_until = '-infinity', is_releasing = true,
         opened_at = case when v_row.parts <> '{}' then v_row.opened_at end,
         closed_at = case when v_row.parts = '{}' then clock_timestamp() end,
         -- It may repeat what the API was asked for, and says nothing any more.
         said = case when v_row.parts <> '{}' then v_row.said end
   where b.account = p_account;
  return case when v_row.parts = '{}' then 'closed' else 'answered' end;
end $$;
comment on function restante.end_probe is
  'Engine: Ends a try of an account whose breaker is open; if the API answered, closes the breaker for that part. Fenced by its token.';

-- Makes events due that went into trouble before the repair: so many at most in one statement, and one worker at a time. Returns
-- how many; fewer than p_limit means that none are left.
create function restante.release_trouble(p_account text, p_accounts text[], p_kinds text[], p_limit integer) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_count integer;
begin
  perform from restante.api_breaker as b where b.account = p_account and b.is_releasing for update skip locked;
  if not found then return 0; end if;
  update restante.outbox_live as l set run_at = clock_timestamp()
    from (select r.id from restante.outbox_live as r
           where r.lane = 'l' and r.run_at > statement_timestamp() and r.status = 'retry' and r.outcome = 'trouble'
             and r.kind = any (p_kinds) and coalesce(r.account, '') = any (p_accounts)
           order by r.subscriber, r.run_at, r.id limit p_limit for update skip locked) as w
   where l.id = w.id;
  get diagnostics v_count = row_count;
  if v_count < p_limit then
    update restante.api_breaker as b set is_releasing = false where b.account = p_account;
  end if;
  return v_count;
end $$;
comment on function restante.release_trouble is
  'Engine: Makes events due that went into trouble before the breaker was closed, so many at most.';

-- As claim_events() of 0010, and leaves out events whose need_name() matches `p_left_out`, but for those of `p_let_through`. With
-- null it leaves out none, and the condition costs nothing. What is left out keeps its place in the order of its key and in the index.
--
-- With `p_settles` the noted keys first get their heads. If there were any, the first row says how many were settled and how many
-- were left.
create function restante.claim_except(
  p_owner text, p_subscribers text[], p_limit bigint, p_lease interval, p_floor timestamptz, p_bytes bigint, p_settles boolean,
  p_left_out text, p_let_through bigint[])
returns setof restante.claimed_event
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
begin
  if p_settles and exists (select from restante.key_unsettled) then
    return query
    select null::bigint, null, null, null, null, null, null, null::timestamptz, null::timestamptz, null, null::bytea,
           null::integer, null::integer, null::integer, null::bigint, null, null, k.settled, k.left_over
      from restante.settle_keys() as k;
  end if;

  return query
  with ready as materialized (
    select l.*
      from unnest(p_subscribers) as s (subscriber)
      cross join lateral (
            select r.ctid as place, r.id, r.type, r.created_at, r.status, r.lease_owner, r.started_at,
                   restante.claimed_bytes(r.payload, r.raw) as bytes
              from restante.outbox_live as r
             where r.lane = 'r' and r.subscriber = s.subscriber and r.created_at >= p_floor
               and r.lease_until <= clock_timestamp()
               and (r.status <> 'running' or restante.may_take_over(p_owner, r.lease_owner, p_lease))
               and (p_left_out is null or r.id = any (p_let_through)
                    or restante.need_name(r.account, r.subscriber, r.type) !~ p_left_out)
             order by r.created_at, r.id limit p_limit for update skip locked) as l),
  -- Retries and scheduled events, those first that have been due for longest. With the statement's time, because a condition on a
  -- clock that moves meanwhile cannot limit the index scan, which would then read the whole backlog.
  due as materialized (
    select l.*
      from unnest(p_subscribers) as s (subscriber)
      cross join lateral (
            select d.ctid as place, d.id, d.type, d.created_at, d.status, d.lease_owner, d.started_at,
                   restante.claimed_bytes(d.payload, d.raw) as bytes
              from restante.outbox_live as d
             where d.lane = 'l' and d.subscriber = s.subscriber and d.run_at <= statement_timestamp()
               and d.status <> 'dead'
               and (p_left_out is null or d.id = any (p_let_through)
                    or restante.need_name(d.account, d.subscriber, d.type) !~ p_left_out)
             order by d.run_at, d.id limit p_limit for update skip locked) as l),
  oldest as (
    select b.*, sum(b.bytes) over (order by b.created_at, b.id rows unbounded preceding) - b.bytes as bytes_before
      from (select * from ready union all select * from due) as b
     order by b.created_at, b.id limit p_limit),
  picked as materialized (
    select o.place, o.status, o.started_at,
           -- Holds events that were stored while the pause was not committed yet.
           case when (select exists (select from restante.paused_type)) then restante.held_by(o.type) end as held_by,
           o.status = 'running' and restante.has_vanished(p_owner, o.lease_owner) as has_crashed
      from oldest as o where o.bytes_before < p_bytes),
  claimed as (
    update restante.outbox_live as o
       set status = case when p.held_by is null then 'running' else 'paused' end,
           lane = case when p.held_by is null then 'r' else 'p' end,
           held_by = p.held_by,
           attempt = least(o.attempt, 2147483646) + (p.held_by is null)::integer,
           lease_owner = p_owner, lease_token = o.lease_token + 1,
           lease_until = case when p.held_by is null then clock_timestamp() + p_lease else '-infinity' end,
           started_at = case when p.held_by is null then clock_timestamp() else o.started_at end,
           crashes = o.crashes + p.has_crashed::integer
      -- By ctid, which does not change while the row is locked. A row that changed just before that is left for the next claim.
      from picked as p where o.ctid = p.place
    returning o.*,
      -- Functions, called for the few events that need them. Inserts as parts of this statement would cost each claim a tenth.
      case when p.status = 'running' then restante.note_failed(o, p.started_at, p.has_crashed) end as is_failed,
      case when p.held_by is not null then restante.note_keys(array[restante.order_key(o.account, o.sender, o.key)], array[o.subscriber]) end as is_noted)
  select c.id, c.event_id, c.type, c.subscriber, c.key, c.workspace_id, c.source::text,
         -- Clients cannot read other years. Only the owner of the table can write them.
         least(greatest(c.created_at, '0001-01-01Z'), '9999-12-31Z'), least(greatest(c.received_at, '0001-01-01Z'), '9999-12-31Z'),
         c.payload::text, c.raw, c.attempt, c.max_attempts, c.crashes, c.lease_token, c.sender, c.account,
         null::bigint, null::bigint
    from claimed as c where c.status = 'running' order by c.created_at, c.id;
end $$;
comment on function restante.claim_except is
  'Engine: Leases the oldest events that may run now to a worker, each with a new lease token, but for those whose account the API does not '
  'answer.';

create or replace function restante.claim_events(
  p_owner text, p_subscribers text[], p_limit bigint, p_lease interval, p_floor timestamptz, p_bytes bigint, p_settles boolean)
returns setof restante.claimed_event
language plpgsql as $$
begin
  return query select * from restante.claim_except(p_owner, p_subscribers, p_limit, p_lease, p_floor, p_bytes, p_settles, null, null);
end $$;
comment on function restante.claim_events is 'Engine: claim_except() for workers of the release before, which leave out nothing.';

-- How many calls were leased in the last minute.

alter table restante.api_budget
  add column minute_began timestamptz not null default '-infinity',
  add column minute_calls bigint not null default 0,
  add column minute_before bigint not null default 0;
comment on column restante.api_budget.minute_began is 'When the minute began that minute_calls counts.';
comment on column restante.api_budget.minute_calls is 'How many places were leased since then.';
comment on column restante.api_budget.minute_before is 'How many were leased in the minute before it.';

-- Brings the pace up to this moment, and gives the next places to a worker that wants so many, as far as they lie within `p_ahead`.
--
-- One that somebody else has locked is not waited for: `is_busy`, and the worker tries again or keeps to a share of its own.
create or replace function restante.lease_calls(
  p_account text, p_class text, p_wanted integer, p_ahead interval,
  out is_busy boolean, out granted integer, out starts_in_seconds double precision, out pace_per_second double precision)
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_now    timestamptz := clock_timestamp();
  v_row    restante.api_budget;
  v_pace   double precision;
  v_start  timestamptz;
begin
  is_busy := false;
  granted := 0;
  starts_in_seconds := 0;
  -- A lease that a crash of the server takes back harms nobody, and the next worker need not wait for the disk.
  perform set_config('synchronous_commit', 'off', true);
  select * into v_row from restante.api_budget as b
   where b.account = p_account and b.class = p_class for update skip locked;
  if not found then
    is_busy := exists (select from restante.api_budget as b where b.account = p_account and b.class = p_class);
    return;
  end if;
  if v_row.pace_per_second is null then return; end if;
  -- After a 429 it grows by a twentieth of the limit each second; where no limit is known, of itself.
  v_pace := v_row.pace_per_second
    + coalesce(v_row.limit_per_second, v_row.pace_per_second) * 0.05
      * least(extract(epoch from v_now - v_row.paced_at), 60)::double precision;
  v_pace := least(v_pace, v_row.limit_per_second * 0.97);
  pace_per_second := v_pace;
  -- After trouble it begins with a quarter, and doubles each second.
  if v_row.recovered_at > v_now - interval '2 seconds' then
    pace_per_second := v_pace * 0.25 * power(2, greatest(extract(epoch from v_now - v_row.recovered_at), 0)::double precision);
  end if;
  -- With less than a tenth of the tokens left, it falls with them.
  if v_row.updated_at > v_now - interval '1 minute' and v_row.tokens_left < v_row.tokens_limit * 0.1 then
    pace_per_second := pace_per_second * greatest(v_row.tokens_left / (v_row.tokens_limit * 0.1), 0.05);
  end if;
  v_start := greatest(v_row.next_at, v_row.not_before, v_now);
  starts_in_seconds := extract(epoch from v_start - v_now);
  granted := least(p_wanted, floor(extract(epoch from v_now + p_ahead - v_start)::double precision * pace_per_second) + 1);
  if v_start > v_now + p_ahead then granted := 0; end if;
  update restante.api_budget as b
     set pace_per_second = v_pace, paced_at = v_now,
         next_at = v_start + granted / lease_calls.pace_per_second * interval '1 second',
         calls_leased = b.calls_leased + granted, leases = b.leases + 1,
         minute_began = case when b.minute_began > v_now - interval '1 minute' then b.minute_began else v_now end,
         minute_before = case when b.minute_began > v_now - interval '1 minute' then b.minute_before
                              when b.minute_began > v_now - interval '2 minutes' then b.minute_calls else 0 end,
         minute_calls = granted + case when b.minute_began > v_now - interval '1 minute' then b.minute_calls else 0 end
   where b.account = p_account and b.class = p_class;
end $$;
comment on function restante.lease_calls is
  'Engine: Gives a worker the next places in time for calls of the API, so many as it wants and lie within p_ahead.';

create or replace view restante.governor_overview as
  select b.account, b.class, b.limit_per_second, b.pace_per_second,
         case
           when exists (select from restante.api_breaker as k where k.account = b.account and k.opened_at is not null)
             then 'the API does not answer; what needs it waits: see restante.api_breaker'
           when b.not_before > clock_timestamp() then 'the API asked for no calls before ' || b.not_before
           when b.recovered_at > clock_timestamp() - interval '2 seconds' then 'the API answers again; the pace rises'
           when b.pace_per_second is null then 'no limit is known'
           when b.tokens_left < b.tokens_limit * 0.1 and b.updated_at > clock_timestamp() - interval '1 minute' then 'few tokens are left'
           when b.limited_at > clock_timestamp() - interval '1 minute' then 'the API answered 429; the pace rises'
           else 'at its limit''s pace'
         end as stands,
         b.limited_at, b.recovered_at, b.times_limited, b.tokens_left, b.tokens_limit,
         b.calls_leased, b.leases, round((b.leases / nullif(b.calls_leased, 0)::double precision)::numeric, 3) as statements_per_call,
         (select count(*) from restante.outbox_live as l
           where l.lane = 'l' and l.status = 'retry' and l.outcome = 'trouble' and coalesce(l.account, 'anthropic') = b.account)
           as events_in_trouble,
         -- The minute that runs, and of the one before it as much as makes a whole one.
         case when b.minute_began > clock_timestamp() - interval '2 minutes'
              then (case when b.minute_began > clock_timestamp() - interval '1 minute' then b.minute_calls + b.minute_before
                           * (1 - extract(epoch from clock_timestamp() - b.minute_began) / 60)
                         else b.minute_calls * (2 - extract(epoch from clock_timestamp() - b.minute_began) / 60) end)::bigint
              else 0 end as used_last_minute
    from restante.api_budget as b
   order by b.account, b.class;
comment on view restante.governor_overview is
  'How many calls a second go to the API for each account and class of call, why not more, and what the leases cost.';

-- The answer to whether workers and the API are well.

-- A sentence names the kind of an error, and not what the API or a person wrote, which may be about a customer: alarms are events that
-- keep it. restante.error_of() has that for who looks.
create or replace function restante.unfinished_findings()
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
          select l.received_at, l.account from restante.outbox_live as l
           where l.lane = 'r' and l.status = 'pending' and l.subscriber = s.subscriber
           order by l.created_at, l.id limit 1) as r
   where r.received_at < statement_timestamp() - interval '1 minute'
     -- What waits for the API says nothing of workers; the next question does.
     and not exists (select from restante.api_breaker as k
                      where k.opened_at is not null and k.account = coalesce(r.account, k.account))
     -- Nobody claims what a person holds.
     and not exists (select from restante.paused_type as t where t.type = 'subscriber:' || s.subscriber)
  union all
  select 'trouble', k.account, 'act',
         format('The API does not answer the account %s for %s (asked for %s: %s); what needs it waits, and goes on by itself.',
                k.account, restante.lasting(statement_timestamp() - k.opened_at), array_to_string(k.parts, ', '), coalesce(k.kind, 'unknown')),
         case k.kind when 'account' then 'Give the worker a valid key of the account, or raise its spend limit; then select * from restante.api_breaker;'
              else 'select * from restante.api_breaker; one event is tried every other second.' end,
         k.opened_at
    from restante.api_breaker as k where k.opened_at is not null
  union all
  select 'trouble', t.account, case when t.since < statement_timestamp() - interval '5 minutes' then 'act' else 'look' end,
         format('%s of the account %s cannot go on because something is wrong with us, or with the API (%s).',
                case when t.events >= 10000 then '10000 or more events' else restante.counted(t.events, 'event', 'events') end,
                t.account, coalesce(t.kind, 'unknown')),
         'select * from restante.outbox_trouble; they go on by themselves once it is mended.', t.since
    from (select coalesce(w.account, w.sender) as account, count(*) as events, min(w.received_at) as since,
                 mode() within group (order by w.kind) as kind
            from (select l.account, l.sender, l.received_at, l.kind, l.status, l.outcome
                    from restante.outbox_live as l
                   where l.lane = 'l' order by l.subscriber, l.run_at, l.id limit 10000) as w
           where w.status = 'retry' and w.outcome = 'trouble' group by 1) as t
   where not exists (select from restante.api_breaker as k where k.opened_at is not null and k.account = t.account)
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

revoke execute on all functions in schema restante from public;
grant execute on function restante.need_name, restante.open_breaker, restante.lease_probe, restante.keep_probe, restante.end_probe,
  restante.release_trouble, restante.claim_except to restante_worker;
grant execute on function restante.lasting to restante_worker, restante_operator;
grant select on restante.api_breaker, restante.governor_overview to restante_worker;
grant select, delete on restante.api_breaker to restante_operator;
