-- What happens at the door of ingest: requests that it refused, and events that it kept in its journal while this database was away.

-- Refused requests, counted. Anyone can send them, so a row stands for a sender, a reason and an hour, however many there are. It holds
-- nothing that a request said.
create table restante.refusal (
  sender    text collate "C" not null,
  reason    text collate "C" not null,
  hour      timestamptz not null,
  requests  bigint      not null,
  first_at  timestamptz not null,
  last_at   timestamptz not null,
  constraint refusal_once_an_hour primary key (hour, sender, reason),
  constraint refusal_names_are_short check (octet_length(sender) <= 200 and octet_length(reason) <= 50),
  constraint refusal_counts_something check (requests > 0)
);
comment on table restante.refusal is
  'Requests that ingest refused, counted by sender, reason and hour, for 30 days. restante.refusal_overview says what to do about them.';
comment on column restante.refusal.sender is
  'The sender whose path was asked, by the name of its configuration; - for a path that is no sender''s.';
comment on column restante.refusal.reason is 'Why they were refused, in a word. restante.refusal_hint says what to do about it.';
comment on column restante.refusal.hour is 'The hour, by this database''s clock, in which ingest reported them.';
comment on column restante.refusal.requests is 'How many there were.';
comment on column restante.refusal.first_at is 'When the first of them came, by the clock of ingest.';
comment on column restante.refusal.last_at is 'When the last of them came, by the clock of ingest.';

-- What a reason means and what to do about it; null for a reason that is not known.
create function restante.refusal_hint(reason text) returns text
language sql immutable parallel safe
return case reason
  when 'missing' then
    'No signature headers came. Is it a sender of webhooks at all, and does a proxy remove the headers webhook-id, '
    'webhook-timestamp and webhook-signature?'
  when 'wrong_header_name' then
    'The request is signed under headers of another scheme. Set the scheme of this sender in the file of RESTANTE_CONFIG '
    '(svix for svix-*), or set ANTHROPIC_WEBHOOK_SECRET for anthropic-signature.'
  when 'no_keys' then 'This sender has no key that is on. Set its signing key.'
  when 'duplicate' then 'A signature header came twice with different values. Look for a proxy that adds headers.'
  when 'malformed' then 'A signature header is no plain text, or the identifier contains a dot. The sender must mend that.'
  when 'timestamp' then 'The timestamp is no number of seconds. The sender must send Unix seconds.'
  when 'stale' then
    'The timestamp is more than 5 minutes old. Compare the clock of ingest with the time, and look for a proxy that holds requests '
    'back; else somebody sends a recorded request again.'
  when 'future' then 'The timestamp is more than 5 minutes ahead. Set the clock of the machine of ingest, or of the sender.'
  when 'not_base64' then
    'The signature is no list of v1,<base64> of 32 bytes. The sender must sign as Standard Webhooks says; hexadecimal is another scheme.'
  when 'not_hex' then 'The signature is not 64 hexadecimal digits in lower case. The sender must sign as the older scheme says.'
  when 'key_of_another_sender' then
    'The signature is right for the key of another sender. Correct the URL at the sender, or give this sender the key.'
  when 'body_altered' then
    'The signature fits the body but for white space. Something between the sender and ingest writes the body anew: let it pass the '
    'bytes on as they are.'
  when 'mismatch' then
    'No key fits. Copy the signing key of this endpoint from the sender again, whole and with whsec_; after a rotation keep the old key '
    'beside it for a while.'
  when 'too_large' then 'The body is larger than 1 MiB. No delivery of the Claude API is: is it a delivery?'
  when 'slow' then 'The body did not arrive within 10 seconds. Look at the network and at the proxy.'
  when 'broken' then 'The connection broke off within the body. Look at the network and at the proxy.'
  when 'large_bodies' then 'Other large bodies took all the memory that ingest has for them. The sender tries again.'
  when 'not_found' then 'No sender has this path. Correct the URL at the sender: /webhooks/NAME, with a NAME that is configured.'
  when 'wrong_method' then 'Deliveries are sent by POST.'
  when 'queue_full' then 'Too many events waited for the database. The sender tries again; look at how busy the database is.'
  when 'database_unavailable' then 'The database did not take the event in time. The sender tries again; a journal would have kept it.'
  when 'database_refused' then 'The database refused the event. The log of ingest says why.'
  when 'other' then 'More senders or reasons than are counted one by one. The metrics of ingest have them.'
end;
comment on function restante.refusal_hint is
  'Engine: What a reason of restante.refusal means and what to do about it; null for a reason that is not known.';

