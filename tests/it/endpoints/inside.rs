//! No way inside: no URL and no name server leads a notification to where it must not go, and none of our secrets goes along.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use restante::internals::egress::{Client, Error, LookUp, Names, Rules};
use restante::{api, handlers, worker};
use secrecy::ExposeSecret;
use url::Url;

use super::receiver::{Receiver, Reply};
use super::{SECRET, add, enqueue};
use crate::support::World;
use crate::support::api::{ADMIN_KEY, KEY, ScriptedApi};

/// All that can be allowed but private addresses, so that nothing else keeps a request from its target.
const ONLY_PUBLIC: Rules = Rules { plain_http: true, any_port: true, private_addresses: false };

/// Hosts that lead to this machine, into a private network, to metadata of a cloud, or look as if they did not.
const HOSTILE: &[&str] = &[
    "127.0.0.1",
    "127.0.0.2",
    "127.255.255.254",
    "127.1",
    "127.0.1",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0300.0250.0.1",
    "127.0.0.1.",
    "2130706433.",
    "0",
    "0.0.0.0",
    "0.0.0.0.",
    "0x0",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "%6c%6f%63%61lhost",
    "%31%32%37.0.0.1",
    "localhost.localdomain",
    "ip6-localhost",
    "１２７.0.0.1",
    "127。0。0。1",
    "ⓛocalhost",
    "①②⑦.0.0.1",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.1.1",
    "3232235777",
    "0xc0a80101",
    "100.64.0.1",
    "100.127.255.255",
    "100.100.100.200",
    "169.254.169.254",
    "169.254.170.2",
    "0xa9fea9fe",
    "2852039166",
    "0251.0376.0251.0376",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:10.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::]",
    "[2001::1]",
    "[2001:0:7f00:1::]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "[fe80::1]",
    "[fe80::5efe:127.0.0.1]",
    "[fec0::1]",
    "[ff02::1]",
    "[2001:db8::1]",
    "[100::1]",
    "[3fff::1]",
    "[5f00::1]",
];

async fn post(client: &Client, url: &str) -> Result<u16, String> {
    let url: Url = url.parse().map_err(|error| format!("no URL: {error}"))?;
    let answer = client.post(&url, HeaderMap::new(), Bytes::from_static(b"{}")).await;
    answer.map(|answer| answer.status).map_err(|error| match error {
        Error::NotPublic(_) | Error::Refused(_) => error.to_string(),
        other => panic!("{url} was not refused: {other:?}"),
    })
}

/// A name server with an answer for each look-up; the last one stays.
struct Scripted {
    answers: Vec<Vec<&'static str>>,
    asked: AtomicUsize,
}

impl Names for Scripted {
    fn look_up(&self, _: String) -> LookUp {
        let nth = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
        let found: Vec<IpAddr> = self.answers[nth].iter().map(|address| address.parse().unwrap()).collect();
        Box::pin(async move { Ok(found) })
    }
}

