//! The address of an embedded control plane: loopback, and nothing else.

use std::net::SocketAddr;

use crate::failure::Failure;

/// The address that `--listen` names.
pub(super) fn address(text: &str) -> Result<SocketAddr, Failure> {
    let address = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let address: SocketAddr = address.parse().map_err(|_| {
        Failure::misuse(format!(
            "'{text}' is not an address to listen on: expected 127.0.0.1:PORT or [::1]:PORT"
        ))
    })?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err(Failure::misuse(format!(
        "{text} can be reached from other machines, and this control plane is for this one"
    ))
    .next(format!(
        "listen on 127.0.0.1:{}; reach it from elsewhere through an SSH tunnel",
        address.port()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on() {
        for good in ["127.0.0.1:0", "[::1]:7117", "localhost:80"] {
            assert!(address(good).unwrap().ip().is_loopback(), "{good}");
        }
        for bad in [
            "0.0.0.0:80",
            "[::]:80",
            "192.168.0.1:80",
            "example.com:80",
            "127.0.0.1",
            "80",
            "",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
