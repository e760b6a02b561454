-- What batches cost: prices, the cost of what was answered, budgets, and how far each submission is.
--
-- Every sum of dollars here is an estimate: it comes from the usage that the API reports and from the prices that an operator has
-- written. The invoice decides. Numbers are exact (`numeric`), so no sum depends on the order of its parts.

-- A session that waits for the lock of a table makes all later ones wait behind it, so this gives up soon, and `restante migrate`
-- tries again.
set local lock_timeout = '1s';

create table restante.price (
  model          text collate "C" not null,
  valid_from     timestamptz not null,
  input          numeric     not null,
  output         numeric     not null,
  cache_write_5m numeric     not null,
  cache_write_1h numeric     not null,
  cache_read     numeric     not null,
  batch_factor   numeric     not null default 0.5,
  constraint price_once primary key (model, valid_from),
  constraint price_model_is_a_pattern check (model ~ '^[^*]*[*]?$' and model <> ''),
  -- A bound also keeps out NaN, which is larger than every number.
  constraint price_is_in_dollars_per_million check (
    input between 0 and 1000000 and output between 0 and 1000000 and cache_write_5m between 0 and 1000000
    and cache_write_1h between 0 and 1000000 and cache_read between 0 and 1000000),
  constraint price_batch_factor_is_a_share check (batch_factor between 0 and 1)
);
comment on table restante.price is
  'What tokens cost, in dollars per million. It is empty until an operator writes prices: price_missing has the models that need one.';
comment on column restante.price.model is 'The model, or a pattern: a trailing * matches any ending. The longest one that matches counts.';
comment on column restante.price.valid_from is 'From when on. The price that is valid when a batch is created counts for all of it.';
comment on column restante.price.input is 'Input tokens that are neither written to a cache nor read from one.';
comment on column restante.price.cache_write_5m is 'Input tokens written to the cache for five minutes.';
comment on column restante.price.cache_write_1h is 'Input tokens written to the cache for an hour.';
comment on column restante.price.cache_read is 'Input tokens read from the cache.';
comment on column restante.price.batch_factor is 'What each of these prices is multiplied by in a batch.';

create function restante.price_at(p_model text, p_at timestamptz) returns setof restante.price
language sql stable security definer rows 1
set search_path = pg_catalog, pg_temp as $$
  select p.* from restante.price as p
   where restante.covers(p.model, p_model) and p.valid_from <= p_at
   -- A name without a star is longer than the same name with one.
   order by length(rtrim(p.model, '*')) desc, right(p.model, 1) = '*', p.valid_from desc
   limit 1
$$;
comment on function restante.price_at is 'Engine: The price of a model at a time; no row if it has none.';

create function restante.cost_of(
  p_price restante.price, p_input numeric, p_output numeric, p_write_5m numeric, p_write_1h numeric, p_read numeric)
returns numeric
language sql immutable parallel safe
-- A product is exact, and a quotient need not be.
return (p_input * (p_price).input + p_output * (p_price).output + p_write_5m * (p_price).cache_write_5m
        + p_write_1h * (p_price).cache_write_1h + p_read * (p_price).cache_read) * (p_price).batch_factor * 0.000001;
comment on function restante.cost_of is 'Engine: What tokens of a batch cost in dollars (an estimate); null without a price.';

-- What the API and applications write is JSON that Postgres can store and cannot always take apart: \u0000, half of a surrogate
-- pair. Such a text is read without its escapes. No name and no number that we look for has one.
create function restante.json_part(p_text text, variadic p_path text[]) returns json
language plpgsql immutable as $$
begin
  return json_extract_path(p_text::json, variadic p_path);
exception
  when untranslatable_character or invalid_text_representation or statement_too_complex then
    begin
      return json_extract_path(regexp_replace(p_text, '\\(u[0-9a-fA-F]{4}|.)', '', 'g')::json, variadic p_path);
    exception
      when untranslatable_character or invalid_text_representation or statement_too_complex then
        return null;
    end;
end $$;
comment on function restante.json_part is 'Engine: A part of a JSON text; null if it is not there, or if the text cannot be read.';

create function restante.whole_number(p_value json) returns bigint
language sql immutable parallel safe
return case when p_value::text ~ '^\d{1,15}$' then p_value::text::bigint end;
comment on function restante.whole_number is 'Engine: A count of JSON; null if it is none.';

