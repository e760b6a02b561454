//! The rules of the source tree that no compiler holds. Each failure names the file and the rule.

mod circles;
mod manifests;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of the project, as text.
#[derive(Clone)]
pub(crate) struct SourceFile {
    /// Its path from the root of the project, with `/` between the parts.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Every file under `directory`, which is a path from the root of the project, that ends in one of `endings`.
pub(crate) fn files(directory: &str, endings: &[&str]) -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut directories = vec![root.join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", ".git", "node_modules"].contains(&name.as_ref()) {
                    directories.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                files.push(SourceFile { path, text });
            }
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    assert!(!files.is_empty(), "nothing under {directory:?}: the test looks in the wrong place");
    files
}

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The folder of the sources of each crate.
const CRATES: [&str; 6] = [
    "src",
    "crates/playground/src",
    "crates/simulator/src",
    "crates/tool/src",
    "examples/orders-worker/src",
    "benches/src",
];

/// The files of the library and the services without what only tests see, and without comments.
fn sources() -> Vec<SourceFile> {
    sources_of("src")
}

/// The same of any crate.
fn sources_of(folder: &str) -> Vec<SourceFile> {
    let all = files(folder, &[".rs"]);
    let for_tests: BTreeSet<String> = all.iter().flat_map(modules_for_tests).collect();
    all.into_iter()
        .filter(|file| !for_tests.iter().any(|module| is_of_module(&file.path, module)))
        .map(|file| SourceFile { text: code(&file.text), path: file.path })
        .collect()
}

/// `src/a/b` for each `#[cfg(test)] mod b;` of `src/a/mod.rs` or `src/a.rs`.
fn modules_for_tests(file: &SourceFile) -> Vec<String> {
    let parent = file.path.trim_end_matches(".rs");
    let face = ["/mod", "/lib", "/main"].iter().find_map(|face| parent.strip_suffix(face));
    let parent = face.unwrap_or(parent).to_owned();
    let lines: Vec<&str> = file.text.lines().collect();
    lines
        .windows(2)
        .filter(|pair| pair[0] == "#[cfg(test)]")
        .filter_map(|pair| declared_module(pair[1]))
        .map(|name| format!("{parent}/{name}"))
        .collect()
}

fn is_of_module(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// `x` of a line `mod x;` or `pub mod x;`.
fn declared_module(line: &str) -> Option<&str> {
    let line = line.trim();
    line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ")?.strip_suffix(';')
}

/// The lines up to the tests, which stand last in a file, without those that are comments only.
fn code(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{'));
    let code = &lines[..tests.unwrap_or(lines.len())];
    code.iter().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [*line, "\n"]).collect()
}

/// The modules of the library, in the order of `src/lib.rs`.
pub(crate) fn modules() -> Vec<String> {
    file("src/lib.rs").lines().filter_map(declared_module).map(str::to_owned).collect()
}

/// The first names after each `crate::`, also in lists: `crate::{api, database}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (start, marker) in code.match_indices("crate::") {
        let rest = &code[start + marker.len()..];
        if !rest.starts_with('{') {
            names.insert(first_name(rest));
            continue;
        }
        let mut depth = 0;
        let mut is_first = false;
        for (at, character) in rest.char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            if depth == 1 && matches!(character, '{' | ',') {
                is_first = true;
            } else if is_first && !character.is_whitespace() {
                names.insert(first_name(&rest[at..]));
                is_first = false;
            }
        }
    }
    names.remove("");
    names
}

