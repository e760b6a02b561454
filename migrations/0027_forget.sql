-- Forget: erases what one key, or one tag, left in this schema, and has the API delete what it holds where it can.
--
-- A call notes what is to be forgotten, and workers do it in portions, because a key may have a million events. An attempt that runs while
-- its event is erased has lost its lease with it, so nothing that it wrote is committed. Identifiers stay, so that what is delivered again
-- is still known. It is complete when a second look, after every attempt of then must have noticed, finds nothing any more.

set local lock_timeout = '1s';

-- The notifications of an endpoint that was deleted still have its name in their type and in their key. Without the name nobody would find
-- them by the key of an event, short of reading the whole history.
create table restante.endpoint_gone (
  name text collate "C" not null,
  constraint endpoint_gone_once primary key (name)
);
comment on table restante.endpoint_gone is
  'The names of endpoints that were deleted, so that restante.forget() finds what was sent to them.';

-- The history is read for those of before once, and only if the numbers of the endpoints have a gap. It comes first, before any lock on a
-- table that services use.
do $$ begin
  if (select count(*) from restante.endpoint) < (select case when q.is_called then q.last_value else 0 end from restante.endpoint_id_seq as q) then
    insert into restante.endpoint_gone (name)
    select g.name from (select distinct substr(o.type, 8) as name from restante.outbox as o where starts_with(o.type, 'notify.')
                        union select d.endpoint from restante.endpoint_delivery as d) as g
     where g.name <> '' and not exists (select from restante.endpoint as e where e.name = g.name);
  end if;
end $$;

create function restante.note_endpoint_gone() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into restante.endpoint_gone (name) values (old.name) on conflict do nothing;
  return null;
end $$;
comment on function restante.note_endpoint_gone is 'Engine: Keeps the name of an endpoint that is deleted.';
create trigger endpoint_leaves_its_name after delete on restante.endpoint
  for each row execute function restante.note_endpoint_gone();

create table restante.forgetting (
  id         bigint      not null generated always as identity,
  of_what    text collate "C" not null,
  asked_at   timestamptz not null default clock_timestamp(),
  asked_by   text        not null default session_user,
  reason     text,
  key        text collate "C",
  tag        text collate "C",
  keys       text[] collate "C" not null default '{}',
  status     text        not null default 'erasing',
  waits_for  text,
  due_at     timestamptz not null default clock_timestamp(),
  clean_since timestamptz,
  not_before timestamptz not null default clock_timestamp() + interval '10 seconds',
  erased     jsonb       not null default '{}',
  at_the_api jsonb       not null default '{}',
  ended_at   timestamptz,
  constraint forgetting_once primary key (id),
  constraint forgetting_status_known check (status in ('erasing', 'done')),
  constraint forgetting_names_something check (status = 'done' or (key is null) <> (tag is null)),
  constraint forgetting_is_forgotten_itself check (status <> 'done' or (key is null and tag is null and keys = '{}'))
);
comment on table restante.forgetting is
  'Each call of restante.forget(), as its receipt: what was erased of which table, without content. restante.forget_overview shows it.';
comment on column restante.forgetting.of_what is
  'key or tag, and the SHA-256 of it in hexadecimal: who knows the key can look for its receipt, and nobody else learns it.';
comment on column restante.forgetting.key is 'Null once it is done.';
comment on column restante.forgetting.keys is 'The key and the objects that belong to it; empty once it is done.';
comment on column restante.forgetting.waits_for is 'What keeps it from going on, in words.';
comment on column restante.forgetting.clean_since is 'Since when a look has found nothing.';
comment on column restante.forgetting.not_before is 'Until then an attempt that lost its event may not have noticed.';
comment on column restante.forgetting.erased is 'How many rows of which table.';
comment on column restante.forgetting.at_the_api is 'How many objects the API was asked to delete, and what became of that.';

create table restante.forgetting_left (
  forgetting bigint not null,
  outbox_id  bigint,
  submission text collate "C",
  custom_id  text collate "C",
  constraint forgetting_left_of_one foreign key (forgetting) references restante.forgetting (id) on delete cascade
);
create index forgetting_left_forgetting on restante.forgetting_left (forgetting);
alter table restante.forgetting_left replica identity full;
comment on table restante.forgetting_left is
  'What may still write a row of something that is being forgotten: events that ran when they were erased, and messages within batches. Empty '
  'once it is done.';

