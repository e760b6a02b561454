//! The pages of the project: their links lead somewhere, their SQL runs, and what they name is there.

use std::collections::BTreeSet;
use std::path::Path;

use sqlx::AssertSqlSafe;

use crate::support::World;
use crate::tidy::{SourceFile, files, modules};

fn pages() -> Vec<SourceFile> {
    files("", &[".md"])
}

/// The lines outside of blocks of code.
fn prose(page: &SourceFile) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The targets of `[text](target)`.
fn links(page: &SourceFile) -> Vec<String> {
    prose(page)
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split(')').next())
        .map(str::to_owned)
        .collect()
}

/// The part of a link that leads to a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn a_page_has_one_title() {
    for page in pages() {
        let titles = prose(&page).filter(|line| line.starts_with("# ")).count();
        assert_eq!(titles, 1, "{}: a page has one line that begins with `# `", page.path);
    }
}

#[test]
fn links_between_files_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = pages();
    let mut seen = 0;
    for page in &pages {
        for link in links(page).iter().filter(|link| !link.contains("://")) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let directory = root.join(&page.path).parent().unwrap().to_owned();
            let target = if path.is_empty() { root.join(&page.path) } else { directory.join(path) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.path);
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let is_there = text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(is_there, "{}: {link}: there is no such heading", page.path);
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} links were found: the test looks in the wrong place");
}

#[test]
fn a_decision_is_told_on_one_page_and_listed() {
    let decisions = files("docs/adr", &[".md"]);
    let architecture = include_str!("../../ARCHITECTURE.md");
    for (index, decision) in decisions.iter().enumerate() {
        let name = decision.path.trim_start_matches("docs/adr/");
        assert!(name.starts_with(&format!("{:04}-", index + 1)), "{name}: numbers are given without a gap");
        assert!(decision.text.lines().count() <= 60, "{name}: more than 60 lines");
        assert!(architecture.contains(name), "{name}: ARCHITECTURE.md does not list it");
        for part in [
            "## Context",
            "## Decision",
            "## What else was weighed",
            "## Consequences",
            "## How we would notice",
        ] {
            assert!(decision.text.contains(part), "{name}: `{part}` is missing");
        }
    }
}

#[test]
fn the_architecture_names_every_module() {
    let architecture = include_str!("../../ARCHITECTURE.md");
    for module in modules() {
        assert!(architecture.contains(&format!("`{module}`")), "ARCHITECTURE.md does not name `{module}`");
    }
}

#[test]
fn variables_that_a_page_names_exist() {
    let example = include_str!("../../.env.example");
    let known: BTreeSet<&str> = example.split(|c: char| !is_of_variable(c)).collect();
    let mut seen = 0;
    for page in pages() {
        let words = page.text.split(|c: char| !is_of_variable(c));
        for word in words.filter(|word| word.starts_with("RESTANTE_") || word.starts_with("ANTHROPIC_")) {
            assert!(known.contains(word), "{}: no program reads {word}", page.path);
            seen += 1;
        }
    }
    assert!(seen >= 5, "only {seen} variables were found: the test looks in the wrong place");
}

fn is_of_variable(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'
}

#[tokio::test]
async fn the_sql_of_the_readme_runs() {
    let world = World::new().await;
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut seen = 0;
    for block in blocks {
        sqlx::raw_sql(AssertSqlSafe(block))
            .execute(&world.pool)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{block}"));
        seen += 1;
    }
    assert!(seen >= 2, "only {seen} blocks were found");
}
