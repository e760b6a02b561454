//! `order.placed`: the shop has stored an order, and enqueued this event in the same transaction.

use anyhow::anyhow;
use restante::handler::{self, Context, Error, Handler};
use serde::Deserialize;

/// Takes the ordered quantity from the stock.
///
/// It must not do so twice, and no constraint prevents that. So it writes through [`Context::tx`]: its writes and the
/// completion of its event are one commit.
#[derive(Debug)]
pub struct ReserveStock;

/// An order, as the shop describes it.
#[derive(Debug, Deserialize)]
pub struct Order {
    order_id: String,
    sku: String,
    quantity: i32,
}

impl Handler for ReserveStock {
    const EVENT_TYPES: &'static [&'static str] = &["order.placed"];
    type Payload = Order;

    async fn handle(&self, cx: &mut Context<'_>, order: Order) -> handler::Result {
        let event = cx.event;
        let tx = cx.tx().await?;
        sqlx::query(
            "insert into orders.reservation (order_id, sku, quantity, event_id) values ($1, $2, $3, $4)",
        )
        .bind(&order.order_id)
        .bind(&order.sku)
        .bind(order.quantity)
        .bind(&event.event_id)
        .execute(&mut *tx)
        .await?;
        let taken = sqlx::query(
            "update orders.stock set available = available - $2 where sku = $1 and available >= $2",
        )
        .bind(&order.sku)
        .bind(order.quantity)
        .execute(&mut *tx)
        .await?;
        if taken.rows_affected() == 0 {
            // The reservation rolls back. The event is a dead letter until the shop has more and a person replays it.
            return Err(Error::Permanent(anyhow!("too little of {} is left", order.sku)));
        }
        Ok(())
    }
}
