//! The page while the database is away.

use super::{dead_letter, get, worker};
use crate::support::{World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_the_page_shows_what_it_had_and_says_since_when() {
    let (mut postgres, world) = World::on_its_own_postgres().await;
    dead_letter(&world, "evt_dead", "sesn_1").await;
    let worker = worker(&world, &[]).await;
    assert!(get(&worker, "/dead").await.text.contains("evt_dead"));

    postgres.kill_hard().unwrap();

    let text = eventually("a page that says that the database is away", async || {
        let answer = get(&worker, "/dead").await;
        assert_eq!(answer.status, 200);
        answer.text.contains("The database does not answer. This is from").then_some(answer.text)
    })
    .await;
    assert!(text.contains("evt_dead") && text.contains("as of"), "{text}");
    assert_eq!(get(&worker, "/livez").await.status, 200);
    assert_eq!(get(&worker, "/readyz").await.status, 503);
    assert!(get(&worker, "/metrics").await.text.contains("restante_"));
    // What was never asked for has nothing to show.
    assert!(get(&worker, "/messages").await.text.contains("The database does not answer."));

    postgres.restart().unwrap();
    eventually("a page that has its database again", async || {
        (!get(&worker, "/dead").await.text.contains("does not answer")).then_some(())
    })
    .await;
}
