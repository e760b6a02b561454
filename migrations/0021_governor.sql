-- The budget of calls toward the API that all workers share: a row for each account and class of call, leased in blocks.
--
-- A worker that has calls to make takes the next places in time for all of them with one UPDATE. A place is a moment: the calls of
-- all workers follow each other at the pace, and no worker has to know of another. A place that nobody uses lapses.

create table restante.api_budget (
  account          text collate "C" not null,
  class            text collate "C" not null,
  limit_per_second double precision,
  pace_per_second  double precision,
  paced_at         timestamptz not null default clock_timestamp(),
  limited_at       timestamptz,
  recovered_at     timestamptz,
  next_at          timestamptz not null default clock_timestamp(),
  not_before       timestamptz,
  tokens_limit     bigint,
  tokens_left      bigint,
  calls_leased     bigint not null default 0,
  leases           bigint not null default 0,
  times_limited    bigint not null default 0,
  updated_at       timestamptz not null default clock_timestamp(),
  constraint api_budget_one_for_each_class primary key (account, class),
  constraint api_budget_names_are_short check (octet_length(account) <= 200 and octet_length(class) <= 50),
  constraint api_budget_limit_is_positive check (limit_per_second > 0 and pace_per_second > 0)
) with (fillfactor = 50);
comment on table restante.api_budget is
  'What workers have learned of the API''s limits, for each account and class of call, and the places that they lease. '
  'An operator may delete a row: then its limit is learned anew. restante.governor_overview says how it stands.';
comment on column restante.api_budget.class is 'messages, batches or objects.';
comment on column restante.api_budget.limit_per_second is 'The limit on requests that the API''s headers name, for a second; null if they name none.';
comment on column restante.api_budget.pace_per_second is
  'How many calls a second are leased at present: less than the limit after a 429 and after trouble; null as long as no limit is known.';
comment on column restante.api_budget.paced_at is 'When the pace was changed last.';
comment on column restante.api_budget.limited_at is 'When the API answered 429 last.';
comment on column restante.api_budget.recovered_at is 'When the API answered again after trouble.';
comment on column restante.api_budget.next_at is 'The moment of the next place.';
comment on column restante.api_budget.not_before is 'The API has asked for no calls before this moment.';
comment on column restante.api_budget.tokens_limit is 'The limit on tokens a minute, where the headers name it: the scarcest kind of token.';
comment on column restante.api_budget.tokens_left is 'How many of these tokens were left at the last report.';
comment on column restante.api_budget.calls_leased is 'How many places have been leased in all.';
comment on column restante.api_budget.leases is 'How many statements that took.';
comment on column restante.api_budget.times_limited is 'How often the API answered 429.';

-- Brings the pace up to this moment, and gives the next places to a worker that wants so many, as far as they lie within `p_ahead`.
--
-- One that somebody else has locked is not waited for: `is_busy`, and the worker tries again or keeps to a share of its own.
create function restante.lease_calls(
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
         calls_leased = b.calls_leased + granted, leases = b.leases + 1
   where b.account = p_account and b.class = p_class;
end $$;
comment on function restante.lease_calls is
  'Engine: Gives a worker the next places in time for calls of the API, so many as it wants and lie within p_ahead.';

-- Notes what a worker has learned from the API's answers. Returns whether it could: a row that somebody has locked is left.
create function restante.note_limit(
  p_account text, p_class text, p_limit_per_second double precision, p_seen_per_second double precision, p_is_limited boolean,
  p_wait interval, p_is_recovered boolean, p_tokens_limit bigint, p_tokens_left bigint) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_now timestamptz := clock_timestamp();
  v_row restante.api_budget;
begin
  perform set_config('synchronous_commit', 'off', true);
  select * into v_row from restante.api_budget as b
   where b.account = p_account and b.class = p_class for update skip locked;
  if not found then
    -- An insert would wait for whoever has the row.
    if exists (select from restante.api_budget as b where b.account = p_account and b.class = p_class) then return false; end if;
    -- Another worker may be about to insert it; this one tries again then.
    if not pg_try_advisory_xact_lock(hashtextextended('restante.api_budget', 0)) then return false; end if;
    insert into restante.api_budget (account, class) values (p_account, p_class)
      on conflict do nothing returning * into v_row;
    if not found then return false; end if;
  end if;
  if p_limit_per_second > 0 and p_limit_per_second is distinct from v_row.limit_per_second then
    v_row.limit_per_second := p_limit_per_second;
    v_row.pace_per_second := least(v_row.pace_per_second, p_limit_per_second * 0.97);
    v_row.pace_per_second := coalesce(v_row.pace_per_second, p_limit_per_second * 0.97);
  end if;
  if p_is_limited then
    v_row.times_limited := v_row.times_limited + 1;
    -- Many calls may be under way at the same pace, and all of them are answered alike: that is one 429.
    if v_row.limited_at is null or v_row.limited_at < v_now - interval '1 second' then
      v_row.pace_per_second := greatest(coalesce(v_row.pace_per_second, p_seen_per_second, 1) / 2, 0.05);
      v_row.paced_at := v_now;
    end if;
    v_row.limited_at := v_now;
  end if;
  -- Each worker notices a repair for itself, and the first one counts.
  if p_is_recovered and (v_row.recovered_at is null or v_row.recovered_at < v_now - interval '30 seconds') then
    v_row.recovered_at := v_now;
  end if;
  update restante.api_budget as b
     set limit_per_second = v_row.limit_per_second, pace_per_second = v_row.pace_per_second, paced_at = v_row.paced_at,
         limited_at = v_row.limited_at, times_limited = v_row.times_limited, recovered_at = v_row.recovered_at,
         not_before = greatest(v_row.not_before, v_now + p_wait),
         tokens_limit = coalesce(p_tokens_limit, v_row.tokens_limit), tokens_left = coalesce(p_tokens_left, v_row.tokens_left),
         updated_at = v_now
   where b.account = p_account and b.class = p_class;
  return true;
end $$;
comment on function restante.note_limit is
  'Engine: Notes what the API''s answers said of its limits, and that it answers again after trouble.';

create view restante.governor_overview as
  select b.account, b.class, b.limit_per_second, b.pace_per_second,
         case
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
           as events_in_trouble
    from restante.api_budget as b
   order by b.account, b.class;
comment on view restante.governor_overview is
  'How many calls a second go to the API for each account and class of call, why not more, and what the leases cost.';

revoke execute on all functions in schema restante from public;
grant execute on function restante.lease_calls, restante.note_limit to restante_worker;
grant select, delete on restante.api_budget to restante_operator;
grant select on restante.governor_overview to restante_operator;
