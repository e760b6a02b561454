-- Which keys the running services have, and who still uses which: what a person has to know to rotate one.
--
-- No key stands here. A fingerprint is the beginning of a hash of a key that nobody can guess; a key that somebody could guess has none.

create table restante.key_known (
  kind           text collate "C" not null,
  party          text collate "C" not null,
  fingerprint    text collate "C" not null,
  first_seen_at  timestamptz not null default clock_timestamp(),
  last_seen_at   timestamptz not null default clock_timestamp(),
  uses           bigint      not null default 0,
  last_used_at   timestamptz,
  last_needed_at timestamptz,
  constraint key_known_once primary key (kind, party, fingerprint),
  constraint key_known_kind_is_known check (kind in ('signing', 'api', 'admin')),
  constraint key_known_party_is_short check (octet_length(party) <= 200),
  constraint key_known_shows_a_fingerprint_only check (fingerprint ~ '^([0-9a-f]{8}|short)$')
) with (fillfactor = 50);
comment on table restante.key_known is
  'Each key that a service had within 90 days, by its fingerprint, and when it was used last. restante.key_use says how it stands.';
comment on column restante.key_known.kind is
  'signing for deliveries of a sender, api for calls of the API, admin for what belongs to the organization.';
comment on column restante.key_known.party is 'The name of the sender, or of the account.';
comment on column restante.key_known.fingerprint is
  'The beginning of a hash of the key, as `restante config` shows it; short for every key that could be guessed.';
comment on column restante.key_known.first_seen_at is 'When a service first reported that it has it.';
comment on column restante.key_known.last_seen_at is 'When a service last reported that it has it.';
comment on column restante.key_known.uses is 'How many deliveries it fitted, or calls were answered with it.';
comment on column restante.key_known.last_used_at is 'When that happened last, by the clock of the service.';
comment on column restante.key_known.last_needed_at is
  'When no other key of the service would have done: a delivery that is signed with the old and the new key needs neither of them.';

create table restante.key_loaded (
  process     text collate "C" not null,
  program     text collate "C" not null,
  kind        text collate "C" not null,
  party       text collate "C" not null,
  fingerprint text collate "C" not null,
  loaded_at   timestamptz not null default clock_timestamp(),
  seen_at     timestamptz not null default clock_timestamp(),
  constraint key_loaded_once primary key (process, kind, party, fingerprint),
  constraint key_loaded_names_are_short check (octet_length(process) <= 200 and octet_length(program) <= 50 and octet_length(party) <= 200),
  constraint key_loaded_kind_is_known check (kind in ('signing', 'api', 'admin')),
  constraint key_loaded_shows_a_fingerprint_only check (fingerprint ~ '^([0-9a-f]{8}|short)$')
) with (fillfactor = 50);
comment on table restante.key_loaded is
  'The keys that each running service has. A service reports four times a minute; a row that is older than a minute is of one that is gone.';
comment on column restante.key_loaded.process is 'The service: its host or number, and some characters by chance.';
comment on column restante.key_loaded.program is 'restante-ingest or restante-worker.';
comment on column restante.key_loaded.kind is 'As in restante.key_known.';
comment on column restante.key_loaded.party is 'The name of the sender, or of the account.';
comment on column restante.key_loaded.fingerprint is 'As in restante.key_known.';
comment on column restante.key_loaded.loaded_at is 'Since when the service has it.';
comment on column restante.key_loaded.seen_at is 'When the service last reported that it has it.';

