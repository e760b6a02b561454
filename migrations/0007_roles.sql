-- Who may do what. Grant a role to the login of a program or person: grant restante_ingest to my_ingest_login;
--
-- Roles belong to the whole server, so they may exist already, from another database or created by an administrator. If we may
-- not create a role, the migration fails, and its hint says what an administrator has to run.

do $$
declare
  v_role text;
begin
  foreach v_role in array array['restante_ingest', 'restante_worker', 'restante_operator', 'restante_app'] loop
    -- Checked first, because a login without the right to create roles gets an error even if the role exists.
    continue when exists (select from pg_catalog.pg_roles as r where r.rolname = v_role);
    begin
      execute format('create role %I nologin', v_role);
    exception
      when duplicate_object or unique_violation then null;
      when insufficient_privilege then
        raise exception 'the role % is missing, and % may not create it', v_role, current_user
          using hint = format('Have an administrator run: create role %I nologin;', v_role),
                errcode = 'insufficient_privilege';
    end;
  end loop;
end $$;

revoke all on schema restante from public;
-- Postgres lets every login execute every new function, so a migration that makes one ends with this line.
revoke execute on all functions in schema restante from public;

grant usage on schema restante to restante_ingest, restante_worker, restante_operator, restante_app;
-- Programs check the version of the schema in this table. `restante migrate` makes it.
do $$
begin
  if to_regclass('restante.schema_migration') is not null then
    grant select on restante.schema_migration to restante_ingest, restante_worker, restante_operator;
  end if;
end $$;

grant execute on function restante.serves_programs_since to restante_ingest, restante_worker, restante_operator;

-- Ingest can add events, and cannot even read them.
grant execute on function restante.insert_event, restante.insert_events to restante_ingest;

-- The worker runs handlers.
grant select, insert, update, delete on restante.outbox_live to restante_worker;
grant select, insert on restante.outbox to restante_worker;
grant select, insert on restante.failure to restante_worker;
grant select, insert, delete on restante.key_unsettled to restante_worker;
grant select on restante.paused_type, restante.key_salt to restante_worker;
grant select, insert, update, delete on restante.worker to restante_worker;
grant select, insert on restante.subscription to restante_worker;
grant select, insert, update on restante.batch, restante.batch_result to restante_worker;
grant execute on function restante.covers, restante.lane, restante.held_by, restante.claimed_bytes, restante.lock_of_key,
  restante.try_lock_keys, restante.try_lock_key, restante.note_keys, restante.unblock, restante.step_down, restante.settle_keys,
  restante.insert_event, restante.insert_events, restante.give_sign, restante.may_take_over, restante.has_vanished,
  restante.note_failed, restante.claim, restante.let_next_go, restante.finish, restante.finish_one, restante.fail,
  restante.hand_back, restante.hand_back_strays, restante.sweep, restante.let_held_go, restante.make_partitions, restante.ensure_standing_jobs
  to restante_worker;

-- The operator reads everything except the salt, and changes the columns that are an operator's to change.
grant select on all tables in schema restante to restante_operator;
revoke select on restante.key_salt from restante_operator;
grant update (status, run_at, max_attempts) on restante.outbox to restante_operator;
grant insert (id), update (given_up_because) on restante.batch to restante_operator;
grant delete on restante.subscription to restante_operator;
grant execute on function restante.covers, restante.held_by, restante.pause, restante.resume to restante_operator;

-- Applications enqueue events.
grant execute on function restante.enqueue to restante_app;
