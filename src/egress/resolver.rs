//! Looks names up, once for each connection, and lets a connection go only where all of their addresses may be reached.
//!
//! The connection goes to the addresses that were checked. Between the check and the connection nobody asks again, so a name server that
//! changes its answer changes nothing.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::Rules;

/// The answer of a name server, later.
pub type LookUp = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Looks a name up. A test puts its own name server here.
pub trait Names: Send + Sync + 'static {
    /// All addresses of a name.
    fn look_up(&self, name: String) -> LookUp;
}

/// The names as this machine knows them: its file of hosts, and its name servers.
#[derive(Debug)]
pub struct NamesOfTheMachine;

impl Names for NamesOfTheMachine {
    fn look_up(&self, name: String) -> LookUp {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// An address that no notification may go to.
#[derive(Debug, thiserror::Error)]
#[error("its name leads to {0}, which is no public address")]
pub struct NotPublic(pub IpAddr);

/// A name that leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error("its name has no address")]
struct NoAddress;

/// The resolver of the client.
pub(super) struct Checked {
    pub(super) names: Arc<dyn Names>,
    pub(super) rules: Rules,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, rules) = (Arc::clone(&self.names), self.rules);
        Box::pin(async move {
            let found = names.look_up(name.as_str().to_owned()).await?;
            // One that is refused spoils all: the next look-up might put it first.
            if let Some(refused) = found.iter().find(|address| !rules.allow(**address)) {
                return Err(NotPublic(*refused).into());
            }
            if found.is_empty() {
                return Err(Box::<dyn StdError + Send + Sync>::from(NoAddress));
            }
            // The port is that of the URL.
            let addresses: Addrs = Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}
