//! Calls to the outside.

use std::{
    collections::BTreeMap,
    error::Error,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use async_trait::async_trait;
use reqwest::{
    Client, Method, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HeaderName, HeaderValue},
    redirect::Policy,
};
use slipway_ports::{ExposeSecret, HttpAnswer, HttpCall, Outside, OutsideError};

/// How much of a body is read.
const LARGEST_BODY: usize = 64 * 1024;

/// HTTP without redirects, proxies or metadata services; no SNS.
#[derive(Debug, Clone)]
pub struct HttpOutside {
    client: Client,
}

impl HttpOutside {
    /// A client with a connection pool of its own, trusting the certificate authorities of the operating system.
    ///
    /// # Errors
    /// [`OutsideError::Refused`] when there is no certificate authority to trust.
    pub fn new() -> Result<Self, OutsideError> {
        // Fails if somebody installed one before; that is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .dns_resolver(Arc::new(CarefulResolver))
            .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                OutsideError::Refused(format!("no HTTPS client can be made: {}", chain(&error)))
            })?;
        Ok(Self { client })
    }
}

/// An address that gives out credentials, or stands for the machine's own link.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} is a link-local or metadata address, which calls may not reach: use the address of the service itself"
)]
struct ForbiddenAddress(IpAddr);

/// The metadata service of EC2 under IPv6; under IPv4 it is a link-local address.
const EC2_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

fn allow(address: IpAddr) -> Result<(), ForbiddenAddress> {
    let forbidden = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || address == EC2_METADATA
                || embedded(address).is_some_and(|address| address.is_link_local())
        }
    };
    if forbidden {
        Err(ForbiddenAddress(address))
    } else {
        Ok(())
    }
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

/// Resolves names and refuses those that lead to forbidden addresses. The check is made on the addresses that are
/// then connected to, so a name cannot change its mind in between.
#[derive(Debug)]
struct CarefulResolver;

impl Resolve for CarefulResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            for address in &addresses {
                allow(address.ip())?;
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn refused(reason: impl Into<String>) -> OutsideError {
    OutsideError::Refused(reason.into())
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// The URL, unless it leads where calls may not go. The text is in no error, because it may hold a secret.
fn check_url(text: &str) -> Result<Url, OutsideError> {
    const EXPECTED: &str = "expected an absolute URL that begins with http:// or https://";
    let url =
        Url::parse(text).map_err(|error| refused(format!("the URL cannot be read ({error}): {EXPECTED}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused(format!("the URL has another scheme: {EXPECTED}")));
    }
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = literal.parse() {
        allow(address).map_err(|error| refused(error.to_string()))?;
    }
    Ok(url)
}

/// What became of a call that failed.
fn failed(host: String, error: reqwest::Error) -> OutsideError {
    let error = error.without_url();
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(forbidden) = inner.downcast_ref::<ForbiddenAddress>() {
            return refused(forbidden.to_string());
        }
        source = inner.source();
    }
    OutsideError::NoAnswer {
        host,
        source: Box::new(error),
    }
}

/// The first 64 KiB of a body, as text.
async fn body(response: &mut Response) -> Result<String, reqwest::Error> {
    let mut bytes = Vec::new();
    while bytes.len() < LARGEST_BODY
        && let Some(chunk) = response.chunk().await?
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(LARGEST_BODY);
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    // What is no character was replaced by one of three bytes, so the text may be longer than the bytes.
    while text.len() > LARGEST_BODY {
        text.pop();
    }
    Ok(text)
}

#[async_trait]
impl Outside for HttpOutside {
    async fn http(&self, call: HttpCall) -> Result<HttpAnswer, OutsideError> {
        let url = check_url(call.url.expose_secret())?;
        let port = url.port_or_known_default().unwrap_or_default();
        let host = format!("{}:{port}", url.host_str().unwrap_or_default());
        let method = Method::from_bytes(call.method.as_bytes()).map_err(|_| {
            refused(format!(
                "'{}' is not an HTTP method: expected one such as GET or POST",
                call.method
            ))
        })?;
        let mut request = self.client.request(method, url).timeout(call.timeout);
        for (name, value) in &call.headers {
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| refused(format!("'{name}' is not the name of an HTTP header")))?;
            let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| {
                refused(format!(
                    "the value of header '{name}' has characters that no header may have"
                ))
            })?;
            value.set_sensitive(true);
            request = request.header(header, value);
        }
        if let Some(body) = &call.body {
            request = request.body(body.expose_secret().to_owned());
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(failed(host, error)),
        };
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in response.headers() {
            let value = String::from_utf8_lossy(value.as_bytes());
            headers
                .entry(name.as_str().to_owned())
                .and_modify(|all| {
                    all.push_str(", ");
                    all.push_str(&value);
                })
                .or_insert_with(|| value.clone().into_owned());
        }
        Ok(HttpAnswer {
            status: response.status().as_u16(),
            headers,
            body: body(&mut response).await.map_err(|error| failed(host, error))?,
        })
    }

    async fn publish(&self, topic: &str, _subject: &str, _message: &str) -> Result<(), OutsideError> {
        Err(refused(format!(
            "this control plane has no SNS, so nothing can be published to '{topic}': use a webhook channel"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(allow(forbidden.parse().unwrap()).is_err(), "{forbidden}");
        }
        for allowed in [
            "127.0.0.1",
            "10.0.0.1",
            "169.253.255.255",
            "169.255.0.0",
            "::1",
            "fec0::1",
            "fd00:ec2::253",
            "2606:4700::1111",
            "::ffff:10.0.0.1",
        ] {
            assert!(allow(allowed.parse().unwrap()).is_ok(), "{allowed}");
        }
    }
}