-- Adds what a service reports of its keys. The counts add up, and times only grow, so reports of several services may come in any order.
create function restante.note_key_use(
  p_process text, p_program text, p_kinds text[], p_parties text[], p_fingerprints text[], p_are_held boolean[],
  p_uses bigint[], p_used_ats timestamptz[], p_needed_ats timestamptz[])
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  -- A row that a person has locked is left for the next report.
  perform set_config('lock_timeout', '200ms', true);
  -- The next report makes up for one that a crash of the server takes back.
  perform set_config('synchronous_commit', 'off', true);
  insert into restante.key_known as k (kind, party, fingerprint, uses, last_used_at, last_needed_at)
  select u.kind, u.party, u.fingerprint, u.uses, u.used_at, u.needed_at
    from unnest(p_kinds, p_parties, p_fingerprints, p_uses, p_used_ats, p_needed_ats) as u (kind, party, fingerprint, uses, used_at, needed_at)
   -- Sorted, so that two services never wait for each other in a circle.
   order by u.kind collate "C", u.party collate "C", u.fingerprint collate "C" limit 1000
  on conflict (kind, party, fingerprint) do update
    set uses = k.uses + excluded.uses,
        last_seen_at = greatest(k.last_seen_at, excluded.last_seen_at),
        -- Both greatest() ignore nulls.
        last_used_at = greatest(k.last_used_at, excluded.last_used_at),
        last_needed_at = greatest(k.last_needed_at, excluded.last_needed_at);
  delete from restante.key_loaded as l
   where l.process = p_process
     and (l.kind, l.party, l.fingerprint) not in (
         select u.kind, u.party, u.fingerprint from unnest(p_kinds, p_parties, p_fingerprints, p_are_held) as u (kind, party, fingerprint, is_held)
          where u.is_held);
  insert into restante.key_loaded as l (process, program, kind, party, fingerprint)
  select p_process, p_program, u.kind, u.party, u.fingerprint
    from unnest(p_kinds, p_parties, p_fingerprints, p_are_held) as u (kind, party, fingerprint, is_held)
   where u.is_held
   order by u.kind collate "C", u.party collate "C", u.fingerprint collate "C" limit 1000
  on conflict (process, kind, party, fingerprint) do update set seen_at = clock_timestamp();
  delete from restante.key_loaded as l
   where (l.process, l.kind, l.party, l.fingerprint) in (
         select o.process, o.kind, o.party, o.fingerprint from restante.key_loaded as o
          where o.seen_at < clock_timestamp() - interval '10 minutes' for update skip locked limit 1000);
  delete from restante.key_known as k
   where (k.kind, k.party, k.fingerprint) in (
         select o.kind, o.party, o.fingerprint from restante.key_known as o
          where o.last_seen_at < clock_timestamp() - interval '90 days' for update skip locked limit 1000);
end $$;
comment on function restante.note_key_use is
  'Engine: Adds what a service reports of its keys, and forgets services of 10 minutes ago and keys of 90 days ago.';

create view restante.key_use as
  with running as (
    select l.process, l.kind, l.party, l.fingerprint, l.loaded_at from restante.key_loaded as l
     where l.seen_at > clock_timestamp() - interval '1 minute'),
  counted as (
    select k.kind, k.party, k.fingerprint, k.first_seen_at, k.uses, k.last_used_at, k.last_needed_at,
           (select count(*)::integer from running as r
             where r.kind = k.kind and r.party = k.party and r.fingerprint = k.fingerprint) as loaded_by,
           -- Only those that have a key of this party: a service may be configured without it.
           (select count(distinct r.process)::integer from running as r
             where r.kind = k.kind and r.party = k.party) as services
      from restante.key_known as k)
  select c.kind, c.party, c.fingerprint, c.loaded_by, c.services, c.first_seen_at, c.last_used_at, c.last_needed_at, c.uses,
         case
           when c.loaded_by = 0 then 'no running service has it'
           when c.loaded_by < c.services then c.loaded_by || ' of ' || c.services || ' running services have it'
           when c.last_used_at is null then 'every running service has it; it was not used yet'
           when c.last_needed_at is null then 'every running service has it; each use of it would have done with another key'
           else 'every running service has it and uses it'
         end as stands
    from counted as c
   order by c.kind, c.party, c.first_seen_at, c.fingerprint;
comment on view restante.key_use is
  'How each key stands: which services have it, and when it was used last. An old key may go once every service has the new one and '
  'last_needed_at of the old one lies far enough back.';
comment on column restante.key_use.loaded_by is 'How many running services have it.';
comment on column restante.key_use.services is 'How many running services have a key of this sender or account.';
comment on column restante.key_use.last_needed_at is
  'When no other key of the service would have done: a delivery that is signed with the old and the new key needs neither of them.';
comment on column restante.key_use.stands is 'How it stands, in words.';

revoke execute on all functions in schema restante from public;
grant execute on function restante.note_key_use to restante_ingest, restante_worker;
grant select on restante.key_known, restante.key_loaded, restante.key_use to restante_operator;
