//! Settings of a database or a login that do harm.

use super::Environment;

/// Sets it for the database, where the doctor finds it, says how to reset it, and is silent after that.
async fn is_found_and_reset(name: &str, value: &str, says: &str) {
    let environment = Environment::new().await;
    let database = &environment.database;
    environment.is_silent().await;
    environment.sql(&format!("alter database {database} set {name} = {value}")).await;

    let reset = format!("alter database {database} reset {name}");
    environment.is_mended_by("settings", says, &reset).await;
}

#[tokio::test]
async fn a_database_whose_commits_do_not_wait_for_the_disk() {
    is_found_and_reset("synchronous_commit", "off", "synchronous_commit is off").await;
}

#[tokio::test]
async fn a_database_whose_commits_do_not_wait_for_replicas() {
    is_found_and_reset("synchronous_commit", "local", "synchronous_commit is local").await;
}

#[tokio::test]
async fn a_database_that_is_read_only_by_default() {
    is_found_and_reset("default_transaction_read_only", "on", "default_transaction_read_only is on").await;
}

#[tokio::test]
async fn a_database_whose_transactions_see_old_states() {
    is_found_and_reset("default_transaction_isolation", "'repeatable read'", "is repeatable read").await;
}

#[tokio::test]
async fn a_database_whose_statements_have_half_a_second() {
    is_found_and_reset("statement_timeout", "'500ms'", "statement_timeout is 500").await;
}

#[tokio::test]
async fn a_database_that_gives_up_on_locks_at_once() {
    is_found_and_reset("lock_timeout", "'5ms'", "lock_timeout is 5").await;
}

#[tokio::test]
async fn a_database_that_ends_transactions_that_pause() {
    let name = "idle_in_transaction_session_timeout";
    is_found_and_reset(name, "'100ms'", "idle_in_transaction_session_timeout is 100").await;
}

#[tokio::test]
async fn a_database_in_which_no_trigger_runs() {
    is_found_and_reset("session_replication_role", "replica", "session_replication_role is replica").await;
}

#[tokio::test]
async fn a_database_in_which_nobody_sees_what_sessions_do() {
    is_found_and_reset("track_activities", "off", "track_activities is off").await;
}

#[tokio::test]
async fn a_database_that_does_not_count_what_vacuum_has_to_clean_up() {
    is_found_and_reset("track_counts", "off", "track_counts is off").await;
}

#[tokio::test]
async fn a_database_whose_path_hides_the_functions_of_postgres() {
    is_found_and_reset("search_path", "public, pg_catalog", "search_path is public, pg_catalog").await;
}

#[tokio::test]
async fn a_database_that_logs_what_events_contain() {
    is_found_and_reset("log_statement", "'all'", "log_statement is all").await;
}

#[tokio::test]
async fn a_database_that_takes_damaged_rows_for_sound_ones() {
    is_found_and_reset("zero_damaged_pages", "on", "zero_damaged_pages is on").await;
}

#[tokio::test]
async fn a_setting_is_reset_where_it_was_set() {
    let mut environment = Environment::new().await;
    let login = environment.login("in role restante_ingest").await;
    let database = environment.database.clone();
    environment.is_silent().await;
    for whose in [format!("role {login}"), format!("role {login} in database {database}")] {
        environment.sql(&format!("alter {whose} set synchronous_commit = off")).await;

        let reset = format!("alter {whose} reset synchronous_commit");
        environment.is_mended_by("settings", "synchronous_commit is off for", &reset).await;
    }
}
