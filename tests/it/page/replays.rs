//! Replays on the page: off unless wanted, from the page alone, by a role that can do nothing else, under the name of a person.

use super::{dead_letter, get, login_url, post, users, worker};
use crate::support::World;

const ON: (&str, &str) = ("RESTANTE_OPS_REPLAY", "true");
const HERE: &[(&str, &str)] = &[("sec-fetch-site", "same-origin")];

const NOTED: &str = "select string_agg(concat_ws(' ', who, what, of_what, how_many, reason), ', ' order by id) from restante.operation";

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_replayed_from_its_page_and_noted_under_the_name_of_the_person() {
    let world = World::new().await;
    let id = dead_letter(&world, "evt_dead", "sesn_1").await;
    let worker = worker(&world, &[ON]).await;
    let path = format!("/events/{id}");
    let form = get(&worker, &path).await.token();

    let fields = [("token", &*form), ("person", "Ada Lovelace"), ("reason", "it's mended")];
    let done = post(&worker, &format!("{path}/replay"), &fields, HERE).await;

    assert_eq!(
        (done.status, done.header("location")),
        (303, &*format!("{path}?replay=replayed")),
        "{}",
        done.text
    );
    assert_eq!(world.value(NOTED).await, "Ada Lovelace replay evt_dead 1 it's mended");
    let after = get(&worker, &format!("{path}?replay=replayed")).await.text;
    assert!(after.contains("It is replayed") && after.contains("Ada Lovelace"), "{after}");
    assert!(!after.contains("Replay this dead letter"), "{after}");
    let again = post(&worker, &format!("{path}/replay"), &fields, HERE).await;
    assert_eq!(again.header("location"), format!("{path}?replay=not+dead"));
    assert_eq!(world.value("select count(*) from restante.operation").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_forged_or_comes_from_another_site_changes_nothing() {
    let world = World::new().await;
    let id = dead_letter(&world, "evt_dead", "sesn_1").await;
    let worker = worker(&world, &[ON]).await;
    let path = format!("/events/{id}/replay");
    let token = get(&worker, &format!("/events/{id}")).await.token();
    let forged = "0".repeat(token.len());
    let cross_site: &[(&str, &str)] = &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")];

    for (token, headers, why) in [
        (&*token, cross_site, "another site"),
        (&*token, &[("origin", "https://evil.example")][..], "another site"),
        (&*token, &[("sec-fetch-site", "none")][..], "another site"),
        (&*forged, HERE, "not for you"),
        ("", HERE, "not for you"),
    ] {
        for path in [&*path, "/dead/replay"] {
            let fields = [("token", token), ("person", "Eve"), ("type", "test.ledger"), ("kind", "handler")];
            let refused = post(&worker, path, &fields, headers).await;
            assert_eq!(refused.status, 403, "{path} {headers:?}");
            assert!(refused.text.contains(why), "{}", refused.text);
        }
    }
    assert_eq!(world.value("select status from restante.outbox where event_id = 'evt_dead'").await, "dead");
    assert_eq!(world.value("select count(*) from restante.operation").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_are_off_unless_somebody_wants_them() {
    let world = World::new().await;
    let id = dead_letter(&world, "evt_dead", "sesn_1").await;
    let worker = worker(&world, &[]).await;

    for path in ["/dead", &format!("/events/{id}")] {
        let text = get(&worker, path).await.text;
        assert!(
            !text.contains("name=\"token\"") && !text.contains("Replay…") && !text.contains("Replay all"),
            "{path}: {text}"
        );
    }
    assert_eq!(get(&worker, "/dead/replay?type=a&kind=b").await.status, 403);
    for path in [&*format!("/events/{id}/replay"), "/dead/replay"] {
        let refused = post(&worker, path, &[("person", "Ada")], HERE).await;
        assert_eq!((refused.status, refused.text.contains("RESTANTE_OPS_REPLAY")), (403, true), "{path}");
    }
    assert_eq!(world.value("select status from restante.outbox where event_id = 'evt_dead'").await, "dead");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_dead_letters_of_a_type_and_kind_are_replayed_at_a_rate_under_the_name_of_the_password() {
    use base64::Engine as _;
    let world = World::new().await;
    dead_letter(&world, "evt_1", "sesn_1").await;
    dead_letter(&world, "evt_2", "sesn_2").await;
    let (login, url) = login_url(&world, &["restante_page", "restante_page_replay"]).await;
    let users = users();
    let running =
        worker(&world, &[ON, ("RESTANTE_OPS_USERS", &users), ("RESTANTE_OPS_DATABASE_URL", &url)]).await;
    let ada = format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(format!("ada:{}", super::PASSWORD))
    );
    let kind = world.value("select kind from restante.outbox_dead limit 1").await;

    let path = format!("/dead/replay?type=test.ledger&kind={kind}");
    let asked =
        super::Answer::of(super::client().get(super::at(&running, &path)).header("authorization", &ada))
            .await;
    assert!(asked.text.contains("2 dead letters of type"), "{}", asked.text);
    assert!(!asked.text.contains("name=\"person\""), "the name is that of the password");

    let token = asked.token();
    let fields = [
        ("token", &*token),
        ("type", "test.ledger"),
        ("kind", &*kind),
        ("per_second", "50"),
        ("person", "Eve"),
        ("reason", "mended"),
    ];
    let headers = [("sec-fetch-site", "same-origin"), ("authorization", &*ada)];
    let done = post(&running, "/dead/replay", &fields, &headers).await;

    assert_eq!((done.status, done.header("location")), (303, "/dead#replays"), "{}", done.text);
    assert_eq!(
        world
            .value(
                "select string_agg(concat_ws(' ', who, what, how_many, reason), ', ') from restante.operation"
            )
            .await,
        "ada replay 2 mended"
    );
    assert_eq!(world.value("select asked_by || ' ' || per_second from restante.replay").await, "ada 50");
    drop(running);
    login.drop(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_a_sender_ended_with_a_star_is_that_type_alone() {
    let world = World::new().await;
    for (event_id, event_type) in [("evt_1", "session.aa0"), ("evt_2", "session.aa1"), ("evt_3", "session.*")]
    {
        let id = dead_letter(&world, event_id, event_id).await;
        world.sql(&format!("update restante.outbox_live set type = '{event_type}' where id = {id}")).await;
    }
    let kind = world.value("select kind from restante.outbox_dead limit 1").await;
    let worker = worker(&world, &[ON]).await;

    let asked = get(&worker, &format!("/dead/replay?type=session.*&kind={kind}")).await;
    assert!(asked.text.contains("1 dead letter of type <strong>session.*"), "{}", asked.text);
    let token = asked.token();
    let fields = [("token", &*token), ("person", "Ada"), ("type", "session.*"), ("kind", &*kind)];
    let done = post(&worker, "/dead/replay", &fields, HERE).await;

    assert_eq!(done.status, 303, "{}", done.text);
    assert_eq!(world.value("select events from restante.replay").await, "1");
    assert_eq!(world.value("select who || ' ' || how_many from restante.operation").await, "Ada 1");
    let left = "select string_agg(event_id, ' ' order by event_id) from restante.outbox_dead where type <> 'session.*'";
    assert_eq!(world.value(left).await, "evt_1 evt_2");

    // The page was drawn while there was one.
    world.sql("delete from restante.outbox where type = 'session.*'").await;
    assert_eq!(post(&worker, "/dead/replay", &fields, HERE).await.status, 303);
    let last = "select status || ' ' || events from restante.replay order by id desc limit 1";
    assert_eq!(world.value(last).await, "done 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_the_role_to_replay_replays_nothing_and_nobody_replays_without_a_name() {
    let world = World::new().await;
    let id = dead_letter(&world, "evt_dead", "sesn_1").await;
    let (login, url) = login_url(&world, &["restante_page"]).await;
    let running = worker(&world, &[ON, ("RESTANTE_OPS_DATABASE_URL", &url)]).await;
    let token = get(&running, &format!("/events/{id}")).await.token();
    let path = format!("/events/{id}/replay");

    let refused = post(&running, &path, &[("token", &token), ("person", "Ada")], HERE).await;
    assert_eq!(refused.status, 503);
    assert!(refused.text.contains("restante_page_replay"), "{}", refused.text);
    drop(running);
    login.drop(&world).await;

    let running = worker(&world, &[ON]).await;
    let token = get(&running, &format!("/events/{id}")).await.token();
    let nameless = post(&running, &path, &[("token", &token), ("person", "  ")], HERE).await;
    assert!(nameless.text.contains("Not done: the name of the person is missing"), "{}", nameless.text);
    assert!(!nameless.text.contains("login"), "{}", nameless.text);
    assert_eq!(world.value("select status from restante.outbox where event_id = 'evt_dead'").await, "dead");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_somebody_has_locked_is_not_waited_for() {
    let world = World::new().await;
    let id = dead_letter(&world, "evt_dead", "sesn_1").await;
    let worker = worker(&world, &[ON]).await;
    let token = get(&worker, &format!("/events/{id}")).await.token();
    let mut theirs = world.pool.begin().await.unwrap();
    sqlx::query("select from restante.outbox_live for update").execute(&mut *theirs).await.unwrap();

    let path = format!("/events/{id}");
    let done = post(&worker, &format!("{path}/replay"), &[("token", &token), ("person", "Ada")], HERE).await;

    assert_eq!(done.header("location"), format!("{path}?replay=locked"), "{}", done.text);
    theirs.rollback().await.unwrap();
    assert_eq!(world.value("select status from restante.outbox where event_id = 'evt_dead'").await, "dead");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_form_is_said_of_the_form_and_not_of_the_login() {
    let world = World::new().await;
    dead_letter(&world, "evt_dead", "sesn_1").await;
    let worker = worker(&world, &[ON]).await;
    let kind = world.value("select kind from restante.outbox_dead").await;
    let token = get(&worker, &format!("/dead/replay?type=test.ledger&kind={kind}")).await.token();
    let send = async |kind: &str, rate: &str, person: &str| {
        let fields = [
            ("token", &*token),
            ("type", "test.ledger"),
            ("kind", kind),
            ("per_second", rate),
            ("person", person),
        ];
        post(&worker, "/dead/replay", &fields, HERE).await
    };

    for rate in [
        "-1",
        "NaN",
        "0",
        "inf",
        "-inf",
        "1e400",
        "100001",
        "0.0009",
        "0.00099999999999999999999",
        "fast",
        "1,5",
    ] {
        let refused = send(&kind, rate, "Ada").await;
        assert_eq!(refused.status, 422, "{rate}");
        assert!(refused.text.contains("0.001 to 100000"), "{rate}: {}", refused.text);
        assert!(
            !refused.text.contains("login") && !refused.text.contains("grant"),
            "{rate}: {}",
            refused.text
        );
    }
    for (kind, person, said) in [
        ("", "Ada", "the type and the kind of the dead letters are missing"),
        (&*kind, "", "the name of the person"),
    ] {
        let refused = send(kind, "1", person).await;
        assert_eq!(refused.status, 422, "{said}");
        assert!(refused.text.contains(said) && !refused.text.contains("login"), "{}", refused.text);
    }
    assert_eq!(world.value("select count(*) from restante.replay").await, "0");
    assert_eq!(send(&kind, "1e2", "Ada").await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_javascript_a_page_with_a_form_is_not_loaded_again_while_somebody_types() {
    let world = World::new().await;
    let id = dead_letter(&world, "evt_dead", "sesn_1").await;
    world.receive("evt_done", "sesn_2", 1, serde_json::json!({})).await;
    world.work().await;
    let done = world.value("select id from restante.outbox where event_id = 'evt_done'").await;
    let worker = worker(&world, &[ON]).await;

    for (path, has_form) in [
        (&*format!("/events/{id}"), true),
        ("/dead/replay?type=a&kind=b", true),
        ("/events", true),
        (&*format!("/events/{done}"), false),
        ("/dead", false),
    ] {
        let text = get(&worker, path).await.text;
        assert_eq!(text.contains("<form"), has_form, "{path}");
        assert_eq!(text.contains("http-equiv=\"refresh\""), !has_form, "{path}: {text}");
    }
}