-- Adds up what an ingest refused since it last reported. No row grows with what requests say: names are those of a configuration, and
-- in one hour there are at most 50 senders by name. Rows of more than 30 days ago are deleted.
create function restante.note_refusals(
  p_senders text[], p_reasons text[], p_requests bigint[], p_first_ats timestamptz[], p_last_ats timestamptz[])
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_hour         timestamptz := date_trunc('hour', clock_timestamp());
  v_known        text[];
  v_lock_timeout text;
begin
  -- A row that a person has locked is left for the next report.
  v_lock_timeout := set_config('lock_timeout', '200ms', true);
  select coalesce(array_agg(distinct r.sender), '{}') into v_known from restante.refusal as r where r.hour = v_hour;
  insert into restante.refusal as r (sender, reason, hour, requests, first_at, last_at)
  select n.sender, n.reason, v_hour, sum(n.requests), min(n.first_at), max(n.last_at)
    from (select case
                   when octet_length(u.sender) > 200 then 'other'
                   when u.sender = any (v_known) or cardinality(v_known) + dense_rank() over (order by u.sender collate "C") <= 50
                     then u.sender
                   else 'other'
                 end as sender,
                 case when restante.refusal_hint(u.reason) is null then 'other' else u.reason end as reason,
                 u.requests, u.first_at, u.last_at
            from unnest(p_senders, p_reasons, p_requests, p_first_ats, p_last_ats) as u (sender, reason, requests, first_at, last_at)
           where u.requests > 0) as n
   group by n.sender, n.reason
   -- Sorted, so that two ingests never wait for each other in a circle.
   order by n.sender collate "C", n.reason collate "C"
  on conflict (hour, sender, reason) do update
    set requests = r.requests + excluded.requests,
        first_at = least(r.first_at, excluded.first_at),
        last_at = greatest(r.last_at, excluded.last_at);
  delete from restante.refusal as r
   where (r.hour, r.sender, r.reason) in (
         select o.hour, o.sender, o.reason from restante.refusal as o
          where o.hour < v_hour - interval '30 days' for update skip locked limit 1000);
end $$;
comment on function restante.note_refusals is
  'Engine: Adds up the requests that an ingest refused since it last reported, and deletes what is older than 30 days.';

create view restante.refusal_overview as
  select r.sender, r.reason, sum(r.requests)::bigint as requests, min(r.first_at) as first_at, max(r.last_at) as last_at,
         restante.refusal_hint(r.reason) as hint
    from restante.refusal as r
   where r.hour > clock_timestamp() - interval '25 hours'
   group by r.sender, r.reason
   order by requests desc, r.sender, r.reason;
comment on view restante.refusal_overview is
  'Which requests ingest refused in the last day, by sender and reason, and what to do about them.';

-- Stores events that ingest kept in its journal, as restante.insert_events() does, with the times at which they were delivered.
create function restante.insert_journaled(
  p_event_ids text[], p_types text[], p_keys text[], p_workspace_ids text[], p_created_ats timestamptz[],
  p_payloads text[], p_raws bytea[], p_digests bigint[], p_senders text[], p_accounts text[], p_received_ats timestamptz[],
  out stored integer, out duplicates text[], out differing text[])
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_from bigint := nextval('restante.outbox_id_seq');
begin
  select i.stored, i.duplicates, i.differing into stored, duplicates, differing
    from restante.insert_events(
      p_event_ids, p_types, p_keys, p_workspace_ids, p_created_ats, p_payloads, p_raws, p_digests, 'webhook', p_senders, p_accounts) as i;
  -- What is new was stored by this transaction, so nobody has seen these rows yet. No token is needed: their state does not change.
  -- The rows of other sessions between the two numbers have other identifiers.
  update restante.outbox_live as l
     set received_at = least(u.received_at, l.received_at)
    from unnest(p_event_ids, p_senders, p_received_ats) as u (event_id, sender, received_at)
   where l.id > v_from and l.id <= currval('restante.outbox_id_seq')
     and l.event_id = u.event_id and l.sender = u.sender
     and not restante.seen_as(u.sender, u.event_id) = any (duplicates);
end $$;
comment on function restante.insert_journaled is
  'Engine: Stores events that ingest kept in its journal, with the times at which they were delivered.';
comment on column restante.outbox.received_at is
  'When it was stored, by this database''s clock; if ingest kept it in its journal meanwhile, when it was delivered, by the clock of ingest.';
comment on column restante.outbox_live.received_at is
  'When it was stored, by this database''s clock; if ingest kept it in its journal meanwhile, when it was delivered, by the clock of ingest.';

revoke execute on all functions in schema restante from public;
grant execute on function restante.note_refusals, restante.insert_journaled to restante_ingest;
grant select on restante.refusal, restante.refusal_overview to restante_operator;
grant execute on function restante.refusal_hint to restante_operator;
