-- A change that has no time of its own: what the reconciler knows is that it happened between two states of an object. Any webhook from
-- between them tells of it, and none that told of an earlier change.

-- As in 0011_accounts.sql: `restante migrate` tries again.
set local lock_timeout = '1s';

alter table restante.missed_change add column happened_after timestamptz;
comment on column restante.missed_change.happened_after is
  'It happened after this and by happened_at: the object shows only its newest state. Null: it has a time of its own, happened_at.';

alter table restante.reconciled add column told jsonb not null default '{}';
comment on column restante.reconciled.told is
  'For each type of event: when the last webhook was made that told of a change up to this state. No webhook from before tells of a later one.';

-- A session that was terminated changes its status no more, but may be archived or deleted.
create index reconciled_terminated on restante.reconciled (account, kind, updated_at)
  where status = 'terminated' and archived_at is null and not is_gone;
comment on index restante.reconciled_terminated is 'Finds the sessions that were terminated lately, and may be archived or deleted.';

-- As in 0020, and a change that happened between two states is told by any webhook from between them.
create or replace function restante.explain_change(
  p_account text, p_type text, p_key text, p_subject text, p_event_id text, p_created_at timestamptz, p_tolerance interval)
returns text
language plpgsql
set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
  v_change restante.missed_change;
begin
  -- It waits for a transaction that puts the event of the change into the outbox, and then sees that.
  select m.* into v_change from restante.missed_change as m
   where m.account = p_account and m.key = p_key and m.type = p_type and m.subject = p_subject
     and (m.explained_by = p_event_id
          or case
             when m.is_once then m.explained_by is null
             when m.happened_after is null then
               m.explained_by is null and m.happened_at between p_created_at - p_tolerance and p_created_at + p_tolerance
             when p_created_at <= m.happened_after then false
             -- Two updates in a row are one change, and both webhooks tell of it.
             when p_created_at <= m.happened_at then true
             -- It may be of the change after this one. So it is one webhook for each event that is in the outbox; before that it
             -- takes the place of an older one, which can tell of no later change.
             else p_created_at <= m.happened_at + p_tolerance and (m.explained_by is null or m.polled_at is null)
             end)
   -- The webhook may have been here before, in an attempt that did not end.
   order by m.explained_by is distinct from p_event_id, m.explained_by is not null,
            abs(extract(epoch from m.happened_at - p_created_at)), m.event_id
   limit 1 for update;
  if not found then
    return null;
  end if;
  -- A webhook from before happened_at leaves the place beside a polled event to one from after it: only that could be taken for one of
  -- the next change.
  if v_change.polled_at is null and (v_change.explained_by is null or p_created_at > v_change.happened_at)
     or v_change.polled_at is not null and v_change.explained_by is null
        and (v_change.is_once or v_change.happened_after is null or p_created_at > v_change.happened_at) then
    update restante.missed_change as c
       set explained_by = p_event_id
     where c.account = p_account and c.event_id = v_change.event_id;
  end if;
  return case when v_change.polled_at is not null then v_change.event_id end;
end $$;

comment on view restante.reconcile_overview is
  'How old a change may be at this moment that no webhook told and the reconciler has not seen, for each account and kind of object, and how '
  'old it may get (twice RESTANTE_RECONCILE_SECONDS). What becomes of a session after it was archived, or a day after it was terminated, '
  'is seen by the one look a day at everything.';
comment on column restante.reconcile_overview.allowed is
  'Twice RESTANTE_RECONCILE_SECONDS. Not for sessions that were archived, or terminated over a day ago: they are looked at once a day.';

revoke execute on all functions in schema restante from public;
