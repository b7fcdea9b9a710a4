//! Free ports on the loopback interface, and what is asked of servers there.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

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

/// Posts JSON to a server on this machine, at `127.0.0.1:40123`, and returns the body of its answer.
///
/// # Errors
/// When there is no answer within five minutes, or it is not a success: with its body.
pub fn post(address: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("nobody listens on {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(300)))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .with_context(|| format!("{address} does not answer {path}"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("the answer of {address} has no end of its head"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        bail!("{path} is answered with {status}: {body}");
    }
    Ok(body.to_owned())
}
