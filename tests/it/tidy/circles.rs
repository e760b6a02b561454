//! No two files of a folder import from each other, over however many others. The face of a folder (`mod.rs`) is excepted:
//! it names everything, and everything may name what stands in it.

use std::collections::{BTreeMap, BTreeSet};

use super::{CRATES, SourceFile, sources_of};

/// A module, by its names from the root of its crate.
type Place = Vec<String>;

/// Which file or folder imports from which others beside it.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// The module that a file is, where `folder` has the sources of its crate.
fn place(path: &str, folder: &str) -> Place {
    let inside = path.strip_prefix(folder).unwrap_or(path).trim_matches('/').trim_end_matches(".rs");
    let mut names: Place = inside.split('/').map(str::to_owned).collect();
    if names.last().is_some_and(|name| ["mod", "lib", "main"].contains(&name.as_str())) {
        names.pop();
    }
    names
}

/// Every path at the beginning of `code`, where one in braces has several ends.
fn paths(code: &str) -> Vec<Place> {
    let code = code.trim_start();
    if let Some(list) = code.strip_prefix('{') {
        return entries(list).into_iter().flat_map(paths).collect();
    }
    let end = code.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(code.len());
    let (name, rest) = code.split_at(end);
    let further = rest.strip_prefix("::").map_or_else(|| vec![Vec::new()], paths);
    further.into_iter().map(|rest| [vec![name.to_owned()], rest].concat()).collect()
}

/// The entries of a list, up to the brace that closes it.
fn entries(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(&list[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.retain(|entry| !entry.trim().is_empty());
    found
}

/// The modules and items that the code of a module names by their way from the root or from beside it.
fn named(code: &str, module: &Place) -> Vec<Place> {
    let mut found = Vec::new();
    for marker in ["crate::", "super::"] {
        for (start, _) in code.match_indices(marker) {
            if code[..start].ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':')) {
                continue;
            }
            for path in paths(&code[start..]) {
                let up = path.iter().take_while(|name| *name == "super").count();
                let mut whole = if up > 0 { module.clone() } else { Vec::new() };
                whole.truncate(whole.len().saturating_sub(up));
                whole.extend(path.into_iter().skip(up.max(1)));
                found.push(whole);
            }
        }
    }
    found
}

/// What the files of each folder import from each other.
fn imports(sources: &[SourceFile], folder: &str) -> BTreeMap<Place, Imports> {
    let places: BTreeSet<Place> = sources.iter().map(|source| place(&source.path, folder)).collect();
    let is_module = |path: &[String]| places.iter().any(|place| place.starts_with(path));
    let mut folders: BTreeMap<Place, Imports> = BTreeMap::new();
    for source in sources {
        let here = place(&source.path, folder);
        for there in named(&source.text, &here) {
            let shared = here.iter().zip(&there).take_while(|(here, there)| here == there).count();
            // Within its own folder, a face is nobody's neighbour.
            if shared < here.len() && shared < there.len() && is_module(&there[..=shared]) {
                let beside = folders.entry(here[..shared].to_vec()).or_default();
                beside.entry(here[shared].clone()).or_default().insert(there[shared].clone());
            }
        }
    }
    folders
}

/// Those that import from themselves, over however many others.
fn circle(imports: &Imports) -> Vec<&str> {
    let reaches_itself = |start: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(name) = open.pop() {
            open.extend(imports.get(name).into_iter().flatten().filter(|next| seen.insert(*next)));
        }
        seen.contains(start)
    };
    imports.keys().filter(|name| reaches_itself(name)).map(String::as_str).collect()
}

#[test]
fn no_files_of_a_folder_import_from_each_other_in_a_circle() {
    let mut seen = 0;
    for folder in CRATES {
        for (place, imports) in imports(&sources_of(folder), folder) {
            seen += imports.values().map(BTreeSet::len).sum::<usize>();
            let circle = circle(&imports);
            assert!(
                circle.is_empty(),
                "{folder}/{}: {circle:?} import from each other: {imports:#?}",
                place.join("/")
            );
        }
    }
    assert!(seen > 200, "only {seen} imports were found: the test looks in the wrong place");
}

#[test]
fn a_circle_over_three_files_is_found_and_their_face_is_in_none() {
    let file = |path: &str, text: &str| SourceFile { path: path.to_owned(), text: text.to_owned() };
    let sources = [
        file("src/a/mod.rs", "pub use self::one::One;\nuse crate::a::two::Two;"),
        file("src/a/one.rs", "use super::{Face, two::{self, Two}};"),
        file("src/a/two.rs", "fn two() { crate::a::three::three() }"),
        file("src/a/three.rs", "use crate::{a::{Face, one::One}, b};"),
        file("src/b.rs", "use crate::a::Face;"),
        file("src/lib.rs", "mod a;\nmod b;"),
    ];

    let found = imports(&sources, "src");

    assert_eq!(circle(&found[&vec!["a".to_owned()]]), ["one", "three", "two"]);
    assert_eq!(circle(&found[&Vec::new()]), ["a", "b"]);
}
