//! From which hosts charts may be fetched.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::chart_ref::{Authority, ChartRef, split_authority};

/// The server's list of chart hosts, which is its configuration. An empty list allows bundled charts only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostPolicy {
    allowed: BTreeSet<Entry>,
    plain_http: BTreeSet<Entry>,
}

/// A host, with one port or with any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    host: String,
    port: Option<u16>,
}

impl Entry {
    fn matches(&self, host: &str, port: Option<u16>) -> bool {
        self.host == host && (self.port.is_none() || self.port == port.or(Some(443)))
    }
}

/// An entry of the list that names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{entry}' in the list of chart hosts is not HOST or HOST:PORT, such as registry.example.com or 127.0.0.1:5000, with http:// before it for a registry without TLS"
)]
pub struct HostEntryError {
    entry: String,
}

/// A chart whose host is not on the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Chart host '{host}' is not on this server's allow-list{note}; an administrator adds it with SLIPWAY_CHART_HOSTS={host}"
)]
pub struct HostRefused {
    host: String,
    note: &'static str,
}

impl HostPolicy {
    /// Only the charts that are shipped with the server.
    pub fn bundled_only() -> HostPolicy {
        HostPolicy::default()
    }

    /// Reads the list as `SLIPWAY_CHART_HOSTS` holds it: entries between commas or white space, each `HOST` (at
    /// any port) or `HOST:PORT`, and `http://` before those that are reached without TLS.
    ///
    /// # Errors
    /// [`HostEntryError`] for the first entry that is something else. Wildcards are not supported, and an address
    /// has to be written in its usual notation.
    pub fn parse(list: &str) -> Result<HostPolicy, HostEntryError> {
        HostPolicy::new(
            list.split([',', ' ', '\t', '\n', '\r'])
                .filter(|entry| !entry.is_empty()),
        )
    }

    /// As [`parse`](Self::parse), from single entries.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn new<'e>(entries: impl IntoIterator<Item = &'e str>) -> Result<HostPolicy, HostEntryError> {
        let mut policy = HostPolicy::default();
        for text in entries {
            let (authority, plain) = match text.strip_prefix("http://") {
                Some(authority) => (authority, true),
                None => (text.strip_prefix("https://").unwrap_or(text), false),
            };
            let (host, port) = split_authority(authority)
                .filter(|(host, _)| !is_odd_address(host))
                .ok_or_else(|| HostEntryError {
                    entry: text.escape_debug().to_string(),
                })?;
            let entry = Entry { host, port };
            if plain {
                policy.plain_http.insert(entry.clone());
            }
            policy.allowed.insert(entry);
        }
        Ok(policy)
    }

    /// Whether the chart may be fetched. The host must be on the list as it is written; so an address in another
    /// notation than the usual one is never allowed, and neither is loopback, link-local or the metadata service
    /// unless it is listed.
    ///
    /// # Errors
    /// [`HostRefused`], which says how the host gets onto the list.
    pub fn check(&self, chart: &ChartRef) -> Result<(), HostRefused> {
        let Some(host) = chart.host() else { return Ok(()) };
        if self.allowed.iter().any(|entry| entry.matches(host, chart.port())) {
            return Ok(());
        }
        let authority = Authority {
            host,
            port: chart.port(),
        }
        .to_string();
        Err(HostRefused {
            host: authority,
            note: classify(host),
        })
    }

    /// Whether charts may be fetched from a host, `name` or `name:port`, that a repository names, and if so, whether it is
    /// reached without TLS.
    ///
    /// # Errors
    /// A sentence as [`check`](Self::check) has it, or that this is no host.
    pub fn judge(&self, authority: &str) -> Result<bool, String> {
        let chart =
            ChartRef::parse(&format!("https://{authority}/chart.tgz")).map_err(|error| error.to_string())?;
        self.check(&chart).map_err(|error| error.to_string())?;
        Ok(self.uses_plain_http(&chart))
    }

    /// Whether the chart's host is reached without TLS.
    pub fn uses_plain_http(&self, chart: &ChartRef) -> bool {
        chart.host().is_some_and(|host| {
            self.plain_http
                .iter()
                .any(|entry| entry.matches(host, chart.port()))
        })
    }
}

/// What to add to the refusal where the host is one that is rarely meant.
fn classify(host: &str) -> &'static str {
    if host == "localhost" || host.ends_with(".localhost") {
        return " (it is this machine)";
    }
    if matches!(host, "metadata" | "metadata.google.internal" | "instance-data") {
        return " (it is the cloud's metadata service)";
    }
    match any_notation(host) {
        Some(address) if is_metadata(address) => " (it is the cloud's metadata service)",
        Some(address) if address.is_loopback() || address.is_unspecified() => " (it is this machine)",
        Some(address) if is_link_local(address) => " (it is a link-local address)",
        Some(_) if is_odd_address(host) => {
            " (it is an address in an unusual notation, which cannot be listed)"
        }
        Some(_) => " (it is an address)",
        None => "",
    }
}

fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address == Ipv4Addr::new(169, 254, 169, 254),
        IpAddr::V6(address) => address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Whether `host` is an address that is not in its usual notation: a resolver reads it as one, a list of names
/// does not.
fn is_odd_address(host: &str) -> bool {
    any_notation(host).is_some_and(|address| address.to_string() != host)
}

/// The address that a resolver would take `host` for: dotted, decimal, octal and hexadecimal IPv4, and IPv6, in
/// which an IPv4 address may be wrapped.
fn any_notation(host: &str) -> Option<IpAddr> {
    if let Ok(address) = host.parse::<Ipv6Addr>() {
        return Some(unwrapped(address));
    }
    let parts: Vec<&str> = host.split('.').collect();
    let numbers = parts
        .iter()
        .map(|part| number(part))
        .collect::<Option<Vec<u64>>>()?;
    let (last, leading) = numbers.split_last()?;
    if leading.len() > 3 || leading.iter().any(|part| *part > 255) {
        return None;
    }
    let room = 32 - 8 * leading.len() as u32;
    if u128::from(*last) >= 1u128 << room {
        return None;
    }
    let high = leading.iter().fold(0u64, |address, part| address << 8 | part) << room;
    u32::try_from(high | last)
        .ok()
        .map(|address| IpAddr::V4(address.into()))
}

fn number(part: &str) -> Option<u64> {
    match part.strip_prefix("0x") {
        Some("") => Some(0),
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if part.len() > 1 && part.starts_with('0') => u64::from_str_radix(&part[1..], 8).ok(),
        None => part.parse().ok(),
    }
}

/// The IPv4 address in a mapped, compatible or NAT64 one, else the address itself.
fn unwrapped(address: Ipv6Addr) -> IpAddr {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let wraps = matches!(
        [a, b, c, d, e, f],
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0]
    );
    if wraps && !(address.is_loopback() || address.is_unspecified()) {
        IpAddr::V4((u32::from(high) << 16 | u32::from(low)).into())
    } else {
        IpAddr::V6(address)
    }
}