fn first_name(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn the_imports_of_a_list_are_all_seen() {
    let code =
        "use crate::{api::{self, Client}, database, telemetry::metric as m};\nlet x = crate::event::new();";
    let found: Vec<String> = imports(code).into_iter().collect();
    assert_eq!(found, ["api", "database", "event", "telemetry"]);
}

#[test]
fn a_module_imports_only_from_those_above_it() {
    let modules = modules();
    let mut seen = 0;
    for source in sources() {
        let Some(place) =
            modules.iter().position(|module| is_of_module(&source.path, &format!("src/{module}")))
        else {
            continue;
        };
        for name in imports(&source.text) {
            let Some(other) = modules.iter().position(|module| *module == name) else {
                panic!("{}: crate::{name} is no module of src/lib.rs", source.path);
            };
            assert!(
                other <= place,
                "{}: imports `{name}`, which stands below `{}` in src/lib.rs. Move what both need up, or take it as an argument.",
                source.path,
                modules[place]
            );
            seen += usize::from(other < place);
        }
        // The other ways up would go unseen.
        let depth = source.path.matches('/').count();
        let is_root_of_module = depth == 1 || (depth == 2 && source.path.ends_with("/mod.rs"));
        assert!(
            !source.text.contains(if is_root_of_module { "super::" } else { "super::super::" }),
            "{}: write `crate::` for what is outside of the module",
            source.path
        );
    }
    assert!(seen > 20, "only {seen} imports were found: the test looks in the wrong place");
}

#[test]
fn only_services_read_the_environment_bind_sockets_and_wait_for_signals() {
    for source in sources() {
        let is_outside = ["src/bin/", "src/service.rs", "src/service/"];
        if is_outside.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        for call in ["env::var", "TcpListener::bind(", "signal::unix", "ctrl_c("] {
            assert!(!source.text.contains(call), "{}: `{call}` belongs to src/service", source.path);
        }
    }
}

#[test]
fn every_handler_is_registered() {
    let text = code(&file("src/handlers/mod.rs"));
    let declared: BTreeSet<String> = text.lines().filter_map(declared_module).map(str::to_owned).collect();
    let of_files: BTreeSet<String> = files("src/handlers", &[".rs"])
        .iter()
        .filter_map(|file| file.path.strip_prefix("src/handlers/"))
        .map(|path| path.split('/').next().unwrap_or(path).trim_end_matches(".rs").to_owned())
        .filter(|name| name != "mod")
        .collect();

    assert_eq!(of_files, declared, "a file of src/handlers needs its `mod` line, and a `mod` line its file");
    let registrations: Vec<&str> =
        text.lines().filter(|line| line.contains(".register(") || line.contains(".subscribe(")).collect();
    for name in declared {
        assert!(
            registrations.iter().any(|line| line.contains(&format!("{name}::"))),
            "src/handlers/mod.rs: `{name}` has no line `.register({name}::...)`"
        );
    }
}

#[test]
fn only_the_outbox_and_the_migrations_write_the_outbox() {
    let writes = [
        "insert into restante.outbox",
        "update restante.outbox",
        "delete from restante.outbox",
        "merge into restante.outbox",
        "truncate restante.outbox",
        "copy restante.outbox",
        "restante.insert_event(",
        "restante.insert_events(",
        "restante.insert_behind(",
        "restante.finish_events(",
        "restante.finish_event(",
        "restante.release_next(",
        "restante.fail(",
        "restante.unblock(",
        "restante.step_down(",
        "restante.sweep(",
    ];
    let mut seen = 0;
    for source in [sources(), sources_of("crates/tool/src")].concat() {
        let sql = source.text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        for write in writes.iter().filter(|write| sql.contains(**write)) {
            // The hand tool shows people what they may type themselves.
            let is_shown = ["update restante.outbox", "restante.sweep("].contains(write);
            if !(is_shown && source.path.starts_with("crates/tool/")) {
                assert!(
                    source.path.starts_with("src/outbox/"),
                    "{}: `{write}` belongs to src/outbox",
                    source.path
                );
                seen += 1;
            }
        }
    }
    assert!(seen >= 5, "only {seen} were found: the test looks in the wrong place");
}

#[test]
fn no_file_is_too_long_to_read() {
    const LINES_MAX: usize = 400;
    for file in CRATES.iter().flat_map(|folder| files(folder, &[".rs"])) {
        // Tests may be long: they are read one at a time.
        let lines = code(&file.text).lines().count();
        if !file.path.ends_with("/tests.rs") {
            assert!(
                lines <= LINES_MAX,
                "{}: {lines} lines without its tests, {LINES_MAX} are allowed",
                file.path
            );
        }
    }
}

#[test]
fn nothing_is_left_to_be_done_in_the_tree() {
    let endings = [".rs", ".sql", ".md", ".toml", ".yml", ".sh", "Makefile", "Dockerfile", ".env.example"];
    // In two parts, or this file would be found.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("dbg", "!("),
        concat!("unimpl", "emented!("),
    ];
    for file in files("", &endings) {
        for mark in marks {
            assert!(!file.text.contains(mark), "{}: {mark}", file.path);
        }
    }
}
