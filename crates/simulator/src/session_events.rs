//! The events of a session's history: those that a run adds, and the verdict on an outcome.

use chrono::Utc;
use serde_json::{Map, Value, json};

use super::app::App;
use super::held::held;
use super::kinds::kind;
use super::store::{Store, timestamp};
use super::text;

/// The event as the history keeps it, with an id and the time.
pub(super) fn event(app: &App, mut fields: Value) -> Value {
    if let Value::Object(fields) = &mut fields {
        fields.entry("id").or_insert_with(|| app.mint.id("sevt_").into());
        fields.entry("processed_at").or_insert_with(|| timestamp(Utc::now()).into());
    }
    fields
}

/// Opens an outcome if the client's event defines one, and adds its id to the event.
pub(super) fn outcome_asked(app: &App, session: &str, fields: &mut Value) {
    if fields["type"] != "user.define_outcome" {
        return;
    }
    let outcome_id = app.mint.id("outc_");
    fields["outcome_id"] = outcome_id.clone().into();
    let evaluation = json!({"type": "outcome_evaluation", "outcome_id": outcome_id,
        "description": fields["description"], "iteration": 0, "result": "pending", "explanation": null,
        "completed_at": null});
    with_evaluations(&mut held(&app.store), session, |evaluations| evaluations.push(evaluation));
}

/// Ends a run before the session is idle again: the agent answers, and every open outcome gets its verdict.
pub(super) fn run_again(app: &App, session: &str, interrupted: bool) {
    let mut events = Vec::new();
    if !interrupted {
        let answer = text::text("Done. ", app.settings.text_bytes);
        let content = json!([{"type": "text", "text": answer}]);
        events.push(event(app, json!({"type": "agent.message", "content": content})));
    }
    let result = if interrupted { "interrupted" } else { "satisfied" };
    let mut judged = 0;
    let mut store = held(&app.store);
    with_evaluations(&mut store, session, |evaluations| {
        for evaluation in evaluations.iter_mut().filter(|evaluation| evaluation["result"] == "pending") {
            judged += 1;
            let explanation = "All criteria were looked at.";
            evaluation["result"] = result.into();
            evaluation["explanation"] = explanation.into();
            evaluation["completed_at"] = timestamp(Utc::now()).into();
            let about = json!({"outcome_id": evaluation["outcome_id"], "iteration": evaluation["iteration"]});
            let start = event(app, merged(about.clone(), json!({"type": "span.outcome_evaluation_start"})));
            let end = json!({"type": "span.outcome_evaluation_end", "outcome_evaluation_start_id": start["id"],
                "result": result, "explanation": explanation, "usage": {"input_tokens": 100, "output_tokens": 20,
                "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}});
            events.extend([start, event(app, merged(about, end))]);
        }
    });
    store.histories.entry(session.to_owned()).or_default().events.extend(events);
    drop(store);
    for _ in 0..judged {
        app.emit("session.outcome_evaluation_ended", session, Map::new());
    }
}

fn with_evaluations(store: &mut Store, session: &str, change: impl FnOnce(&mut Vec<Value>)) {
    let session = kind("session").and_then(|kind| store.find(kind, None, session).ok());
    if let Some(Value::Array(evaluations)) =
        session.and_then(|session| session.body.get_mut("outcome_evaluations"))
    {
        change(evaluations);
    }
}

fn merged(mut one: Value, other: Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut one, other) {
        fields.extend(more);
    }
    one
}
