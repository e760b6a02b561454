//! The text of a configuration file: read from the disk, parsed as TOML, with the line of each part.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::variable::{Fallible, Unfit, unfit};
use crate::config::vars::ReadFile;
use crate::config::{BYTE_ORDER_MARK, Place};

/// The file as it was read.
pub(super) struct Source {
    path: PathBuf,
    /// Without a byte order mark.
    pub(super) text: String,
    pub(super) has_mark: bool,
}

impl Source {
    /// Reads the file, or says why it cannot be read. The path stays unsaid until it is known to be one.
    pub(super) fn read(path: PathBuf, read_file: ReadFile<'_>) -> Fallible<Source> {
        let text = read_file(&path).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => unfit("the file is not UTF-8 text", "Save it as UTF-8"),
            kind => unfit(
                format!("the file cannot be read ({kind})"),
                "Give the path of a TOML file that this program may read",
            ),
        })?;
        let bare = text.strip_prefix(BYTE_ORDER_MARK);
        let (has_mark, text) = (bare.is_some(), bare.map(str::to_owned).unwrap_or(text));
        Ok(Source { path, text, has_mark })
    }

    /// The document, or the errors of its syntax, one a line.
    pub(super) fn parse(&self) -> Result<DeTable<'_>, Vec<(Place, Unfit)>> {
        let (document, errors) = DeTable::parse_recoverable(&self.text);
        if errors.is_empty() {
            return Ok(document.into_inner());
        }
        let mut told: Vec<_> = errors
            .iter()
            .map(|error| {
                let offset = error.span().map_or(self.text.len(), |span| span.start);
                (self.exactly(offset), syntax(error.message()))
            })
            .collect();
        // What the parser says of the rest of a line mostly follows from its first error.
        told.sort_by_key(|(place, _)| (place.line, place.column));
        told.dedup_by_key(|(place, _)| place.line);
        Err(told)
    }

    /// The line of a part.
    pub(super) fn place(&self, offset: usize) -> Place {
        Place { column: None, ..self.exactly(offset) }
    }

    fn exactly(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Place {
            file: self.path.display().to_string(),
            line: before.matches('\n').count() + 1,
            column: Some(before[line_start..].chars().count() + 1),
        }
    }

    /// A path of the file, which begins where the file lies.
    pub(super) fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }
}

/// What the parser says, which repeats nothing of the file.
fn syntax(message: &str) -> Unfit {
    if message.contains("duplicate key") {
        return unfit("it stands there twice", "Keep one of the two");
    }
    unfit(
        format!("it is no TOML: {message}"),
        "Correct the line; a text stands in double quotes, and a name at the left of =",
    )
}

/// A name with what stands below it.
pub(super) struct Entry<'d> {
    pub(super) name: &'d str,
    pub(super) place: Place,
    pub(super) value: &'d DeValue<'d>,
}

/// What stands below a table, in the order of the file.
pub(super) fn entries<'d>(table: &'d DeTable<'d>, source: &Source) -> Vec<Entry<'d>> {
    let mut entries: Vec<(&Spanned<_>, &Spanned<DeValue<'d>>)> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    let entry = |(name, value): (&'d Spanned<toml::de::DeString<'d>>, &'d Spanned<DeValue<'d>>)| Entry {
        name: name.get_ref(),
        place: source.place(name.span().start),
        value: value.get_ref(),
    };
    entries.into_iter().map(entry).collect()
}
