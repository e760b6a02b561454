//! What the doctor found, as lines for people and as JSON for programs.

use serde_json::{Value, json};

/// One thing that was examined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) subject: &'static str,
    pub(super) verdict: Verdict,
    /// What was found, with its figures.
    pub(super) says: String,
    /// Why it matters, and what to do about it; `None` if it is as it should be.
    pub(super) help: Option<Help>,
}

/// How bad a finding is. Only what is wrong changes the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Fine,
    /// It works for now, and is worth a change.
    Warn,
    /// Something does not work, or may lose what it should keep.
    Wrong,
}

/// Why a finding matters, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Help {
    pub(super) why: String,
    pub(super) remedy: Remedy,
}

/// What to do about a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// A sentence for a person.
    Do(String),
    /// Statements to run one by one, which make the finding go away, and who may run them.
    Sql { by: &'static str, statements: String },
}

/// Who may change what belongs to the whole server.
pub(super) const SUPERUSER: &str = "a superuser";

/// Who may change what belongs to the schema.
pub(super) const OWNER: &str = "the owner of the schema";

impl Remedy {
    pub(super) fn sql(by: &'static str, statements: impl Into<String>) -> Remedy {
        Remedy::Sql { by, statements: statements.into() }
    }

    fn told(&self) -> String {
        match self {
            Remedy::Do(what) => what.clone(),
            Remedy::Sql { by, statements } => format!("as {by}: {statements}"),
        }
    }
}

impl From<&str> for Remedy {
    fn from(what: &str) -> Remedy {
        Remedy::Do(what.to_owned())
    }
}

impl From<String> for Remedy {
    fn from(what: String) -> Remedy {
        Remedy::Do(what)
    }
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Verdict::Fine => "ok",
            Verdict::Warn => "warn",
            Verdict::Wrong => "wrong",
        }
    }
}

impl Finding {
    pub(super) fn fine(subject: &'static str, says: impl Into<String>) -> Finding {
        Finding { subject, verdict: Verdict::Fine, says: says.into(), help: None }
    }

    pub(super) fn warn(
        subject: &'static str,
        says: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<Remedy>,
    ) -> Finding {
        let help = Some(Help { why: why.into(), remedy: remedy.into() });
        Finding { subject, verdict: Verdict::Warn, says: says.into(), help }
    }

    pub(super) fn wrong(
        subject: &'static str,
        says: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<Remedy>,
    ) -> Finding {
        Finding { verdict: Verdict::Wrong, ..Finding::warn(subject, says, why, remedy) }
    }

    fn json(&self) -> Value {
        let help = self.help.as_ref();
        let statements = help.and_then(|help| match &help.remedy {
            Remedy::Sql { statements, .. } => Some(statements),
            Remedy::Do(_) => None,
        });
        json!({
            "subject": self.subject,
            "verdict": self.verdict.as_str(),
            "says": self.says,
            "why": help.map(|help| &help.why),
            "remedy": help.map(|help| help.remedy.told()),
            "sql": statements,
        })
    }
}

/// Lines for people: what was found, and below what is not as it should be, why that matters and what to do.
pub(super) fn rendered(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    let line = |finding: &Finding| {
        let first = format!("{:5}  {:width$}  {}\n", finding.verdict.as_str(), finding.subject, finding.says);
        let below = |word: &str, what: &str| format!("{:7}{:width$}  {word}: {what}\n", "", "");
        let help = finding.help.as_ref();
        let help = help
            .map(|help| below("why", &help.why) + &below("to do", &help.remedy.told()))
            .unwrap_or_default();
        first + &help
    };
    findings.iter().map(line).collect()
}

/// One JSON object: how many findings there are of each verdict, and the findings.
pub(super) fn as_json(findings: &[Finding]) -> String {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let findings_json: Vec<Value> = findings.iter().map(Finding::json).collect();
    let report = json!({
        "ok": count(Verdict::Fine),
        "warn": count(Verdict::Warn),
        "wrong": count(Verdict::Wrong),
        "findings": findings_json,
    });
    format!("{report:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> [Finding; 3] {
        [
            Finding::fine("database", "answers"),
            Finding::warn("api", "is slow", "events wait", "ask for a higher limit"),
            Finding::wrong("schema", "has no week", "events overflow", Remedy::sql(OWNER, "select 1")),
        ]
    }

    #[test]
    fn what_is_not_right_is_followed_by_why_that_matters_and_what_to_do() {
        expect_test::expect![[r#"
            ok     database  answers
            warn   api       is slow
                             why: events wait
                             to do: ask for a higher limit
            wrong  schema    has no week
                             why: events overflow
                             to do: as the owner of the schema: select 1
        "#]]
        .assert_eq(&rendered(&some()));
    }

    #[test]
    fn a_program_gets_the_same_with_the_statements_by_themselves() {
        let report: Value = serde_json::from_str(&as_json(&some())).unwrap();

        assert_eq!((&report["ok"], &report["warn"], &report["wrong"]), (&json!(1), &json!(1), &json!(1)));
        assert_eq!(report["findings"][2]["sql"], "select 1");
        assert_eq!(report["findings"][1]["remedy"], "ask for a higher limit");
        assert_eq!(report["findings"][0]["why"], Value::Null);
    }
}