-- What a result line says of its usage beyond the columns of its row. Where it says nothing that can be read, all that was written to a
-- cache was written for five minutes.
create function restante.usage_of_line(
  p_line text, p_written bigint, out cache_write_5m bigint, out cache_write_1h bigint, out server_tool_uses bigint)
language plpgsql immutable as $$
declare
  v_usage json;
begin
  cache_write_5m := coalesce(p_written, 0);
  cache_write_1h := 0;
  server_tool_uses := 0;
  -- Most lines need not be read.
  if p_line is null or (cache_write_5m = 0 and strpos(p_line, '"server_tool_use"') = 0) then
    return;
  end if;
  v_usage := restante.json_part(p_line, 'result', 'message', 'usage');
  cache_write_1h := coalesce(restante.whole_number(v_usage->'cache_creation'->'ephemeral_1h_input_tokens'), 0);
  cache_write_5m := greatest(coalesce(restante.whole_number(v_usage->'cache_creation'->'ephemeral_5m_input_tokens'), 0),
                             cache_write_5m - cache_write_1h);
  if json_typeof(v_usage->'server_tool_use') = 'object' then
    select coalesce(sum(restante.whole_number(e.value)), 0) into server_tool_uses from json_each(v_usage->'server_tool_use') as e;
  end if;
end $$;
comment on function restante.usage_of_line is 'Engine: What a result line says of its usage beyond the columns of its row.';

-- The usage of a complete batch is added up once, so that no sum of a month reads a month of results. The prices stay apart: a corrected
-- price corrects the costs of the past.
create table restante.batch_usage (
  batch_id       text collate "C" not null,
  account        text collate "C" not null,
  model          text collate "C" not null,
  results        bigint not null,
  succeeded      bigint not null,
  without_usage  bigint not null,
  input_tokens   bigint not null,
  output_tokens  bigint not null,
  cache_write_5m_tokens bigint not null,
  cache_write_1h_tokens bigint not null,
  cache_read_tokens     bigint not null,
  server_tool_uses      bigint not null,
  constraint batch_usage_once primary key (batch_id, account, model)
);
comment on table restante.batch_usage is 'What each complete batch used, by model. Only succeeded results are billed, and only they have tokens here.';
comment on column restante.batch_usage.model is 'The model that answered; empty for results without one.';
comment on column restante.batch_usage.results is 'All results, whatever their outcome.';
comment on column restante.batch_usage.without_usage is 'Succeeded results that do not say how many tokens they used.';
comment on column restante.batch_usage.server_tool_uses is 'How often a tool of the API ran, such as a web search. They are counted, and no price is put to them.';

-- What was added up, and otherwise what the results say that are here.
create function restante.usage_of_batch(p_batch_id text, p_account text) returns setof restante.batch_usage
language plpgsql stable security definer rows 2
set search_path = pg_catalog, pg_temp as $$
begin
  return query select u.* from restante.batch_usage as u where u.batch_id = p_batch_id and u.account = p_account;
  if found then
    return;
  end if;
  return query
    select p_batch_id, p_account, coalesce(r.model, '') collate "C", count(*), count(*) filter (where s.is_billed),
           count(*) filter (where s.is_billed and (r.input_tokens is null or r.output_tokens is null)),
           coalesce(sum(r.input_tokens) filter (where s.is_billed), 0)::bigint,
           coalesce(sum(r.output_tokens) filter (where s.is_billed), 0)::bigint,
           coalesce(sum(l.cache_write_5m) filter (where s.is_billed), 0)::bigint,
           coalesce(sum(l.cache_write_1h) filter (where s.is_billed), 0)::bigint,
           coalesce(sum(r.cache_read_input_tokens) filter (where s.is_billed), 0)::bigint,
           coalesce(sum(l.server_tool_uses) filter (where s.is_billed), 0)::bigint
      from restante.batch_result as r
     cross join lateral (select r.outcome = 'succeeded' as is_billed) as s
     cross join lateral restante.usage_of_line(case when s.is_billed then r.line end, r.cache_creation_input_tokens) as l
     where r.batch_id = p_batch_id and r.account = p_account
     group by coalesce(r.model, '');
