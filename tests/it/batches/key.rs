//! The worker sends the API key only to the configured origin, whatever an answer says.

use super::*;
use crate::support::api::{Answer, KEY, results_path};

/// Asserts that each request carried the key as it should, and no other credential.
fn assert_key_is_sent_properly(api: &ScriptedApi) {
    for head in api.heads() {
        assert!(head.contains(&format!("\r\nx-api-key: {KEY}\r\n")), "{head}");
        assert!(!head.contains("\r\nauthorization:") && !head.contains("\r\ncookie:"), "{head}");
        assert!(!head.contains("\r\nreferer:"), "{head}");
    }
}

#[tokio::test]
async fn results_that_are_said_to_be_elsewhere_are_fetched_from_our_own_origin() {
    let (world, api) = start().await;
    let thief = ScriptedApi::new().await;
    let (ours, theirs) = (&api.origin["http://".len()..], &thief.origin["http://".len()..]);
    let foreign = [
        format!("http://{theirs}/v1/messages/batches/b/results"),
        format!("https://{theirs}/"),
        format!("http://{ours}@{theirs}/"),
        format!("http://user:password@{ours}/elsewhere"),
        format!("http://{KEY}@{ours}/elsewhere"),
        format!("https://{ours}/elsewhere"),
        format!("//{theirs}/"),
        format!(r"http:\\{theirs}\"),
        format!("{theirs}/"),
        "/elsewhere".to_owned(),
        "javascript:alert(1)".to_owned(),
        "file:///etc/passwd".to_owned(),
        "data:,{}".to_owned(),
        "not a URL".to_owned(),
        String::new(),
    ];
    for (nth, results_url) in foreign.iter().enumerate() {
        let id = format!("b{nth}");
        api.batch(&with(api.ended(&id, ONE_OF_EACH), json!({ "results_url": results_url })));
        api.results(&id, Answer::stream(one_of_each()));
        hear_of(&world, &id).await;
    }

    work(&world, &api).await;

    assert!(thief.heads().is_empty(), "{:?}", thief.heads());
    assert_key_is_sent_properly(&api);
    assert_eq!(complete(&world).await, foreign.len().to_string());
    assert_eq!(api.times_asked("/elsewhere"), 0);
    let leaks = "select count(*) from restante.outbox as o where o::text like '%' || '{KEY}' || '%'";
    assert_eq!(world.value(&leaks.replace("{KEY}", KEY)).await, "0");
}

#[tokio::test]
async fn results_within_our_own_origin_are_fetched_from_where_the_api_says() {
    let (world, api) = start().await;
    let results_url = format!("{}/elsewhere?part=1", api.origin);
    api.batch(&with(api.ended("b", ONE_OF_EACH), json!({ "results_url": results_url })));
    api.answer("/elsewhere?part=1", Answer::stream(one_of_each()));
    hear_of(&world, "b").await;

    work(&world, &api).await;

    assert_eq!(complete(&world).await, "1");
    assert_eq!(api.times_asked(&results_path("b")), 0);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_once_it_is_gone_the_batch_completes() {
    let (world, api) = start().await;
    let thief = ScriptedApi::new().await;
    let statuses = [301, 302, 303, 307, 308];
    for status in statuses {
        for what in ["object", "results"] {
            let id = format!("{what}{status}");
            api.batch(&api.ended(&id, ONE_OF_EACH));
            hear_of(&world, &id).await;
        }
        api.answer(
            &format!("/v1/messages/batches/object{status}"),
            Answer::redirect(status, &format!("{}/v1/messages/batches/object{status}", thief.origin)),
        );
        api.results(&format!("results{status}"), Answer::redirect(status, &thief.origin));
    }

    work(&world, &api).await;

    assert_eq!(complete(&world).await, "0");
    for status in statuses {
        for what in ["object", "results"] {
            let reason = fate(&world, &format!("wevt_{what}{status}")).await;
            let expected = format!("retry: the answer was a redirect ({status}), which is not followed");
            assert!(reason.starts_with(&expected), "{reason}");
        }
    }
    assert_eq!(
        world.value("select count(*) from restante.failure").await,
        "0",
        "it is not the events' fault"
    );

    for status in statuses {
        for what in ["object", "results"] {
            let id = format!("{what}{status}");
            api.batch(&api.ended(&id, ONE_OF_EACH));
            api.results(&id, Answer::stream(one_of_each()));
        }
    }
    work_later(&world, &api).await;

    assert_eq!(complete(&world).await, "10");
    assert!(thief.heads().is_empty(), "{:?}", thief.heads());
    assert_key_is_sent_properly(&api);
}

#[tokio::test]
async fn a_key_that_an_answer_echoes_is_not_kept() {
    let (world, api) = start().await;
    let body = json!({"type": "error", "error": {"type": "api_error", "message": format!("bad key {KEY}")}});
    api.answer("/v1/messages/batches/b", Answer::new(500, "", body.to_string()));
    hear_of(&world, "b").await;

    work(&world, &api).await;

    assert_eq!(
        fate(&world, "wevt_b").await,
        "retry: the API cannot answer now: 500 api_error: bad key [key]"
    );
    let kept = format!("select count(*) from restante.failure where error like '%{KEY}%'");
    assert_eq!(world.value(&kept).await, "0");
}
