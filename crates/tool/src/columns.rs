//! Rows of text in aligned columns, as `psql` prints them.

use sqlx::postgres::PgRow;
use sqlx::{Column, PgConnection, Row};

/// Runs a query and returns its rows as text, below a line of column names. A null is empty.
///
/// # Errors
/// If the database refuses the query or the connection is lost.
pub(super) async fn answer(connection: &mut PgConnection, query: &'static str) -> sqlx::Result<String> {
    // The simple protocol gives every value as the text that a person would see.
    let rows = sqlx::raw_sql(query).fetch_all(connection).await?;
    let names = rows.first().map(names).unwrap_or_default();
    let cells = rows.iter().map(texts).collect::<sqlx::Result<Vec<_>>>()?;
    Ok(aligned(&names, &cells))
}

fn names(row: &PgRow) -> Vec<String> {
    row.columns().iter().map(|column| column.name().to_owned()).collect()
}

fn texts(row: &PgRow) -> sqlx::Result<Vec<String>> {
    (0..row.len())
        .map(|index| {
            let value = row.try_get_raw(index)?;
            let text = value.as_str().unwrap_or_default().to_owned();
            Ok(text)
        })
        .collect()
}

/// Returns the cells in columns below their names. Numbers are aligned on the right, line breaks become blanks.
pub(super) fn aligned(names: &[String], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| cell.replace('\n', " ")).collect()).collect();
    let column = |index: usize| rows.iter().filter_map(move |row| row.get(index));
    let width = |index: usize, name: &String| {
        column(index).map(|text| text.chars().count()).max().unwrap_or(0).max(name.chars().count())
    };
    let is_number = |text: &String| text.is_empty() || text.replace(',', "").parse::<f64>().is_ok();
    let is_numbers = |index: usize| column(index).all(is_number);
    let shape: Vec<(usize, bool)> =
        names.iter().enumerate().map(|(index, name)| (width(index, name), is_numbers(index))).collect();

    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&shape).map(|(cell, &(width, right))| match right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:width$}"),
        });
        format!("{}\n", padded.collect::<Vec<_>>().join(" | ").trim_end())
    };
    let rule = shape.iter().map(|&(width, _)| "-".repeat(width)).collect::<Vec<_>>().join("-+-");
    [line(names), format!("{rule}\n")].into_iter().chain(rows.iter().map(|row| line(row))).collect()
}

/// A text two blanks further to the right.
pub(super) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// A count with its thousands set apart: `1,000`.
pub(super) fn grouped(count: i64) -> String {
    let digits = count.unsigned_abs().to_string();
    let mut text = String::from(if count < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_their_names() {
        let text = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();

        expect_test::expect![[r#"
            outcome   | count
            ----------+------
            succeeded |   951
            errored   |
        "#]]
        .assert_eq(&aligned(
            &text(["outcome", "count"]),
            &[text(["succeeded", "951"]), text(["errored", ""])],
        ));
    }

    #[test]
    fn thousands_are_set_apart() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(grouped(count), text);
        }
    }
}
