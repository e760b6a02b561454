//! What stands between the doctor and the world in these tests: a real ingest, a proxy that changes what it passes on, and a server
//! with a certificate of nobody.

use std::net::SocketAddr;
use std::sync::Arc;

use restante::internals::ingest::{self, Limits, OutboxStore, Sender, Senders};
use restante::internals::signature::Keys;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::{CancellationToken, DropGuard};

/// An ingest on this database, with this secret of the older scheme and this key. It ends with the guard.
pub(super) async fn ingest(database: &str, secret: &str, key: &[u8]) -> (SocketAddr, DropGuard) {
    let pool = restante::database::pool(&database.to_owned().into(), "restante-ingest", 4).unwrap();
    let keys = Keys {
        standard: vec![key.to_vec().into()],
        older: vec![secret.as_bytes().to_vec().into()],
        ..Keys::default()
    };
    let (senders, replace) = Senders::new(vec![Sender::anthropic(keys)]);
    let stop = CancellationToken::new();
    let settings = ingest::Settings {
        senders,
        now: || chrono::Utc::now().timestamp(),
        limits: Limits::default(),
        journal: None,
        machine: String::new(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let store = OutboxStore::new(pool, "ingest", stop.clone());
    let running = stop.clone();
    tokio::spawn(async move {
        ingest::run(settings, listener, store, running).await;
        drop(replace);
    });
    (address, stop.drop_guard())
}

/// A proxy before `upstream` that puts `new` in the place of `old`, which is as long, in each request.
pub(super) async fn proxy(upstream: SocketAddr, old: &'static str, new: &'static str) -> SocketAddr {
    assert_eq!(old.len(), new.len());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // An error here is a client that has hung up.
            tokio::spawn(async move { pass_on(client, upstream, old, new).await.ok() });
        }
    });
    address
}

async fn pass_on(mut client: TcpStream, upstream: SocketAddr, old: &str, new: &str) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !is_whole(&request) {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let changed = String::from_utf8_lossy(&request).replace(old, new);
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(changed.as_bytes()).await?;
    let mut answer = vec![0; 16 * 1024];
    let count = server.read(&mut answer).await?;
    client.write_all(&answer[..count]).await?;
    client.shutdown().await
}

/// Has all of a request with a content-length come?
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    request.len() >= head.len() + 4 + length.unwrap_or(0)
}

/// A server with a certificate for 127.0.0.1 that no authority has signed.
pub(super) async fn with_certificate_of_nobody() -> SocketAddr {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("key.pem")).unwrap();
    let _already_there = rustls::crypto::ring::default_provider().install_default();
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // The client refuses the certificate, which is the point.
            let acceptor = acceptor.clone();
            tokio::spawn(async move { acceptor.accept(client).await.ok() });
        }
    });
    address
}
