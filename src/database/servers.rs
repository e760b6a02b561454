//! The servers of a `DATABASE_URL`: one, or several of which one takes writes, written as for libpq.
//!
//! sqlx takes one server only, so each gets a URL of its own. Parameters that neither sqlx nor we know are left out,
//! because sqlx would log them with their values.

use secrecy::SecretString;
use url::Url;
use url::form_urlencoded::{Serializer, parse};

/// The content of a `DATABASE_URL`.
#[derive(Debug)]
pub struct Servers {
    /// A URL for each server, in their order.
    pub urls: Vec<SecretString>,
    /// The names of parameters that libpq knows and that have no effect here.
    pub unused: Vec<&'static str>,
}

/// Why a `DATABASE_URL` cannot be used, and how to fix it. Neither text repeats a part of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Unusable {
    /// What is wrong.
    pub problem: &'static str,
    /// What to write instead.
    pub mend: &'static str,
}

const NO_URL: Unusable = Unusable {
    problem: "it cannot be read as a URL",
    mend: "Write it like postgres://user:password@host:5432/database, with %-escapes for the characters \
           @ : / ? # % in the password",
};
const FOREIGN: Unusable = Unusable { problem: "it is not the URL of a Postgres database", ..NO_URL };
const PORTS: Unusable = Unusable {
    problem: "it names several servers, but neither one port for all nor one port for each",
    mend: "Write several servers like postgres://user:password@one:5432,other:5432/database",
};
const SESSION: Unusable = Unusable {
    problem: "its target_session_attrs asks for a server that takes no writes",
    mend: "Leave target_session_attrs out, or set it to read-write: the server that takes writes is always used",
};

/// The parameters that sqlx reads.
const READ_BY_SQLX: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "host",
    "hostaddr",
    "port",
];
/// Further parameters that libpq reads (its manual, 34.1.2), or that providers put into the addresses they hand out.
const READ_BY_LIBPQ: [&str; 24] = [
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "passfile",
    "pgbouncer",
    "replication",
    "requirepeer",
    "require_auth",
    "service",
    "sslcompression",
    "sslcrl",
    "ssl_min_protocol_version",
    "sslsni",
    "tcp_user_timeout",
];

/// Reads the servers that a URL names.
///
/// # Errors
/// [`Unusable`] if it is not the URL of a Postgres, or asks for something that is not supported.
pub fn servers(url: &str) -> Result<Servers, Unusable> {
    let (scheme, rest) = url.split_once("://").ok_or(NO_URL)?;
    if !matches!(scheme.to_ascii_lowercase().as_str(), "postgres" | "postgresql") {
        return Err(FOREIGN);
    }
    let rest = rest.split('#').next().unwrap_or(rest);
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = address.find('/').map_or((address, ""), |at| address.split_at(at));
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));

    let mut query = Query::read(query)?;
    let places = query.places(hosts)?;
    let urls = places.iter().map(|(host, port)| {
        let at = if user.is_empty() { "" } else { "@" };
        let text = format!("{scheme}://{user}{at}{host}{path}?{}", query.with(port));
        // The error repeats nothing of the text.
        Url::parse(&text).map(|url| SecretString::from(String::from(url))).map_err(|_| NO_URL)
    });
    let urls = urls.collect::<Result<_, _>>()?;
    Ok(Servers { urls, unused: query.unused })
}

