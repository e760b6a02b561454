-- Notifications: events that are sent on to endpoints, signed, as events of the outbox.
--
-- A notification is an event of type `notify.NAME`, where NAME is that of its endpoint. It is stored in the commit of the event that it
-- tells of, with exactly the body that every attempt sends. What an outbox does, it does for notifications too: their key keeps
-- their order, a pause of their type parks those of a disabled endpoint, a dead letter waits for a person.

-- As in 0010: a session that waits for the lock of a table makes all later ones wait behind it.
set local lock_timeout = '1s';

-- What is wrong with the address of an endpoint or a callback; null where nothing is. Which machines it may name is decided by the worker
-- when it connects, because only then it is known where a name leads.
create function restante.url_fault(p_url text) returns text
language sql immutable parallel safe
return case
  when coalesce(p_url, '') = '' then 'is missing'
  when octet_length(p_url) > 2048 then 'has more than 2,048 bytes'
  when p_url ~ '[^\x21-\x7e]' or strpos(p_url, '\') > 0 then
    'has a blank, a backslash, a control character or a letter beyond ASCII'
  when p_url !~ '^https?://[^/?#]' then 'is no URL that begins with https:// and a host'
  when strpos(substring(p_url from '^https?://([^/?#]*)'), '@') > 0 then 'has a user or a password'
  when strpos(p_url, '#') > 0 then 'has a fragment'
end;
comment on function restante.url_fault is 'Engine: What is wrong with the address of an endpoint or a callback; null where nothing is.';

-- Scheme, host and port, as two spellings of one origin have them in common.
create function restante.origin_of(p_url text) returns text
language sql immutable parallel safe
return regexp_replace(lower(substring(p_url from '^https?://[^/?#]+')), '^(https://.*):443$|^(http://.*):80$', '\1\2');
comment on function restante.origin_of is 'Engine: The scheme, the host and the port of a URL.';

-- 32 bytes that nobody can guess, from two random identifiers of 122 random bits each.
create function restante.new_secret() returns text
language sql volatile
return 'whsec_' || encode(sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')), 'base64');
comment on function restante.new_secret is 'Engine: A new secret for the endpoint that Standard Webhooks are signed for.';

create table restante.endpoint (
  id                bigint generated always as identity,
  name              text collate "C" not null,
  url               text        not null,
  secret            text        not null,
  event_types       text[],
  status            text        not null default 'enabled',
  disabled_because  text,
  body              text        not null default 'thin',
  body_bytes_max    integer     not null default 262144,
  per_second        integer,
  concurrency       integer     not null default 16,
  disable_after     interval    default '1 day',
  failing_since     timestamptz,
  failures_in_a_row integer     not null default 0,
  enabled_at        timestamptz not null default clock_timestamp(),
  origin            text collate "C" generated always as (restante.origin_of(url)) stored,
  created_at        timestamptz not null default clock_timestamp(),
  created_by        text        not null default session_user,
  constraint endpoint_pk primary key (id),
  constraint endpoint_name_once unique (name),
  constraint endpoint_name_fits check (name ~ '^[a-z0-9_-]{1,64}$'),
  constraint endpoint_url_is_absolute check (restante.url_fault(url) is null),
  constraint endpoint_status_known check (status in ('enabled', 'disabled')),
  constraint endpoint_body_known check (body in ('thin', 'full')),
  constraint endpoint_body_bytes_max_fits check (body_bytes_max between 1024 and 16777216),
  constraint endpoint_per_second_fits check (per_second between 1 and 1000),
  constraint endpoint_concurrency_fits check (concurrency between 1 and 1000),
  constraint endpoint_disable_after_is_positive check (disable_after > interval '0')
);
create index endpoint_url on restante.endpoint (hashtextextended(url, 0));
comment on index restante.endpoint_url is 'Finds the endpoint that a callback names by its address.';
create index endpoint_origin on restante.endpoint (origin, id);
comment on index restante.endpoint_origin is 'Finds the endpoint whose secret and limits a callback shares.';
create index endpoint_with_patterns on restante.endpoint (id) where event_types is distinct from '{}';
comment on index restante.endpoint_with_patterns is 'The endpoints that get events by their types. Those of callbacks get none.';
comment on table restante.endpoint is
  'Where events are sent on to. To park what is to be sent: update ... set status = ''disabled''; ''enabled'' releases all of it.';
comment on column restante.endpoint.name is 'Its notifications are events of type notify.NAME. It cannot be changed.';
comment on column restante.endpoint.url is 'Where notifications go, by POST. Only https to public addresses, unless the worker is told otherwise.';
comment on column restante.endpoint.secret is
  'What is signed with: whsec_ and base64, or whsk_ and base64 for ed25519. Several, separated by a blank, sign side by side. Made if left out.';
comment on column restante.endpoint.event_types is
  'Which events it gets, as types or beginnings with a star. Null: what applications and handlers store, and the facts of Restante itself.';
comment on column restante.endpoint.status is 'enabled, or disabled: then notifications are parked. Write enabled to release them, in order.';
comment on column restante.endpoint.disabled_because is 'Why it is disabled.';
comment on column restante.endpoint.body is
  'thin: type, identifier, time and what it is about. full: the whole payload of the event, and of message.completed also the final message.';
comment on column restante.endpoint.body_bytes_max is 'A full body of more bytes is sent thin, with "truncated": true.';
comment on column restante.endpoint.per_second is 'How many notifications it gets within any second at most, from all workers together. Null: no limit.';
comment on column restante.endpoint.concurrency is 'How many notifications one worker sends to it at once at most.';
comment on column restante.endpoint.disable_after is
  'It is disabled once it has failed for so long, ten times or more in a row. Null: never.';
comment on column restante.endpoint.failing_since is 'Since when every notification has failed. Null: the last one did not.';
comment on column restante.endpoint.failures_in_a_row is 'How many notifications failed since the last one that did not.';
comment on column restante.endpoint.enabled_at is 'When it was last enabled. Workers then forget how it fared before.';
comment on column restante.endpoint.origin is 'Its scheme, host and port. Callbacks to the same origin share its secret, its limits and its status.';
comment on column restante.endpoint.created_by is 'The login that added it; for a callback, the login of the application.';

-- A table of its own, so that nobody who changes an endpoint and leaves the transaction open holds up its notifications.
create table restante.endpoint_pace (
  endpoint text collate "C" not null,
  recent   timestamptz[] not null default '{}',
  constraint endpoint_pace_once primary key (endpoint)
);
comment on table restante.endpoint_pace is 'When endpoints with a limit by the second got their last notifications.';
comment on column restante.endpoint_pace.recent is 'The times within the last second, oldest first.';

create table restante.endpoint_delivery (
  id           bigint generated always as identity,
  endpoint     text collate "C" not null,
  outbox_id    bigint      not null,
  event_id     text collate "C" not null,
  type         text collate "C" not null,
  attempt      integer     not null,
  delivered_at timestamptz not null default clock_timestamp(),
  took         interval    not null,
  status       integer,
  error        text,
  answer       text,
  constraint endpoint_delivery_pk primary key (id)
);
create index endpoint_delivery_endpoint on restante.endpoint_delivery (endpoint, delivered_at);
comment on index restante.endpoint_delivery_endpoint is 'The last attempts of one endpoint.';
create index endpoint_delivery_outbox_id on restante.endpoint_delivery (outbox_id);
comment on index restante.endpoint_delivery_outbox_id is 'The attempts of one notification.';
comment on table restante.endpoint_delivery is 'Each attempt to deliver a notification, and how it was answered. Delete old rows as you like.';
comment on column restante.endpoint_delivery.endpoint is 'The name of the endpoint.';
comment on column restante.endpoint_delivery.outbox_id is 'The notification, as restante.outbox.id.';
comment on column restante.endpoint_delivery.event_id is 'The notification as the receiver knows it: the header webhook-id, the same at every attempt.';
comment on column restante.endpoint_delivery.type is 'The type of the event that it tells of.';
comment on column restante.endpoint_delivery.delivered_at is 'When the attempt had ended.';
comment on column restante.endpoint_delivery.took is 'From the first byte of the request to the last byte of the answer that was read.';
comment on column restante.endpoint_delivery.status is 'The status of the answer. Null: there was none.';
comment on column restante.endpoint_delivery.error is 'Why the attempt failed. Null: it was delivered.';
comment on column restante.endpoint_delivery.answer is 'The first 1,024 bytes of the body of the answer, as text.';

-- What a change of an endpoint demands, and what follows.

create function restante.guard_endpoint() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_fault   text;
  v_pattern text;
begin
  if tg_op = 'INSERT' then
    new.name := coalesce(new.name, 'endpoint_' || new.id);
    new.secret := coalesce(new.secret, restante.new_secret());
  elsif new.name <> old.name then
    raise exception 'the name of endpoint % cannot be changed, because its notifications carry it', old.name
      using errcode = 'check_violation', hint = 'Add another endpoint, and disable this one.';
  end if;
  v_fault := restante.url_fault(new.url);
  if v_fault is not null then
    raise exception 'url of endpoint % %', new.name, v_fault using errcode = 'check_violation',
      hint = 'Write it like https://example.com/hooks, percent-encoded where it needs other characters.';
  end if;
  new.secret := btrim(regexp_replace(new.secret, '[[:space:],]+', ' ', 'g'));
  -- 24 bytes are 32 characters; an ed25519 key has 32 bytes, or 64 with the public half.
  if exists (select from regexp_split_to_table(new.secret, ' ') as s (secret)
              where s.secret !~ '^whsec_[A-Za-z0-9+/]{32,255}={0,2}$' and s.secret !~ '^whsk_([A-Za-z0-9+/]{43}=?|[A-Za-z0-9+/]{86}(==)?)$') then
    raise exception 'secret of endpoint % is no list of secrets', new.name using errcode = 'check_violation',
      hint = 'Each is whsec_ and the base64 of at least 24 bytes, or whsk_ and the base64 of an ed25519 key. Leave it out to have one made.';
  end if;
  if cardinality(regexp_split_to_array(new.secret, ' ')) > 10 then
    raise exception 'endpoint % has more than ten secrets', new.name using errcode = 'check_violation',
      hint = 'Drop those that the receiver no longer knows.';
  end if;
  foreach v_pattern in array coalesce(new.event_types, '{}') loop
    if coalesce(v_pattern, '') = '' or octet_length(v_pattern) > 512 or strpos(left(v_pattern, -1), '*') > 0 then
      raise exception 'event_types of endpoint %: % is no type', new.name, coalesce(quote_literal(v_pattern), 'null')
        using errcode = 'check_violation', hint = 'Name types, or beginnings with a star at their end: {order.placed,session.*}.';
    end if;
  end loop;
  if new.status = 'disabled' then
    new.disabled_because := coalesce(new.disabled_because, 'disabled by ' || session_user);
  elsif tg_op = 'INSERT' or old.status <> 'enabled' then
    new.disabled_because := null;
    new.failing_since := null;
    new.failures_in_a_row := 0;
    new.enabled_at := clock_timestamp();
  end if;
  return new;
end $$;
comment on function restante.guard_endpoint is 'Engine: Completes an endpoint that is added or changed, and says what is wrong with it.';
create trigger endpoint_guard before insert or update of name, url, secret, event_types, status on restante.endpoint
  for each row execute function restante.guard_endpoint();

-- Parks what waits for an endpoint. What a worker or a person has locked at this moment is parked by the claim that finds it.
create function restante.park_notifications(p_endpoint text, p_reason text) returns void
language plpgsql as $$
begin
  insert into restante.paused_type (type, reason) values ('notify.' || p_endpoint, p_reason) on conflict do nothing;
  update restante.outbox as o set status = 'paused', held_by = 'notify.' || p_endpoint
   where o.finished_at = 'infinity'
     and o.id in (select l.id from restante.outbox_live as l
                   where l.type = 'notify.' || p_endpoint and l.status in ('pending', 'retry', 'blocked') for update skip locked);
end $$;
comment on function restante.park_notifications is 'Engine: Parks what waits for an endpoint, and what will come for it.';

-- In one statement, so that no younger notification of a key overtakes an older one.
create function restante.release_notifications(p_endpoint text) returns void
language plpgsql as $$
begin
  delete from restante.paused_type as t where t.type = 'notify.' || p_endpoint;
  -- Another pause may match: restante.let_held_go() then hands them to it.
  if restante.held_by('notify.' || p_endpoint) is null then
    update restante.outbox as o set status = 'pending'
     where o.finished_at = 'infinity' and o.lane = 'p' and o.status = 'paused' and o.held_by = 'notify.' || p_endpoint;
  end if;
end $$;
comment on function restante.release_notifications is 'Engine: Releases what was parked for an endpoint, in the order of each key.';

-- Events take the path on which they are sent on only if a subscription matches them. So there is a row for each pattern.
create function restante.refresh_patterns() returns void
language plpgsql as $$
begin
  -- Two sessions that add and remove the same pattern would not see each other. Only people come here.
  perform pg_advisory_xact_lock(hashtextextended('restante.endpoint.event_types', 0));
  delete from restante.subscription as s
   where s.subscriber = 'notify'
     and not exists (select from restante.endpoint as e where s.type = any (coalesce(e.event_types, array['*'])));
  insert into restante.subscription (subscriber, type)
  select distinct 'notify', p.pattern from restante.endpoint as e cross join unnest(coalesce(e.event_types, array['*'])) as p (pattern)
  on conflict do nothing;
end $$;
comment on function restante.refresh_patterns is 'Engine: Keeps a row of restante.subscription for each pattern of an endpoint.';

create function restante.follow_endpoint() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'DELETE' then
    perform restante.release_notifications(old.name);
    delete from restante.endpoint_pace as p where p.endpoint = old.name;
    if old.event_types is distinct from '{}' then
      perform restante.refresh_patterns();
    end if;
    return null;
  end if;
  if new.event_types is distinct from (case when tg_op = 'INSERT' then '{}' else old.event_types end) then
    perform restante.refresh_patterns();
  end if;
  if new.status = 'disabled' and (tg_op = 'INSERT' or old.status <> 'disabled') then
    perform restante.park_notifications(new.name, new.disabled_because);
  elsif new.status = 'enabled' and tg_op = 'UPDATE' and old.status <> 'enabled' then
    perform restante.release_notifications(new.name);
  end if;
  return null;
end $$;
comment on function restante.follow_endpoint is 'Engine: Parks or releases notifications and keeps the patterns, as an endpoint is changed.';
create trigger endpoint_follow after insert or delete or update of event_types, status on restante.endpoint
  for each row execute function restante.follow_endpoint();

-- What is sent on, and what is sent.

-- The facts are small, and name what they are about. The jobs are how Restante works, and nobody else's business.
create function restante.is_own_fact(p_type text) returns boolean
language sql immutable parallel safe
return p_type = any (array[
  'message.completed', 'message.failed', 'message.cancelled', 'batch.results_ready', 'batch.submitted', 'batch.uncertain', 'batch.at_risk',
  'submission.completed']);
comment on function restante.is_own_fact is 'Engine: Is a type that of a fact which Restante itself states?';

create function restante.is_own_job(p_type text, p_source text) returns boolean
language sql immutable parallel safe
return starts_with(p_type, 'notify.')
  or p_type = any (array[
       'batch.poll', 'batch.reconcile', 'batch.submit', 'batch.cancel', 'batch.delete', 'message.send', 'message.pack', 'message.unpack',
       'session_events.send', 'resource.reconcile'])
  -- The API says the same words when a batch has ended.
  or (p_type = 'batch.ended' and p_source <> 'webhook');
comment on function restante.is_own_job is 'Engine: Is an event one of the jobs of Restante itself? They are never sent on.';

create function restante.is_sent_on(p_type text, p_source text, p_event_types text[]) returns boolean
language sql immutable parallel safe
return not restante.is_own_job(p_type, p_source)
  and case when p_event_types is null then p_source in ('sql', 'worker')
           else exists (select from unnest(p_event_types) as p (pattern) where restante.covers(p.pattern, p_type)) end;
comment on function restante.is_sent_on is 'Engine: Does an endpoint with these event_types get an event?';

-- The body of a notification: the text itself, so that every attempt sends the same bytes.
create function restante.notification_body(
  p_body text, p_bytes_max integer, p_type text, p_event_id text, p_key text, p_created_at timestamptz, p_payload text)
returns text
language plpgsql stable as $$
declare
  v_head text := format('{"type":%s,"id":%s,"timestamp":%s,', to_json(p_type), to_json(p_event_id),
    to_json(case when isfinite(p_created_at) then to_char(p_created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') end));
  v_thin text := format('"data":{"id":%s}}', coalesce(to_json(p_key)::text, 'null'));
  v_full text;
begin
  if restante.is_own_fact(p_type) and p_payload ~ '^\s*\{' and octet_length(p_payload) <= least(p_bytes_max, 8192) then
    v_thin := case
      when p_payload ~ '^\s*\{\s*"id"\s*:' then format('"data":%s}', p_payload)
      when p_payload ~ '^\s*\{\s*\}\s*$' then v_thin
      else format('"data":{"id":%s,%s}', coalesce(to_json(p_key)::text, 'null'), regexp_replace(p_payload, '^\s*\{', ''))
    end;
  end if;
  if p_body = 'thin' or p_payload is null then
    return v_head || v_thin;
  end if;
  -- What a message was answered is in its row, and the event only names it.
  if p_type = 'message.completed' then
    select regexp_replace(p_payload, '\}\s*$', '') || ',"message":' || m.body::text || '}' into v_full
      from restante.message as m where m.id = restante.whole_number(restante.json_part(p_payload, 'id')) and m.body is not null;
  end if;
  v_full := format('%s"data":%s}', v_head, coalesce(v_full, p_payload));
  if octet_length(v_full) <= p_bytes_max then
    begin
      -- An event that is nested nearly as deeply as Postgres can take must not be lost because its notification is nested more deeply.
      perform (repeat('[', 64) || v_full || repeat(']', 64))::json;
      return v_full;
    exception
      when statement_too_complex then null;
    end;
  end if;
  return v_head || '"truncated":true,' || v_thin;
end $$;
comment on function restante.notification_body is 'Engine: What an endpoint is sent of an event, byte for byte.';

-- Stores notifications. They need no row in outbox_seen: each has an identifier that nobody else can have.
create function restante.insert_notifications(
  p_endpoints text[], p_urls text[], p_bodies text[], p_keys text[], p_senders text[], p_accounts text[], p_workspace_ids text[],
  p_created_ats timestamptz[], p_run_ats timestamptz[], p_source text)
returns text[]
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_event_ids   text[];
  v_keys        text[];
  v_subscribers text[];
  v_missed      text[];
  v_noted       text[];
begin
  with stored as (
    insert into restante.outbox_live
      (sender, account, event_id, type, key, workspace_id, source, created_at, payload, run_at, status, lane, held_by)
    select n.sender, n.account, 'ntf_' || replace(gen_random_uuid()::text, '-', ''), 'notify.' || n.endpoint, n.endpoint || ':' || n.key,
           n.workspace_id, p_source, n.created_at,
           format('{"url":%s,"body":%s}', coalesce(to_json(n.url)::text, 'null'), n.body)::json,
           coalesce(n.run_at, '-infinity'), a.status, restante.lane(a.status, coalesce(n.run_at, '-infinity'), false), h.held_by
      from unnest(p_endpoints, p_urls, p_bodies, p_keys, p_senders, p_accounts, p_workspace_ids, p_created_ats, p_run_ats)
           with ordinality as n (endpoint, url, body, key, sender, account, workspace_id, created_at, run_at, turn)
      cross join lateral (select restante.held_by('notify.' || n.endpoint) as held_by) as h
      cross join lateral (
            select case when h.held_by is not null then 'paused' when n.key is null then 'pending' else 'blocked' end as status) as a
     order by n.turn
    returning outbox_live.event_id, outbox_live.status, restante.order_key(outbox_live.account, outbox_live.sender, outbox_live.key) as key)
  select array_agg(s.event_id), array_agg(s.key) filter (where s.status = 'blocked') into v_event_ids, v_keys from stored as s;
  if v_keys is null then
    return v_event_ids;
  end if;
  v_missed := restante.try_lock_keys(v_keys);
  if v_missed <> '{}' then
    v_noted := array(select k.key from unnest(v_keys) as k (key) where k.key = any (v_missed));
    perform restante.note_keys(v_noted, array_fill(''::text, array[cardinality(v_noted)]));
    v_keys := array(select k.key from unnest(v_keys) as k (key) where not k.key = any (v_missed));
  end if;
  if v_keys <> '{}' then
    v_subscribers := array_fill(''::text, array[cardinality(v_keys)]);
    perform restante.step_down(v_keys, v_subscribers);
    perform restante.unblock(v_keys, v_subscribers);
  end if;
  return v_event_ids;
end $$;
comment on function restante.insert_notifications is 'Engine: Stores notifications in the outbox. Returns their identifiers.';

-- The notifications of events that are being stored.
create function restante.send_on(
  p_seen text[], p_senders text[], p_accounts text[], p_event_ids text[], p_types text[], p_keys text[], p_workspace_ids text[],
  p_created_ats timestamptz[], p_payloads text[], p_run_ats timestamptz[], p_source text, p_rest text[])
returns void
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  n record;
begin
  select array_agg(e.name order by f.turn, e.id) as endpoints,
         array_agg(restante.notification_body(e.body, e.body_bytes_max, f.type, f.event_id, f.key, f.created_at, f.payload)
                   order by f.turn, e.id) as bodies,
         array_agg(f.key order by f.turn, e.id) as keys,
         array_agg(coalesce(f.sender, 'anthropic') order by f.turn, e.id) as senders,
         array_agg(f.account order by f.turn, e.id) as accounts,
         array_agg(f.workspace_id order by f.turn, e.id) as workspace_ids,
         array_agg(f.created_at order by f.turn, e.id) as created_ats,
         array_agg(f.run_at order by f.turn, e.id) as run_ats
    into n
    from unnest(p_seen, p_senders, p_accounts, p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads, p_run_ats)
         with ordinality as f (seen, sender, account, event_id, type, key, workspace_id, created_at, payload, run_at, turn)
    join restante.endpoint as e on e.event_types is distinct from '{}' and restante.is_sent_on(f.type, p_source, e.event_types)
   where f.seen = any (p_rest);
  if n.endpoints is not null then
    perform restante.insert_notifications(
      n.endpoints, array_fill(null::text, array[cardinality(n.endpoints)]), n.bodies, n.keys, n.senders, n.accounts, n.workspace_ids,
      n.created_ats, n.run_ats, p_source);
  end if;
end $$;
comment on function restante.send_on is 'Engine: Stores the notifications of events that are being stored.';

-- As in 0010, and what is sent on to endpoints: the rows of restante.subscription with the subscriber `notify` are their patterns, and no
-- worker claims rows of such a subscriber.
create or replace function restante.insert_behind(
  p_seen text[], p_senders text[], p_accounts text[], p_event_ids text[], p_types text[], p_keys text[], p_workspace_ids text[],
  p_created_ats timestamptz[], p_payloads text[], p_raws bytea[], p_run_ats timestamptz[], p_source text, p_rest text[], p_missed text[])
returns bigint
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_id          bigint;
  v_keys        text[];
  v_subscribers text[];
  v_noted       text[];
  v_noted_for   text[];
begin
  with stored as (
    insert into restante.outbox_live
      (sender, account, event_id, type, subscriber, key, workspace_id, source, created_at, payload, raw, run_at, status, lane, held_by)
    select coalesce(f.sender, 'anthropic'), f.account, f.event_id, f.type, s.subscriber, f.key, f.workspace_id, p_source, f.created_at,
           f.payload::json, f.raw, coalesce(f.run_at, '-infinity'), a.status,
           restante.lane(a.status, coalesce(f.run_at, '-infinity'), false), h.held_by
      from unnest(p_seen, p_senders, p_accounts, p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads, p_raws,
                  p_run_ats) with ordinality
           as f (seen, sender, account, event_id, type, key, workspace_id, created_at, payload, raw, run_at, turn)
      cross join lateral (
            select '' as subscriber
            union
            select b.subscriber from restante.subscription as b where b.subscriber <> 'notify' and restante.covers(b.type, f.type)) as s
      cross join lateral (select restante.held_by(f.type) as held_by) as h
      cross join lateral (
            select case
                     when h.held_by is not null then 'paused'
                     when f.key is null then 'pending'
                     else 'blocked'
                   end as status) as a
     where f.seen = any (p_rest)
     order by f.turn, s.subscriber
    returning id, outbox_live.subscriber, restante.order_key(outbox_live.account, outbox_live.sender, outbox_live.key) as key,
              outbox_live.status)
  select max(s.id) filter (where s.subscriber = ''),
         array_agg(s.key) filter (where s.status = 'blocked' and not s.key = any (p_missed)),
         array_agg(s.subscriber) filter (where s.status = 'blocked' and not s.key = any (p_missed)),
         array_agg(s.key) filter (where s.status = 'blocked' and s.key = any (p_missed)),
         array_agg(s.subscriber) filter (where s.status = 'blocked' and s.key = any (p_missed))
    into v_id, v_keys, v_subscribers, v_noted, v_noted_for
    from stored as s;

  if v_keys is not null then
    perform restante.step_down(v_keys, v_subscribers);
    perform restante.unblock(v_keys, v_subscribers);
  end if;
  if v_noted is not null then
    perform restante.note_keys(v_noted, v_noted_for);
  end if;
  if exists (select from restante.subscription as b where b.subscriber = 'notify') then
    perform restante.send_on(p_seen, p_senders, p_accounts, p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads,
                             p_run_ats, p_source, p_rest);
  end if;
  return v_id;
end $$;
comment on function restante.insert_behind is
  'Engine: Stores events that wait for an older one of their key, are paused, have subscribers or are sent on. The caller holds the locks of '
  'the keys but those of p_missed, which are noted.';

-- As in 0005, and the types of what came since: notifications, messages, and facts of our own.
create or replace function restante.is_reserved(type text) returns boolean
language sql immutable parallel safe
return type = any (array[
    'unreadable', 'message.send', 'message.pack', 'message.unpack', 'message.completed', 'message.failed', 'message.cancelled', 'session_events.send',
    'submission.completed', 'endpoint.test'])
  or (split_part(type, '.', 1) || '.' = any (array[
    'session.', 'vault.', 'vault_credential.', 'agent.', 'deployment.', 'deployment_run.', 'environment.', 'memory_store.',
    'user_profile.', 'external_key.', 'external_storage.', 'batch.', 'message_batch.', 'notify.']) and strpos(type, '.') > 0);

-- Callbacks: one event, message or submission that is told to one address.

create function restante.callback_fault(p_callback text) returns text
language sql stable
return case
  when p_callback is null or exists (select from restante.endpoint as e where e.name = p_callback) then null
  when p_callback ~ '^[a-z0-9_-]{1,64}$' then format('callback: there is no endpoint named %s', p_callback)
  else 'callback ' || restante.url_fault(p_callback)
end;
comment on function restante.callback_fault is 'Engine: What is wrong with a callback, which is a URL or the name of an endpoint; null where nothing is.';

-- The endpoint whose secret, limits and status a callback shares: that of the same address, else of the same origin, else one of its own.
-- It must not wait for another transaction that is adding the same one: the worker adds it if it is not there when it is needed.
create function restante.endpoint_of_callback(p_callback text) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_origin text := restante.origin_of(p_callback);
  v_name   text;
begin
  select e.name into v_name
    from (select b.name, 1 as turn, b.id from restante.endpoint as b where b.name = p_callback
          union all
          select b.name, 2, b.id from restante.endpoint as b where hashtextextended(b.url, 0) = hashtextextended(p_callback, 0) and b.url = p_callback
          union all
          select b.name, 3, b.id from restante.endpoint as b where b.origin = v_origin) as e
   order by e.turn, e.id limit 1;
  if v_name is null then
    v_name := 'callback-' || left(encode(sha256(convert_to(v_origin, 'UTF8')), 'hex'), 12);
    if pg_try_advisory_xact_lock(hashtextextended('restante.endpoint ' || v_name, 0)) then
      insert into restante.endpoint (name, url, event_types) values (v_name, v_origin || '/', '{}') on conflict do nothing;
    end if;
  end if;
  return v_name;
end $$;
comment on function restante.endpoint_of_callback is
  'Engine: The name of the endpoint whose secret, limits and status a callback shares. Adds it, if there is none.';

create function restante.tell_callback(
  p_url text, p_type text, p_event_id text, p_key text, p_created_at timestamptz, p_data text,
  p_run_at timestamptz default null, p_account text default 'anthropic')
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_name     text;
  v_endpoint restante.endpoint;
begin
  if p_url is null then
    return;
  end if;
  v_name := restante.endpoint_of_callback(p_url);
  select e.* into v_endpoint from restante.endpoint as e where e.name = v_name;
  perform restante.insert_notifications(
    array[v_name], array[case when p_url <> v_name then p_url end],
    array[restante.notification_body(
      coalesce(v_endpoint.body, 'thin'), coalesce(v_endpoint.body_bytes_max, 262144), p_type, p_event_id, p_key, p_created_at, p_data)],
    array[p_key], array[p_account], array[p_account], array[null::text], array[p_created_at], array[p_run_at], 'worker');
end $$;
comment on function restante.tell_callback is
  'Engine: Stores the notification that tells one event to one address. The data of our own facts is sent with a thin body too.';

drop function restante.enqueue(text, json, text, timestamptz, text, timestamptz, text, text);
-- For applications: stores an event in their own transaction. It may run once the transaction commits.
create function restante.enqueue(
  type text, payload json, key text default null, run_at timestamptz default null,
  event_id text default null, created_at timestamptz default null, workspace_id text default null, account text default 'anthropic',
  callback text default null)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_event_id text := coalesce(enqueue.event_id, 'sql_' || replace(gen_random_uuid()::text, '-', ''));
  v_fault    text;
  v_hint     text;
  v_at       timestamptz;
  v_id       bigint;
begin
  -- All of these are in indexes, and Postgres limits an index entry to 2,704 bytes.
  select format('%s must have 1 to 512 bytes', a.name) into v_fault
    from (values ('type', enqueue.type), ('event_id', v_event_id), ('key', enqueue.key),
                 ('workspace_id', enqueue.workspace_id), ('account', coalesce(enqueue.account, ''))) as a (name, value)
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
  elsif v_event_id ~ '^(batch\.|whe_|ntf_)' then
    v_fault := format('event_id is reserved: one like %s belongs to the Claude API or to Restante itself', left(v_event_id, 80));
    v_hint  := 'Choose one of your own, such as ''order_4711_placed'', or leave it out.';
  else
    -- Beyond these years many clients cannot read the row.
    select format('%s must be a time of the years 1 to 9999', a.name) into v_fault
      from (values ('created_at', enqueue.created_at), ('run_at', enqueue.run_at)) as a (name, value)
     where a.value < make_timestamptz(1, 1, 1, 0, 0, 0, 'UTC') or a.value >= make_timestamptz(10000, 1, 1, 0, 0, 0, 'UTC')
     limit 1;
    v_hint := 'Leave it out for now.';
    if v_fault is null then
      v_fault := restante.callback_fault(enqueue.callback);
      v_hint  := 'Give a URL such as https://example.com/hooks, or the name of an endpoint.';
    end if;
  end if;
  if v_fault is not null then
    raise exception 'restante.enqueue: %', v_fault using errcode = 'invalid_parameter_value', hint = v_hint;
  end if;
  -- A scheduled event takes its place in the order of its key by the time that it is scheduled for.
  v_at := coalesce(enqueue.created_at, enqueue.run_at, clock_timestamp());
  v_id := e.id from restante.insert_event(
    v_event_id, enqueue.type, enqueue.key, enqueue.workspace_id, v_at,
    enqueue.payload::text, null, null, enqueue.run_at, 'sql', 'anthropic', enqueue.account) as e;
  if v_id is not null and enqueue.callback is not null then
    perform restante.tell_callback(
      enqueue.callback, enqueue.type, v_event_id, enqueue.key, v_at, enqueue.payload::text, enqueue.run_at, enqueue.account);
  end if;
  return v_id;
end $$;
comment on function restante.enqueue is
  'Puts an event into the outbox as part of your transaction. Returns its id, or null if event_id is already stored. callback: a URL or the '
  'name of an endpoint that is told of this event.';

alter table restante.submission add column callback text;
comment on column restante.submission.callback is 'A URL or the name of an endpoint that is told what becomes of it.';

-- As in 0012, and to the callback of the submission.
create or replace function restante.tell(p_type text, p_account text, p_submission text, p_batch_id text, p_part bigint) returns void
language plpgsql as $$
declare
  v_event_id text := concat_ws(':', p_type, coalesce(p_batch_id, p_part::text), replace(gen_random_uuid()::text, '-', ''));
  v_data     text := json_build_object('submission', p_submission, 'part', p_part, 'batch_id', p_batch_id)::text;
  v_at       timestamptz := clock_timestamp();
begin
  perform restante.insert_event(
    v_event_id, p_type, p_batch_id, null, v_at, v_data, null, null, null, 'worker', p_account, p_account);
  perform restante.tell_callback(s.callback, p_type, v_event_id, p_batch_id, v_at, v_data, null, p_account)
     from restante.submission as s
    where s.name = p_submission and s.callback is not null and p_type in ('batch.results_ready', 'batch.uncertain');
end $$;

-- As in 0012, but it tells of the part before the end of the part becomes that of the submission.
create or replace function restante.settle_part(p_part bigint) returns void
language plpgsql as $$
begin
  update restante.batch_request as r
     set status = case when a.outcome in ('succeeded', 'errored', 'canceled', 'expired') then a.outcome else 'other' end
    from restante.submission_part as p
    join restante.batch_result as a on a.batch_id = p.batch_id and a.account = p.account
   where p.id = p_part and r.part = p.id and r.custom_id = a.custom_id;
  perform restante.tell('batch.results_ready', p.account, p.submission, p.batch_id, p.id)
     from restante.submission_part as p where p.id = p_part;
  update restante.submission_part as p set status = 'complete' where p.id = p_part and p.status = 'submitted';
end $$;

create function restante.tell_complete() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform restante.tell_callback(
    new.callback, 'submission.completed', format('submission.completed:%s:%s', new.id, replace(gen_random_uuid()::text, '-', '')), new.name,
    new.complete_at, json_build_object('id', new.name, 'requests', new.requests)::text, null, new.account);
  return null;
end $$;
comment on function restante.tell_complete is 'Engine: Tells the callback of a submission that every answer is here.';
create trigger submission_tells_its_callback after update of complete_at on restante.submission
  for each row when (new.callback is not null and old.complete_at is null and new.complete_at is not null)
  execute function restante.tell_complete();

drop function restante.submit_batch(json, text, text, text, text[], integer);
-- For applications, in their own transaction: requests are sent once the transaction commits.
create function restante.submit_batch(
  requests json default null, name text default null, tag text default null, account text default 'anthropic',
  resubmit text[] default null, attempts_max integer default null, callback text default null)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_name     text := coalesce(submit_batch.name, 'submission_' || replace(gen_random_uuid()::text, '-', ''));
  v_requests json := submit_batch.requests;
  v_fault    text;
  v_id       bigint;
  v_count    bigint;
  v_bytes    bigint;
begin
  select format('%s must have 1 to 200 bytes', a.name) into v_fault
    from (values ('name', v_name), ('tag', submit_batch.tag), ('account', coalesce(submit_batch.account, ''))) as a (name, value)
   where a.value = '' or octet_length(a.value) > 200 limit 1;
  if v_fault is not null then
    raise exception 'restante.submit_batch: %', v_fault using errcode = 'invalid_parameter_value',
      hint = 'Leave it out where it says nothing.';
  end if;
  v_fault := coalesce(
    'resubmit: ' || restante.resubmit_fault(submit_batch.resubmit),
    case when submit_batch.attempts_max not between 1 and 100 then 'attempts_max must be 1 to 100' end);
  if v_fault is not null then
    raise exception 'restante.submit_batch: %', v_fault using errcode = 'invalid_parameter_value',
      hint = 'resubmit is a list of expired, errored, canceled and retriable, which is expired and errored.';
  end if;
  v_fault := restante.callback_fault(submit_batch.callback);
  if v_fault is not null then
    raise exception 'restante.submit_batch: %', v_fault using errcode = 'invalid_parameter_value',
      hint = 'Give a URL such as https://example.com/hooks, or the name of an endpoint.';
  end if;
  if json_typeof(v_requests) <> 'array' then
    raise exception 'restante.submit_batch: requests is no list' using errcode = 'invalid_parameter_value',
      hint = 'Pass [{"custom_id": "a", "params": {"model": "...", "max_tokens": 100, "messages": [...]}}, ...].';
  end if;
  if exists (select from restante.submission as s where s.name = v_name) then
    raise exception 'restante.submit_batch: there is a submission named % already', v_name using errcode = 'unique_violation',
      hint = 'Choose another name. If this is the same work once more, it has been submitted.';
  end if;

  if v_requests is not null then
    select format('request %s: %s', r.nth, f.fault) into v_fault
      from json_array_elements(v_requests) with ordinality as r (request, nth)
      cross join lateral (select restante.request_fault(r.request) as fault) as f
     where f.fault is not null
     order by r.nth limit 1;
    if v_fault is null then
      select format('request %s: custom_id "%s" is there twice', max(r.nth), r.request->>'custom_id') into v_fault
        from json_array_elements(v_requests) with ordinality as r (request, nth)
       group by r.request->>'custom_id' having count(*) > 1 order by max(r.nth) limit 1;
    end if;
    if v_fault is not null then
      raise exception 'restante.submit_batch: %', v_fault using errcode = 'invalid_parameter_value',
        hint = 'Nothing was submitted. Correct it and call again.';
    end if;
    insert into restante.batch_request (submission, custom_id, params)
    select v_name, r.request->>'custom_id', r.request->'params'
      from json_array_elements(v_requests) with ordinality as r (request, nth) order by r.nth;
  end if;
  select count(*), sum(r.bytes) into v_count, v_bytes from restante.batch_request as r where r.submission = v_name;
  if v_count = 0 then
    raise exception 'restante.submit_batch: there are no requests%', case when submit_batch.name is null then '' else ' under the name ' || v_name end
      using errcode = 'invalid_parameter_value',
      hint = 'Pass them as the first argument, or write them into restante.batch_request under a name.';
  end if;

  insert into restante.submission (name, account, tag, requests, bytes, resubmit, attempts_max, callback)
  values (v_name, submit_batch.account, submit_batch.tag, v_count, v_bytes, submit_batch.resubmit, coalesce(submit_batch.attempts_max, 3),
          submit_batch.callback)
  returning id into v_id;
  perform restante.make_parts(v_name, submit_batch.account, 1, null);
  return v_id;
end $$;
comment on function restante.submit_batch is
  'Submits requests as a batch, as part of your transaction: those given, and those that batch_request has under the name. Returns the id '
  'of the submission. resubmit and attempts_max: what is sent again by itself, and how often. callback: a URL or the name of an '
  'endpoint that is told when answers are here.';

-- What the worker asks and notes.

create function restante.take_slot(p_endpoint text, p_per_second integer) returns double precision
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_now    timestamptz;
  v_recent timestamptz[];
begin
  select p.recent into v_recent from restante.endpoint_pace as p where p.endpoint = p_endpoint for update;
  if not found then
    insert into restante.endpoint_pace (endpoint) values (p_endpoint) on conflict do nothing;
    select p.recent into v_recent from restante.endpoint_pace as p where p.endpoint = p_endpoint for update;
  end if;
  v_now := clock_timestamp();
  -- Times to come are those of a clock that was set back since.
  v_recent := array(select t.at from unnest(v_recent) as t (at) where t.at > v_now - interval '1 second' and t.at <= v_now order by t.at);
  if cardinality(v_recent) >= p_per_second then
    return extract(epoch from v_recent[cardinality(v_recent) - p_per_second + 1] + interval '1 second' - v_now);
  end if;
  update restante.endpoint_pace as p set recent = v_recent || v_now where p.endpoint = p_endpoint;
  return 0;
end $$;
comment on function restante.take_slot is
  'Engine: Takes the right to send one notification now, within the limit by the second. Returns 0, or for how many seconds to wait.';

create function restante.hold_notifications(p_endpoint text) returns void
language sql security definer
set search_path = pg_catalog, pg_temp
begin atomic
  insert into restante.paused_type (type, reason)
  select 'notify.' || e.name, e.disabled_because from restante.endpoint as e where e.name = p_endpoint and e.status = 'disabled'
  on conflict do nothing;
end;
comment on function restante.hold_notifications is
  'Engine: Parks what comes for a disabled endpoint, if somebody has ended its pause with restante.resume().';

-- Returns why the endpoint has been disabled, if it was. A person may have locked the endpoint: then this attempt counts for nothing.
create function restante.note_delivery(
  p_endpoint text, p_outbox_id bigint, p_event_id text, p_type text, p_attempt integer, p_took interval, p_status integer, p_error text,
  p_answer text)
returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan as $$
declare
  v       restante.endpoint;
  v_why   text;
begin
  insert into restante.endpoint_delivery (endpoint, outbox_id, event_id, type, attempt, took, status, error, answer)
  values (p_endpoint, p_outbox_id, p_event_id, p_type, p_attempt, p_took, p_status, p_error, p_answer);
  if p_error is null then
    if exists (select from restante.endpoint as e where e.name = p_endpoint and e.failing_since is not null) then
      update restante.endpoint as e set failing_since = null, failures_in_a_row = 0
       where e.id = (select l.id from restante.endpoint as l where l.name = p_endpoint for update skip locked);
    end if;
    return null;
  end if;
  select e.* into v from restante.endpoint as e where e.name = p_endpoint and e.status = 'enabled' for update skip locked;
  if not found then
    return null;
  end if;
  v.failing_since := coalesce(v.failing_since, clock_timestamp());
  v.failures_in_a_row := least(v.failures_in_a_row, 2147483646) + 1;
  v_why := case
    when p_status = 410 then 'it answered 410: it wants no more notifications'
    when v.failures_in_a_row >= 10 and v.failing_since <= clock_timestamp() - v.disable_after then
      format('nothing was delivered since %s UTC, in %s attempts; the last one: %s',
             to_char(v.failing_since at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), v.failures_in_a_row, p_error)
  end;
  update restante.endpoint as e set failing_since = v.failing_since, failures_in_a_row = v.failures_in_a_row where e.id = v.id;
  if v_why is not null then
    update restante.endpoint as e set status = 'disabled', disabled_because = v_why where e.id = v.id;
  end if;
  return v_why;
end $$;
comment on function restante.note_delivery is
  'Engine: Notes an attempt to deliver a notification, and how the endpoint fares. Returns why the endpoint was disabled, if it was.';

-- For people.

create function restante.rotate_secret(endpoint text, drop_old boolean default false, secret text default null) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_secret text := coalesce(rotate_secret.secret, restante.new_secret());
begin
  if rotate_secret.drop_old and rotate_secret.secret is null then
    update restante.endpoint as e set secret = split_part(e.secret, ' ', 1) where e.name = rotate_secret.endpoint;
    v_secret := null;
  else
    update restante.endpoint as e
       set secret = v_secret || case when rotate_secret.drop_old then '' else ' ' || e.secret end
     where e.name = rotate_secret.endpoint;
  end if;
  if not found then
    raise exception 'restante.rotate_secret: there is no endpoint named %', coalesce(rotate_secret.endpoint, 'null')
      using errcode = 'invalid_parameter_value', hint = 'The table restante.endpoint has the names.';
  end if;
  return v_secret;
end $$;
comment on function restante.rotate_secret is
  'Gives an endpoint a new secret, which signs beside the old ones, and returns it. With drop_old alone only the newest secret stays, and it '
  'returns null.';

create function restante.test_endpoint(endpoint text) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_endpoint restante.endpoint;
  v_event_id text := 'test_' || replace(gen_random_uuid()::text, '-', '');
begin
  select e.* into v_endpoint from restante.endpoint as e where e.name = test_endpoint.endpoint;
  if not found then
    raise exception 'restante.test_endpoint: there is no endpoint named %', coalesce(test_endpoint.endpoint, 'null')
      using errcode = 'invalid_parameter_value', hint = 'The table restante.endpoint has the names.';
  end if;
  return (restante.insert_notifications(
    array[v_endpoint.name], array[null::text],
    array[restante.notification_body('thin', v_endpoint.body_bytes_max, 'endpoint.test', v_event_id, null, clock_timestamp(), null)],
    array[null::text], array['anthropic'], array['anthropic'], array[null::text], array[clock_timestamp()], array[null::timestamptz],
    'sql'))[1];
end $$;
comment on function restante.test_endpoint is
  'Sends an endpoint a notification of type endpoint.test. Returns the event_id under which restante.endpoint_delivery has the answer.';

create view restante.endpoint_overview as
  select e.name, e.url, e.event_types, e.status, e.disabled_because, coalesce(o.waiting, 0) as waiting, coalesce(o.parked, 0) as parked,
         coalesce(o.dead, 0) as dead, coalesce(d.delivered, 0) as delivered_last_day, coalesce(d.failed, 0) as failed_last_day,
         o.oldest_waiting_since, e.failing_since, e.failures_in_a_row, a.delivered_at as last_attempt_at, a.status as last_status,
         coalesce(a.error, a.answer) as last_answer, cardinality(regexp_split_to_array(e.secret, ' ')) as secrets
    from restante.endpoint as e
    left join (select l.type, count(*) filter (where l.status not in ('paused', 'dead')) as waiting,
                      count(*) filter (where l.status = 'paused') as parked, count(*) filter (where l.status = 'dead') as dead,
                      min(l.received_at) filter (where l.status <> 'dead') as oldest_waiting_since
                 from restante.outbox_live as l where starts_with(l.type, 'notify.') group by l.type) as o on o.type = 'notify.' || e.name
    left join lateral (
          select count(*) filter (where d.error is null) as delivered, count(*) filter (where d.error is not null) as failed
            from restante.endpoint_delivery as d
           where d.endpoint = e.name and d.delivered_at > statement_timestamp() - interval '1 day') as d on true
    left join lateral (
          select d.delivered_at, d.status, d.error, d.answer from restante.endpoint_delivery as d
           where d.endpoint = e.name order by d.delivered_at desc limit 1) as a on true;
comment on view restante.endpoint_overview is 'Each endpoint: what waits for it or is parked, what it got within a day, and its last answer.';
comment on column restante.endpoint_overview.secrets is 'How many secrets sign side by side; two while one is rotated.';

revoke execute on all functions in schema restante from public;
-- Those of a function that is dropped here, again.
grant execute on function restante.enqueue, restante.submit_batch to restante_app;
grant select on restante.endpoint to restante_worker;
grant execute on function restante.take_slot, restante.hold_notifications, restante.note_delivery, restante.endpoint_of_callback
  to restante_worker;
-- All but the secret. `restante migrate --grants` has granted all tables at this point, as 0007 says.
revoke select on restante.endpoint from restante_operator;
grant select (id, name, url, event_types, status, disabled_because, body, body_bytes_max, per_second, concurrency, disable_after,
  failing_since, failures_in_a_row, enabled_at, origin, created_at, created_by) on restante.endpoint to restante_operator;
grant insert (name, url, secret, event_types, status, disabled_because, body, body_bytes_max, per_second, concurrency, disable_after)
  on restante.endpoint to restante_operator;
grant update (url, secret, event_types, status, disabled_because, body, body_bytes_max, per_second, concurrency, disable_after)
  on restante.endpoint to restante_operator;
grant delete on restante.endpoint to restante_operator;
grant select, delete on restante.endpoint_delivery to restante_operator;
grant select on restante.endpoint_pace to restante_operator;
grant select on restante.endpoint_overview to restante_operator;
-- Postgres asks for the right to what a constraint or a generated column calls, of whoever writes the row.
grant execute on function restante.rotate_secret, restante.test_endpoint, restante.new_secret, restante.url_fault, restante.origin_of
  to restante_operator;
