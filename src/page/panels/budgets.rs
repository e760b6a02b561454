//! What each budget has left.

use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use crate::page::panel::{CALM, Panel, Shows, nothing, rows, table};
use crate::page::words;

pub(in crate::page) static PANEL: Panel = Panel {
    name: "budgets",
    title: "Budgets",
    sql: "select tag, per, amount::float8 as amount, spent::float8 as spent, under_way::float8 as under_way, left_over::float8 as left_over\n  \
          from restante.budget_overview order by left_over limit 20",
    fresh: CALM,
    bytes_max: 12_000,
    draw,
};

#[derive(FromRow)]
struct Budget {
    tag: String,
    per: String,
    amount: f64,
    spent: f64,
    under_way: f64,
    left_over: f64,
}

fn draw(found: &[PgRow], shows: Shows) -> sqlx::Result<Markup> {
    let budgets: Vec<Budget> = rows(found)?;
    if budgets.is_empty() {
        return Ok(nothing("There is no budget: select restante.budget(...)."));
    }
    let body = html! {
        @for row in &budgets {
            tr {
                td { (shows.room.word(&row.tag)) }
                td { "per " (row.per) }
                td.n { (words::dollars(Some(row.amount))) }
                td.n { (words::dollars(Some(row.spent))) }
                td.n.wide { (words::dollars(Some(row.under_way))) }
                td.n { (words::dollars(Some(row.left_over))) }
            }
        }
    };
    Ok(table("Budgets", &["tag", "period", ">amount", ">spent", "~>under way", ">left"], &body))
}
