//! The governor with a paused clock.

use reqwest::header::{HeaderName, HeaderValue};

use super::*;

/// Makes `calls` at once, and returns after how long each began, in order. Those that were out of turn are missing.
async fn begin(governor: &Governor, calls: usize) -> Vec<Duration> {
    let start = Instant::now();
    let one = async || {
        let admitted = governor.admit(Class::Objects).await;
        admitted.map(|admitted| {
            admitted.ended();
            start.elapsed()
        })
    };
    let began = futures_util::future::join_all((0..calls).map(|_| one())).await;
    let mut began: Vec<Duration> = began.into_iter().flatten().collect();
    began.sort_unstable();
    began
}

async fn answer(governor: &Governor, limit_per_minute: Option<&'static str>) {
    let limit = limit_per_minute.map(|limit| {
        let name = HeaderName::from_static("anthropic-ratelimit-requests-limit");
        (name, HeaderValue::from_static(limit))
    });
    governor.learn(Class::Objects, &limit.into_iter().collect(), true).await;
}

/// A governor that has learned of a limit of ten a second.
async fn of_ten_a_second() -> Governor {
    let governor = Governor::new("anthropic");
    answer(&governor, Some("600")).await;
    governor
}

#[tokio::test(start_paused = true)]
async fn an_api_that_names_no_limit_has_none() {
    let governor = Governor::new("anthropic");
    answer(&governor, None).await;

    assert_eq!(begin(&governor, 1000).await, vec![Duration::ZERO; 1000]);
}

