//! The doctor examines the tables: nothing that the migrations made was switched off, and nothing keeps them from staying small.

use sqlx::PgConnection;

use super::check::{Check, Database, Needs};
use super::finding::{Finding, OWNER, Remedy};

pub(super) const CHECKS: &[Check] = &[
    Check { subject: "tables", needs: Needs::Schema, ask: |database| Box::pin(altered(database)) },
    Check { subject: "replication", needs: Needs::Schema, ask: |database| Box::pin(replication(database)) },
    Check { subject: "claims", needs: Needs::Events, ask: |database| Box::pin(claims(database)) },
];

/// Below this number of updates the share of HOT updates says nothing.
const UPDATES_MIN: i64 = 10_000;

/// Every claim can be a HOT update; releases of blocked events and retries cannot.
const HOT_SHARE_MIN: f64 = 0.3;

/// Something that a person can do to a table of ours, and that does harm. Each question lists what it was done to, and the
/// statement that undoes it.
struct Change {
    question: &'static str,
    says: &'static str,
    why: &'static str,
}

const CHANGES: &[Change] = &[
    Change {
        question: "select format('%I on %I', t.tgname, c.relname), format('alter table restante.%I enable trigger %I', c.relname, t.tgname)
                     from pg_trigger as t join pg_class as c on c.oid = t.tgrelid
                    where c.relnamespace = to_regnamespace('restante') and t.tgenabled = 'D' order by 1",
        says: "a trigger does not run",
        why: "it makes an UPDATE by hand safe, and notes who did what",
    },
    Change {
        question: "select quote_ident(i.relname), format('reindex index restante.%I', i.relname)
                     from pg_index as x join pg_class as i on i.oid = x.indexrelid
                    where i.relnamespace = to_regnamespace('restante') and i.relkind = 'i' and not (x.indisvalid and x.indisready)
                    order by 1",
        says: "an index is not valid",
        why: "Postgres does not read it, so claims read the whole table, or does not keep it unique",
    },
    Change {
        question: "select quote_ident(relname), format('alter table restante.%I set logged', relname) from pg_class
                    where relnamespace = to_regnamespace('restante') and relkind = 'r' and relpersistence = 'u' order by 1",
        says: "a table is unlogged",
        why: "Postgres empties it after a crash, and a replica does not have it",
    },
    Change {
        question: "select quote_ident(relname), format('alter table restante.%I reset (autovacuum_enabled)', relname) from pg_class
                    where relnamespace = to_regnamespace('restante')
                      and exists (select from pg_options_to_table(reloptions) where option_name = 'autovacuum_enabled'
                                     and not option_value::boolean) order by 1",
        says: "autovacuum is off for a table",
        why: "it grows, and each statement that reads it gets slower",
    },
    Change {
        question: "select quote_ident(relname), 'alter table restante.outbox_live set (fillfactor = 45)' from pg_class
                    where relnamespace = to_regnamespace('restante') and relname = 'outbox_live'
                      and not exists (select from pg_options_to_table(reloptions) where option_name = 'fillfactor'
                                         and option_value::integer <= 60)",
        says: "the table of unfinished events leaves no room in its pages",
        why: "each claim then writes all indexes, and not only the row",
    },
    Change {
        question: "select quote_ident(relname), format('alter table restante.%I disable row level security', relname) from pg_class
                    where relnamespace = to_regnamespace('restante') and relrowsecurity order by 1",
        says: "a table has row level security",
        why: "the services do not see the rows that its policies hide, and nothing says so",
    },
    Change {
        question: "select quote_ident(c.relname), format('revoke all on restante.%I from public', c.relname)
                     from pg_class as c cross join lateral aclexplode(c.relacl) as a
                    where c.relnamespace = to_regnamespace('restante') and c.relkind in ('r', 'p', 'v') and a.grantee = 0
                    group by c.relname order by 1",
        says: "everybody may use a table",
        why: "it holds what the API and your customers wrote, for the four roles only",
    },
];

/// The indexes that the migrations make, each as the statement that makes it. A test holds that it has them all.
const INDEXES: &str = include_str!("indexes.txt");

