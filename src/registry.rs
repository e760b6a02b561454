//! The registry: which handler answers an event.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use serde::de::IgnoredAny;

use crate::event::Event;
use crate::handler::{self, Classify, Context, Error, Handler, Senders};
use crate::{envelope, retry};

/// Handlers by the subscriber they work for, the type they answer, and [whose](Handler::SENDERS) events.
///
/// A worker claims only the rows of the subscribers in its registry. If it has [registered](Registry::register)
/// handlers, an event that none of them answers ends as `ignored`. An event whose body cannot be read has the
/// type `unreadable`, and becomes a dead letter in every worker, unless a handler answers that type.
#[derive(Clone, Default)]
pub struct Registry {
    routes: BTreeMap<String, Routes>,
}

/// What a handler needs of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) subscriber: String,
    /// A type, or a pattern.
    pub(crate) event_type: &'static str,
    /// The part of the API; none if it needs nothing.
    pub(crate) part: Option<&'static str>,
}

/// The handlers of one subscriber by their types. Those of one type are for different senders.
type Routes = BTreeMap<&'static str, Vec<Arc<dyn Route>>>;

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
    /// If one of its types already has a handler for events of the same sender, so that the mistake is found at the start.
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
    /// If `subscriber` is empty, or already has a handler for one of the types and the same sender.
    #[must_use]
    pub fn subscribe<H: Handler>(self, subscriber: &str, handler: H) -> Self {
        assert!(!subscriber.is_empty(), "a subscriber needs a name");
        self.add(subscriber, handler)
    }

    fn add<H: Handler>(mut self, subscriber: &str, handler: H) -> Self {
        let routes = self.routes.entry(subscriber.to_owned()).or_default();
        let route: Arc<dyn Route> = Arc::new(handler);
        for event_type in H::EVENT_TYPES {
            let of_type = routes.entry(event_type).or_default();
            let taken = of_type.iter().any(|other| other.senders().overlap(route.senders()));
            assert!(!taken, "two handlers for `{event_type}`: give one of them a subscription of its own");
            of_type.push(Arc::clone(&route));
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

    /// What each handler needs of the API, by its subscriber and its type or pattern. Of handlers that answer a type for different senders
    /// the one counts that needs something.
    pub(crate) fn needs(&self) -> Vec<Need> {
        let need = |subscriber: &String, event_type: &'static str, of_type: &[Arc<dyn Route>]| Need {
            subscriber: subscriber.clone(),
            event_type,
            part: of_type.iter().find_map(|route| route.needs_of_api(event_type)),
        };
        let of = |(subscriber, routes): (&String, &Routes)| -> Vec<Need> {
            routes.iter().map(|(event_type, of_type)| need(subscriber, event_type, of_type)).collect()
        };
        self.routes.iter().flat_map(of).collect()
    }

    /// Does a handler name exactly this type? A pattern that matches it does not count.
    pub(crate) fn names(&self, subscriber: &str, event_type: &str) -> bool {
        self.routes.get(subscriber).is_some_and(|routes| routes.contains_key(event_type))
    }

    /// The handler for an event, of those that answer its sender: the one that names its type, otherwise the one with the
    /// longest pattern that matches it; of two, the one that names the sender. No pattern matches `unreadable`.
    pub(crate) fn route(&self, event: &Event) -> Option<&dyn Route> {
        let event_type = event.event_type.as_str();
        let routes = self.routes.get(&event.subscriber)?;
        if let Some(route) = routes.get(event_type).and_then(|of_type| for_sender(of_type, event)) {
            return Some(route);
        }
        if event_type == envelope::UNREADABLE {
            return Some(&Unreadable);
        }
        let covers = |pattern: &str| {
            pattern.strip_suffix('*').is_some_and(|beginning| event_type.starts_with(beginning))
        };
        let covering = routes.iter().filter(|(pattern, _)| covers(pattern));
        let answering =
            covering.filter_map(|(pattern, of_type)| Some((pattern, for_sender(of_type, event)?)));
        answering.max_by_key(|(pattern, _)| pattern.len()).map(|(_, route)| route)
    }
}

/// Of the handlers of one type, the one that answers the sender of the event.
fn for_sender<'a>(of_type: &'a [Arc<dyn Route>], event: &Event) -> Option<&'a dyn Route> {
    let answering = of_type.iter().filter(|route| route.senders().have_sent(event));
    answering.max_by_key(|route| route.senders().are_named()).map(AsRef::as_ref)
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.routes.iter().map(|(name, routes)| (name, routes.keys()))).finish()
    }
}

/// A handler without its payload type, so that different handlers fit into one map.
pub(crate) trait Route: Send + Sync {
    fn senders(&self) -> Senders;
    fn retry(&self) -> retry::Policy;
    fn timeout(&self) -> Duration;
    fn dead_holds_key(&self) -> bool;
    fn needs_of_api(&self, event_type: &str) -> Option<&'static str>;
    fn newest_state_of(&self, event: &Event) -> Option<String>;
    fn run<'a>(
        &'a self,
        cx: &'a mut Context<'_>,
    ) -> Pin<Box<dyn Future<Output = handler::Result> + Send + 'a>>;
}

