//! The registry: which handler answers an event.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use serde::de::IgnoredAny;

use crate::handler::{self, Classify, Context, Error, Handler};
use crate::{envelope, retry};

/// Handlers by the subscriber they work for and the type they answer.
///
/// A worker claims only the rows of the subscribers in its registry. If it has [registered](Registry::register)
/// handlers, an event of a type that none of them answers ends as `ignored`. An event whose body cannot be read has the
/// type `unreadable`, and becomes a dead letter in every worker, unless a handler answers that type.
#[derive(Clone, Default)]
pub struct Registry {
    routes: BTreeMap<String, BTreeMap<&'static str, Arc<dyn Route>>>,
}

impl Registry {
    /// A registry without handlers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler for its types.
    ///
    /// Workers with registered handlers share all events, so all of them must have the same handlers: an event that
    /// reaches a worker without a handler for it ends as `ignored`. A worker of your own that runs next to
    /// `restante-worker` [subscribes](Registry::subscribe) instead.
    ///
    /// # Panics
    /// If one of its types already has a handler, so that the mistake is found at the start.
    #[must_use]
    pub fn register<H: Handler>(self, handler: H) -> Self {
        self.add("", handler)
    }

    /// Adds a second handler for its types. It gets a row of its own for each event, with its own attempts, next to the
    /// row of the registered handler. Neither row delays the other or makes it fail. Do not change the name
    /// `subscriber` later: its rows carry it.
    ///
    /// One subscriber may have several handlers. It gets the events that are stored after a worker first started with
    /// the subscription; `delete from restante.subscription` ends it.
    ///
    /// # Panics
    /// If `subscriber` is empty, or already has a handler for one of the types.
    #[must_use]
    pub fn subscribe<H: Handler>(self, subscriber: &str, handler: H) -> Self {
        assert!(!subscriber.is_empty(), "a subscriber needs a name");
        self.add(subscriber, handler)
    }

    fn add<H: Handler>(mut self, subscriber: &str, handler: H) -> Self {
        let routes = self.routes.entry(subscriber.to_owned()).or_default();
        let route: Arc<dyn Route> = Arc::new(handler);
        for event_type in H::EVENT_TYPES {
            let taken = routes.insert(event_type, Arc::clone(&route)).is_some();
            assert!(!taken, "two handlers for `{event_type}`: give one of them a subscription of its own");
        }
        self
    }

    /// The subscribers whose rows a worker with this registry claims. Registered handlers are the subscriber `""`.
    pub fn subscribers(&self) -> Vec<String> {
        self.routes.keys().cloned().collect()
    }

    /// The subscriptions to store in the outbox, each with its types.
    pub fn subscriptions(&self) -> impl Iterator<Item = (&str, Vec<&'static str>)> {
        self.routes
            .iter()
            .filter(|(subscriber, _)| !subscriber.is_empty())
            .map(|(subscriber, routes)| (subscriber.as_str(), routes.keys().copied().collect()))
    }

    /// The types that have a handler, over all subscribers.
    pub fn event_types(&self) -> impl Iterator<Item = &'static str> {
        self.routes.values().flat_map(|routes| routes.keys().copied()).chain([envelope::UNREADABLE])
    }

    /// Does a handler name exactly this type? A pattern that matches it does not count.
    pub(crate) fn names(&self, subscriber: &str, event_type: &str) -> bool {
        self.routes.get(subscriber).is_some_and(|routes| routes.contains_key(event_type))
    }

    /// The handler for an event: the one that names its type, otherwise the one with the longest pattern that matches
    /// it. No pattern matches `unreadable`.
    pub(crate) fn route(&self, subscriber: &str, event_type: &str) -> Option<&dyn Route> {
        let routes = self.routes.get(subscriber)?;
        if let Some(route) = routes.get(event_type) {
            return Some(route.as_ref());
        }
        if event_type == envelope::UNREADABLE {
            return Some(&Unreadable);
        }
        let covers = |pattern: &str| {
            pattern.strip_suffix('*').is_some_and(|beginning| event_type.starts_with(beginning))
        };
        let covering = routes.iter().filter(|(pattern, _)| covers(pattern));
        covering.max_by_key(|(pattern, _)| pattern.len()).map(|(_, route)| route.as_ref())
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.routes.iter().map(|(name, routes)| (name, routes.keys()))).finish()
    }
}

/// A handler without its payload type, so that different handlers fit into one map.
pub(crate) trait Route: Send + Sync {
    fn retry(&self) -> retry::Policy;
    fn timeout(&self) -> Duration;
    fn dead_holds_key(&self) -> bool;
    fn run<'a>(
        &'a self,
        cx: &'a mut Context<'_>,
    ) -> Pin<Box<dyn Future<Output = handler::Result> + Send + 'a>>;
}

impl<H: Handler> Route for H {
    fn retry(&self) -> retry::Policy {
        H::RETRY
    }

    fn timeout(&self) -> Duration {
        H::TIMEOUT.min(retry::LONGEST)
    }

