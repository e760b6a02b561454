//! The pages of the project: their links lead somewhere, their SQL runs, and what they name is there.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use sqlx::AssertSqlSafe;

use crate::support::World;
use crate::support::compose_file::ComposeFile;
use crate::support::processes::tool;
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
    // In the summary of the book such a line begins a part.
    for page in pages().into_iter().filter(|page| page.path != "docs/SUMMARY.md") {
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

/// The blocks of code in a language on a page, also those that are indented below a list.
fn blocks(page: &SourceFile, language: &str) -> Vec<String> {
    let (opening, mut blocks, mut block) = (format!("```{language}"), Vec::new(), None::<String>);
    for line in page.text.lines() {
        match &mut block {
            None if line.trim() == opening => block = Some(String::new()),
            None => {}
            Some(_) if line.trim() == "```" => blocks.extend(block.take()),
            Some(text) => *text += &format!("{line}\n"),
        }
    }
    blocks
}

/// The pages that a person reads from the top to the bottom. The runbook has a test of its own, which also seeds what it asks for.
fn read_by_people() -> Vec<SourceFile> {
    let pages = files("docs", &[".md"]).into_iter().filter(|page| !page.path.starts_with("docs/adr/"));
    let pages = pages.filter(|page| page.path != "docs/runbook.md");
    let pages: Vec<_> = [files("", &["README.md"]), files("", &["llms.txt"]), pages.collect()].concat();
    assert!(pages.len() > 6);
    pages
}

#[tokio::test]
async fn the_sql_of_each_page_runs() {
    let mut seen = BTreeSet::new();
    for page in read_by_people() {
        // A page is a story: what one block makes, another uses.
        let world = World::new().await;
        for block in blocks(&page, "sql") {
            // What the example crate makes is tried by its own tests.
            if block.contains(" shop.") || block.contains("subscriber = 'orders'") {
                continue;
            }
            sqlx::raw_sql(AssertSqlSafe(block.as_str()))
                .execute(&world.pool)
                .await
                .unwrap_or_else(|error| panic!("{}: {error}\n{block}", page.path));
            seen.insert(page.path.clone());
        }
    }
    assert!(seen.len() >= 5, "only {seen:?} have blocks");
}

/// The commands of a block for a shell, each with its words, without comments, variables before it and what follows a pipe.
fn commands(block: &str) -> Vec<Vec<String>> {
    let joined = block.replace("\\\n", " ");
    let parts =
        joined.lines().map(|line| line.split(" #").next().unwrap()).flat_map(|line| line.split(" && "));
    let words = parts.map(|part| {
        let words = part.split_whitespace().skip_while(|word| {
            word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && name.chars().all(is_of_variable))
        });
        words.map(|word| word.trim_matches('\'').to_owned()).collect()
    });
    words.filter(|words: &Vec<String>| !words.is_empty()).collect()
}

#[test]
fn the_commands_that_a_page_shows_exist_with_their_flags() {
    let makefile = include_str!("../../Makefile");
    let compose = ComposeFile::read();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    let runbook = files("docs", &["runbook.md"]);
    for page in [read_by_people(), runbook].concat() {
        for words in blocks(&page, "sh").iter().flat_map(|block| commands(block)) {
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            seen += 1;
            match words[..] {
                ["make", target, ..] => {
                    assert!(makefile.contains(&format!("\n{target}: ")), "{}: make {target}", page.path);
                }
                ["restante", command, ref arguments @ ..] => assert_known(&page.path, command, arguments),
                ["docker", "compose", "run", "--rm", service, ..] => {
                    assert!(compose.services.contains_key(service), "{}: {service}", page.path);
                }
                [program, ..]
                    if ["deploy/", "scripts/", "tests/"].iter().any(|folder| program.starts_with(folder)) =>
                {
                    assert!(root.join(program).exists(), "{}: {program}", page.path);
                }
                _ => seen -= 1,
            }
        }
    }
    assert!(seen > 15, "only {seen} commands were found: the test looks in the wrong place");
}

/// Fails if the hand tool knows not this command, or not one of its flags.
fn assert_known(page: &str, command: &str, arguments: &[&str]) {
    let sub = arguments.first().filter(|word| command == "endpoint" && !word.starts_with('-'));
    let help = Command::new(tool()).arg(command).args(sub).arg("--help").output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success(), "{page}: restante {command} {sub:?} is not known");
    for flag in arguments.iter().filter(|word| word.starts_with("--")) {
        let flag = flag.split('=').next().unwrap();
        assert!(text.contains(flag), "{page}: restante {command} has no {flag}");
    }
}

#[test]
fn every_page_of_the_book_is_in_its_summary_and_in_the_list_for_machines() {
    let summary = include_str!("../../docs/SUMMARY.md");
    let for_machines = include_str!("../../llms.txt");
    // `make docs` adds the decisions.
    let pages = files("docs", &[".md"]).into_iter().filter(|page| !page.path.starts_with("docs/adr/"));
    for page in pages.filter(|page| page.path != "docs/SUMMARY.md") {
        let name = page.path.trim_start_matches("docs/");
        assert!(summary.contains(&format!("]({name})")), "docs/SUMMARY.md does not list {name}");
        assert!(for_machines.contains(&page.path), "llms.txt does not list {}", page.path);
    }
    for word in for_machines.split(['(', ')', '`']).filter(|word| word.contains('/') && !word.contains(' ')) {
        let is_there = Path::new(env!("CARGO_MANIFEST_DIR")).join(word).exists();
        assert!(word.contains("://") || is_there, "llms.txt: {word} is not there");
    }
}