-- The SHA-256 stands for what is forgotten.
create function restante.forgotten_as(p_word text, p_value text) returns text
language sql immutable parallel safe
return p_word || ' sha256:' || encode(sha256(convert_to(p_value, 'UTF8')), 'hex');
comment on function restante.forgotten_as is 'Engine: A key or a tag without what it says.';

-- All keys of events under which something of these keys is in the outbox: their own, those of messages and of sends to sessions, those of
-- batches of the tag that have ended, and of each the notifications. A submission tells its callback under its name.
create function restante.event_keys(p_keys text[], p_tag text) returns text[]
language sql stable
begin atomic
  with own as (
    select k.key from unnest(p_keys) as k (key)
    union select 'message:' || k.key from unnest(p_keys) as k (key)
    union select 'session_events:' || k.key from unnest(p_keys) as k (key)
    union select b.id from restante.submission as s
            join restante.submission_part as p on p.submission = s.name
            join restante.batch as b on b.id = p.batch_id and b.account = p.account and (b.complete_at is not null or b.given_up_because is not null)
           where s.tag = p_tag),
  told as (
    select o.key from own as o union select s.name from restante.submission as s where s.tag = p_tag)
  select coalesce(array_agg(a.key), '{}')
    from (select o.key from own as o
          union select e.name || ':' || t.key
                  from told as t cross join (select n.name from restante.endpoint as n union select g.name from restante.endpoint_gone as g) as e) as a;
end;
comment on function restante.event_keys is 'Engine: The keys of the events that have to do with these keys or with a tag.';

-- How the identifiers begin of events that have another key, or none, and name a message, a part or a batch: the jobs of Restante itself, with
-- what the API said to them, and its facts, which carry the tag. Of so many messages at most, because they may be a million; those that
-- go next (forgotten_rows() has the same ones). A part or a batch that has not ended needs its jobs: they are left out, but for `p_all`.
create function restante.event_names(p_forgetting restante.forgetting, p_messages integer, p_all boolean) returns text[]
language sql stable
begin atomic
  with part as (
    select p.id, p.batch_id, p.account, p.status from restante.submission as s join restante.submission_part as p on p.submission = s.name
     where s.tag = (p_forgetting).tag
    union
    select p.id, p.batch_id, p.account, p.status from restante.submission_part as p where p.batch_id = any ((p_forgetting).keys)),
  named as (
    select t.type, m.id::text as of_what
      from (select w.id from restante.message as w
             where w.key = any ((p_forgetting).keys) or w.tag = (p_forgetting).tag order by w.id limit p_messages) as m
     cross join unnest(array['message.send', 'message.completed', 'message.failed', 'message.cancelled']) as t (type)
    union all
    select t.type, p.id::text
      from part as p cross join unnest(array['batch.submit', 'batch.uncertain', 'message.unpack']) as t (type)
     where p_all or p.status in ('complete', 'cancelled', 'refused')
    union all
    select t.type, b.id
      from restante.batch as b
     cross join unnest(array['batch.poll', 'batch.ended', 'batch.cancel', 'batch.delete', 'batch.at_risk', 'batch.submitted', 'batch.results_ready'])
           as t (type)
     where (b.id = any ((p_forgetting).keys) or (b.id, b.account) in (select p.batch_id, p.account from part as p where p.batch_id is not null))
       and (p_all or b.complete_at is not null or b.given_up_because is not null))
  select coalesce(array_agg(n.type || ':' || n.of_what), '{}') from named as n;
end;
comment on function restante.event_names is
  'Engine: How the identifiers begin of events that name what is being forgotten, and have another key or none.';

-- The events with such names, the alarms of an earlier release that repeat a key, and the notifications of both. A notification without a key
-- is in no index but that of its number, which is one of the next after that of its event: both were stored in one call.
--
-- The history is looked up name by name. What is not finished has no index by its identifier, and is read once for all names.
create function restante.events_named(p_names text[], p_keys text[]) returns bigint[]
language plpgsql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set plan_cache_mode = force_custom_plan as $$
declare
  v_types text[] := array(select distinct split_part(n.name, ':', 1) from unnest(p_names) as n (name));
  v_said  text[] := array(select btrim(to_json(k.key)::text, '"') from unnest(p_keys) as k (key));
  v_found bigint[];
  v_told  bigint[] := '{}';
