//! A collector of OpenTelemetry, as far as a test needs one: takes OTLP over HTTP, decodes it as the protocol says, and keeps the spans.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;

/// A span, and the service that it came from.
#[derive(Clone, Debug)]
pub struct Kept {
    pub service: String,
    pub span: Span,
}

impl Kept {
    pub fn trace(&self) -> String {
        hex::encode(&self.span.trace_id)
    }

    pub fn id(&self) -> String {
        hex::encode(&self.span.span_id)
    }

    pub fn parent(&self) -> String {
        hex::encode(&self.span.parent_span_id)
    }

    /// The value of an attribute as text; empty if it has none.
    pub fn attribute(&self, name: &str) -> String {
        attribute(&self.span.attributes, name)
    }

    /// Its name, and the type of the event if it is an attempt.
    pub fn title(&self) -> String {
        let event_type =
            if self.span.name == "attempt" { self.attribute("restante.event.type") } else { String::new() };
        format!("{} {event_type}", self.span.name).trim_end().to_owned()
    }
}

fn attribute(attributes: &[KeyValue], name: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == name);
    match value.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => panic!("{name}: {other:?}"),
        None => String::new(),
    }
}

#[derive(Clone, Default)]
struct Shared {
    kept: Arc<Mutex<Vec<Kept>>>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

/// The collector.
pub struct Collector {
    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub url: String,
    shared: Shared,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Shared::default();
        let router = Router::new().route("/v1/traces", post(keep)).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    /// Every span that came.
    pub fn spans(&self) -> Vec<Kept> {
        self.shared.kept.lock().unwrap().clone()
    }

    /// All that came, as text as far as it is some.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.bytes.lock().unwrap()).into_owned()
    }
}

async fn keep(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Vec<u8> {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
    let mut kept = shared.kept.lock().unwrap();
    for resource in request.resource_spans {
        let service = attribute(&resource.resource.unwrap().attributes, "service.name");
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        kept.extend(spans.map(|span| Kept { service: service.clone(), span }));
    }
    shared.bytes.lock().unwrap().extend_from_slice(&body);
    ExportTraceServiceResponse::default().encode_to_vec()
}
