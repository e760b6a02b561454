//! Letters: what Claude says of one is on the desk, once.

use super::handler::Letters;
use restante::{Registry, api, handlers, worker};

use crate::support::{SimulatedApi, World};

#[tokio::test(flavor = "multi_thread")]
async fn what_claude_says_of_a_letter_is_on_the_desk_once() {
    let world = World::new().await;
    world.sql("create table desk (letter text primary key, answer text not null)").await;
    let simulated = SimulatedApi::start().await;
    let settings = api::Settings::new(simulated.url.parse().unwrap(), "sk-test-key".into());
    let api = api::Client::new(settings).unwrap();
    let request = r#"{"model": "claude-opus-5-5", "max_tokens": 100,
                      "messages": [{"role": "user", "content": "Is this letter urgent?"}]}"#;
    world
        .value(&format!("select restante.send_message('{request}', key => 'letter-7', tag => 'letters')"))
        .await;

    // The handler that sends messages, and ours.
    let registry = Registry::new().register(handlers::message_send::MessageSend::new()).register(Letters);
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry, api).await.unwrap();

    let answers = "select string_agg(d.letter || ': ' || (d.answer = m.text), ', ')
                     from desk as d join restante.message as m on m.key = d.letter";
    assert_eq!(world.value(answers).await, "letter-7: true");
    let ended = "select string_agg(status, ' ') from restante.outbox where type = 'message.completed'";
    assert_eq!(world.value(ended).await, "done");
}