begin
  v_found := array(
    select l.id from restante.outbox_live as l
     where l.type = any (v_types) and l.source <> 'webhook' and l.type || ':' || split_part(l.event_id, ':', 2) = any (p_names)
    union all
    select o.id
      from unnest(p_names) as n (name)
     cross join lateral (
           select e.id, e.type, e.source from restante.outbox as e where e.finished_at < 'infinity' and e.event_id = n.name
           union all
           select e.id, e.type, e.source from restante.outbox as e
            where e.finished_at < 'infinity' and e.event_id > n.name || ':' and e.event_id < n.name || ';') as o
     where o.type = split_part(n.name, ':', 1) and o.source <> 'webhook'
    union all
    select o.id from restante.outbox_live as o
     where o.type = 'health.raised' and exists (select from unnest(v_said) as s (said) where strpos(o.payload::text, s.said) > 0)
    union all
    select o.id from restante.outbox as o
     where o.finished_at < 'infinity' and o.event_id > 'health.raised:' and o.event_id < 'health.raised;' and o.type = 'health.raised'
       and exists (select from unnest(v_said) as s (said) where strpos(o.payload::text, s.said) > 0));
  if exists (select from restante.endpoint) or exists (select from restante.endpoint_gone) then
    v_told := array(
      select n.id
        from (select o.id, o.type, o.event_id
                from restante.outbox as o where o.id = any (v_found) and restante.is_own_fact(o.type) and o.subscriber = '') as f
       cross join lateral (
             select o.id from restante.outbox as o
              where o.id > f.id and o.id <= f.id + 20000 and starts_with(o.type, 'notify.')
                and strpos(o.payload::text, format('"body":{"type":%s,"id":%s,', to_json(f.type), to_json(f.event_id))) > 0) as n);
  end if;
  return array(select distinct a.id from unnest(v_found || v_told) as a (id));
end $$;
comment on function restante.events_named is 'Engine: The events that have such names, or are alarms that repeat one of these keys, and their notifications.';

-- Erases events, and what is known of them. Returns how many rows of which table. What a session has locked stays.
create function restante.erase_events(p_forgetting restante.forgetting, p_ids bigint[]) returns jsonb
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_custom_plan as $$
declare
  v_found  record;
  v_counts jsonb := '{}';
  v_rows   bigint;
begin
  select coalesce(array_agg(f.id), '{}') as ids, array_agg(f.sender) as senders, array_agg(f.event_id) as event_ids,
         array_agg(f.id) filter (where f.status = 'running') as running, max(f.lease_until) filter (where f.status = 'running') as lease_until
    into v_found
    from (select o.id, o.sender, o.event_id, o.status, o.lease_until from restante.outbox as o
           where o.id = any (p_ids) for update skip locked) as f;
  if v_found.ids = '{}' then
    return v_counts;
  end if;
  insert into restante.forgetting_left (forgetting, outbox_id) select p_forgetting.id, unnest(v_found.running);
  update restante.forgetting as f set not_before = greatest(f.not_before, v_found.lease_until + interval '5 seconds')
   where f.id = p_forgetting.id and v_found.lease_until is not null;
  delete from restante.failure as f where f.outbox_id = any (v_found.ids);
  get diagnostics v_rows = row_count;
  v_counts := v_counts || jsonb_build_object('failure', v_rows);
  delete from restante.endpoint_delivery as d where d.outbox_id = any (v_found.ids);
  get diagnostics v_rows = row_count;
  v_counts := v_counts || jsonb_build_object('endpoint_delivery', v_rows);
  delete from restante.delivery_differs as d using unnest(v_found.senders, v_found.event_ids) as e (sender, event_id)
   where d.sender = e.sender and d.event_id = e.event_id;
  get diagnostics v_rows = row_count;
  v_counts := v_counts || jsonb_build_object('delivery_differs', v_rows);
  delete from restante.replay_event as e where e.outbox_id = any (v_found.ids);
  -- What is delivered again is a duplicate, and is not kept even if its body differs: there is nothing to compare it with.
  update restante.outbox_seen as s set digest = null from unnest(v_found.senders, v_found.event_ids) as e (sender, event_id)
   where s.event_id = restante.seen_as(e.sender, e.event_id);
  update restante.operation as o set of_what = p_forgetting.of_what, reason = null, arguments = null where o.of_what collate "C" = any (v_found.event_ids);
  -- By the partition that they were in, whose files have to be written anew.
  with erased as (delete from restante.outbox as o where o.id = any (v_found.ids) returning o.tableoid)
  select v_counts || jsonb_object_agg(c.relname, c.events) into v_counts
    from (select k.relname, count(*) as events from erased as e join pg_catalog.pg_class as k on k.oid = e.tableoid group by k.relname) as c;
  return v_counts;
end $$;
comment on function restante.erase_events is 'Engine: Erases events, and what is known of them. Returns how many rows of which table.';