end $$;
comment on function restante.usage_of_batch is 'Engine: What a batch has used so far, by model.';

create function restante.sum_usage() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  delete from restante.batch_usage as u where u.batch_id = new.id and u.account = new.account;
  -- To read so much would keep the batch from becoming complete. It is added up by whoever asks.
  if new.bytes_stored < 4000000000 then
    insert into restante.batch_usage select u.* from restante.usage_of_batch(new.id, new.account) as u;
  end if;
  return null;
end $$;
comment on function restante.sum_usage is 'Engine: Adds up the usage of a batch that has become complete.';
create trigger batch_sums_its_usage after update of complete_at on restante.batch
  for each row when (old.complete_at is null and new.complete_at is not null) execute function restante.sum_usage();

create view restante.usage_cost as
  select b.id as batch_id, b.account, coalesce(b.created_at, b.first_seen_at) as created_at, b.complete_at,
         b.processing + b.succeeded + b.errored + b.canceled + b.expired as requests, u.model, u.results, u.succeeded,
         u.without_usage, u.input_tokens, u.output_tokens, u.cache_write_5m_tokens, u.cache_write_1h_tokens, u.cache_read_tokens,
         u.server_tool_uses, p.model as price_model, p.valid_from as price_valid_from,
         coalesce(restante.cost_of(p, u.input_tokens, u.output_tokens, u.cache_write_5m_tokens, u.cache_write_1h_tokens,
                                   u.cache_read_tokens), 0) as dollars,
         case when p.model is null then u.succeeded else 0 end as results_without_price
    from restante.batch as b
   cross join lateral restante.usage_of_batch(b.id, b.account) as u
    left join lateral restante.price_at(u.model, coalesce(b.created_at, b.first_seen_at)) as p on u.succeeded > 0;
comment on view restante.usage_cost is
  'What each batch used and costs so far, by model, with the price that was used. An estimate: the invoice decides.';

create view restante.result_cost as
  select r.batch_id, r.account, r.custom_id, r.model, r.input_tokens, r.output_tokens, l.cache_write_5m as cache_write_5m_tokens,
         l.cache_write_1h as cache_write_1h_tokens, r.cache_read_input_tokens as cache_read_tokens, l.server_tool_uses,
         restante.cost_of(p, coalesce(r.input_tokens, 0), coalesce(r.output_tokens, 0), l.cache_write_5m, l.cache_write_1h,
                          coalesce(r.cache_read_input_tokens, 0)) as dollars
    from restante.batch_result as r
    join restante.batch as b on b.id = r.batch_id and b.account = r.account
   cross join lateral restante.usage_of_line(r.line, r.cache_creation_input_tokens) as l
    left join lateral restante.price_at(r.model, coalesce(b.created_at, b.first_seen_at)) as p on true
   where r.outcome = 'succeeded';
comment on view restante.result_cost is
  'What each succeeded result used and costs; dollars is null without a price. An estimate. Ask for one batch: it reads every result line.';

create view restante.batch_cost as
  select c.batch_id, c.account, c.created_at, string_agg(c.model, ', ' order by c.model) filter (where c.model <> '') as model,
         max(c.requests) as requests, sum(c.results)::bigint as results, sum(c.succeeded)::bigint as succeeded,
         sum(c.input_tokens)::bigint as input_tokens, sum(c.output_tokens)::bigint as output_tokens,
         sum(c.cache_write_5m_tokens)::bigint as cache_write_5m_tokens,
         sum(c.cache_write_1h_tokens)::bigint as cache_write_1h_tokens, sum(c.cache_read_tokens)::bigint as cache_read_tokens,
         sum(c.server_tool_uses)::bigint as server_tool_uses, trim_scale(sum(c.dollars)) as dollars,
         sum(c.results_without_price)::bigint as results_without_price, sum(c.without_usage)::bigint as results_without_usage
    from restante.usage_cost as c
   group by c.batch_id, c.account, c.created_at;
comment on view restante.batch_cost is
  'What each batch costs so far. An estimate: the invoice decides. Results without a price are not in dollars.';

