//! The ops listener: whether the process is alive, whether it is ready, and its metrics, on a port of their own.
//!
//! `/livez` answers 200 as long as the process runs: a restart would not repair a database that is down. `/readyz` runs
//! the checks that the caller gave, concurrently and each with a deadline, so that it answers in about a second even if
//! the database hangs. The listener is for operators, never for the internet, and these three never redirect.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::future::join_all;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How long one check may take before it counts as failed. Probes commonly give up after a few seconds.
const CHECK_DEADLINE: Duration = Duration::from_secs(1);

/// How long the listener waits for open connections after the stop.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// How often the recorder folds its histograms, so that they do not grow while nobody asks for `/metrics`.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Why a check failed. Anyone who reaches the port can read it, so it contains no secret.
pub type Problem = Cow<'static, str>;

type Look = dyn Fn() -> Pin<Box<dyn Future<Output = Option<Problem>> + Send>> + Send + Sync;

/// Something that an operator should know although the process is ready: `/readyz` shows it next to the checks.
pub struct Note {
    name: &'static str,
    look: Box<Look>,
}

impl Note {
    /// Shows what `look` returns; `look` is dropped at the deadline of one second, as a check is.
    pub fn new<F>(name: &'static str, look: impl Fn() -> F + Send + Sync + 'static) -> Note
    where
        F: Future<Output = Option<Problem>> + Send + 'static,
    {
        Note { name, look: Box::new(move || Box::pin(look())) }
    }
}

type Run = dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), Problem>> + Send>> + Send + Sync;

/// One condition for being ready.
pub struct Check {
    name: &'static str,
    mend: &'static str,
    run: Box<Run>,
}

impl Check {
    /// A condition that holds while `run` returns `Ok`; `mend` says what an operator should do if it does not.
    ///
    /// `run` is dropped at the deadline of one second: that must be safe at any await, and it must not block.
    pub fn new<F>(
        name: &'static str,
        mend: &'static str,
        run: impl Fn() -> F + Send + Sync + 'static,
    ) -> Check
    where
        F: Future<Output = Result<(), Problem>> + Send + 'static,
    {
        Check { name, mend, run: Box::new(move || Box::pin(run())) }
    }

    /// The same condition, which also holds while `makes_up` says so.
    pub fn or_else(self, makes_up: impl Fn() -> bool + Send + Sync + 'static) -> Check {
        let Check { name, mend, run } = self;
        let makes_up = Arc::new(makes_up);
        let run = move || {
            let (outcome, makes_up) = (run(), Arc::clone(&makes_up));
            Box::pin(async move {
                outcome.await.or_else(|problem| if makes_up() { Ok(()) } else { Err(problem) })
            }) as Pin<Box<dyn Future<Output = Result<(), Problem>> + Send>>
        };
        Check { name, mend, run: Box::new(run) }
    }

    /// A condition that holds until `draining` is cancelled. So load balancers stop sending while the work under way
    /// still runs and the listener still answers.
    pub fn not_draining(draining: CancellationToken) -> Check {
        Check::new("not_draining", "Nothing: the process received a signal to stop", move || {
            let outcome =
                if draining.is_cancelled() { Err("the process is stopping".into()) } else { Ok(()) };
            std::future::ready(outcome)
        })
    }
}

/// Serves `/livez`, `/readyz`, `/metrics` and the routes of `more` on the listener until `stop` is cancelled.
///
/// `/readyz` shows `notes`, but they do not decide whether the process is ready: if the API refuses the key, the worker
/// waits for a valid one, so there is no reason to replace it.
///
/// Returns within about a second of `stop`, even if a client holds its connection open. Cancel `stop` last, after the
/// drain, so that a draining process still answers `/livez`.
///
/// # Errors
///
/// An IO error if the listener failed.
///
/// # Panics
///
/// Panics if `more` has one of the three routes.
pub async fn serve(
    listener: TcpListener,
    checks: Vec<Check>,
    notes: Vec<Note>,
    prometheus: PrometheusHandle,
    more: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    let router = router(Asked { checks, notes }, CHECK_DEADLINE, prometheus.clone(), more);
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        served = serving.into_future() => served,
        () = upkeep(prometheus) => Ok(()),
        () = grace_after(stop) => Ok(()),

    }
}

