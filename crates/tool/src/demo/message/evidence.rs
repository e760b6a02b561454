//! The evidence that a message was answered and told of: compares the rows of the database with what its receiver got.

use serde::Deserialize;
use sqlx::PgConnection;

use crate::demo::receiver::Notification;

/// What the database says of a message and of the notification that tells of it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Told {
    message: i64,
    status: String,
    text: Option<String>,
    /// How many rows the text came in while it was being written.
    pub(super) pieces: i64,
    /// What these say, joined.
    joined: Option<String>,
    /// How often the API may have been paid.
    paid: i64,
    /// None without a price.
    dollars: Option<String>,
    /// How far the notification is; none if it is not in the outbox.
    notification: Option<String>,
    /// What is sent at each attempt.
    body: Option<String>,
    /// How often it was delivered or not.
    pub(super) attempts: i64,
    /// The status of the last answer.
    pub(super) answer: Option<i32>,
    /// How many events of the outbox have the identifier that the receiver was given, and the type of a message that is done.
    facts: i64,
}

/// What the receiver reads in the body.
#[derive(Debug, Deserialize)]
struct Body {
    #[serde(rename = "type")]
    event_type: String,
    id: String,
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    id: i64,
}

/// Reads the row of the message as a line: how it ended, what it used, what it cost.
///
/// # Errors
/// If the query fails.
pub(super) async fn row(connection: &mut PgConnection, message: i64) -> sqlx::Result<String> {
    sqlx::query_scalar(
        "select concat_ws(', ', state, stop_reason, input_tokens || ' tokens in', output_tokens || ' tokens out',
                          dollars || ' dollars at an example price')
           from restante.message_overview where id = $1",
    )
    .bind(message)
    .fetch_one(connection)
    .await
}

/// Reads what the database says now.
///
/// # Errors
/// If the query fails.
pub(super) async fn told(
    connection: &mut PgConnection,
    message: i64,
    notification: &Notification,
) -> sqlx::Result<Told> {
    let event_id = serde_json::from_str::<Body>(&notification.body).map(|body| body.id).unwrap_or_default();
    sqlx::query_as(
        "select m.id as message, m.status::text as status, m.text, c.pieces, c.joined,
                v.attempts_that_may_be_paid as paid, v.dollars::text as dollars,
                n.status as notification, (n.payload -> 'body')::text as body, d.attempts, d.answer,
                (select count(*) from restante.outbox as e
                  where e.event_id = $3 and e.type = 'message.completed' and e.subscriber = '') as facts
           from restante.message as m
           join restante.message_overview as v on v.id = m.id
           left join lateral (
                select count(c.text) as pieces, string_agg(c.text, '' order by c.seq) as joined
                  from restante.message_chunk as c where c.message = m.id and c.attempt = m.attempt) as c on true
           left join restante.outbox as n on n.event_id = $2
           left join lateral (
                select count(*) as attempts, (array_agg(d.status order by d.id desc))[1] as answer
                  from restante.endpoint_delivery as d where d.outbox_id = n.id) as d on true
          where m.id = $1",
    )
    .bind(message)
    .bind(&notification.id)
    .bind(event_id)
    .fetch_one(connection)
    .await
}

impl Told {
    /// Has the notification been delivered, or given up?
    pub(super) fn is_settled(&self) -> bool {
        self.notification.as_deref().is_some_and(|status| ["done", "dead", "paused"].contains(&status))
    }

    /// Returns each discrepancy as a sentence; none if the message went as it should.
    pub(super) fn discrepancies(&self, notification: &Notification) -> Vec<String> {
        let mut found = Vec::new();
        let mut expect = |holds: bool, otherwise: String| {
            if !holds {
                found.push(otherwise);
            }
        };
        expect(self.status == "done", format!("the message is {}", self.status));
        expect(self.text.as_ref().is_some_and(|text| !text.is_empty()), "the answer has no text".to_owned());
        expect(self.joined == self.text, "the text that was shown is not that of the answer".to_owned());
        expect(self.paid == 1, format!("{} attempts may have been paid", self.paid));
        expect(self.dollars.is_some(), "nobody knows what it cost".to_owned());
        expect(
            self.notification.as_deref() == Some("done"),
            format!("the notification is {:?}", self.notification),
        );
        expect(
            self.body.as_ref() == Some(&notification.body),
            "the receiver got other bytes than those of the outbox".to_owned(),
        );
        expect(
            self.answer == Some(204) && self.attempts == 1,
            format!("after {} attempts the noted answer is {:?}", self.attempts, self.answer),
        );
        expect(self.facts == 1, format!("{} events are what the receiver was told of", self.facts));
        let body = serde_json::from_str::<Body>(&notification.body);
        expect(
            body.is_ok_and(|body| body.event_type == "message.completed" && body.data.id == self.message),
            format!("the receiver was told of something else: {}", notification.body),
        );
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_it_should_be() -> (Told, Notification) {
        let body = r#"{"type":"message.completed","id":"message.completed:7:0","data":{"id":7}}"#;
        let told = Told {
            message: 7,
            status: "done".into(),
            text: Some("Yes.".into()),
            pieces: 2,
            joined: Some("Yes.".into()),
            paid: 1,
            dollars: Some("0.01".into()),
            notification: Some("done".into()),
            body: Some(body.into()),
            attempts: 1,
            answer: Some(204),
            facts: 1,
        };
        (told, Notification { id: "ntf_1".into(), body: body.into() })
    }

    #[test]
    fn nothing_is_said_of_a_message_that_went_as_it_should() {
        let (told, notification) = as_it_should_be();

        assert_eq!(told.discrepancies(&notification), Vec::<String>::new());
    }

    #[test]
    fn whatever_went_otherwise_is_found() {
        type Spoil = fn(&mut Told, &mut Notification);
        let spoils: [(Spoil, &str); 12] = [
            (|told, _| told.status = "failed".into(), "the message is failed"),
            (|told, _| (told.text, told.joined) = (None, None), "has no text"),
            (|told, _| told.joined = Some("Yes".into()), "is not that of the answer"),
            (|told, _| told.paid = 2, "2 attempts may have been paid"),
            (|told, _| told.dollars = None, "what it cost"),
            (|told, _| told.notification = Some("dead".into()), "the notification is"),
            (|told, _| told.body = None, "other bytes"),
            (|told, _| told.answer = Some(500), "Some(500)"),
            (|told, _| told.attempts = 2, "after 2 attempts"),
            (|told, _| told.facts = 0, "0 events are"),
            (|told, _| told.message = 8, "something else"),
            (|told, it| (told.body, it.body) = (Some("{}".into()), "{}".into()), "something else"),
        ];
        for (spoil, said) in spoils {
            let (mut told, mut notification) = as_it_should_be();
            spoil(&mut told, &mut notification);

            let found = told.discrepancies(&notification);

            assert!(found.len() == 1 && found[0].contains(said), "{said}: {found:?}");
        }
    }
}