-- A portion of the events of these keys.
create function restante.forget_events(p_forgetting restante.forgetting, p_keys text[], p_limit integer) returns jsonb
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_custom_plan as $$
begin
  return restante.erase_events(p_forgetting, array(
    select o.id from restante.outbox as o where o.key = any (p_keys) limit p_limit for update skip locked));
end $$;
comment on function restante.forget_events is 'Engine: Erases a portion of the events of these keys, and what is known of them. Returns how many rows of which table.';

-- The other tables, and where their rows `t` that go are found: $1 the number of the forgetting, $2 its keys, $3 its tag. Each begins with
-- what is few. Of what is in a batch under way the rows go once it has ended; until then the submission needs them ($4: they count too).
-- Of messages those go whose events went: event_names() named the same ones.
create function restante.forgotten_rows() returns table (turn integer, relation text, found text)
language sql immutable as $$
  values
    (1, 'batch_result',
     '(select b.id as batch_id, b.account, null as custom_id from restante.batch as b where b.id = any ($2)
       union all select p.batch_id, p.account, null from restante.submission as s join restante.submission_part as p on p.submission = s.name
                  where s.tag = $3
       union all select p.batch_id, p.account, l.custom_id
                   from restante.forgetting_left as l join restante.submission_part as p on p.submission = l.submission
                  where l.forgetting = $1) as w
      join restante.batch as b on b.id = w.batch_id and b.account = w.account and (b.complete_at is not null or b.given_up_because is not null)
      join restante.batch_result as t on t.batch_id = w.batch_id and t.account = w.account and (w.custom_id is null or t.custom_id = w.custom_id)'),
    (2, 'batch_request',
     '(select s.name as submission, null as custom_id from restante.submission as s where s.tag = $3
       union all select p.submission, null from restante.submission_part as p where p.batch_id = any ($2)
       union all select l.submission, l.custom_id from restante.forgetting_left as l where l.forgetting = $1) as w
      join restante.batch_request as t on t.submission = w.submission and (w.custom_id is null or t.custom_id = w.custom_id)
      join restante.submission_part as p on p.id = t.part and ($4 or p.status in (''complete'', ''cancelled'', ''refused''))'),
    -- What an attempt said late of a message that is gone belongs to nobody.
    (3, 'message_chunk',
     'restante.message_chunk as t left join restante.message as m on m.id = t.message where m.id is null or m.key = any ($2) or m.tag = $3'),
    (4, 'message',
     'restante.message as t where t.id = any (array(select m.id from restante.message as m where m.key = any ($2) or m.tag = $3
                                                     order by m.id limit case when $4 then null else 200 end))'),
    (5, 'resource', 'restante.resource as t where t.id = any ($2) or t.parent_id = any ($2)'),
    (6, 'outcome_evaluation', 'restante.outcome_evaluation as t where t.session_id = any ($2)'),
    (7, 'session_send', 'restante.session_send as t where t.session = any ($2)'),
    (8, 'missed_change', 'restante.missed_change as t where t.key = any ($2) or t.subject = any ($2)'),
    (9, 'failure', 'restante.forgetting_left as l join restante.failure as t on t.outbox_id = l.outbox_id where l.forgetting = $1'),
    (10, 'endpoint_delivery',
     'restante.forgetting_left as l join restante.endpoint_delivery as t on t.outbox_id = l.outbox_id where l.forgetting = $1'),
    -- Without its tag it limits nothing. The dry run counts it, so that nobody is surprised.
    (11, 'budget_limit', 'restante.budget_limit as t where t.tag = $3')
$$;
comment on function restante.forgotten_rows is 'Engine: The tables that are searched for what is forgotten, in their order, and where its rows are found.';
create index resource_id on restante.resource (id);
comment on index restante.resource_id is 'Finds an object of whatever type.';

-- Of a message that went out with a batch, the answer comes later or is there.
create function restante.note_answers(p_forgetting restante.forgetting) returns void
language sql
begin atomic
  insert into restante.forgetting_left (forgetting, submission, custom_id)
  select distinct p_forgetting.id, a.submission, 'm' || m.id
    from restante.message as m
   cross join lateral (select m.submission union select t.submission from restante.message_attempt as t where t.message = m.id) as a (submission)
   where (m.key = any (p_forgetting.keys) or m.tag = p_forgetting.tag) and a.submission is not null
     and not exists (select from restante.forgetting_left as l
                      where l.forgetting = p_forgetting.id and l.submission = a.submission and l.custom_id = 'm' || m.id);
