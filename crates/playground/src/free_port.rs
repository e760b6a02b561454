//! A port for a server that cannot choose one itself, or that must come back on the same one.

use std::io;
use std::net::TcpListener;

/// A free port of 127.0.0.1. It is below the ports that systems give to outgoing connections and to whoever asks for any
/// (from 32768 on Linux, from 49152 on macOS): otherwise a client that keeps trying to connect while the server is down
/// could get the server's own port, and hold it when the server comes back.
///
/// # Errors
/// No port was free.
pub fn free_port() -> io::Result<u16> {
    let mut last = io::Error::other("no port was tried");
    for _ in 0..100 {
        let port = rand::random_range(20_000..32_000);
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}
