//! What is read out of an object of the API, whatever its kind. Everything may be missing or newly different.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

/// The columns of an object.
#[derive(Debug, Default)]
pub(in crate::handlers) struct Object {
    pub(in crate::handlers) status: Option<String>,
    pub(in crate::handlers) error_type: Option<String>,
    pub(in crate::handlers) error_message: Option<String>,
    pub(in crate::handlers) parent_id: Option<String>,
    pub(in crate::handlers) updated_at: Option<DateTime<Utc>>,
    pub(in crate::handlers) archived_at: Option<DateTime<Utc>>,
    pub(in crate::handlers) evaluations: Vec<Evaluation>,
}

/// One iteration of grading an outcome, as a session shows it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::handlers) struct Evaluation {
    pub(in crate::handlers) outcome_id: Option<String>,
    pub(in crate::handlers) iteration: Option<i64>,
    pub(in crate::handlers) result: Option<String>,
    pub(in crate::handlers) description: Option<String>,
    pub(in crate::handlers) explanation: Option<String>,
    pub(in crate::handlers) completed_at: Option<DateTime<Utc>>,
}

impl Object {
    /// Reads what it can. A field of an unexpected shape counts as missing, not as a fault of the whole.
    pub(in crate::handlers) fn read(body: &str) -> Self {
        #[derive(Deserialize)]
        struct Fields {
            #[serde(default)]
            status: Value,
            #[serde(default)]
            error: Value,
            #[serde(default)]
            deployment_id: Value,
            #[serde(default)]
            updated_at: Value,
            #[serde(default)]
            archived_at: Value,
            #[serde(default)]
            outcome_evaluations: Value,
        }
        let Ok(fields) = serde_json::from_str::<Fields>(body) else { return Self::default() };
        let evaluations = match fields.outcome_evaluations {
            Value::Array(evaluations) => evaluations
                .into_iter()
                .map(|mut evaluation| {
                    mend(&mut evaluation);
                    serde_json::from_value(evaluation).unwrap_or_default()
                })
                .collect(),
            _ => Vec::new(),
        };
        Self {
            // Of external storage it is an object: `{"type": "failed"}`.
            status: text(&fields.status).or_else(|| text(&fields.status["type"])),
            error_type: text(&fields.error["type"]),
            error_message: text(&fields.error["message"]),
            parent_id: text(&fields.deployment_id),
            updated_at: time(&fields.updated_at),
            archived_at: time(&fields.archived_at),
            evaluations,
        }
    }
}

/// Text as Postgres can hold it: it knows no NUL.
fn text(value: &Value) -> Option<String> {
    value.as_str().map(|text| text.replace('\0', "\u{fffd}"))
}

fn time(value: &Value) -> Option<DateTime<Utc>> {
    value.as_str()?.parse().ok()
}

/// As for [`text`], in all texts of an object.
fn mend(value: &mut Value) {
    if let Value::Object(fields) = value {
        for field in fields.values_mut() {
            if let Some(mended) = text(field) {
                *field = Value::String(mended);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_and_odd_fields_count_as_missing() {
        let object = Object::read(
            r#"{"status":"idle","updated_at":"2026-11-01T12:00:00.5Z","archived_at":null,"error":"odd",
                "outcome_evaluations":[{"outcome_id":"outc_1","iteration":1,"result":"satis\u0000fied"},7]}"#,
        );
        assert_eq!(object.status.as_deref(), Some("idle"));
        assert_eq!(object.updated_at, "2026-11-01T12:00:00.5Z".parse().ok());
        assert_eq!((object.archived_at, object.error_type), (None, None));
        assert_eq!(object.evaluations.len(), 2);
    }
}