    fn dead_holds_key(&self) -> bool {
        H::DEAD_HOLDS_KEY
    }

    fn run<'a>(
        &'a self,
        cx: &'a mut Context<'_>,
    ) -> Pin<Box<dyn Future<Output = handler::Result> + Send + 'a>> {
        Box::pin(async move {
            let payload: H::Payload = cx.event.payload().permanent()?;
            let result = self.handle(cx, payload).await;
            result.map_err(|error| error.bounded(cx.waited(), H::PATIENCE))
        })
    }
}

/// Answers events whose body cannot be read. Every registry has it: otherwise a worker would end them as `ignored`, and
/// no operator would see them.
struct Unreadable;

impl Handler for Unreadable {
    const EVENT_TYPES: &'static [&'static str] = &[envelope::UNREADABLE];
    type Payload = IgnoredAny;

    async fn handle(&self, cx: &mut Context<'_>, _: IgnoredAny) -> handler::Result {
        Err(Error::Permanent(match envelope::fault(cx.event.body.as_bytes()) {
            Some(fault) => anyhow!("no envelope can be read: {fault}"),
            None => anyhow!("the event's own type is `{}`, and no handler answers it", envelope::UNREADABLE),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sessions;
    impl Handler for Sessions {
        const EVENT_TYPES: &'static [&'static str] = &["session.*", "session.status_idled"];
        const TIMEOUT: Duration = Duration::from_secs(1);
        type Payload = serde_json::Value;
        async fn handle(&self, _: &mut Context<'_>, _: Self::Payload) -> handler::Result {
            Ok(())
        }
    }

    struct Threads;
    impl Handler for Threads {
        const EVENT_TYPES: &'static [&'static str] = &["session.thread_*"];
        const TIMEOUT: Duration = Duration::from_secs(2);
        type Payload = serde_json::Value;
        async fn handle(&self, _: &mut Context<'_>, _: Self::Payload) -> handler::Result {
            Ok(())
        }
    }

    fn timeout_seconds(registry: &Registry, subscriber: &str, event_type: &str) -> Option<u64> {
        registry.route(subscriber, event_type).map(|route| route.timeout().as_secs())
    }

    #[test]
    fn the_longest_pattern_that_covers_a_type_answers_it() {
        let registry = Registry::new().register(Sessions).register(Threads);
        assert_eq!(timeout_seconds(&registry, "", "session.thread_idled"), Some(2));
        assert_eq!(timeout_seconds(&registry, "", "session.updated"), Some(1));
        assert_eq!(timeout_seconds(&registry, "", "session.status_idled"), Some(1));
        assert_eq!(timeout_seconds(&registry, "", "vault.created"), None);
    }

    #[test]
    fn a_subscriber_has_routes_of_its_own() {
        let registry = Registry::new().register(Sessions).subscribe("billing", Threads);
        assert_eq!(timeout_seconds(&registry, "billing", "session.thread_idled"), Some(2));
        assert_eq!(timeout_seconds(&registry, "billing", "session.updated"), None);
        assert_eq!(registry.subscribers(), ["", "billing"]);
        let subscriptions: Vec<_> = registry.subscriptions().collect();
        assert_eq!(subscriptions, [("billing", vec!["session.thread_*"])]);
    }

    #[test]
    fn what_nobody_can_read_has_a_handler_in_every_registry_and_no_pattern_covers_it() {
        struct All;
        impl Handler for All {
            const EVENT_TYPES: &'static [&'static str] = &["*"];
            const TIMEOUT: Duration = Duration::from_secs(3);
            type Payload = serde_json::Value;
            async fn handle(&self, _: &mut Context<'_>, _: Self::Payload) -> handler::Result {
                Ok(())
            }
        }
        struct Own;
        impl Handler for Own {
            const EVENT_TYPES: &'static [&'static str] = &["unreadable"];
            const TIMEOUT: Duration = Duration::from_secs(4);
            type Payload = serde_json::Value;
            async fn handle(&self, _: &mut Context<'_>, _: Self::Payload) -> handler::Result {
                Ok(())
            }
        }
        let built_in = Some(Unreadable::TIMEOUT.as_secs());

        let registry = Registry::new().register(Threads).subscribe("all", All);
        assert_eq!(timeout_seconds(&registry, "", "unreadable"), built_in);
        assert_eq!(timeout_seconds(&registry, "all", "unreadable"), built_in);
        assert_eq!(timeout_seconds(&registry, "all", "unreadable.thing"), Some(3));
        assert_eq!(
            timeout_seconds(&Registry::new().subscribe("all", All), "", "unreadable"),
            None,
            "whose row?"
        );
        assert_eq!(
            timeout_seconds(&registry.register(Own), "", "unreadable"),
            Some(4),
            "a team's own answer"
        );
    }

    #[test]
    #[should_panic(expected = "two handlers for `session.thread_*`")]
    fn two_handlers_for_a_type_are_refused_at_the_start() {
        let _ = Registry::new().register(Threads).register(Threads);
    }
}