/// The checks and notes that `/readyz` runs.
struct Asked {
    checks: Vec<Check>,
    notes: Vec<Note>,
}

fn router(asked: Asked, deadline: Duration, prometheus: PrometheusHandle, more: Router) -> Router {
    let asked = Arc::new(asked);
    Router::new()
        .route("/livez", get(|| async { plain("text/plain; charset=utf-8", "ok\n".to_owned()) }))
        .route("/readyz", get(move |State(asked): State<Arc<Asked>>| readiness(asked, deadline)))
        .with_state(asked)
        .route(
            "/metrics",
            get(
                move || async move { plain("text/plain; version=0.0.4; charset=utf-8", prometheus.render()) },
            ),
        )
        .merge(more)
}

/// The answer of `/readyz`.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    checks: Vec<Checked>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<Noted>,
}

/// The result of one note.
#[derive(Serialize)]
struct Noted {
    name: &'static str,
    note: Problem,
}

/// The result of one check.
#[derive(Serialize)]
struct Checked {
    name: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<&'static str>,
}

async fn readiness(asked: Arc<Asked>, deadline: Duration) -> Response {
    let checks = join_all(asked.checks.iter().map(|check| checked(check, deadline)));
    let notes = join_all(asked.notes.iter().map(|note| noted(note, deadline)));
    let (checks, notes) = tokio::join!(checks, notes);
    let notes = notes.into_iter().flatten().collect();
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(Readiness { ready, checks, notes })).into_response()
}

async fn checked(check: &Check, deadline: Duration) -> Checked {
    let outcome = match tokio::time::timeout(deadline, (check.run)()).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {deadline:?}").into()),
    };
    let problem = outcome.err();
    let mend = problem.as_ref().map(|_| check.mend);
    Checked { name: check.name, ok: problem.is_none(), problem, mend }
}

/// A note that does not return in time is left out: the checks report what is down.
async fn noted(note: &Note, deadline: Duration) -> Option<Noted> {
    let text = tokio::time::timeout(deadline, (note.look)()).await.ok()??;
    Some(Noted { name: note.name, note: text })
}

fn plain(content_type: &'static str, body: String) -> Response {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// Never ends.
async fn upkeep(prometheus: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        prometheus.run_upkeep();
    }
}

