//! The HTTP client.

use std::{collections::BTreeMap, error::Error, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use reqwest::{
    Client, Method, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HeaderName, HeaderValue},
    redirect::Policy,
};
use slipway_ports::{ExposeSecret, HttpAnswer, HttpCall, Outside, OutsideError, chain};

use crate::address::{ForbiddenAddress, Loopback, allow};

/// How much of a body is read.
const LARGEST_BODY: usize = HttpAnswer::LARGEST_BODY;

/// HTTP without redirects, proxies or metadata services; no SNS.
#[derive(Debug, Clone)]
pub struct HttpOutside {
    client: Client,
    loopback: Loopback,
}

impl HttpOutside {
    /// A client with a connection pool of its own, trusting the certificate authorities of the operating system.
    ///
    /// # Errors
    /// [`OutsideError::Refused`] when there is no certificate authority to trust.
    pub fn new(loopback: Loopback) -> Result<Self, OutsideError> {
        // Fails if somebody installed one before; that is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .dns_resolver(Arc::new(CarefulResolver(loopback)))
            .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                OutsideError::Refused(format!("no HTTPS client can be made: {}", chain(&error)))
            })?;
        Ok(Self { client, loopback })
    }
}

/// Resolves names and refuses those that lead to forbidden addresses. The check is made on the addresses that are
/// then connected to, so a name cannot change its mind in between.
#[derive(Debug)]
struct CarefulResolver(Loopback);

impl Resolve for CarefulResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let loopback = self.0;
        Box::pin(async move {
            let addresses: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            for address in &addresses {
                allow(address.ip(), loopback)?;
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn refused(reason: impl Into<String>) -> OutsideError {
    OutsideError::Refused(reason.into())
}

/// The URL, unless it leads where calls may not go. The text is in no error, because it may hold a secret.
fn check_url(text: &str, loopback: Loopback) -> Result<Url, OutsideError> {
    const EXPECTED: &str = "expected an absolute URL that begins with http:// or https://";
    let url =
        Url::parse(text).map_err(|error| refused(format!("the URL cannot be read ({error}): {EXPECTED}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused(format!("the URL has another scheme: {EXPECTED}")));
    }
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = literal.parse::<IpAddr>() {
        allow(address, loopback).map_err(|error| refused(error.to_string()))?;
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
        let url = check_url(call.url.expose_secret(), self.loopback)?;
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
