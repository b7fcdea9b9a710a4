//! Which addresses calls may reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether calls may reach the machine that makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loopback {
    /// For a control plane that runs on the machine of the person who uses it.
    Reachable,
    /// For one that others use: what listens on its machine trusts everybody there, such as the runtime API of a
    /// function.
    Refused,
}

/// An address that calls may not reach.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForbiddenAddress {
    /// It gives out credentials, or stands for the machine's own link.
    #[error(
        "{0} is a link-local or metadata address, which calls may not reach: use the address of the service itself"
    )]
    Link(IpAddr),
    /// It is the machine itself.
    #[error(
        "{0} is a loopback address, which calls may not reach from here: use the address of the service itself"
    )]
    Loopback(IpAddr),
}

/// The metadata service of EC2 under IPv6; under IPv4 it is a link-local address.
const EC2_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

/// Refuses an address that calls may not reach, in whatever form it is written.
pub(crate) fn allow(address: IpAddr, loopback: Loopback) -> Result<(), ForbiddenAddress> {
    let inner = match address {
        IpAddr::V4(inner) => Some(inner),
        IpAddr::V6(outer) => embedded(outer),
    };
    let is_link = inner.is_some_and(|address| address.is_link_local())
        || matches!(address, IpAddr::V6(outer) if outer.is_unicast_link_local() || outer == EC2_METADATA);
    if is_link {
        return Err(ForbiddenAddress::Link(address));
    }
    // An unspecified address connects to the machine itself.
    let is_loopback = inner.is_some_and(|address| address.is_loopback() || address.octets()[0] == 0)
        || address.is_loopback()
        || address.is_unspecified();
    if is_loopback && loopback == Loopback::Refused {
        return Err(ForbiddenAddress::Loopback(address));
    }
    Ok(())
}

/// The IPv4 address that an IPv6 address leads to: mapped (`::ffff:0:0/96`), compatible (`::/96`), or translated by
/// NAT64 (`64:ff9b::/96`) or 6to4 (`2002::/16`).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let parts = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match parts {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &[&str] = &[
        "10.0.0.1",
        "169.253.255.255",
        "169.255.0.0",
        "fec0::1",
        "fd00:ec2::253",
        "2606:4700::1111",
        "::ffff:10.0.0.1",
    ];

    const OWN: &[&str] = &[
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "0.0.0.1",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:0.0.0.0",
        "64:ff9b::7f00:1",
    ];

    fn is_allowed(address: &str, loopback: Loopback) -> bool {
        allow(address.parse().unwrap(), loopback).is_ok()
    }

    #[test]
    fn addresses_that_give_out_credentials_are_forbidden_in_every_spelling() {
        for forbidden in [
            "169.254.169.254",
            "169.254.0.1",
            "169.254.170.2",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(!is_allowed(forbidden, Loopback::Reachable), "{forbidden}");
            assert!(!is_allowed(forbidden, Loopback::Refused), "{forbidden}");
        }
        for allowed in PUBLIC {
            assert!(is_allowed(allowed, Loopback::Reachable), "{allowed}");
            assert!(is_allowed(allowed, Loopback::Refused), "{allowed}");
        }
    }

    #[test]
    fn the_machine_itself_is_reached_only_where_that_is_meant() {
        for own in OWN {
            assert!(is_allowed(own, Loopback::Reachable), "{own}");
            assert!(!is_allowed(own, Loopback::Refused), "{own}");
        }
    }
}