end;
comment on function restante.note_answers is 'Engine: Notes which answers of batches belong to messages that are being forgotten.';

-- A portion of the other tables. Returns how many rows of which table it erased.
create function restante.forget_rows(p_forgetting restante.forgetting, p_limit integer) returns jsonb
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_table  record;
  v_delete text;
  v_rows   bigint;
  v_noted  constant text :=
    'with erased as (%s returning id::text),
          noted as (update restante.operation as o set reason = null, arguments = null from erased as e
                     where o.what = %L and (o.of_what = e.id or o.arguments->%L ? e.id))
     select count(*) from erased';
begin
  perform restante.note_answers(p_forgetting);
  for v_table in select r.relation, r.found from restante.forgotten_rows() as r order by r.turn loop
    v_delete := format('delete from restante.%I where ctid = any (array(select t.ctid from %s limit %s for update of t skip locked))',
                       v_table.relation, v_table.found, p_limit);
    -- What a person changed about these is noted by their numbers, with a reason in the person's words.
    v_delete := case v_table.relation
      when 'message' then format(v_noted, v_delete, 'message', 'the first messages')
      when 'session_send' then format(v_noted, v_delete, 'session send', 'the first sends')
      else format('with erased as (%s returning 1) select count(*) from erased', v_delete) end;
    execute v_delete into v_rows using p_forgetting.id, p_forgetting.keys, p_forgetting.tag, false;
    if v_rows > 0 then
      return jsonb_build_object(v_table.relation, v_rows);
    end if;
  end loop;
  return '{}';
end $$;
comment on function restante.forget_rows is 'Engine: Erases a portion of what is being forgotten from the other tables. Returns how many rows of which table.';

-- What people and the engine wrote about it.
create function restante.forget_words(p_forgetting restante.forgetting) returns void
language plpgsql as $$
declare
  v_submissions text[] := array(select s.name from restante.submission as s where s.tag = p_forgetting.tag);
begin
  -- That it was given up still counts. A reason in a person's own words does not.
  update restante.batch as b set given_up_because = 'forgotten'
   where b.given_up_because not in ('archived', 'vanished', 'forgotten')
     and (b.id = any (p_forgetting.keys)
          or (b.id, b.account) in (select p.batch_id, p.account from restante.submission_part as p where p.submission = any (v_submissions)));
  update restante.operation as o set of_what = p_forgetting.of_what, reason = null, arguments = null
   where o.of_what collate "C" = any (p_forgetting.keys || p_forgetting.tag);
  update restante.operation as o set reason = null, arguments = null
   where o.arguments->>'key' = any (p_forgetting.keys) or o.of_what collate "C" = any (v_submissions);
  update restante.replay as r set arguments = r.arguments - 'key', reason = null where r.arguments->>'key' = any (p_forgetting.keys);
  update restante.submission_part as p set reason = null
   where p.reason is not null and (p.submission = any (v_submissions) or p.batch_id = any (p_forgetting.keys));
  update restante.submission as s set tag = null, reason = null, callback = null where s.name = any (v_submissions);
  -- An error of the API may repeat what it was asked for.
  update restante.api_breaker as b set said = null
   where exists (select from unnest(p_forgetting.keys) as k (key) where strpos(b.said, k.key) > 0);
  update restante.reconcile_state as r set fault = null
   where exists (select from unnest(p_forgetting.keys) as k (key) where strpos(r.fault, k.key) > 0);
end $$;
comment on function restante.forget_words is 'Engine: Takes what is forgotten out of what was noted about it.';

-- What has to happen before it is complete, in words; null where nothing has to.
create function restante.forgetting_waits_for(p_forgetting restante.forgetting, p_keys text[], p_named bigint[]) returns text
language plpgsql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_found text;
  v_table record;
  v_is_left boolean;
