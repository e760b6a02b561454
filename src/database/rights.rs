//! Finds the statements of a migration that grant rights.

/// The statements of a migration that grant or revoke rights, or create roles, in their order.
pub(super) fn statements(migration: &str) -> impl Iterator<Item = &str> {
    split(migration).into_iter().filter(|statement| {
        let text = without_comments(statement).to_lowercase();
        let word = text.split_whitespace().next().unwrap_or_default();
        matches!(word, "grant" | "revoke")
            || word == "do" && ["grant ", "create role"].iter().any(|part| text.contains(part))
    })
}

/// The statements of a script, each without its semicolon. Knows quotes, dollar quotes and comments.
fn split(script: &str) -> Vec<&str> {
    let (mut statements, mut start, mut at) = (Vec::new(), 0, 0);
    while let Some(character) = script[at..].chars().next() {
        let rest = &script[at..];
        at += if let Some(length) = quoted(rest) {
            length
        } else {
            if character == ';' {
                statements.push(&script[start..at]);
                start = at + 1;
            }
            character.len_utf8()
        };
    }
    statements
}

/// The length of the quote or comment at the beginning of `text`; `None` if it begins with neither.
fn quoted(text: &str) -> Option<usize> {
    let ends_with =
        |start: usize, end: &str| text[start..].find(end).map_or(text.len(), |at| start + at + end.len());
    if text.starts_with("--") {
        return Some(ends_with(2, "\n"));
    }
    if text.starts_with('\'') {
        return Some(ends_with(1, "'"));
    }
    let tag = text.strip_prefix('$')?.split('$').next()?;
    let is_tag = tag.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
    let tag = text.get(..tag.len() + 2).filter(|_| is_tag)?;
    Some(ends_with(tag.len(), tag))
}

fn without_comments(statement: &str) -> String {
    statement
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_rights_is_found_whole_and_in_its_order() {
        let script = "-- grant; nothing\ncreate function f() returns text language sql as $x$ select 'grant a;' $x$;
                      -- Why.\ngrant select\n  on t to r;\ncomment on table t is 'grant it; it''s ours';
                      do $$ begin create role r; end $$;\ndo $$ begin perform 1; end $$; revoke all on t from public;";

        let found: Vec<String> = statements(script)
            .map(|text| without_comments(text).split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();

        assert_eq!(
            found,
            ["grant select on t to r", "do $$ begin create role r; end $$", "revoke all on t from public"]
        );
    }
}
