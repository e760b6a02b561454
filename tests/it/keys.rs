//! Keys change while the programs run: nothing is refused that either key signed, a bad file changes nothing, and rows say who still
//! uses which key.

mod api_key;
mod login;
mod people;
mod rotate;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use restante::internals::key_use::Fingerprint;
use restante_playground::process::Signal;
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::support::processes::{API_KEY, INGEST, WORKER};
use crate::support::sender::{envelope, signing_key_of};
use crate::support::{Delivery, Process, Sender, World, eventually};

const OLD: &[u8] = b"the old key, which is to go soon";
const NEW: &[u8] = b"the new key, which is to stay...";

/// A folder of files with keys.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Puts a file in the place of another one.
    fn put(&self, name: &str, text: &str) {
        let beside = self.path("beside");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.path(name)).unwrap();
    }

    /// Writes a file in place, as an editor may.
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Moves the link `name` to a new folder with the file, as Kubernetes does it.
    fn link(&self, name: &str, generation: usize, text: &str) {
        let folder = self.path(&format!("..{generation}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("key"), text).unwrap();
        let beside = self.path("beside");
        std::os::unix::fs::symlink(folder.join("key"), &beside).unwrap();
        std::fs::rename(beside, self.path(name)).unwrap();
    }
}

fn hang_up(process: &Process) {
    let pid = process.pid().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
}

fn delivery(key: &[u8], event_id: &str) -> Delivery {
    Delivery::signed_with(key, event_id, envelope(event_id, "thing.happened", ""))
}

/// An ingest whose signing keys stand in the file `keys`.
async fn ingest_of(world: &World, folder: &Folder, more: &[(&str, &str)]) -> Process {
    let keys = folder.text("keys");
    let variables = [
        ("DATABASE_URL", world.url.expose_secret()),
        ("ANTHROPIC_WEBHOOK_SIGNING_KEY_FILE", keys.as_str()),
        ("RESTANTE_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_LINGER_SECONDS", "0"),
    ];
    let mut ingest = Process::start(INGEST, &[&variables, more].concat());
    ingest.until_logged("receiving deliveries").await;
    ingest
}

/// Waits until a running ingest has these keys and no others, as the database has it.
async fn until_loaded(world: &World, keys: &[&[u8]]) {
    let mut expected: Vec<String> = keys.iter().map(|key| Fingerprint::of(key).to_string()).collect();
    expected.sort();
    let loaded = "select coalesce(string_agg(fingerprint, ' ' order by fingerprint), '') from restante.key_loaded where kind = 'signing'";
    eventually("the keys", async || (world.value(loaded).await == expected.join(" ")).then_some(())).await;
}

/// A sender of a hundred deliveries a second, signed with the old key, the new one, or both in turn.
struct Traffic {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    signs_with: Vec<&'static [u8]>,
    /// The keys of the deliveries that have no answer yet.
    under_way: Vec<&'static [u8]>,
    sent: usize,
    refused: usize,
}

impl Traffic {
    fn to(ingest: &Process) -> Self {
        let sender = Sender::to(ingest.address());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(10));
            for number in 0.. {
                ticks.tick().await;
                let key = {
                    let mut state = shared.lock().unwrap();
                    if state.signs_with.is_empty() {
                        continue;
                    }
                    let key = state.signs_with[number % state.signs_with.len()];
                    state.under_way.push(key);
                    key
                };
                let (sender, shared) = (sender.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    let answer = sender.status(&delivery(key, &format!("evt_{number}"))).await;
                    let mut state = shared.lock().unwrap();
                    let place = state.under_way.iter().position(|other| *other == key).unwrap();
                    state.under_way.swap_remove(place);
                    state.sent += 1;
                    state.refused += usize::from(answer != 204);
                });
            }
        });
        Self { state, task }
    }

    /// From now on it signs with these keys. Returns when nothing is under way that was signed with another one, and twenty more
    /// were answered.
    async fn sign_with(&self, keys: &[&'static [u8]]) {
        let before = {
            let mut state = self.state.lock().unwrap();
            state.signs_with = keys.to_vec();
            state.sent
        };
        eventually("deliveries with these keys alone", async || {
            let state = self.state.lock().unwrap();
            let is_alone = state.under_way.iter().all(|key| keys.contains(key));
            (is_alone && (keys.is_empty() || state.sent >= before + 20)).then_some(())
        })
        .await;
    }

    /// Returns how many were sent, and how many of them were refused.
    async fn stop(self) -> (usize, usize) {
        self.sign_with(&[]).await;
        self.task.abort();
        let state = self.state.lock().unwrap();
        (state.sent, state.refused)
    }
}

