//! Free ports on the loopback interface.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// Ports that were free a moment ago, all different. They are held together while they are chosen and released at the
/// end: another process may take one before it is used, and its user then fails to start and says so.
///
/// # Errors
/// When the loopback interface has no free port.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
        *port = listener
            .local_addr()
            .context("a bound listener has an address")?
            .port();
        held.push(listener);
    }
    Ok(ports)
}

/// Whether something accepts connections on this loopback port.
#[must_use]
pub fn accepts(port: u16) -> bool {
    TcpStream::connect_timeout(
        &SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        Duration::from_secs(1),
    )
    .is_ok()
}