begin
  if p_named <> '{}' or exists (select from restante.outbox as o where o.key = any (p_keys)) then
    return 'a session that has locked events of it';
  end if;
  for v_table in select r.relation, r.found from restante.forgotten_rows() as r order by r.turn loop
    execute format('select exists (select from %s)', v_table.found) into v_is_left
      using p_forgetting.id, p_forgetting.keys, p_forgetting.tag, false;
    if v_is_left then
      return format('a session that has locked rows of it in restante.%s', v_table.relation);
    end if;
  end loop;
  select 'the end of the batch ' || coalesce(p.batch_id, 'of the submission ' || p.submission) into v_found
    from restante.submission_part as p
   where p.status not in ('complete', 'cancelled', 'refused')
     and (exists (select from restante.submission as s where s.name = p.submission and s.tag = p_forgetting.tag)
          or p.submission in (select l.submission from restante.forgetting_left as l where l.forgetting = p_forgetting.id)
          or p.batch_id = any (p_forgetting.keys))
   limit 1;
  if v_found is null then
    select 'the end of the batch ' || b.id into v_found from restante.batch as b
     where b.id = any (p_forgetting.keys) and b.complete_at is null and b.given_up_because is null limit 1;
  end if;
  if v_found is null then
    select case l.status when 'dead' then 'a person: the API did not delete an object (' || coalesce(l.last_error, 'see its event') || ')'
                         else 'the API, to delete ' || (l.payload->>'type') end
      into v_found
      from restante.outbox_live as l
     where l.type = 'resource.forget' and starts_with(l.event_id, format('resource.forget:%s:', p_forgetting.id))
     order by l.status = 'dead' limit 1;
  end if;
  return v_found;
end $$;
comment on function restante.forgetting_waits_for is 'Engine: What has to happen before something is forgotten, in words; null where nothing has to.';

-- Has the API delete what it holds. Of a batch with answers of others too, which messages were packed into, nothing is deleted there.
create function restante.forget_at_the_api(p_forgetting restante.forgetting) returns void
language plpgsql as $$
declare
  v_object record;
  v_nth    integer := 0;
begin
  for v_object in
    select r.type, r.id, r.parent_id, r.account, false as is_given_up from restante.resource as r
     where r.id = any (p_forgetting.keys) and r.gone_at is null
       and r.type in ('session', 'vault', 'vault_credential', 'memory_store', 'user_profile', 'environment')
    union all
    select 'message_batch', b.id, null, b.account, b.given_up_because is not null from restante.batch as b
     where b.deleted_at is null
       and (b.id = any (p_forgetting.keys)
            or exists (select from restante.submission_part as p join restante.submission as s on s.name = p.submission
                        where p.batch_id = b.id and p.account = b.account and s.tag = p_forgetting.tag and s.packs_with is null))
  loop
    v_nth := v_nth + 1;
    perform restante.insert_event(
      format('resource.forget:%s:%s', p_forgetting.id, v_nth), 'resource.forget', null, null, clock_timestamp(),
      json_build_object('forgetting', p_forgetting.id, 'type', v_object.type, 'id', v_object.id, 'parent_id', v_object.parent_id,
                        'is_given_up', v_object.is_given_up)::text,
      null, null, null, 'worker', v_object.account, v_object.account);
  end loop;
  -- A batch has to end before the API deletes it. Whatever had succeeded is downloaded first, and then erased.
  update restante.submission as s set status = 'cancelled' where s.tag = p_forgetting.tag and s.status not in ('complete', 'cancelled');
  perform restante.cancel_batch(b.id, b.account, 'sql')
     from restante.batch as b where b.id = any (p_forgetting.keys) and b.complete_at is null and b.given_up_because is null and b.ended_at is null;
end $$;
comment on function restante.forget_at_the_api is 'Engine: Has the API delete what it holds of something that is being forgotten.';

-- Ends a forgetting: its own words go too.
create function restante.end_forgetting(p_forgetting restante.forgetting) returns void
language plpgsql as $$
begin
  perform restante.forget_words(p_forgetting);
  update restante.forgetting as f
     set status = 'done', key = null, tag = null, keys = '{}', waits_for = null, ended_at = clock_timestamp(),
         at_the_api = (
           select coalesce(jsonb_object_agg(a.what, a.objects), '{}')
             from (select case o.status when 'done' then 'deleted: ' else 'not deleted: ' end || (o.payload->>'type') as what, count(*) as objects
                     from restante.outbox as o
                    where o.type = 'resource.forget' and o.finished_at >= p_forgetting.asked_at
                      and starts_with(o.event_id, format('resource.forget:%s:', p_forgetting.id)) group by 1) as a)
   where f.id = p_forgetting.id;
  delete from restante.failure as f
   where f.outbox_id in (select o.id from restante.outbox as o where o.type = 'resource.forget' and o.finished_at >= p_forgetting.asked_at
                            and starts_with(o.event_id, format('resource.forget:%s:', p_forgetting.id)));
  delete from restante.outbox as o
   where o.type = 'resource.forget' and o.finished_at >= p_forgetting.asked_at and starts_with(o.event_id, format('resource.forget:%s:', p_forgetting.id));
  delete from restante.forgetting_left as l where l.forgetting = p_forgetting.id;
  insert into restante.operation (what, of_what, how_many, reason, arguments)
  select 'forgotten', p_forgetting.of_what, (select coalesce(sum(e.value::bigint), 0) from jsonb_each_text(p_forgetting.erased) as e),
         p_forgetting.reason, p_forgetting.erased;
