//! The table of variables as text for people: the end of `--help`.
//!
//! `.env.example` is the same table as lines to fill in, and docs/install.md has a part of it; the tests compare both with
//! it.

use std::fmt::Write as _;

use super::Program;
use super::table::VARIABLES;
use super::variable::Need::{Default, Optional, Required};
use super::variable::Variable;

#[cfg(test)]
mod tests;

/// What a program is and how it is started, as the beginning of its `--help`.
pub fn about(program: Program) -> &'static str {
    match program {
        Program::Ingest => {
            "\
restante-ingest receives the signed webhooks of the Claude API, and commits each event to Postgres before it answers 2xx.

Usage: restante-ingest [--help | --version]

It takes no arguments and reads these variables. `restante config ingest` shows the values in force, and `restante doctor`
what is missing. Run `restante migrate` first: it makes the schema. After SIGTERM, deliveries under way are finished.

"
        }
        Program::Worker => {
            "\
restante-worker claims the events that Postgres holds, oldest first, and runs their handlers: it fetches the objects that events
name, watches batches until they end, and stores their results.

Usage: restante-worker [--help | --version]

It takes no arguments and reads these variables. `restante config worker` shows the values in force, and `restante doctor`
what is missing. Run `restante migrate` first: it makes the schema. After SIGTERM, attempts under way are finished.

"
        }
        // Its command line describes it.
        Program::Tool => "",
    }
}

/// The variables that a program reads, as the end of its `--help`.
pub fn help_for(program: Program) -> String {
    help_for_command(program, VARIABLES, &[])
}

/// The variables that one command of a program reads, as the end of the command's `--help`. Those in `required` are
/// shown as required.
pub fn help_for_command(program: Program, variables: &[&Variable], required: &[&Variable]) -> String {
    let mut help = String::from("Environment:\n");
    for variable in variables {
        let Some(need) = variable.need(program) else { continue };
        let file = if variable.secret { format!(" (or {}_FILE)", variable.name) } else { String::new() };
        let need = match need {
            _ if required.iter().any(|needed| needed.name == variable.name) => "required".to_owned(),
            Required => "required".to_owned(),
            Optional => "optional".to_owned(),
            Default(value) => format!("default {value}"),
        };
        let bounds = variable.bounds.as_ref().map(|b| format!(", {} to {}", b.start(), b.end()));
        // Writing to a string cannot fail.
        let _ = writeln!(help, "  {}{file}  [{need}{}]", variable.name, bounds.unwrap_or_default());
        for line in wrapped(variable.meaning, 92) {
            let _ = writeln!(help, "      {line}");
        }
    }
    help
}

pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