#[tokio::test(start_paused = true)]
async fn until_the_first_answer_few_calls_go_at_once() {
    let governor = Governor::new("anthropic");
    let mut first = Vec::new();
    for _ in 0..FIRST_AT_ONCE {
        first.push(governor.admit(Class::Objects).await.unwrap());
    }
    let next = governor.admit(Class::Objects);
    tokio::pin!(next);
    assert!(timeout(Duration::from_millis(500), &mut next).await.is_err());

    answer(&governor, None).await;

    assert!(next.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn calls_follow_each_other_at_the_pace_of_the_limit_and_what_finds_no_place_comes_back_at_it() {
    let governor = of_ten_a_second().await;

    let began = begin(&governor, 30).await;

    assert_eq!(began.len(), 10, "{began:?}");
    assert!(began.iter().zip(&began[1..]).all(|(one, next)| *next - *one > Duration::from_millis(95)));
    let calls = (0..30).map(|_| governor.admit(Class::Objects));
    let calls = futures_util::future::join_all(calls).await;
    let waits: Vec<Duration> = calls
        .into_iter()
        .filter_map(|call| match call {
            Err(Error::OutOfTurn { wait }) => Some(wait),
            _ => None,
        })
        .collect();
    assert!(waits.len() >= 20, "{waits:?}");
    assert!(
        waits.iter().zip(&waits[1..]).all(|(one, next)| *next > *one + Duration::from_millis(95)),
        "{waits:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_second_has_much_more_than_the_limit_however_the_calls_come() {
    let governor = of_ten_a_second().await;
    let start = Instant::now();
    let mut began: Vec<Duration> = Vec::new();
    for pause in [0, 100, 1900, 10, 700, 0, 3000, 250, 0] {
        sleep(Duration::from_millis(pause)).await;
        let before = start.elapsed();
        began.extend(begin(&governor, 25).await.into_iter().map(|after| before + after));
    }
    for first in &began {
        let second = began.iter().filter(|at| *at >= first && **at < *first + Duration::from_secs(1)).count();
        assert!(second <= 13, "{second} calls in the second after {first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_halves_the_pace_and_holds_the_class_for_the_time_that_it_asks_for() {
    let governor = of_ten_a_second().await;
    governor.limited(Class::Objects, Some(Duration::from_secs(7))).await;
    // Others that were under way are answered alike.
    governor.limited(Class::Objects, None).await;

    let Err(Error::OutOfTurn { wait }) = governor.admit(Class::Objects).await else {
        panic!("it was admitted")
    };
    assert_eq!(wait, Duration::from_secs(7));
    assert_eq!(begin(&governor, 1).await.len(), 0);
    governor.admit(Class::Batches).await.unwrap();

    tokio::time::advance(Duration::from_secs(7)).await;
    let began = begin(&governor, 20).await;
    // Half of ten, and a twentieth of ten more for each second.
    assert!((8..=9).contains(&began.len()), "{began:?}");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(begin(&governor, 20).await.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_429_of_an_api_that_names_no_limit_holds_nobody_else() {
    let governor = Governor::new("anthropic");
    answer(&governor, None).await;
    governor.limited(Class::Objects, Some(Duration::from_secs(7))).await;

    assert_eq!(begin(&governor, 100).await.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn several_429s_within_a_second_tell_of_a_limit_that_has_no_name() {
    let governor = Governor::new("anthropic");
    answer(&governor, None).await;
    assert_eq!(begin(&governor, 40).await.len(), 40);
    for _ in 0..4 {
        governor.limited(Class::Objects, Some(Duration::from_secs(2))).await;
    }

    tokio::time::advance(Duration::from_secs(2)).await;
    let began = begin(&governor, 100).await;
    // Half of the forty, and a twentieth of them more for each second.
    assert!((20..=24).contains(&began.len()), "{began:?}");
    // What is answered without a limit says nothing against it.
    answer(&governor, None).await;
    assert!(begin(&governor, 100).await.len() < 30);
}

/// A budget that always answers this.
#[derive(Debug)]
struct Answers(fn() -> Leased);

impl Budget for Answers {
    fn lease<'a>(
        &'a self,
        _: &'a str,
        _: Class,
        _: u32,
        _: Duration,
    ) -> futures_util::future::BoxFuture<'a, Option<Leased>> {
        Box::pin(async { Some((self.0)()) })
    }

    fn note<'a>(&'a self, _: Learned<'a>) -> futures_util::future::BoxFuture<'a, bool> {
        Box::pin(async { !matches!((self.0)(), Leased::Busy) })
    }
}

/// How long the calls wait that are out of turn, the longest.
async fn longest_wait(governor: &Governor, calls: usize) -> Duration {
    let calls = futures_util::future::join_all((0..calls).map(|_| governor.admit(Class::Objects))).await;
    let wait = |call: Result<Admitted<'_>, Error>| match call {
        Err(Error::OutOfTurn { wait }) => Some(wait),
        _ => None,
    };
    calls.into_iter().filter_map(wait).max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_the_pace_is_low_is_sent_away_at_the_pace_of_the_limit() {
    let recovered = of_ten_a_second().await;
    // A quarter of ten, as after trouble.
    recovered.share(Arc::new(Answers(|| Leased::Places {
        granted: 1,
        starts_in: Duration::ZERO,
        per_second: 2.5,
    })));
    assert!(longest_wait(&recovered, 100).await < Duration::from_secs(12));

    let limited = of_ten_a_second().await;
    limited.limited(Class::Objects, None).await;
    assert!(longest_wait(&limited, 100).await < Duration::from_secs(12));
}

#[tokio::test(start_paused = true)]
async fn after_trouble_calls_begin_slowly_with_and_without_a_limit() {
    let governor = of_ten_a_second().await;
    governor.recovered();
    assert_eq!(begin(&governor, 20).await.len(), 3);
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(begin(&governor, 20).await.len(), 10);

    let unlimited = Governor::new("anthropic");
    answer(&unlimited, None).await;
    unlimited.recovered();
    assert!(begin(&unlimited, 1000).await.len() <= 26);
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(begin(&unlimited, 1000).await.len(), 1000);
}

#[tokio::test(start_paused = true)]
async fn calls_become_fewer_when_tokens_become_scarce() {
    let governor = of_ten_a_second().await;
    let headers = [
        ("anthropic-ratelimit-requests-limit", "600"),
        ("anthropic-ratelimit-tokens-limit", "100000"),
        ("anthropic-ratelimit-tokens-remaining", "3000"),
    ];
    let headers =
        headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    governor.learn(Class::Objects, &headers.into_iter().collect(), true).await;

    let began = begin(&governor, 20).await;

    assert!((2..=4).contains(&began.len()), "{began:?}");
}

#[tokio::test(start_paused = true)]
async fn while_somebody_holds_the_budget_calls_keep_to_a_share_of_the_limit() {
    let governor = of_ten_a_second().await;
    governor.share(Arc::new(Answers(|| Leased::Busy)));

    let began = begin(&governor, 20).await;

    assert!((2..=4).contains(&began.len()), "{began:?}");
}