create view restante.submission_cost as
  select s.name as submission, s.tag, s.account, s.status, s.created_at, s.requests, count(distinct p.id) as batches,
         coalesce(sum(c.succeeded), 0)::bigint as succeeded, coalesce(sum(c.input_tokens), 0)::bigint as input_tokens,
         coalesce(sum(c.output_tokens), 0)::bigint as output_tokens,
         coalesce(sum(c.cache_write_5m_tokens), 0)::bigint as cache_write_5m_tokens,
         coalesce(sum(c.cache_write_1h_tokens), 0)::bigint as cache_write_1h_tokens,
         coalesce(sum(c.cache_read_tokens), 0)::bigint as cache_read_tokens,
         coalesce(sum(c.server_tool_uses), 0)::bigint as server_tool_uses, trim_scale(coalesce(sum(c.dollars), 0)) as dollars,
         coalesce(sum(c.results_without_price), 0)::bigint as results_without_price
    from restante.submission as s
    -- A batch is that of one part, so each result counts once, and each attempt at a request is another result.
    left join restante.submission_part as p on p.submission = s.name and p.batch_id is not null
    left join restante.usage_cost as c on c.batch_id = p.batch_id and c.account = p.account
   group by s.id;
comment on view restante.submission_cost is
  'What each submission costs so far, with its tag, all attempts included. An estimate: the invoice decides.';

create view restante.cost_by_day as
  select (c.created_at at time zone 'UTC')::date as day, c.model, s.tag, c.account, sum(c.succeeded)::bigint as succeeded,
         trim_scale(sum(c.dollars)) as dollars, sum(c.results_without_price)::bigint as results_without_price
    from restante.usage_cost as c
    left join restante.submission_part as p on p.batch_id = c.batch_id and p.account = c.account
    left join restante.submission as s on s.name = p.submission
   where c.succeeded > 0
   group by 1, c.model, s.tag, c.account;
comment on view restante.cost_by_day is
  'What was spent by day (in UTC, of the batch''s creation), model, tag and account. An estimate: the invoice decides.';

create view restante.price_missing as
  select c.model, count(*) as batches, sum(c.results_without_price)::bigint as results, min(c.created_at) as first_used_at,
         max(c.created_at) as last_used_at
    from restante.usage_cost as c
   where c.results_without_price > 0
   group by c.model;
comment on view restante.price_missing is
  'Models that answered and have no price for that time. Insert one into restante.price that is valid from first_used_at on.';

-- Budgets.

create table restante.budget_limit (
  tag        text collate "C" not null,
  per        text collate "C" not null default 'month',
  amount     numeric     not null,
  checked_at timestamptz,
  constraint budget_limit_once primary key (tag, per),
  constraint budget_limit_period_known check (per in ('day', 'week', 'month', 'total')),
  constraint budget_limit_is_an_amount check (amount between 0 and 1000000000000)
);
comment on table restante.budget_limit is
  'What submissions with a tag may cost, in dollars. A submission that would cost more is refused. To end a budget, delete its row.';
comment on column restante.budget_limit.per is 'Per day, week (from Monday), month, or in total. Days begin at midnight UTC.';
comment on column restante.budget_limit.checked_at is
  'When a submission was last checked. It is written so that one waits for the other, also in a transaction that sees an old snapshot.';

create index submission_tag on restante.submission (tag collate "C", created_at) where tag is not null;
comment on index restante.submission_tag is 'Finds what counts for the budget of a tag.';

create index submission_open on restante.submission (id) where status not in ('complete', 'cancelled');
comment on index restante.submission_open is 'Finds what is not complete, however long the history is.';

alter table restante.batch_request add column estimate numeric;
comment on column restante.batch_request.estimate is
  'What it may cost in dollars, if its tag has a budget: a token for each four bytes of params, and max_tokens of output.';

create function restante.period_start(p_per text, p_at timestamptz) returns timestamptz
language sql immutable parallel safe
return case when p_per = 'total' then '-infinity' else date_trunc(p_per, p_at at time zone 'UTC') at time zone 'UTC' end;
comment on function restante.period_start is 'Engine: When the period of a budget began.';

-- The most that a request may ask for. What the API would refuse costs nothing.
create function restante.max_tokens(p_params text) returns numeric
language sql immutable
return (select case when v.value ~ '^\d{1,15}(\.\d{1,15})?([eE]\+?\d{1,2})?$' then ceil(v.value::numeric) else 0 end
          from (select restante.json_part(p_params, 'max_tokens')::text as value) as v);