end $$;
comment on function restante.end_forgetting is 'Engine: Ends a forgetting, and forgets what was to be forgotten.';

-- One portion. Returns the rows erased; -1 if one has become complete, and nothing if none is due.
create function restante.forget_portion(p_limit integer default 200) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set jit = off as $$
declare
  v_forgetting restante.forgetting;
  v_keys       text[];
  v_named      bigint[] := '{}';
  v_counts     jsonb;
  v_rows       bigint;
  v_waits_for  text;
begin
  select f.* into v_forgetting from restante.forgetting as f
   where f.status = 'erasing' and f.due_at <= clock_timestamp() order by f.due_at limit 1 for update skip locked;
  if not found then
    return null;
  end if;
  v_keys := restante.event_keys(v_forgetting.keys, v_forgetting.tag);
  v_counts := restante.forget_events(v_forgetting, v_keys, p_limit);
  -- A message stays until the events that name it are gone, because nobody could find them without it.
  if v_counts = '{}' then
    v_named := restante.events_named(restante.event_names(v_forgetting, 200, false), v_forgetting.keys);
    v_counts := case when v_named = '{}' then restante.forget_rows(v_forgetting, p_limit) else restante.erase_events(v_forgetting, v_named) end;
  end if;
  if v_counts <> '{}' then
    select sum(c.value::bigint) into v_rows from jsonb_each_text(v_counts) as c;
    update restante.forgetting as f
       set due_at = clock_timestamp(), clean_since = null, waits_for = null,
           erased = f.erased || (select jsonb_object_agg(c.key, coalesce((f.erased->>c.key)::bigint, 0) + c.value::bigint)
                                   from jsonb_each_text(v_counts) as c where c.value <> '0')
     where f.id = v_forgetting.id;
    return v_rows;
  end if;
  select f.* into v_forgetting from restante.forgetting as f where f.id = v_forgetting.id;
  v_waits_for := restante.forgetting_waits_for(v_forgetting, v_keys, v_named);
  if v_waits_for is null and v_forgetting.clean_since is not null and clock_timestamp() >= v_forgetting.not_before then
    perform restante.end_forgetting(v_forgetting);
    return -1;
  end if;
  update restante.forgetting as f
     set clean_since = case when v_waits_for is null then coalesce(f.clean_since, clock_timestamp()) end,
         waits_for = coalesce(v_waits_for, 'the second look'),
         due_at = clock_timestamp() + case when v_waits_for is null then greatest(f.not_before - clock_timestamp(), interval '1 second')
                                           else interval '5 seconds' end
   where f.id = v_forgetting.id;
  return 0;
end $$;
comment on function restante.forget_portion is
  'Engine: Erases a portion of what is being forgotten. Returns how many rows; -1 if it has become complete, and null if nothing is due. '
  'Workers call it every few seconds.';

