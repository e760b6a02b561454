//! What senders and an application do all the while: deliveries, messages, events and batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use restante::database;
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinSet;

use crate::support::{Delivery, Sender, eventually};

/// How many sessions the deliveries are about.
pub const SESSIONS: usize = 20;
/// How many requests each batch has.
pub const REQUESTS: usize = 5;
/// What has to happen in each phase of an upgrade.
const DELIVERIES_IN_A_PHASE: usize = 300;
const MESSAGES_IN_A_PHASE: usize = 10;

pub fn session(number: usize) -> String {
    format!("sesn_{number:02}")
}

/// The load, until [`Load::ended`].
pub struct Load {
    is_over: Arc<AtomicBool>,
    delivered: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
    senders: JoinSet<(Vec<String>, Vec<String>)>,
    application: JoinSet<usize>,
}

/// What was accepted, and what was not.
pub struct Told {
    pub deliveries: Vec<String>,
    pub refused: Vec<String>,
    pub messages: usize,
    pub batches: usize,
}

impl Load {
    pub fn start(sender: &Sender, application: &SecretString) -> Self {
        const SENDERS: usize = 4;
        let pool = database::pool(application, "application", 2).unwrap();
        let mut load = Self {
            is_over: Arc::default(),
            delivered: Arc::default(),
            answered: Arc::default(),
            senders: JoinSet::new(),
            application: JoinSet::new(),
        };
        for number in 0..SENDERS {
            load.senders.spawn(send(number, sender.clone(), load.is_over.clone(), load.delivered.clone()));
        }
        load.application.spawn(apply(pool, load.is_over.clone(), load.answered.clone()));
        load
    }

    /// Waits until a good part of deliveries was accepted and of messages was answered from now on.
    pub async fn goes_on(&self, phase: &str) {
        let delivered = self.delivered.load(Ordering::SeqCst) + DELIVERIES_IN_A_PHASE;
        let answered = self.answered.load(Ordering::SeqCst) + MESSAGES_IN_A_PHASE;
        eventually(phase, async || {
            let is_done = self.delivered.load(Ordering::SeqCst) >= delivered
                && self.answered.load(Ordering::SeqCst) >= answered;
            is_done.then_some(())
        })
        .await;
    }

    pub async fn ended(self) -> Told {
        self.is_over.store(true, Ordering::SeqCst);
        let (accepted, refused): (Vec<_>, Vec<_>) = self.senders.join_all().await.into_iter().unzip();
        let messages = self.application.join_all().await.into_iter().sum();
        Told {
            deliveries: accepted.concat(),
            refused: refused.concat(),
            messages,
            batches: messages.div_ceil(MESSAGES_IN_A_PHASE),
        }
    }
}

/// Sends one delivery after the other. Returns the accepted ones, and for each refused one why.
async fn send(
    sender_number: usize,
    sender: Sender,
    is_over: Arc<AtomicBool>,
    delivered: Arc<AtomicUsize>,
) -> (Vec<String>, Vec<String>) {
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for number in 0.. {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let event_id = format!("whe_{sender_number}_{number:06}");
        let delivery = if number % 10 == 0 {
            Delivery::event(&event_id, "session.status_idled", &session(number / 10 % SESSIONS))
        } else {
            Delivery::event(&event_id, "thing.happened", &format!("thing_{}", number % 7))
        };
        match sender.post(&delivery).await.map(|answer| answer.status) {
            Some(204) => accepted.push(event_id),
            otherwise => refused.push(format!("{event_id}: {otherwise:?}")),
        }
        delivered.fetch_add(1, Ordering::SeqCst);
    }
    (accepted, refused)
}

/// An application that puts an event and a message into each transaction, now and then a batch, and waits for each answer.
/// Returns how many messages there were.
async fn apply(pool: PgPool, is_over: Arc<AtomicBool>, answered: Arc<AtomicUsize>) -> usize {
    let mut messages = 0;
    while !is_over.load(Ordering::SeqCst) {
        let mut transaction = pool.begin().await.unwrap();
        sqlx::query(
            "select restante.enqueue('order.placed', json_build_object('order', $1::int), key => 'orders')",
        )
        .bind(messages as i32)
        .execute(&mut *transaction)
        .await
        .unwrap();
        let message: i64 =
            sqlx::query_scalar("select restante.send_message($1::json, key => 'conversation')")
                .bind(request("Is this letter urgent?"))
                .fetch_one(&mut *transaction)
                .await
                .unwrap();
        if messages % MESSAGES_IN_A_PHASE == 0 {
            let requests: Vec<Value> = (0..REQUESTS)
                .map(|n| json!({ "custom_id": format!("r{n}"), "params": request("Sum it up.") }))
                .collect();
            sqlx::query("select restante.submit_batch($1::json)")
                .bind(Value::from(requests))
                .execute(&mut *transaction)
                .await
                .unwrap();
        }
        transaction.commit().await.unwrap();
        messages += 1;
        until_answered(&pool, message).await;
        answered.fetch_add(1, Ordering::SeqCst);
    }
    messages
}

/// Waits until a message is answered, for a minute at most, as an application does that reads the table.
async fn until_answered(pool: &PgPool, message: i64) {
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 0..6_000 {
        let status: String = sqlx::query_scalar("select status::text from restante.message where id = $1")
            .bind(message)
            .fetch_one(pool)
            .await
            .unwrap();
        if status == "done" {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("message {message} is not answered");
}

fn request(prompt: &str) -> Value {
    json!({ "model": "claude-opus-5-5", "max_tokens": 64, "messages": [{ "role": "user", "content": prompt }] })
}