impl<H: Handler> Route for H {
    fn senders(&self) -> Senders {
        H::SENDERS
    }

    fn retry(&self) -> retry::Policy {
        H::RETRY
    }

    fn timeout(&self) -> Duration {
        H::TIMEOUT.min(retry::LONGEST)
    }

    fn dead_holds_key(&self) -> bool {
        H::DEAD_HOLDS_KEY
    }

    fn needs_of_api(&self, event_type: &str) -> Option<&'static str> {
        Handler::needs_of_api(self, event_type)
    }

    fn newest_state_of(&self, event: &Event) -> Option<String> {
        Handler::newest_state_of(self, event)
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
    use crate::event::{ANTHROPIC, Body};

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

    fn event(sender: &str, account: Option<&str>, subscriber: &str, event_type: &str) -> Event {
        Event {
            id: 1,
            sender: sender.to_owned(),
            account: account.map(str::to_owned),
            event_id: "e".to_owned(),
            event_type: event_type.to_owned(),
            subscriber: subscriber.to_owned(),
            key: None,
            workspace_id: None,
            source: "webhook".to_owned(),
            created_at: chrono::Utc::now(),
            received_at: chrono::Utc::now(),
            body: Body::Json("{}".to_owned()),
            attempt: 1,
        }
    }

    fn timeout_seconds(registry: &Registry, subscriber: &str, event_type: &str) -> Option<u64> {
        timeout_seconds_of(registry, &event(ANTHROPIC, Some(ANTHROPIC), subscriber, event_type))
    }

    fn timeout_seconds_of(registry: &Registry, event: &Event) -> Option<u64> {
        registry.route(event).map(|route| route.timeout().as_secs())
    }

    /// Answers all types of events of these senders, within so many seconds.
    macro_rules! answers {
        ($name:ident, $types:expr, $senders:expr, $seconds:expr) => {
            struct $name;
            impl Handler for $name {
                const EVENT_TYPES: &'static [&'static str] = $types;
                const SENDERS: Senders = $senders;
                const TIMEOUT: Duration = Duration::from_secs($seconds);
                type Payload = serde_json::Value;
                async fn handle(&self, _: &mut Context<'_>, _: Self::Payload) -> handler::Result {
                    Ok(())
                }
            }
        };
    }
    answers!(OfTheApi, &["batch.completed", "session.*"], Senders::OfTheApi, 1);
    answers!(OpenAi, &["batch.completed"], Senders::Named(&["openai"]), 2);
    answers!(OpenRouter, &["batch.completed"], Senders::Named(&["openrouter"]), 3);
    answers!(Anybody, &["batch.*"], Senders::Any, 4);

    #[test]
    fn a_handler_answers_the_events_of_its_senders_and_no_other() {
        let registry = Registry::new().register(OfTheApi).register(OpenAi).register(OpenRouter);
        let asked =
            |sender, account| timeout_seconds_of(&registry, &event(sender, account, "", "batch.completed"));

        assert_eq!(asked(ANTHROPIC, Some(ANTHROPIC)), Some(1));
        assert_eq!(asked("production", Some("staging")), Some(1), "whatever the sender is called");
        assert_eq!(asked("openai", None), Some(2));
        assert_eq!(asked("openrouter", None), Some(3));
        assert_eq!(asked("github", None), None);
        assert_eq!(asked("openai", Some("staging")), Some(2), "who names the sender comes first");
        assert_eq!(timeout_seconds_of(&registry, &event("openai", None, "", "session.updated")), None);
    }

    #[test]
    fn a_pattern_answers_those_whom_no_handler_of_the_type_does() {
        let registry = Registry::new().register(OfTheApi).register(Anybody);
        let asked =
            |sender, account| timeout_seconds_of(&registry, &event(sender, account, "", "batch.completed"));
        assert_eq!(asked(ANTHROPIC, Some(ANTHROPIC)), Some(1));
        assert_eq!(asked("github", None), Some(4));
        let unreadable = event("github", None, "", "unreadable");
        assert_eq!(timeout_seconds_of(&registry, &unreadable), Some(Unreadable::TIMEOUT.as_secs()));
    }

    #[test]
    fn senders_overlap_if_one_event_can_be_from_both() {
        let (any, of_the_api) = (Senders::Any, Senders::OfTheApi);
        let [openai, others] = [&["openai"][..], &["anthropic", "openrouter"][..]].map(Senders::Named);
        for (one, other, expected) in [
            (any, openai, true),
            (any, of_the_api, true),
            (of_the_api, of_the_api, true),
            (of_the_api, openai, false),
            (of_the_api, others, true),
            (openai, openai, true),
            (openai, others, false),
        ] {
            assert_eq!((one.overlap(other), other.overlap(one)), (expected, expected), "{one:?} {other:?}");
        }
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
