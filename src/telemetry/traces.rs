//! Where spans go: to a collector, by OTLP over HTTP, as the standard variables of OpenTelemetry say.
//!
//! Spans wait in a queue of bounded length, and a thread of its own sends them. If the collector is slow or away, spans are lost and
//! nothing else: no delivery and no attempt waits for it. One line of the log says so until it answers again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry::global;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use reqwest::redirect;
use tokio::runtime::Handle;

use super::names::metric;
use crate::trace;

/// How long a program that ends waits for a collector that is slow.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// How long the collector has for an answer, as long as the standard says.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The variables of OpenTelemetry say something that cannot be.
    #[error("the variables OTEL_EXPORTER_OTLP_... cannot be used")]
    Settings(#[from] ExporterBuildError),
    /// TLS cannot be set up.
    #[error("the client for the collector cannot be made")]
    Client(#[from] reqwest::Error),
}

/// When dropped, sends the last spans, for two seconds at most.
#[must_use = "the last spans are lost unless this lives as long as the program"]
pub struct SendTraces(SdkTracerProvider);

/// Begins to send spans to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names, by tasks on `runtime`. `name` is the
/// program that the spans are of, where `OTEL_SERVICE_NAME` does not say so.
///
/// The crates of OpenTelemetry read its other variables: `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_...`.
///
/// # Errors
/// [`TraceError`].
pub fn send_traces(name: Option<String>, runtime: Handle) -> Result<SendTraces, TraceError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(Collector::new(runtime)?)
        .build()?;
    let resource = match name {
        Some(name) => Resource::builder().with_service_name(name),
        None => Resource::builder(),
    };
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.with_attribute(version).build())
        .build();
    global::set_tracer_provider(provider.clone());
    trace::turn_on();
    Ok(SendTraces(provider))
}

impl Drop for SendTraces {
    fn drop(&mut self) {
        // What could not be sent is counted, and a program that ends has nobody to tell.
        let _sent = self.0.shutdown_with_timeout(FLUSH_DEADLINE);
    }
}

/// The way to the collector. The exporter's thread has no runtime of its own.
#[derive(Clone, Debug)]
struct Collector {
    http: reqwest::Client,
    runtime: Handle,
    is_away: Arc<AtomicBool>,
}

impl Collector {
    fn new(runtime: Handle) -> reqwest::Result<Self> {
        // Not the proxy of the environment, as for the API, and no redirect: the headers may hold a token.
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .timeout(ANSWER_DEADLINE)
            .build()?;
        Ok(Self { http, runtime, is_away: Arc::default() })
    }

    /// Counts an answer, and logs the first one that is bad, and the first one that is good again.
    fn note(&self, problem: Option<String>) {
        let result = if problem.is_none() { "success" } else { "failure" };
        metrics::counter!(metric::TRACE_EXPORTS_TOTAL, "result" => result).increment(1);
        let was_away = self.is_away.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(problem) if !was_away => tracing::warn!(
                problem,
                "spans cannot be sent to OTEL_EXPORTER_OTLP_ENDPOINT, and are lost after a few tries; nothing else is held up"
            ),
            None if was_away => tracing::info!("the collector takes spans again"),
            _ => {}
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let exchange = async move {
            let answer = http.execute(request.try_into()?).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                headers.extend(answer.headers().clone());
            }
            Ok::<_, HttpError>(response.body(answer.bytes().await?)?)
        };
        let answer = self.runtime.spawn(exchange).await.map_err(HttpError::from).flatten();
        self.note(match &answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answered {}", response.status())),
            // Without the URL, which may hold a token.
            Err(error) => Some(match error.downcast_ref::<reqwest::Error>() {
                Some(error) if error.is_timeout() => "it did not answer in time".to_owned(),
                Some(error) if error.is_connect() => "it cannot be reached".to_owned(),
                _ => "the exchange broke off".to_owned(),
            }),
        });
        answer
    }
}