fn names(answers: &[&[&'static str]]) -> Arc<Scripted> {
    let answers = answers.iter().map(|answer| answer.to_vec()).collect();
    Arc::new(Scripted { answers, asked: AtomicUsize::new(0) })
}

#[tokio::test]
async fn no_hostile_url_makes_a_connection() {
    assert!(HOSTILE.len() >= 60, "{}", HOSTILE.len());
    let receiver = Receiver::start().await;
    let port = receiver.origin.rsplit(':').next().unwrap();
    for rules in [ONLY_PUBLIC, Rules::PUBLIC] {
        // A name that is in no file of hosts leads to this machine too.
        let client = Client::with_names(rules, names(&[&["127.0.0.1", "::1"]])).unwrap();
        for host in HOSTILE {
            for scheme in ["http", "https"] {
                post(&client, &format!("{scheme}://{host}:{port}/")).await.expect_err(host);
            }
        }
    }
    assert_eq!(receiver.connections(), 0);
    // The same listener is reached where it may be.
    let client = Client::new(Rules::PRIVATE_NETWORK).unwrap();
    assert_eq!(post(&client, &receiver.url("/")).await, Ok(204));
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn names_as_this_machine_knows_them_are_checked_too() {
    let receiver = Receiver::start().await;
    let port = receiver.origin.rsplit(':').next().unwrap();
    let client = Client::new(ONLY_PUBLIC).unwrap();
    for host in ["localhost", "LocalHost"] {
        let refused = post(&client, &format!("http://{host}:{port}/")).await.unwrap_err();
        assert!(refused.ends_with("is no public address"), "{refused}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_server_that_changes_its_mind_changes_nothing() {
    let receiver = Receiver::start().await;
    let url = receiver.url("/").replace("127.0.0.1", "rebound.example");
    // A public address and a private one together, then the private one alone, and its other forms.
    let server = names(&[
        &["93.184.216.34", "127.0.0.1"],
        &["127.0.0.1"],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["2002:7f00:1::"],
        &["169.254.169.254"],
        &["::1"],
    ]);
    let client = Client::with_names(ONLY_PUBLIC, Arc::clone(&server) as Arc<dyn Names>).unwrap();
    for nth in 1..=7 {
        let refused = post(&client, &url).await.unwrap_err();
        assert!(refused.ends_with("is no public address"), "{refused}");
        assert_eq!(server.asked.load(Ordering::SeqCst), nth, "it is asked once for each connection");
    }
    assert_eq!(receiver.connections(), 0);

    // The connection goes to what was checked: where it is allowed first, the answer after it is not even asked for.
    let server = names(&[&["127.0.0.1"], &["169.254.169.254"]]);
    let client = Client::with_names(Rules::PRIVATE_NETWORK, Arc::clone(&server) as Arc<dyn Names>).unwrap();
    assert_eq!(post(&client, &url).await, Ok(204));
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    let refused = post(&client, &url).await.unwrap_err();
    assert_eq!(refused, "its name leads to 169.254.169.254, which is no public address");
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_private_network_does_not_include_what_leads_nowhere() {
    let client = Client::new(Rules::PRIVATE_NETWORK).unwrap();
    for host in [
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "100.100.100.200",
        "[fe80::1]",
        "[::]",
        "[fd00:ec2::254]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
    ] {
        post(&client, &format!("http://{host}:1/")).await.expect_err(host);
    }
}

#[tokio::test]
async fn without_the_permission_only_https_to_its_own_ports_goes_out() {
    let client = Client::with_names(Rules::PUBLIC, names(&[&["10.0.0.1"]])).unwrap();
    for (url, said) in [
        ("http://hooks.example/", "it is not https"),
        ("ftp://hooks.example/", "it is not https"),
        ("file:///etc/passwd", "it has no host"),
        ("https://hooks.example:22/", "its port is neither 443 nor 8443"),
        ("https://hooks.example:6379/", "its port is neither 443 nor 8443"),
        ("https://user@hooks.example/", "it has a user or a password"),
        ("https://hooks.example/", "its name leads to 10.0.0.1"),
        ("https://hooks.example:8443/", "its name leads to 10.0.0.1"),
    ] {
        let refused = post(&client, url).await.unwrap_err();
        assert!(refused.contains(said), "{url}: {refused}");
    }
}

#[tokio::test]
async fn a_worker_without_the_permission_makes_no_connection_and_says_why() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    add(&world, "a", &receiver.url("/"), &[]).await;
    let https = receiver.url("/").replace("http:", "https:");
    add(&world, "b", &https, &[]).await;
    add(&world, "c", "https://127.0.0.1/", &[]).await;
    enqueue(&world, "order.placed", None, "{}").await;
    let settings = handlers::Settings {
        batch_poll: Duration::from_secs(60),
        reconcile: None,
        allow_private_endpoints: false,
    };
    world.work_with(handlers::registry(settings)).await;

    assert_eq!(receiver.connections(), 0);
    let log = "select string_agg(endpoint || ': ' || error, '; ' order by endpoint) from restante.endpoint_delivery";
    assert_eq!(
        world.value(log).await,
        "a: its URL is refused: it is not https; b: its URL is refused: its port is neither 443 nor 8443; \
         c: its name leads to 127.0.0.1, which is no public address"
    );
}

#[tokio::test]
async fn no_secret_of_ours_is_in_a_request_or_in_what_is_kept_of_it() {
    let (world, receiver, api) = (World::new().await, Receiver::start().await, ScriptedApi::new().await);
    add(&world, "a", &receiver.url("/"), &["body = 'full'"]).await;
    for reply in [
        Reply::Status(204, "", ""),
        Reply::Status(500, "set-cookie: a=canary-cookie\r\n", ""),
        Reply::Status(429, "", ""),
    ] {
        receiver.reply(reply);
        enqueue(&world, "order.placed", None, "{}").await;
    }
    let client: api::Client = api.admin_client();
    for _ in 0..3 {
        let run = worker::run_until_idle(
            world.worker_settings(),
            world.pool.clone(),
            super::registry(),
            client.clone(),
        );
        run.await.unwrap();
        world.wait_for_retries().await;
    }

    let arrived = receiver.arrived();
    assert!(arrived.len() >= 5);
    let password = Url::parse(world.url.expose_secret()).unwrap().password().map(str::to_owned);
    for request in &arrived {
        let text = format!("{}\r\n\r\n{}", request.head, String::from_utf8_lossy(&request.body));
        let secret = SECRET.strip_prefix("whsec_").unwrap();
        for canary in [KEY, ADMIN_KEY, secret, "canary of the endpoint", "canary-cookie"]
            .into_iter()
            .chain(password.as_deref())
        {
            assert!(!text.contains(canary), "{canary} in {text}");
        }
        let names: Vec<_> = request.head.lines().skip(1).filter_map(|line| line.split(": ").next()).collect();
        for name in &names {
            assert!(
                [
                    "content-type",
                    "webhook-id",
                    "webhook-timestamp",
                    "webhook-signature",
                    "user-agent",
                    "accept-encoding",
                    "accept",
                    "host",
                    "content-length"
                ]
                .contains(name),
                "{name} in {text}"
            );
        }
    }
    let kept = "select string_agg(o::text, '') || (select string_agg(d::text, '') from restante.endpoint_delivery as d)
                       || (select string_agg(f::text, '') from restante.failure as f) from restante.outbox as o";
    let kept = world.value(kept).await;
    assert!(!kept.contains("Y2FuYXJ5") && !kept.contains("canary of"), "{kept}");
}
