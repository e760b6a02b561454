//! How many connections the services are told to open.

use restante::internals::config::Need;
use restante::internals::config::{Program, RESTANTE_DATABASE_CONNECTIONS, Variable};

use super::scope::Scope;

/// The most connections of the pools of the services in the scope.
pub(super) fn connections(variables: &[(String, String)], scope: Scope) -> i64 {
    let facts: &Variable = &RESTANTE_DATABASE_CONNECTIONS.facts;
    let given = variables.iter().find(|(name, _)| name == facts.name).map(|(_, value)| value.as_str());
    let of = |program: Program| -> i64 {
        let default = match facts.need(program) {
            Some(Need::Default(default)) => default,
            _ => "0",
        };
        // What cannot be read is told with the configuration.
        given.unwrap_or(default).trim().parse().unwrap_or(0)
    };
    let services = [(scope.ingest, Program::Ingest), (scope.worker, Program::Worker)];
    services.into_iter().filter(|(is_meant, _)| *is_meant).map(|(_, program)| of(program)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pools_are_as_large_as_the_variable_or_the_defaults_say() {
        let scope = |ingest, worker| Scope { ingest, worker, is_asked: true };
        let given = [("RESTANTE_DATABASE_CONNECTIONS".to_owned(), "30".to_owned())];

        assert_eq!(connections(&[], scope(true, true)), 8 + 16);
        assert_eq!(connections(&[], scope(false, false)), 0);
        assert_eq!(connections(&given, scope(true, false)), 30);
    }
}
