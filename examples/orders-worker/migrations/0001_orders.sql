-- The tables of the shop. They lie in a schema of their own and name none of Restante's.

create table orders.stock (
  sku       text    not null,
  available integer not null,
  constraint stock_pk primary key (sku),
  constraint stock_is_not_oversold check (available >= 0)
);
comment on table orders.stock is 'What is left to be sold.';

create table orders.reservation (
  order_id    text        not null,
  sku         text        not null,
  quantity    integer     not null,
  -- On purpose without a unique constraint: that no event is here twice is what Restante promises.
  event_id    text        not null,
  reserved_at timestamptz not null default now(),
  constraint reservation_of_something check (quantity > 0)
);
create index reservation_event on orders.reservation (event_id);
comment on table orders.reservation is 'What was taken from the stock, and by which event.';
