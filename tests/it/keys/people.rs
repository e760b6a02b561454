//! Who may look at the ops page and read messages along: whoever is not in the file any more is refused, without a new start.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Folder, hang_up};
use crate::support::sender::client;
use crate::support::{Process, World, eventually};

const TOKEN: &str = "the-former-token-of-readers-canary";
const NEW_TOKEN: &str = "the-newer-token-of-readers-canary";

fn line(name: &str, password: &str) -> String {
    format!("{name}:{}", bcrypt::hash(password, 8).unwrap())
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

async fn status(worker: &Process, path: &str, header: &str) -> u16 {
    let address = worker.logged_address("answering /livez");
    let request = client().get(format!("http://{address}{path}")).header("authorization", header);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_and_a_token_that_are_taken_out_of_their_files_are_refused_and_new_ones_let_in() {
    let world = World::new().await;
    let folder = Folder::new();
    let (ada, bob, eve) = (line("ada", "canary one"), line("bob", "canary two"), line("eve", "canary three"));
    folder.put("users", &format!("{ada}\n{bob}\n"));
    folder.put("token", TOKEN);
    let (users, token) = (folder.text("users"), folder.text("token"));
    let mut worker = Process::worker(
        &world.url,
        "http://127.0.0.1:9",
        &[("RESTANTE_OPS_USERS_FILE", &users), ("RESTANTE_STREAM_TOKEN_FILE", &token)],
    )
    .await;
    let page = async |name: &str, password: &str| status(&worker, "/", &basic(name, password)).await;
    // There is no such message; whoever has no token does not learn that.
    let stream = async |token: &str| status(&worker, "/messages/0/stream", &format!("Bearer {token}")).await;
    let told = |worker: &Process, what: &str| worker.log().matches(what).count();
    assert_eq!((page("ada", "canary one").await, page("bob", "canary two").await), (200, 200));
    assert_eq!(page("eve", "canary three").await, 401);
    assert_eq!((stream(TOKEN).await, stream(NEW_TOKEN).await), (404, 401));

    // Bob has gone, Ada has another password, and Eve has come.
    folder.put("users", &format!("{}\n{eve}\n", line("ada", "canary four")));
    hang_up(&worker);
    eventually("Eve", async || (page("eve", "canary three").await == 200).then_some(())).await;
    assert_eq!((page("ada", "canary one").await, page("bob", "canary two").await), (401, 401));
    assert_eq!(page("ada", "canary four").await, 200);
    assert_eq!(stream(TOKEN).await, 404, "the token is as it was");

    folder.put("token", NEW_TOKEN);
    eventually("the new token", async || (stream(NEW_TOKEN).await == 404).then_some(())).await;
    assert_eq!(stream(TOKEN).await, 401);

    // What cannot be used changes nothing.
    let bad = [("users", "ada:canary"), ("users", ""), ("users", "ada"), ("token", "canary"), ("token", "")];
    for (nth, (name, text)) in bad.into_iter().enumerate() {
        folder.put(name, text);
        hang_up(&worker);
        let refused = "so the former one stays in force";
        eventually("a word about it", async || (told(&worker, refused) == nth + 1).then_some(())).await;
        assert_eq!(
            (page("eve", "canary three").await, page("bob", "canary two").await),
            (200, 401),
            "{text}"
        );
        assert_eq!((stream(NEW_TOKEN).await, stream(TOKEN).await), (404, 401), "{text}");
    }
    let (_, ready) = worker.ops("/readyz").await;
    assert!(ready.contains("the former ones are in force: RESTANTE_STREAM_TOKEN"), "{ready}");

    let log = worker.log();
    for name in ["RESTANTE_OPS_USERS", "RESTANTE_STREAM_TOKEN"] {
        assert!(log.contains(&format!("\"names\":\"{name}\"")), "{name}: {log}");
    }
    assert!(!log.contains("canary") && !log.contains("$2"), "{log}");
    assert_eq!(worker.stopped().await, Some(0), "{}", worker.log());
}
