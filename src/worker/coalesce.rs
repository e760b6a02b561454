//! One attempt settles the events of its key that wait for the same newest state.
//!
//! What had happened when the attempt began is in the state that its handler asked for after that. So an event that waited by then
//! needs no attempt of its own, if its handler says so. It is finished in the commit of the attempt, or not at all.

use std::ptr;

use crate::event::Event;
use crate::handler::{Context, Error};
use crate::outbox::waiting;
use crate::registry::{Registry, Route};

/// Settles what waits behind the event of an attempt that has succeeded. Part of its commit.
pub(super) async fn settle_waiting(
    cx: &mut Context<'_>,
    registry: &Registry,
    route: &dyn Route,
) -> Result<(), Error> {
    let Some(state) = route.newest_state_of(cx.event).filter(|_| !cx.is_alone()) else { return Ok(()) };
    let waits_for_it = |event: &&Event| {
        registry.route(event).is_some_and(|other| ptr::addr_eq(other, route))
            && route.newest_state_of(event).as_ref() == Some(&state)
    };
    let waiting = waiting::behind(&mut *cx.connection().await?, cx.event, cx.state_asked_at()).await?;
    let ids: Vec<i64> = waiting.iter().filter(waits_for_it).map(|event| event.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let event_id = &cx.event.event_id;
    let events = waiting::settle(cx.tx().await?, &ids, event_id).await?;
    tracing::debug!(events, "settled events that waited for the same newest state");
    Ok(())
}