create function restante.forget(key text default null, tag text default null, dry_run boolean default true, reason text default null)
returns table (relation text, rows bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off as $$
declare
  v_forgetting restante.forgetting;
  v_keys       text[];
  v_named      bigint[];
  v_table      record;
  v_operation  bigint;
  v_rows       bigint;
  v_fault      text;
begin
  v_fault := case
    when (forget.key is null) = (forget.tag is null) then 'name either a key or a tag'
    when coalesce(forget.key, forget.tag) = '' then 'the key or the tag is empty'
    when forget.dry_run is null then 'dry_run is null' end;
  if v_fault is not null then
    raise exception 'restante.forget: %', v_fault using errcode = 'invalid_parameter_value',
      hint = 'key => ''customer_7'' is the key of events and messages, or the id of an object; tag => ''letters'' is that of messages and submissions.';
  end if;
  v_forgetting.key := forget.key;
  v_forgetting.tag := forget.tag;
  v_forgetting.of_what := case when forget.key is not null then restante.forgotten_as('key', forget.key) else restante.forgotten_as('tag', forget.tag) end;
  -- What belongs to an object goes with it: the threads of a session, the credentials of a vault.
  v_forgetting.keys := case when forget.key is null then '{}'::text[]
    else array[forget.key] || array(select r.id from restante.resource as r where r.parent_id = forget.key) end;
  v_keys := restante.event_keys(v_forgetting.keys, forget.tag);
  if not forget.dry_run then
    insert into restante.forgetting (of_what, key, tag, keys, reason)
    values (v_forgetting.of_what, v_forgetting.key, v_forgetting.tag, v_forgetting.keys, forget.reason) returning * into v_forgetting;
    v_operation := restante.note_operation('forget', v_forgetting.of_what, 0, forget.reason, jsonb_build_object('forgetting', v_forgetting.id));
    perform restante.forget_at_the_api(v_forgetting);
  end if;
  relation := 'outbox';
  -- Nobody should wait here while a million messages are looked up: of more than a thousand it counts the events of the first.
  v_named := restante.events_named(restante.event_names(v_forgetting, 1000, true), v_forgetting.keys);
  select (select count(*) from restante.outbox as o where o.key = any (v_keys))
         + (select count(*) from restante.outbox as o
             where o.id = any (v_named) and (o.key = any (v_keys)) is not true)
    into rows;
  return next;
  v_rows := rows;
  for v_table in select r.relation, r.found from restante.forgotten_rows() as r order by r.turn loop
    relation := v_table.relation;
    execute format('select count(distinct t.ctid) from %s', v_table.found) into rows using v_forgetting.id, v_forgetting.keys, v_forgetting.tag, true;
    if rows > 0 then
      return next;
      v_rows := v_rows + rows;
    end if;
  end loop;
  perform restante.noted_fully(v_operation, v_rows);
  if forget.dry_run then
    raise notice 'nothing is forgotten yet; add dry_run => false';
  end if;
end $$;
comment on function restante.forget is
  'Erases what a key (of events and messages, or the id of an object) or a tag (of messages and submissions) left in this schema, and has the '
  'API delete what it holds where it can. By default it only returns how many rows of which table; with dry_run => false workers erase '
  'them. restante.forget_overview shows how far it is, and what to run then.';

create view restante.forget_overview as
  select f.id, f.of_what, f.asked_at, f.asked_by, f.reason, f.status, f.waits_for, f.erased, f.at_the_api, f.ended_at,
         -- Their files keep what was deleted until they are written anew. pg_statistic has samples of columns, also of a table that is empty.
         case when f.status = 'done' then
           format('delete from pg_catalog.pg_statistic where starelid in (select r.oid from unnest(array[%1$s, ''restante.outbox'']::regclass[]) as r (oid) '
                  'union all select i.indexrelid from pg_catalog.pg_index as i where i.indrelid = any (array[%1$s]::regclass[])); '
                  'vacuum (full, analyze) %2$s; analyze restante.outbox; vacuum full pg_catalog.pg_statistic; checkpoint;',
                  t.as_values, t.as_tables) end as to_empty_the_files
    from restante.forgetting as f
   cross join lateral (
         select string_agg(quote_literal(n.name), ', ' order by n.name) as as_values, string_agg(n.name, ', ' order by n.name) as as_tables
           from (select format('restante.%I', c.relname) as name
                   from pg_class as c
                  where c.relnamespace = 'restante'::regnamespace and c.relkind = 'r'
                    and (c.relname in ('outbox_live', 'outbox_overflow', 'outbox_seen', 'operation', 'replay', 'key_unsettled', 'submission',
                                       'submission_part', 'forgetting', 'forgetting_left', 'message_attempt', 'batch', 'api_breaker', 'reconcile_state')
                         or f.erased ? c.relname::text)) as n) as t;
comment on view restante.forget_overview is
  'How far each call of restante.forget() is, what it waits for, and its receipt. Once it is done, to_empty_the_files is what to run so that '
  'no file of a table, TOAST or index has a trace of it; each table is locked while it is written anew.';

-- As in 0016, with what a forgetting has the API delete: it is nothing to send on.
create or replace function restante.is_own_job(p_type text, p_source text) returns boolean
language sql immutable parallel safe
return starts_with(p_type, 'notify.')
  or p_type = any (array[
       'batch.poll', 'batch.reconcile', 'batch.submit', 'batch.cancel', 'batch.delete', 'message.send', 'message.pack', 'message.unpack',
       'session_events.send', 'resource.reconcile', 'resource.forget'])
  -- The API says the same words when a batch has ended.
  or (p_type = 'batch.ended' and p_source <> 'webhook');

revoke execute on all functions in schema restante from public;
grant execute on function restante.forget to restante_operator;
grant execute on function restante.forget_portion to restante_worker;
grant select on restante.forgetting, restante.forgetting_left, restante.forget_overview, restante.endpoint_gone to restante_operator;