comment on function restante.max_tokens is 'Engine: How many tokens of output a request may ask for.';

-- Estimates the requests under way that have no estimate yet: those of a new submission, and those from before there was a budget.
create function restante.estimate_requests(p_tag text, p_since timestamptz) returns void
language plpgsql as $$
begin
  with asked as materialized (
    select r.submission, r.custom_id, restante.json_part(r.params::text, 'model') #>> '{}' as model,
           ceil(octet_length(r.params::text) / 4.0) as input, restante.max_tokens(r.params::text) as output
      from restante.submission as s
      join restante.batch_request as r on r.submission = s.name
     where s.tag = p_tag and s.created_at >= p_since and r.estimate is null and r.status in ('collected', 'waiting', 'submitted')),
  model as materialized (
    select m.model, p as price
      from (select distinct a.model from asked as a) as m
     cross join lateral restante.price_at(m.model, clock_timestamp()) as p)
  update restante.batch_request as r
     set estimate = restante.cost_of(m.price, a.input, a.output, 0, 0, 0)
    from asked as a join model as m on m.model = a.model
   where r.submission = a.submission and r.custom_id = a.custom_id;
end $$;
comment on function restante.estimate_requests is 'Engine: Estimates the cost of requests under way that have no estimate yet.';

-- A submission counts for the period in which it was submitted, whenever its answers come. A request is under way until its batch is
-- complete; then its result counts.
create function restante.budget_spent(
  p_tag text, p_since timestamptz, out spent numeric, out under_way numeric, out results_without_price bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp as $$
begin
  select coalesce(sum(c.dollars), 0), coalesce(sum(c.results_without_price), 0) into spent, results_without_price
    from restante.submission as s
    join restante.submission_part as p on p.submission = s.name and p.batch_id is not null
    join restante.usage_cost as c on c.batch_id = p.batch_id and c.account = p.account
   where s.tag = p_tag and s.created_at >= p_since and c.complete_at is not null;
  select coalesce(sum(r.estimate), 0) into under_way
    from restante.submission as s
    join restante.batch_request as r on r.submission = s.name
   where s.tag = p_tag and s.created_at >= p_since and r.status in ('collected', 'waiting', 'submitted');
end $$;
comment on function restante.budget_spent is 'Engine: What a tag has spent since a time, and what its requests under way may cost.';

-- Refuses a submission that would cost more than what is left.
create function restante.check_budget(p_name text, p_tag text) returns void
language plpgsql as $$
declare
  v_now     timestamptz := clock_timestamp();
  v_since   timestamptz;
  v_limit   record;
  v_new     numeric;
  v_found   record;
  v_missing text;
begin
  -- One submission of a tag after the other. Each step below sees what the last one has committed.
  for v_limit in select l.per from restante.budget_limit as l where l.tag = p_tag order by l.per loop
    update restante.budget_limit as l set checked_at = v_now where l.tag = p_tag and l.per = v_limit.per;
  end loop;
  select min(restante.period_start(l.per, v_now)) into v_since from restante.budget_limit as l where l.tag = p_tag;
  if v_since is null then
    return;
  end if;
  perform restante.estimate_requests(p_tag, v_since);
  select string_agg(distinct coalesce(restante.json_part(r.params::text, 'model') #>> '{}', '(none)'), ', ') into v_missing
    from restante.submission as s
    join restante.batch_request as r on r.submission = s.name
   where s.tag = p_tag and s.created_at >= v_since and r.estimate is null and r.status in ('collected', 'waiting', 'submitted');
  if v_missing is not null then
    raise exception 'restante.submit_batch: the budget of the tag % cannot be checked, because a model has no price: %', p_tag, v_missing
      using errcode = 'configuration_limit_exceeded', hint = 'An operator inserts its price into restante.price.';
  end if;
  select coalesce(sum(r.estimate), 0) into v_new from restante.batch_request as r where r.submission = p_name;

  for v_limit in select l.* from restante.budget_limit as l where l.tag = p_tag order by l.per loop
    v_found := restante.budget_spent(p_tag, restante.period_start(v_limit.per, v_now));
    if v_found.results_without_price > 0 then
      raise exception 'restante.submit_batch: the budget of the tag % cannot be checked, because % of its results have no price',
        p_tag, v_found.results_without_price using errcode = 'configuration_limit_exceeded',
        hint = 'restante.price_missing has their models: an operator inserts prices that are valid from first_used_at on.';
    end if;
    if v_found.spent + v_found.under_way > v_limit.amount then
      raise exception 'restante.submit_batch: the tag % may cost % dollars (%), of which % are spent and % are estimated for requests under '
        'way; this submission is estimated at %', p_tag, trim_scale(v_limit.amount),
        case v_limit.per when 'total' then 'in total' else 'per ' || v_limit.per end, trim_scale(v_found.spent),
        trim_scale(v_found.under_way - v_new), trim_scale(v_new)
        using errcode = 'configuration_limit_exceeded', hint = 'Nothing was submitted. An operator raises it with restante.budget().';
    end if;
  end loop;
end $$;
comment on function restante.check_budget is 'Engine: Refuses a submission that would cost more than the budget of its tag has left.';

-- When the row of a submission is written, its requests are there already, whoever has written it.
create function restante.guard_budget() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  -- A restore brings back what was allowed once. Only the sessions of pg_dump's output turn this off, and only the owner restores.
  if not current_setting('check_function_bodies')::boolean and pg_has_role(session_user, current_user, 'member') then
    return null;
  end if;
  perform restante.check_budget(new.name, new.tag);
  return null;
end $$;
comment on function restante.guard_budget is 'Engine: Checks the budget of a new submission.';
create trigger submission_within_budget after insert on restante.submission
  for each row when (new.tag is not null) execute function restante.guard_budget();

-- For operators.
create function restante.budget(tag text, amount numeric, per text default 'month') returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if coalesce(budget.tag, '') = '' or octet_length(budget.tag) > 200 then
    raise exception 'restante.budget: tag must have 1 to 200 bytes' using errcode = 'invalid_parameter_value';
  elsif budget.per is null or budget.per not in ('day', 'week', 'month', 'total') then
    raise exception 'restante.budget: per must be day, week, month or total' using errcode = 'invalid_parameter_value';
  elsif (budget.amount between 0 and 1000000000000) is not true then
    raise exception 'restante.budget: amount must be dollars, 0 or more' using errcode = 'invalid_parameter_value',
      hint = 'To end a budget: delete from restante.budget_limit where tag = ...';
  end if;
  insert into restante.budget_limit (tag, per, amount) values (budget.tag, budget.per, budget.amount)
  on conflict on constraint budget_limit_once do update set amount = excluded.amount;
  perform restante.estimate_requests(budget.tag, restante.period_start(budget.per, clock_timestamp()));
end $$;
comment on function restante.budget is
  'Limits what submissions with a tag may cost, in dollars per day, week, month or in total. One that would cost more is refused.';

create view restante.budget_overview as
  select l.tag, l.per, nullif(restante.period_start(l.per, clock_timestamp()), '-infinity') as since, l.amount,
         trim_scale(b.spent) as spent, trim_scale(b.under_way) as under_way,
         trim_scale(l.amount - b.spent - b.under_way) as left_over, b.results_without_price
    from restante.budget_limit as l
   cross join lateral restante.budget_spent(l.tag, restante.period_start(l.per, clock_timestamp())) as b;
comment on view restante.budget_overview is
  'What each budget has left: its amount without what is spent and what the requests under way may cost. An estimate.';

-- How far each submission is. Until a batch has ended, the API shows no counts, so there is no share of what is done. Its likely end
-- comes from the last hundred complete batches of a third to three times its size: half of those that took longer than it has
-- taken so far had ended by then.
create view restante.submission_overview as
  select s.name as submission, s.tag, s.account,
         case
           when s.status = 'complete' then 'complete'
           when s.status = 'cancelled' and p.under_way + p.ended > 0 then 'called off; what the API has ends first'
           when s.status = 'cancelled' then 'called off'
           when s.status = 'uncertain' then 'uncertain: a person decides'
           when s.status = 'refused' then 'refused by the API'
           when s.status = 'waiting' then 'waits to be sent'
           when s.status = 'sending' then 'is being sent'
           when p.given_up > 0 then 'its results cannot be fetched'
           when p.downloading > 0 then 'is being downloaded'
           when p.under_way > 0 then 'the API works on it'
           else 'has ended'
         end as state,
         s.reason, clock_timestamp() - s.created_at as age, p.parts, s.requests, r.waiting, r.submitted, r.succeeded, r.errored,
         r.canceled, r.expired, r.cancelled, r.other, p.expires_at - clock_timestamp() as expires_in,
         p.results_deadline - clock_timestamp() as results_vanish_in,
         case when p.without_history = 0 then p.likely_end_at end as likely_end_at, p.results_stored, p.results_ready,
         (select trim_scale(coalesce(sum(c.dollars), 0))
            from restante.submission_part as q
            join restante.usage_cost as c on c.batch_id = q.batch_id and c.account = q.account
           where q.submission = s.name) as dollars,
         s.created_at, s.created_by, s.complete_at
    from restante.submission as s
    left join lateral (
      select count(*) as parts,
             count(*) filter (where o.is_open and b.ended_at is null and q.batch_id is not null) as under_way,
             count(*) filter (where o.is_open and b.ended_at is not null) as ended,
             count(*) filter (where o.is_open and b.given_up_because is not null) as given_up,
             count(*) filter (where o.is_open and b.download_started_at is not null) as downloading,
             min(b.expires_at) filter (where o.is_open and b.ended_at is null) as expires_at,
             min(b.results_deadline) filter (where o.is_open) as results_deadline,
             max(h.likely_end_at) as likely_end_at,
             count(*) filter (where o.is_open and b.ended_at is null and h.likely_end_at is null) as without_history,
             coalesce(sum(b.results_stored), 0)::bigint as results_stored,
             coalesce(sum(b.succeeded + b.errored + b.canceled + b.expired) filter (where b.ended_at is not null), 0)::bigint as results_ready
        from restante.submission_part as q
        left join restante.batch as b on b.id = q.batch_id and b.account = q.account
       cross join lateral (
         select q.status not in ('complete', 'cancelled') and b.complete_at is null as is_open,
                clock_timestamp() - coalesce(b.created_at, b.first_seen_at, clock_timestamp()) as age) as o
        left join lateral (
          select clock_timestamp() - o.age + percentile_disc(0.5) within group (order by d.lasted) as likely_end_at
            from (select k.ended_at - k.created_at as lasted
                    from restante.batch as k
                   where k.complete_at is not null and k.ended_at > k.created_at
                     and (k.succeeded + k.errored + k.canceled + k.expired) * 3 >= q.requests
                     and k.succeeded + k.errored + k.canceled + k.expired <= q.requests::bigint * 3
                   order by k.ended_at desc limit 100) as d
           where d.lasted > o.age) as h on o.is_open and b.ended_at is null and q.status not in ('uncertain', 'refused')
       where q.submission = s.name) as p on true
    left join lateral (
      select count(*) filter (where a.status in ('collected', 'waiting')) as waiting,
             count(*) filter (where a.status = 'submitted') as submitted, count(*) filter (where a.status = 'succeeded') as succeeded,
             count(*) filter (where a.status = 'errored') as errored, count(*) filter (where a.status = 'canceled') as canceled,
             count(*) filter (where a.status = 'expired') as expired, count(*) filter (where a.status = 'cancelled') as cancelled,
             count(*) filter (where a.status = 'other') as other
        from restante.batch_request as a
       where a.submission = s.name) as r on true;
comment on view restante.submission_overview is
  'Each submission in a row: what it is at, its outcomes so far, how long the API still keeps it, when it is likely to end, its cost so far.';

revoke execute on all functions in schema restante from public;
grant select on restante.price, restante.batch_usage, restante.budget_limit, restante.usage_cost, restante.result_cost,
  restante.batch_cost, restante.submission_cost, restante.cost_by_day, restante.price_missing, restante.budget_overview,
  restante.submission_overview to restante_operator;
grant insert, update, delete on restante.price, restante.budget_limit to restante_operator;
grant execute on function restante.budget, restante.budget_spent, restante.period_start, restante.json_part, restante.whole_number,
  restante.usage_of_line to restante_operator;
-- Who reads a view runs its functions.
grant execute on function restante.price_at, restante.cost_of, restante.usage_of_batch to restante_operator, restante_app;
grant select on restante.submission_overview, restante.submission_cost to restante_app;