/// How a file gets its new content.
#[derive(Clone, Copy)]
enum Way {
    Moved,
    Written,
    Linked,
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_swapped_under_a_hundred_deliveries_a_second_refuse_nothing_that_either_signed() {
    let world = World::new().await;
    let folder = Folder::new();
    let (old, new) = (signing_key_of(OLD), signing_key_of(NEW));
    folder.put("keys", &old);
    let mut ingest = ingest_of(&world, &folder, &[]).await;
    until_loaded(&world, &[OLD]).await;
    let traffic = Traffic::to(&ingest);
    traffic.sign_with(&[OLD]).await;

    for (nth, way) in [Way::Moved, Way::Written, Way::Linked].into_iter().enumerate() {
        for (round, is_told) in [(0, false), (1, true)] {
            let generation = 10 * nth + 4 * round;
            let swap = async |text: &str, generation: usize, keys: &[&[u8]]| {
                match way {
                    Way::Moved => folder.put("keys", text),
                    Way::Written => folder.write("keys", text),
                    Way::Linked => folder.link("keys", generation, text),
                }
                if is_told {
                    hang_up(&ingest);
                }
                until_loaded(&world, keys).await;
            };
            swap(&format!("{old}\n{new}\n"), generation, &[OLD, NEW]).await;
            traffic.sign_with(&[OLD, NEW]).await;
            traffic.sign_with(&[NEW]).await;
            swap(&new, generation + 1, &[NEW]).await;
            // And back again.
            swap(&format!("{new},{old}"), generation + 2, &[OLD, NEW]).await;
            traffic.sign_with(&[OLD, NEW]).await;
            traffic.sign_with(&[OLD]).await;
            swap(&old, generation + 3, &[OLD]).await;
        }
    }

    let (sent, refused) = traffic.stop().await;
    assert_eq!(refused, 0, "of {sent}");
    assert!(sent >= 500, "{sent}");
    assert_eq!(world.value("select count(*) from restante.outbox").await, sent.to_string());
    assert_eq!(world.value("select count(*) from restante.refusal").await, "0");
    assert_eq!(
        Sender::to(ingest.address()).status(&delivery(NEW, "after")).await,
        401,
        "the new key is gone"
    );

    let log = ingest.log();
    let [old_shown, new_shown] =
        [OLD, NEW].map(|key| format!("signing key {} of anthropic", Fingerprint::of(key)));
    assert!(log.contains(&format!("\"came\":\"{new_shown}\"")), "{log}");
    assert!(log.contains(&format!("\"went\":\"{old_shown}\"")), "{log}");
    assert_eq!(ingest.stopped().await, Some(0), "{}", ingest.log());
    assert_eq!(world.value("select count(*) from restante.key_loaded").await, "0", "it says that it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_keeps_the_old_keys_is_told_once_and_shows_in_readyz_and_a_metric() {
    let world = World::new().await;
    let folder = Folder::new();
    let old = signing_key_of(OLD);
    folder.put("keys", &old);
    let ingest = ingest_of(&world, &folder, &[]).await;
    let sender = Sender::to(ingest.address());
    let told = |ingest: &Process| ingest.log().matches("so the former one stays in force").count();

    let half = &signing_key_of(NEW)[..20];
    let bad = ["", "  \n", "whsec_...", half, "not base64 at all", "whsec_canary-canary-canary"];
    for (nth, text) in bad.into_iter().enumerate() {
        folder.write("keys", text);
        hang_up(&ingest);
        eventually("a word about it", async || (told(&ingest) == nth + 1).then_some(())).await;
        assert_eq!(sender.status(&delivery(OLD, &format!("evt_{nth}"))).await, 204, "{text:?}");
        let (status, page) = ingest.ops("/readyz").await;
        assert_eq!(status, 200, "{page}");
        assert!(page.contains("the former ones are in force: ANTHROPIC_WEBHOOK_SIGNING_KEY"), "{page}");
        assert!(!page.contains("canary"), "{page}");
        assert_eq!(ingest.metric("restante_configuration_refused").await, 1.0);
    }
    std::fs::remove_file(folder.path("keys")).unwrap();
    hang_up(&ingest);
    eventually("a word about it", async || (told(&ingest) == bad.len() + 1).then_some(())).await;
    assert_eq!(sender.status(&delivery(OLD, "evt_without")).await, 204);

    folder.put("keys", &format!("{old},{}", signing_key_of(NEW)));
    until_loaded(&world, &[OLD, NEW]).await;
    assert_eq!(sender.status(&delivery(NEW, "evt_new")).await, 204);
    assert_eq!(ingest.metric("restante_configuration_refused").await, 0.0);
    assert!(!ingest.ops("/readyz").await.1.contains("configuration"));
    let log = ingest.log();
    assert!(log.contains("\"level\":\"WARN\"") && !log.contains("canary"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_say_which_key_was_used_and_which_was_needed() {
    let world = World::new().await;
    let folder = Folder::new();
    folder.put("keys", &format!("{},{}", signing_key_of(OLD), signing_key_of(NEW)));
    let ingest = ingest_of(&world, &folder, &[]).await;
    let sender = Sender::to(ingest.address());
    assert_eq!(sender.status(&delivery(NEW, "evt_1")).await, 204);
    // Signed with both, as a sender does in the middle of a rotation.
    let mut both = delivery(OLD, "evt_2");
    let new = delivery(NEW, "evt_2");
    let of_new = new.headers.iter().find(|(name, _)| *name == "webhook-signature").unwrap().1.clone();
    for (_, value) in both.headers.iter_mut().filter(|(name, _)| *name == "webhook-signature") {
        *value = format!("{value} {of_new}");
    }
    assert_eq!(sender.status(&both).await, 204);

    let [old, new] = [OLD, NEW].map(|key| Fingerprint::of(key).to_string());
    let uses = async |fingerprint: &str| {
        world
            .value(&format!(
                "select concat_ws(' ', uses, last_used_at is not null, last_needed_at is not null, loaded_by, services, stands)
                   from restante.key_use where fingerprint = '{fingerprint}' and party = 'anthropic' and kind = 'signing'"
            ))
            .await
    };
    eventually("the uses", async || (uses(&new).await.starts_with("2 t t 1 1")).then_some(())).await;
    assert_eq!(
        uses(&old).await,
        "1 t f 1 1 every running service has it; each use of it would have done with another key"
    );
    let (_, metrics) = ingest.ops("/metrics").await;
    for fingerprint in [&old, &new] {
        let label = format!(
            "restante_key_loaded{{kind=\"signing\",party=\"anthropic\",fingerprint=\"{fingerprint}\"}} 1"
        );
        assert!(metrics.contains(&label), "{label}: {metrics}");
    }
    no_secret_in(&world, &[&metrics, &ingest.log(), &ingest.ops("/readyz").await.1]).await;
}

/// None of the keys of these tests is in these texts, or in any table of the database that is about keys.
async fn no_secret_in(world: &World, texts: &[&str]) {
    let rows = world
        .value(
            "select coalesce(string_agg(r::text, ' '), '') from (
               select to_jsonb(k) as r from restante.key_known as k union all select to_jsonb(l) from restante.key_loaded as l
               union all select to_jsonb(u) from restante.key_use as u) as r",
        )
        .await;
    assert!(rows.contains("fingerprint"), "{rows}");
    for text in texts.iter().copied().chain([rows.as_str()]) {
        for key in [OLD, NEW] {
            let (encoded, plain, hex) = (signing_key_of(key), String::from_utf8_lossy(key), hex::encode(key));
            for part in [&encoded[6..18], &plain[..12], &hex[..12]] {
                assert!(!text.contains(part), "{part} is told in {text}");
            }
        }
        assert!(!text.contains(&API_KEY[7..19]), "the API key is told in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_at_any_time_ends_no_program() {
    let world = World::new().await;
    let folder = Folder::new();
    folder.put("keys", &signing_key_of(OLD));
    folder.put("api-key", API_KEY);
    let (keys, api_key) = (folder.text("keys"), folder.text("api-key"));
    let variables = [
        ("DATABASE_URL", world.url.expose_secret()),
        ("ANTHROPIC_WEBHOOK_SIGNING_KEY_FILE", keys.as_str()),
        ("ANTHROPIC_API_KEY_FILE", api_key.as_str()),
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:9"),
        ("RESTANTE_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_LINGER_SECONDS", "0"),
    ];
    for (program, started) in [(INGEST, "receiving deliveries"), (WORKER, "the worker starts")] {
        let mut process = Process::start(program, &variables);
        until_it_catches_hang_up(&process).await;
        // While it starts, and again and again until it works.
        eventually("the start", async || {
            hang_up(&process);
            process.log().contains(started).then_some(())
        })
        .await;
        for _ in 0..20 {
            hang_up(&process);
        }
        assert_eq!(process.ops("/livez").await.0, 200);
        process.signal(Signal::Terminate);
        // While it stops; at the end there is nobody to signal any more.
        let pid = process.pid().to_string();
        for _ in 0..20 {
            let _may_be_gone = Command::new("kill").args(["-HUP", &pid]).stderr(Stdio::null()).status();
        }
        assert_eq!(process.ended().await.code(), Some(0), "{}", process.log());
    }
}

/// Waits until a process catches SIGHUP.
async fn until_it_catches_hang_up(process: &Process) {
    let status = format!("/proc/{}/status", process.pid());
    eventually("a handler of SIGHUP", async || {
        let status = std::fs::read_to_string(&status).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        (caught & 1 == 1).then_some(())
    })
    .await;
}
