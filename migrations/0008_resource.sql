-- The objects that events name: sessions, vaults, agents and so on, each as last seen.

create table restante.resource (
  type          text collate "C" not null,
  id            text collate "C" not null,
  body          json,
  raw           bytea,
  status        text,
  stop_reason   text,
  error_type    text,
  error_message text,
  parent_id     text collate "C",
  workspace_id  text,
  updated_at    timestamptz,
  archived_at   timestamptz,
  refresh_failed_at timestamptz,
  observed_at   timestamptz not null,
  gone_at       timestamptz,
  gone_because  text,
  constraint resource_pk primary key (type, id),
  constraint resource_gone_has_a_reason check ((gone_at is null) = (gone_because is null))
);
comment on table restante.resource is
  'Each object that an event named, as the API last described it. An older state never replaces a newer one.';
comment on column restante.resource.type is 'As the API''s object says: session, session_thread, vault_credential, ...';
comment on column restante.resource.body is 'The object exactly as last fetched; kept when the object is gone. Null if the API never returned it.';
comment on column restante.resource.raw is 'The same as bytes, if it is no JSON that Postgres can hold.';
comment on column restante.resource.stop_reason is
  'Why an idle session is idle (its last session.status_idle event): requires_action waits for a person, end_turn does not.';
comment on column restante.resource.error_type is 'Why a deployment run failed.';
comment on column restante.resource.parent_id is 'The session of a thread, the vault of a credential, the deployment of a run.';
comment on column restante.resource.updated_at is 'When the object last changed, as it says itself. Decides which of two states is newer.';
comment on column restante.resource.refresh_failed_at is 'When a credential could not be refreshed. The API''s object does not contain that.';
comment on column restante.resource.observed_at is 'When the API was asked, by this database''s clock.';
comment on column restante.resource.gone_at is 'When the object was deleted, as its event says, or when the API no longer found it.';
comment on column restante.resource.gone_because is 'deleted: an event said so. not_found: the API answered 404 for about a minute.';

create index resource_parent on restante.resource (parent_id) where parent_id is not null;

create table restante.outcome_evaluation (
  session_id   text collate "C" not null,
  outcome_id   text collate "C" not null,
  iteration    bigint      not null,
  result       text,
  description  text,
  explanation  text,
  completed_at timestamptz,
  observed_at  timestamptz not null,
  constraint outcome_evaluation_pk primary key (session_id, outcome_id, iteration)
);
comment on table restante.outcome_evaluation is
  'Each iteration of grading a session''s outcomes, as last seen. The session itself shows only the latest.';
comment on column restante.outcome_evaluation.result is
  'satisfied, max_iterations_reached, failed and interrupted are final; needs_revision and others go on.';

create view restante.session_overview as
  select id, status, stop_reason,
         stop_reason = 'requires_action' as waits_for_a_person,
         archived_at, gone_at, updated_at, observed_at
    from restante.resource where type = 'session';
comment on view restante.session_overview is 'Each session in a row. An idle session is not finished: stop_reason says what it waits for.';

create view restante.deployment_run_failed as
  select id, parent_id as deployment_id, error_type, error_message, observed_at
    from restante.resource where type = 'deployment_run' and error_type is not null;
comment on view restante.deployment_run_failed is 'Deployment runs that created no session, and why.';

create view restante.credential_refresh_failed as
  select id, parent_id as vault_id, refresh_failed_at, updated_at
    from restante.resource
   where type = 'vault_credential' and refresh_failed_at is not null and gone_at is null and archived_at is null
     -- A credential that was changed since counts as repaired.
     and (updated_at is null or updated_at <= refresh_failed_at);
comment on view restante.credential_refresh_failed is 'Credentials that need a person: they could not be refreshed, and were not changed since.';

create view restante.resource_never_seen as
  select type, id, parent_id, workspace_id, gone_at as not_found_at
    from restante.resource where gone_because = 'not_found' and body is null and raw is null;
comment on view restante.resource_never_seen is
  'Objects that an event named and that the API never returned. If there are many: is ANTHROPIC_API_KEY of another workspace?';

grant select, insert, update on restante.resource, restante.outcome_evaluation to restante_worker;
grant select on restante.resource, restante.outcome_evaluation, restante.session_overview, restante.deployment_run_failed,
  restante.credential_refresh_failed, restante.resource_never_seen to restante_operator;
