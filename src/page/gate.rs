//! Who comes in: the rules for every request of the page, and the headers of every answer.
//!
//! With users configured, everybody shows a password. Without, the page is there only for this machine: on an address beyond
//! loopback it says how to turn it on, and on loopback it answers only under a name of this machine, so that no site on the
//! internet can point its own name here and read it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::users::{User, Users};

/// Whoever asked, as the password says. Without users nobody is known by name.
#[derive(Clone, Debug)]
pub(super) struct Person(pub(super) Option<String>);

/// What decides who comes in.
pub(super) struct Gate {
    users: Users,
    is_loopback: bool,
}

/// Nothing but what comes from here is loaded, and no script stands in the page itself.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

fn closed() -> String {
    format!(
        "The ops page is not shown on an address beyond this machine without users.\n\
         Set RESTANTE_OPS_USERS_FILE to a file with a line for each, as `{}` prints it,\n\
         or let RESTANTE_OPS_LISTEN be an address of loopback.\n",
        User::MADE_WITH
    )
}

impl Gate {
    pub(super) fn new(users: Users, listens_at: SocketAddr) -> Self {
        Self { users, is_loopback: listens_at.ip().is_loopback() }
    }

    /// Whether anybody is let in.
    pub(super) fn is_open(&self) -> bool {
        self.is_loopback || !self.users.is_empty()
    }

    async fn person(&self, headers: &HeaderMap) -> Result<Person, Refused> {
        if self.users.is_empty() {
            return match (self.is_loopback, is_of_this_machine(headers)) {
                (true, true) => Ok(Person(None)),
                (true, false) => Err(Refused::Name),
                (false, _) => Err(Refused::Closed),
            };
        }
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match shown {
            Some(shown) => {
                self.users.whose(shown).await.map(|name| Person(Some(name))).ok_or(Refused::Password)
            }
            None => Err(Refused::Password),
        }
    }
}

/// Why somebody is not let in.
enum Refused {
    Password,
    Name,
    Closed,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Refused::Password => {
                let asks = [(header::WWW_AUTHENTICATE, "Basic realm=\"Restante\", charset=\"UTF-8\"")];
                (StatusCode::UNAUTHORIZED, asks, "a name and a password of RESTANTE_OPS_USERS are needed\n")
                    .into_response()
            }
            Refused::Name => {
                (StatusCode::FORBIDDEN, "ask for this page as localhost or 127.0.0.1\n").into_response()
            }
            Refused::Closed => (StatusCode::FORBIDDEN, closed()).into_response(),
        }
    }
}

/// Is the host that was asked for this machine, and not a name that somebody else pointed here?
fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Lets a request in, or not, and gives its answer the headers that all have.
pub(super) async fn guard(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let mut response = match gate.person(request.headers()).await {
        Ok(person) => {
            request.extensions_mut().insert(person);
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_let_in_beyond_this_machine_without_users() {
        let ada = || User::read(&format!("ada:{}", bcrypt::hash("x", 8).unwrap())).unwrap();
        let is_open = |users: Vec<User>, address: &str| {
            Gate::new(Users::new(users), address.parse().unwrap()).is_open()
        };

        assert!(is_open(vec![], "127.0.0.1:9092") && is_open(vec![], "[::1]:9092"));
        assert!(is_open(vec![ada()], "0.0.0.0:9092"));
        assert!(!is_open(vec![], "0.0.0.0:9092") && !is_open(vec![], "10.0.0.1:9092"));
    }

    #[test]
    fn only_names_of_this_machine_are_taken_without_users() {
        let is_ours = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            is_of_this_machine(&headers)
        };

        for host in ["localhost", "LOCALHOST:9092", "127.0.0.1:9092", "127.0.0.2", "[::1]:9092", "[::1]"] {
            assert!(is_ours(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:9092",
            "127.0.0.1.evil.example",
            "10.0.0.1:9092",
            "",
            "[::2]",
        ] {
            assert!(!is_ours(host), "{host}");
        }
        assert!(!is_of_this_machine(&HeaderMap::new()));
    }
}