/// The indexes that are there, each with the statement that makes it, but for those of the partitions.
pub(super) async fn indexes(connection: &mut PgConnection) -> sqlx::Result<Vec<(String, String)>> {
    sqlx::query_as(
        "select i.relname::text, replace(pg_get_indexdef(i.oid), ' ON ONLY ', ' ON ')
           from pg_index as x join pg_class as i on i.oid = x.indexrelid join pg_class as t on t.oid = x.indrelid
          where i.relnamespace = to_regnamespace('restante') and not t.relispartition
          order by i.relname collate \"C\"",
    )
    .fetch_all(connection)
    .await
}

/// What `INDEXES` has and the database has not, with the statements that make it.
fn dropped(there: &[(String, String)]) -> Vec<(String, String)> {
    let name = |statement: &'static str| statement.split_once("INDEX ")?.1.split(' ').next();
    let known =
        INDEXES.lines().filter_map(|statement| Some((name(statement)?.to_owned(), statement.to_owned())));
    known.filter(|(name, _)| !there.iter().any(|(there, _)| there == name)).collect()
}

async fn altered(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    if !database.is_newer {
        let there = indexes(&mut database.connection).await?;
        let says = "an index of the migrations is missing";
        let why = "what it is for reads the whole table, or stores twice what is to be stored once";
        findings.extend(judge(says, why, &dropped(&there)));
    }
    for change in CHANGES {
        let found = sqlx::query_as::<_, (String, String)>(change.question);
        findings.extend(judge(change.says, change.why, &found.fetch_all(&mut database.connection).await?));
    }
    if findings.is_empty() {
        findings.push(Finding::fine("tables", "are as the migrations made them"));
    }
    Ok(findings)
}

fn judge(says: &str, why: &'static str, found: &[(String, String)]) -> Option<Finding> {
    let (first, _) = found.first()?;
    let statements: Vec<&str> = found.iter().map(|(_, statement)| statement.as_str()).collect();
    let says = match found.len() {
        1 => format!("{says}: {first}"),
        count => format!("{says}: {first}, and {} more", count - 1),
    };
    Some(Finding::wrong("tables", says, why, Remedy::sql(OWNER, statements.join("; "))))
}

/// If all tables are published, Postgres refuses to change rows of a table without a replica identity.
async fn replication(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select quote_ident(c.relname) from pg_class as c
          where c.relnamespace = to_regnamespace('restante') and c.relkind = 'r' and (c.relreplident = 'n'
             or c.relreplident = 'd' and not exists (
                select from pg_index as i where i.indrelid = c.oid and i.indisprimary))
          order by 1",
    )
    .fetch_all(&mut database.connection)
    .await?;
    let Some(table) = tables.first() else {
        return Ok(vec![Finding::fine("replication", "every table has a replica identity")]);
    };
    let statements: Vec<String> =
        tables.iter().map(|table| format!("alter table restante.{table} replica identity full")).collect();
    Ok(vec![Finding::wrong(
        "replication",
        format!("{} tables have no replica identity, such as {table}", tables.len()),
        "Postgres refuses to change their rows once somebody publishes all tables",
        Remedy::sql(OWNER, statements.join("; ")),
    )])
}

async fn claims(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let (updates, hot) = updates(&mut database.connection).await?;
    Ok(vec![judge_claims(updates, hot)])
}

async fn updates(connection: &mut PgConnection) -> sqlx::Result<(i64, i64)> {
    let question = "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables
                     where schemaname = 'restante' and relname = 'outbox_live'";
    sqlx::query_as(question).fetch_one(connection).await
}

fn judge_claims(updates: i64, hot: i64) -> Finding {
    if updates < UPDATES_MIN {
        let says = format!("too few updates so far to judge how they are written ({updates})");
        return Finding::fine("claims", says);
    }
    let share = hot as f64 / updates as f64;
    let says =
        format!("{:.0} % of {updates} updates of the outbox were written in place (HOT)", share * 100.0);
    if share >= HOT_SHARE_MIN {
        return Finding::fine("claims", says);
    }
    Finding::warn(
        "claims",
        says,
        "each of the others writes all indexes, so that claims are slow and the table grows",
        "look for an index that the migrations did not make, and for an old transaction: \
         select indexdef from pg_indexes where schemaname = 'restante' and tablename = 'outbox_live'",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn the_share_of_updates_in_place_counts_once_there_are_enough() {
        for (updates, hot, verdict) in
            [(9_999, 0, Verdict::Fine), (10_000, 9_000, Verdict::Fine), (10_000, 100, Verdict::Warn)]
        {
            assert_eq!(judge_claims(updates, hot).verdict, verdict, "{updates} {hot}");
        }
    }
}
