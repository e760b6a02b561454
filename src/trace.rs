//! Traces: the way of an event from its delivery to the last call that it caused, as spans of OpenTelemetry.
//!
//! The library names spans, and a service exports them if it is told where to. Until [`turn_on`] each call here ends at a look at one
//! flag. Which span becomes part of which trace does not depend on the filter of the log.
//!
//! A span has names, identifiers, numbers and words of ours. It never has a key, a header, a body, or the text of an error, which may
//! quote one: those who may read traces are often more than those who may read the outbox.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use opentelemetry::trace::{
    FutureExt as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value, global};

static IS_ON: AtomicBool = AtomicBool::new(false);

/// From now on spans are made, for the global exporter of OpenTelemetry that the process has.
pub fn turn_on() {
    IS_ON.store(true, Ordering::Relaxed);
}

/// Are spans made?
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// A span under way, or none while spans are not made. It ends when it is dropped.
#[derive(Debug)]
pub struct Span(Option<Context>);

impl Span {
    /// The first span of a trace, which began at `began`.
    ///
    /// What somebody outside says is their trace, `from_outside`, is only linked: it decides neither whether this trace is kept nor what
    /// it is called. A stranger could otherwise fill the collector, or put their spans into traces of ours.
    pub fn first(name: &'static str, began: SystemTime, from_outside: Option<&str>) -> Self {
        if !is_on() {
            return Self(None);
        }
        let tracer = global::tracer("restante");
        let mut builder = tracer.span_builder(name).with_kind(SpanKind::Server).with_start_time(began);
        if let Some(outside) = from_outside.and_then(parse) {
            builder = builder.with_links(vec![opentelemetry::trace::Link::with_context(outside)]);
        }
        Self::of(tracer.build_with_context(builder, &Context::new()))
    }

    /// A span that goes on with the trace of an event; the first of a trace, if the event has none.
    pub fn continuing(name: &'static str, traceparent: Option<&str>) -> Self {
        if !is_on() {
            return Self(None);
        }
        let parent = match traceparent.and_then(parse) {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        Self::below(name, SpanKind::Consumer, &parent)
    }

    /// A part of this span.
    pub fn part(&self, name: &'static str) -> Self {
        match &self.0 {
            Some(context) => Self::below(name, SpanKind::Internal, context),
            None => Self(None),
        }
    }

    /// A call to somebody else, as a part of the span [around](Span::around) the caller. Outside of any it is none.
    pub fn call(name: impl Into<Cow<'static, str>>) -> Self {
        if !is_on() {
            return Self(None);
        }
        let around = Context::current();
        if around.has_active_span() { Self::below(name, SpanKind::Client, &around) } else { Self(None) }
    }

    fn below(name: impl Into<Cow<'static, str>>, kind: SpanKind, parent: &Context) -> Self {
        let tracer = global::tracer("restante");
        Self::of(tracer.build_with_context(tracer.span_builder(name).with_kind(kind), parent))
    }

    fn of(span: global::BoxedSpan) -> Self {
        Self(Some(Context::new().with_span(span)))
    }

    /// Adds an attribute. Its value is made only if there is a span.
    pub fn set<V: Into<Value>>(&self, name: &'static str, value: impl FnOnce() -> V) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(name, value()));
        }
    }

    /// Marks it as failed, for a reason that is a word of ours.
    pub fn failed(&self, reason: &'static str) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new("error.type", reason));
            context.span().set_status(Status::error(reason));
        }
    }

    /// What to keep with an event, or to tell a receiver, so that the trace goes on there: `00-TRACE-SPAN-FLAGS`, as the W3C writes it.
    pub fn traceparent(&self) -> Option<String> {
        self.0.as_ref().and_then(written)
    }

    /// The name of the trace, for log lines.
    pub fn trace_id(&self) -> Option<String> {
        let context = self.0.as_ref()?;
        Some(context.span().span_context().trace_id().to_string())
    }

    /// Runs `future` inside of this span: its calls become parts of it.
    pub async fn around<F: Future>(&self, future: F) -> F::Output {
        match &self.0 {
            Some(context) => future.with_context(context.clone()).await,
            None => future.await,
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// The `traceparent` of the span around the caller.
pub fn current() -> Option<String> {
    if is_on() { written(&Context::current()) } else { None }
}

fn written(context: &Context) -> Option<String> {
    let span = context.span();
    let span = span.span_context();
    span.is_valid()
        .then(|| format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8()))
}

/// The span that a `traceparent` names; none if it is not written as the W3C says.
fn parse(traceparent: &str) -> Option<SpanContext> {
    let is_hex = |part: &&str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = traceparent.split('-');
    let mut next = |length: usize| parts.next().filter(|part| part.len() == length).filter(is_hex);
    let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
    // A later version may have more parts.
    let is_known = version != "ff" && (version != "00" || parts.next().is_none());
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    (is_known && context.is_valid()).then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_as_the_w3c_writes_it_and_nothing_else_is() {
        let later = TRACE.replacen("00", "01", 1) + "-more";
        for good in [TRACE, later.as_str()] {
            let read = parse(good).unwrap();
            assert_eq!(read.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
            assert!(read.is_sampled() && read.is_remote());
            assert_eq!(written(&Context::new().with_remote_span_context(read)).unwrap(), TRACE);
        }
        for bad in [
            "",
            "00",
            &TRACE.to_uppercase(),
            &TRACE[..54],
            &format!("{TRACE}-more"),
            &TRACE.replacen("00", "ff", 1),
            &TRACE.replace("b7ad6b7169203331", "0000000000000000"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0\u{e9}",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn without_an_exporter_nothing_is_made() {
        let span = Span(None);
        span.set("event.id", || "whe_1");
        span.failed("mismatch");

        assert_eq!((span.traceparent(), span.trace_id()), (None, None));
        assert!(span.part("commit").0.is_none());
    }
}
