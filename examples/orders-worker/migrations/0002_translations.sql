-- What the shop has translated elsewhere.

create table orders.translation_batch (
  batch_id     text        not null,
  -- On purpose without a unique constraint, as in orders.reservation.
  event_id     text        not null,
  completed_at timestamptz not null,
  constraint translation_batch_pk primary key (batch_id)
);
comment on table orders.translation_batch is 'Batches of descriptions that OpenAI has translated, and that can be fetched.';
