//! What stands between a function and AWS: each function's calls go through a port of its own, are written down, and
//! fail as often as somebody asked for.

mod calls;
mod faults;

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::lambda::lock;
use crate::part::Parts;
pub(crate) use calls::Calls;
pub(crate) use faults::{Fault, Faults};

/// What all functions' proxies share.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) parts: Parts,
    pub(crate) calls: Calls,
    pub(crate) faults: Mutex<Faults>,
}

impl Proxy {
    /// Opens a port for a function, and returns where it is.
    ///
    /// # Errors
    /// When there is no free port.
    pub(crate) async fn open(self: &Arc<Self>, function: &str) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .with_context(|| format!("no free port for the calls of {function}"))?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        tokio::spawn(accept(listener, Arc::clone(self), Arc::from(function)));
        Ok(endpoint)
    }

    /// Passes a call on. An error means that the connection is cut.
    async fn pass(&self, function: &str, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let call = calls::Call::of(&parts.method, &parts.uri, &parts.headers, &body);
        self.calls.record(function, &call);
        let fault = lock(&self.faults).next();
        match fault {
            Some(Fault::Throttled) => return Ok(faults::throttled(&call.service)),
            Some(Fault::Broken) => return Ok(faults::broken(&call.service)),
            Some(Fault::ResetBefore) => return Err(io::ErrorKind::ConnectionReset.into()),
            Some(Fault::ResetAfter) | None => {}
        }
        let answer = self
            .forward(&call.service, &parts.method, &parts.uri, parts.headers, body)
            .await
            .unwrap_or_else(|error| {
                let mut answer =
                    Response::new(Full::from(format!("{} does not answer: {error:#}", call.service)));
                *answer.status_mut() = StatusCode::BAD_GATEWAY;
                answer
            });
        if fault == Some(Fault::ResetAfter) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(answer)
    }

    async fn forward(
        &self,
        service: &str,
        method: &Method,
        uri: &Uri,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Full<Bytes>>> {
        let endpoint = self.parts.endpoint(service);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let target: Uri = format!("{endpoint}{path}").parse()?;
        strip(&mut headers);
        if let Some(authority) = target.authority() {
            headers.insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
        }
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .body(Full::new(body))?;
        *request.headers_mut() = headers;
        let (mut parts, answer) = self.parts.client.request(request).await?.into_parts();
        let answer = answer.collect().await?.to_bytes();
        let length = parts.headers.get(header::CONTENT_LENGTH).cloned();
        strip(&mut parts.headers);
        if let (Some(length), &Method::HEAD) = (length, method) {
            // It tells of the body that is not sent.
            parts.headers.insert(header::CONTENT_LENGTH, length);
        }
        Ok(Response::from_parts(parts, Full::new(answer)))
    }
}

/// Removes the headers that belong to one connection.
fn strip(headers: &mut HeaderMap) {
    for name in [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::EXPECT,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
}

async fn accept(
    listener: TcpListener,
    proxy: Arc<Proxy>,
    function: Arc<str>,
) -> Result<Infallible, io::Error> {
    loop {
        let (stream, _) = listener.accept().await?;
        let (proxy, function) = (Arc::clone(&proxy), Arc::clone(&function));
        tokio::spawn(async move {
            let service = service_fn(|request| proxy.pass(&function, request));
            // A connection that was cut on purpose ends with that error.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
