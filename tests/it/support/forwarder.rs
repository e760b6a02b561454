//! An address that leads to one server at a time, like a virtual address or name that a failover moves.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

pub struct Forwarder {
    pub port: u16,
    target: Arc<Mutex<SocketAddr>>,
}

impl Forwarder {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Arc::new(Mutex::new(SocketAddr::from(([127, 0, 0, 1], port))));
        let forwarder = Self { port: listener.local_addr().unwrap().port(), target: Arc::clone(&target) };
        tokio::spawn(async move {
            while let Ok((mut inward, _)) = listener.accept().await {
                let to = *target.lock().unwrap();
                tokio::spawn(async move {
                    if let Ok(mut outward) = TcpStream::connect(to).await {
                        // Either side may hang up.
                        let _ended = copy_bidirectional(&mut inward, &mut outward).await;
                    }
                });
            }
        });
        forwarder
    }

    /// From now on new connections go to this port. Open connections stay where they are.
    pub fn moved_to(&self, port: u16) {
        *self.target.lock().unwrap() = SocketAddr::from(([127, 0, 0, 1], port));
    }
}