/// Bounds the graceful stop, which alone would wait for a client that sent half a request.
async fn grace_after(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_GRACE).await;
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Instant;

    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;

    use super::*;

    struct Served {
        address: SocketAddr,
        stop: CancellationToken,
        serving: JoinHandle<io::Result<()>>,
    }

    async fn served(checks: Vec<Check>, more: Router) -> Served {
        served_with(checks, Vec::new(), more).await
    }

    async fn served_with(checks: Vec<Check>, notes: Vec<Note>, more: Router) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || metrics::counter!("restante_claims_total").increment(7));
        let serving = tokio::spawn(serve(listener, checks, notes, recorder.handle(), more, stop.clone()));
        Served { address, stop, serving }
    }

    impl Served {
        /// The status and the rest of the answer.
        async fn ask(&self, request: &str) -> (u16, String) {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let request = format!("{request} HTTP/1.1\r\nhost: ops\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
        }
    }

    fn body(answer: &str) -> &str {
        answer.split_once("\r\n\r\n").unwrap().1
    }

    #[tokio::test]
    async fn a_process_lives_whether_or_not_it_is_ready() {
        let down = Check::new("database", "Start it", || async { Err("refused".into()) });
        let served = served(vec![down], Router::new()).await;

        assert_eq!(served.ask("GET /livez").await.0, 200);
        assert_eq!(served.ask("GET /readyz").await.0, 503);
    }

    #[tokio::test]
    async fn readiness_names_each_check_and_how_to_mend_it() {
        let up = Check::new("schema", "Run restante migrate", || async { Ok(()) });
        let down = Check::new("database", "Start it", || async { Err("refused".into()) });
        let served = served(vec![up, down], Router::new()).await;

        let (_, answer) = served.ask("GET /readyz").await;

        assert!(answer.contains("content-type: application/json"), "{answer}");
        assert_eq!(
            body(&answer),
            r#"{"ready":false,"checks":[{"name":"schema","ok":true},"#.to_owned()
                + r#"{"name":"database","ok":false,"problem":"refused","mend":"Start it"}]}"#
        );
    }

    #[tokio::test]
    async fn a_note_is_told_and_leaves_the_process_ready_and_one_that_hangs_is_left_out() {
        let up = Check::new("database", "Start it", || async { Ok(()) });
        let quiet = Note::new("quiet", || async { None });
        let trouble = Note::new("trouble", || async { Some("the API key is refused".into()) });
        let hangs = Note::new("hangs", std::future::pending);
        let served = served_with(vec![up], vec![quiet, trouble, hangs], Router::new()).await;

        let (status, answer) = served.ask("GET /readyz").await;

        assert_eq!(status, 200);
        assert_eq!(
            body(&answer),
            r#"{"ready":true,"checks":[{"name":"database","ok":true}],"#.to_owned()
                + r#""notes":[{"name":"trouble","note":"the API key is refused"}]}"#
        );
    }

    #[tokio::test]
    async fn checks_that_hang_fail_at_their_deadline_side_by_side() {
        let hang = || Check::new("database", "Look at it", std::future::pending);
        let served = served(vec![hang(), hang(), hang()], Router::new()).await;

        let begun = Instant::now();
        let (status, answer) = served.ask("GET /readyz").await;

        assert_eq!(status, 503);
        assert_eq!(answer.matches("no answer within 1s").count(), 3, "{answer}");
        assert!(begun.elapsed() < 2 * CHECK_DEADLINE, "one after the other would take three deadlines");
    }

    #[tokio::test]
    async fn a_draining_process_lives_and_is_not_ready() {
        let draining = CancellationToken::new();
        let served = served(vec![Check::not_draining(draining.clone())], Router::new()).await;
        assert_eq!(served.ask("GET /readyz").await.0, 200);

        draining.cancel();

        assert_eq!(served.ask("GET /readyz").await.0, 503);
        assert_eq!(served.ask("GET /livez").await.0, 200);
    }

    #[tokio::test]
    async fn metrics_are_served_as_text() {
        let served = served(Vec::new(), Router::new()).await;

        let (status, answer) = served.ask("GET /metrics").await;

        assert_eq!(status, 200);
        assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{answer}");
        assert!(body(&answer).contains("restante_claims_total 7"), "{answer}");
    }

    #[tokio::test]
    async fn other_paths_are_not_found_and_never_redirected() {
        let more = Router::new().route("/", get(|| async { "the ops page" }));
        let served = served(Vec::new(), more).await;

        assert!(served.ask("GET /").await.1.ends_with("the ops page"));
        for path in ["/livez/", "/nothing", "//livez", "/metrics/../x"] {
            assert_eq!(served.ask(&format!("GET {path}")).await.0, 404, "{path}");
        }
        assert_eq!(served.ask("POST /livez").await.0, 405);
    }

    #[tokio::test]
    async fn a_client_that_asks_by_halves_does_not_hold_up_the_stop() {
        let served = served(Vec::new(), Router::new()).await;
        let mut halting = TcpStream::connect(served.address).await.unwrap();
        halting.write_all(b"GET /livez HT").await.unwrap();
        // An answer to a later connection shows that the first one has been accepted.
        served.ask("GET /livez").await;

        served.stop.cancel();

        let ended = tokio::time::timeout(5 * STOP_GRACE, served.serving).await;
        assert!(ended.unwrap().unwrap().is_ok());
        drop(halting);
    }
}
