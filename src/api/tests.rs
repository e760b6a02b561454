//! The client against a stand-in for the API on a socket, and the URLs that the client makes and refuses.

use proptest::prelude::*;

use super::stand_in::StandIn;
use super::*;

fn client(base_url: &str) -> Client {
    Client::new(Settings::new(base_url.parse().unwrap(), "sk-secret".into())).unwrap()
}

#[tokio::test]
async fn a_request_carries_the_key_the_version_and_the_betas() {
    let api = StandIn::answering(200, "", r#"{"id": "s",  "new": 1e999}"#).await;
    let client = api.client_with(|settings| settings.betas = vec!["one".to_owned()]);

    let object = client.get_json(&["v1", "sessions", "a/b"], &[("types[]", "x y")], &["two"]).await.unwrap();

    assert_eq!(object.get(), r#"{"id": "s",  "new": 1e999}"#);
    let request = &api.requests()[0];
    assert!(request.starts_with("GET /v1/sessions/a%2Fb?types%5B%5D=x+y HTTP/1.1\r\n"), "{request}");
    for line in ["x-api-key: sk-secret", "anthropic-version: 2023-06-01", "anthropic-beta: one,two"] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{request}");
    }
    assert!(!request.contains("authorization"));
}

#[tokio::test]
async fn a_bearer_key_goes_alone() {
    let api = StandIn::answering(200, "", "{}").await;
    let client = api.client_with(|settings| settings.auth = Auth::Bearer);

    client.get_json(&["v1"], &[], &[]).await.unwrap();

    let request = &api.requests()[0];
    assert!(request.contains("\r\nauthorization: Bearer sk-secret\r\n"), "{request}");
    assert!(!request.contains("x-api-key") && !request.contains("anthropic-beta"), "{request}");
}

#[tokio::test]
async fn what_is_below_the_organizations_is_asked_for_with_the_admin_key_and_all_else_with_the_other() {
    let api = StandIn::answering(200, "", "{}").await;
    let client = api.client_with(|settings| {
        settings.admin_key = Some("sk-admin".into());
        settings.workspace_id = Some("wrkspc_1".to_owned());
    });

    client.get_json(&["v1", "organizations", "external_keys", "k"], &[], &[]).await.unwrap();
    client.get_json(&["v1", "sessions", "organizations"], &[], &[]).await.unwrap();

    let requests = api.requests();
    assert!(requests[0].contains("\r\nx-api-key: sk-admin\r\n"), "{}", requests[0]);
    assert!(!requests[0].contains("sk-secret") && !requests[0].contains("workspace-id"), "{}", requests[0]);
    for line in ["x-api-key: sk-secret", "anthropic-workspace-id: wrkspc_1"] {
        assert!(requests[1].contains(&format!("\r\n{line}\r\n")), "{}", requests[1]);
    }
    assert!(!requests[1].contains("sk-admin"), "{}", requests[1]);
}

#[tokio::test]
async fn without_an_admin_key_nothing_below_the_organizations_is_asked_for() {
    let api = StandIn::answering(200, "", "{}").await;
    let client = api.client();

    for _ in 0..20 {
        let error = client.get_json(&["v1", "organizations", "me"], &[], &[]).await.unwrap_err();
        assert!(matches!(error, Error::NoAdminKey), "{error}");
    }

    assert!(api.requests().is_empty());
    assert_eq!(client.trouble(), None, "it says nothing of the API");
}

#[tokio::test]
async fn an_echo_of_either_key_is_blotted_out_of_the_error() {
    let api = StandIn::answering(401, "", "sk-secret and sk-admin").await;
    let client = api.client_with(|settings| settings.admin_key = Some("sk-admin".into()));
    for path in [["v1", "organizations", "me"], ["v1", "sessions", "s"]] {
        let error = client.get_json(&path, &[], &[]).await.unwrap_err();
        assert!(error.to_string().ends_with("401: [key] and [key]"), "{error}");
    }
}

#[tokio::test]
async fn a_client_with_a_proxy_sends_its_requests_there() {
    let proxy = StandIn::answering(200, "", "{}").await;
    let mut settings = Settings::new("http://api.invalid/base".parse().unwrap(), "sk-secret".into());
    settings.proxy = Some(proxy.base_url.clone());

    Client::new(settings).unwrap().get_json(&["v1", "sessions", "s"], &[], &[]).await.unwrap();

    let request = &proxy.requests()[0];
    assert!(request.starts_with("GET http://api.invalid/base/v1/sessions/s HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = StandIn::answering(200, "", "{}").await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: {}\r\n", elsewhere.base_url);
        let api = StandIn::answering(status, &location, "").await;

        let error = api.client().get_json(&["v1"], &[], &[]).await.unwrap_err();

        assert!(matches!(error, Error::Redirected { status: told } if told == status));
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_success_that_is_no_object_is_malformed() {
    for body in ["<html></html>", "", "[]", "\"x\"", "{\"a\":", "{}{}"] {
        let api = StandIn::answering(200, "", body).await;
        let error = api.client().get_json(&["v1"], &[], &[]).await.unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{body}: {error}");
    }
}

#[tokio::test]
async fn an_error_names_what_the_api_said() {
    let body = r#"{"type":"error","error":{"type":"not_found_error","message":"gone"}}"#;
    let api = StandIn::answering(404, "request-id: req_1\r\n", body).await;

    let error = api.client().get_json(&["v1"], &[], &[]).await.unwrap_err();

    assert_eq!(error.to_string(), "the API does not find it: 404 not_found_error: gone (request req_1)");
}

#[tokio::test]
async fn silence_ends_after_the_idle_timeout() {
    let beginnings = ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"];
    for beginning in beginnings {
        let api = StandIn::hanging_after(beginning.as_bytes()).await;
        let client = api.client_with(|settings| settings.idle_timeout = Duration::from_millis(50));

        let error = client.get_json(&["v1"], &[], &[]).await.unwrap_err();

        assert!(matches!(&error, Error::Transport(cause) if cause.is_timeout()), "{error:?}");
    }
}

#[tokio::test]
async fn an_error_whose_body_never_ends_is_the_error_its_status_says() {
    let api = StandIn::hanging_after(b"HTTP/1.1 529 x\r\ncontent-length: 99\r\n\r\nbusy").await;
    let client = api.client_with(|settings| settings.idle_timeout = Duration::from_secs(1));

    let error = client.get_json(&["v1"], &[], &[]).await.unwrap_err();

    assert!(matches!(&error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().ends_with("529: busy"), "{error}");
}

#[tokio::test]
async fn a_broken_connection_names_no_url() {
    let api = StandIn::sending(b"").await;

    let error = api.client().get_json(&["v1", "secret-id"], &[], &[]).await.unwrap_err();

    assert!(matches!(error, Error::Transport(_)));
    assert!(!format!("{error:?}").contains("secret-id"));
}

#[test]
fn a_url_of_another_origin_gets_no_request() {
    let client = client("https://api.example/base");
    let foreign = [
        "https://evil.example/",
        "http://api.example/",
        "https://api.example:8443/",
        "https://api.example.evil.example/",
        "https://user@api.example/",
        "https://:password@api.example/",
        "https://api.example@evil.example/",
        "ftp://api.example/",
        "file:///etc/passwd",
        "data:,x",
    ];
    for url in foreign {
        let refused = client.wire().unwrap().request(Method::GET, url.parse().unwrap(), &[]);
        assert!(matches!(refused, Err(Error::ForeignOrigin)), "{url}");
    }
    assert!(
        client
            .wire()
            .unwrap()
            .request(Method::GET, "https://API.example:443/x?y".parse().unwrap(), &[])
            .is_ok()
    );
}

#[test]
fn a_path_stands_below_the_base() {
    for (base_url, url) in [
        ("https://api.example", "https://api.example/v1/a%20b"),
        ("https://api.example/", "https://api.example/v1/a%20b"),
        ("https://api.example/one/two", "https://api.example/one/two/v1/a%20b"),
        ("https://api.example/one/", "https://api.example/one/v1/a%20b"),
    ] {
        assert_eq!(client(base_url).wire().unwrap().url(&["v1", "a b"]).unwrap().as_str(), url);
    }
}

#[test]
fn an_id_that_could_name_another_path_is_refused() {
    for id in ["", ".", "..", "..;x", ";x", ".\t.", "a\r\nb", "a\0"] {
        assert!(
            matches!(client("https://api.example").wire().unwrap().url(&["v1", id]), Err(Error::BadId)),
            "{id:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_id_stays_one_segment_of_the_path(id in r"([./\\%2eE;?#@:a-]|\PC){1,8}") {
        if let Ok(url) = client_once().wire().unwrap().url(&["v1", &id, "results"]) {
            prop_assert_eq!(url.path_segments().unwrap().count(), 3);
            prop_assert_eq!((url.query(), url.fragment(), url.host_str()), (None, None, Some("api.example")));
            // Parsed again, as a server would, it is the same path.
            let again: Url = url.as_str().parse().unwrap();
            prop_assert_eq!(again, url);
        } else {
            prop_assert!(id.starts_with(['.', ';']));
        }
    }
}

/// The property above needs no new TLS set-up for each case.
fn client_once() -> &'static Client {
    static CLIENT: std::sync::LazyLock<Client> = std::sync::LazyLock::new(|| client("https://api.example"));
    &CLIENT
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = |base_url: &str, key: &str| {
        let settings = Settings::new(base_url.parse().unwrap(), key.into());
        Client::new(settings).unwrap_err().to_string()
    };
    for base_url in ["ftp://x", "data:x", "https://u@x", "https://x?y", "https://x#y", "file:///x"] {
        assert!(refused(base_url, "k").starts_with("the base URL must be"), "{base_url}");
    }
    assert_eq!(refused("https://x", ""), "the API key is empty");
    assert_eq!(refused("https://x", "a\nb"), "the API key has characters that no header can carry");
    let refused_with = |change: fn(&mut Settings)| {
        let mut settings = Settings::new("https://x".parse().unwrap(), "k".into());
        change(&mut settings);
        Client::new(settings).unwrap_err().to_string()
    };
    assert_eq!(refused_with(|settings| settings.admin_key = Some("".into())), "the Admin key is empty");
    let fault = refused_with(|settings| settings.admin_key = Some("a\nb".into()));
    assert_eq!(fault, "the Admin key has characters that no header can carry");
    let fault = refused_with(|settings| settings.workspace_id = Some("a\nb".to_owned()));
    assert_eq!(fault, "the workspace id has characters that no header can carry");
    let fault = refused_with(|settings| settings.proxy = Some("http://u:p@x".parse().unwrap()));
    assert_eq!(fault, "the proxy must be http(s)://HOST[:PORT], without a user");
}

#[test]
fn the_keys_show_in_no_debug_output() {
    let mut settings = Settings::new("https://api.example".parse().unwrap(), "sk-secret".into());
    settings.admin_key = Some("sk-admin-secret".into());
    let client = Client::new(settings.clone()).unwrap();
    let request = client
        .wire()
        .unwrap()
        .request(Method::GET, client.wire().unwrap().url(&["v1"]).unwrap(), &[])
        .unwrap();
    let organization = client
        .wire()
        .unwrap()
        .url(&["v1", "organizations", "me"])
        .and_then(|url| client.wire()?.request(Method::GET, url, &[]));

    let accounts = Accounts::new(vec![Account::anthropic(settings.clone())]).unwrap();
    let debug = format!("{client:?} {request:?} {organization:?} {settings:?} {accounts:?}");
    assert!(!debug.contains("sk-"), "{debug}");
}