/// Parameters behind the question mark that say where one server is.
type Place = Vec<(&'static str, String)>;

/// The parameters behind the question mark.
#[derive(Default)]
struct Query {
    kept: Vec<(String, String)>,
    hosts: Option<(&'static str, Vec<String>)>,
    ports: Vec<String>,
    unused: Vec<&'static str>,
}

impl Query {
    fn read(text: &str) -> Result<Self, Unusable> {
        let mut query = Self::default();
        for (name, value) in parse(text.as_bytes()) {
            let list = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
            match &*name {
                "host" => query.hosts = Some(("host", list())),
                "hostaddr" => query.hosts = Some(("hostaddr", list())),
                "port" => query.ports = list(),
                "target_session_attrs" if matches!(&*value, "any" | "read-write" | "primary") => {}
                "target_session_attrs" => return Err(SESSION),
                known if READ_BY_SQLX.contains(&known) || known.starts_with("options[") => {
                    query.kept.push((name.into_owned(), value.into_owned()));
                }
                other => query.unused.extend(READ_BY_LIBPQ.iter().find(|known| **known == other)),
            }
        }
        Ok(query)
    }

    /// The servers: for each, the host to write before the path, and the parameters that say the rest.
    fn places(&mut self, hosts: &str) -> Result<Vec<(String, Place)>, Unusable> {
        let Some((name, named)) = self.hosts.take() else {
            let ports = std::mem::take(&mut self.ports);
            let count = hosts.split(',').count();
            return hosts
                .split(',')
                .enumerate()
                .map(|(index, host)| Ok((host.to_owned(), port(&ports, index, count)?)))
                .collect();
        };
        let (ports, count) = (std::mem::take(&mut self.ports), named.len());
        let place = |(index, host)| {
            let mut place = port(&ports, index, count)?;
            place.push((name, host));
            // The host before the path may carry the port of a single server, but is wrong for several. A URL with a
            // user needs some host; the parameter overrides it.
            Ok((if count == 1 && !hosts.is_empty() { hosts } else { "localhost" }.to_owned(), place))
        };
        named.into_iter().enumerate().map(place).collect()
    }

    fn with(&self, place: &Place) -> String {
        let mut query = Serializer::new(String::new());
        query.extend_pairs(&self.kept).extend_pairs(place);
        query.finish()
    }
}

/// The port of one of `count` servers; empty if none is given.
fn port(ports: &[String], index: usize, count: usize) -> Result<Place, Unusable> {
    let port = match ports {
        [] => return Ok(Place::new()),
        [one] => one,
        several if several.len() == count => &several[index],
        _ => return Err(PORTS),
    };
    // As in libpq, an empty port means the default port.
    Ok(if port.is_empty() { Place::new() } else { vec![("port", port.clone())] })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(url: &str) -> Vec<String> {
        servers(url).unwrap().urls.iter().map(|url| url.expose_secret().to_owned()).collect()
    }

    #[test]
    fn one_server_stays_as_it_is_written() {
        for url in [
            "postgres://user:p%40ss@host:5432/database?sslmode=require",
            "postgresql://[::1]:5432/database?application_name=x",
            "postgres://localhost/database?host=%2Fvar%2Frun%2Fpostgresql",
            "postgres:///database?sslmode=prefer",
            "postgres://u@%2Fvar%2Frun/database?options%5Bsearch_path%5D=a",
        ] {
            assert_eq!(read(url), [url]);
        }
        assert_eq!(read("postgres://host/database"), ["postgres://host/database?"]);
    }

    #[test]
    fn each_of_several_servers_gets_a_url_of_its_own() {
        assert_eq!(
            read(
                "postgres://u:a,b@one:5432,[::1]:5433,three/db?target_session_attrs=read-write&sslmode=prefer"
            ),
            [
                "postgres://u:a,b@one:5432/db?sslmode=prefer",
                "postgres://u:a,b@[::1]:5433/db?sslmode=prefer",
                "postgres://u:a,b@three/db?sslmode=prefer",
            ]
        );
        assert_eq!(
            read("postgres://u@/db?host=one,two&port=1,2"),
            ["postgres://u@localhost/db?port=1&host=one", "postgres://u@localhost/db?port=2&host=two"]
        );
        assert_eq!(
            read("postgres:///db?host=/a,/b&port=5433"),
            ["postgres://localhost/db?port=5433&host=%2Fa", "postgres://localhost/db?port=5433&host=%2Fb"]
        );
        assert_eq!(
            read("postgres://one,two/db?port=7"),
            ["postgres://one/db?port=7", "postgres://two/db?port=7"]
        );
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_a_sentence() {
        for (url, refused) in [
            ("host=one", NO_URL),
            ("postgres://u:p@one:x/db", NO_URL),
            ("postgres://u:p@one:5432,two:99999/db", NO_URL),
            ("mysql://one/db", FOREIGN),
            ("postgres://one,two/db?port=1,2,3", PORTS),
            ("postgres://one/db?target_session_attrs=standby", SESSION),
            ("postgres://one,two/db?target_session_attrs=prefer-standby", SESSION),
            ("postgres://one/db?target_session_attrs=read-only", SESSION),
        ] {
            assert_eq!(servers(url).map(|servers| servers.urls.len()), Err(refused), "{url}");
        }
    }

    #[test]
    fn a_parameter_that_nobody_reads_is_left_out_and_named_where_libpq_knows_it() {
        let url = "postgres://u@one/db?sslpassword=canary&channel_binding=require&ca%6Eary=1&sslmode=require";
        assert_eq!(read(url), ["postgres://u@one/db?sslmode=require"]);
        assert_eq!(servers(url).unwrap().unused, ["channel_binding"]);
    }
}
