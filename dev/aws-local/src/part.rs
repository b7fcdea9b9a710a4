//! Calls to the parts that stand in for AWS: the services' own JSON protocols, with a signature that nobody checks.

use anyhow::{Context, Result, bail};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::template::REGION;

/// A pool of connections.
pub(crate) type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// A client of plain HTTP.
pub(crate) fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

/// The services that the parts play.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) dynamodb: String,
    pub(crate) elasticmq: String,
    pub(crate) moto: String,
    pub(crate) client: HttpClient,
}

/// An answer that is a failure of the service's own.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The name of the failure, without its namespace: `ResourceInUseException`.
    pub(crate) kind: String,
    pub(crate) message: String,
}

impl Parts {
    /// Where a service is played, by the name that signatures have for it.
    pub(crate) fn endpoint(&self, service: &str) -> &str {
        match service {
            "dynamodb" => &self.dynamodb,
            "sqs" => &self.elasticmq,
            _ => &self.moto,
        }
    }

    /// Calls an action: `DynamoDB_20120810.CreateTable`.
    ///
    /// # Errors
    /// When the part does not answer or refuses the call, with the action's name.
    pub(crate) async fn call(&self, service: &str, target: &str, body: &Value) -> Result<Value> {
        match self.try_call(service, target, body).await? {
            Ok(answer) => Ok(answer),
            Err(Refusal { kind, message }) => bail!("{target} was refused: {kind}: {message}"),
        }
    }

    /// Calls an action that may be refused.
    ///
    /// # Errors
    /// When the part does not answer.
    pub(crate) async fn try_call(
        &self,
        service: &str,
        target: &str,
        body: &Value,
    ) -> Result<Result<Value, Refusal>> {
        let request = self
            .request(service, Method::POST, "/")
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", target)
            .body(Full::from(serde_json::to_vec(body)?))?;
        let (status, answer) = self
            .send(request)
            .await
            .with_context(|| format!("{target} got no answer"))?;
        let value: Value = if answer.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&answer)
                .with_context(|| format!("{target} got no JSON: {}", String::from_utf8_lossy(&answer)))?
        };
        if status.is_success() {
            return Ok(Ok(value));
        }
        let text = |names: [&str; 2]| {
            names
                .iter()
                .find_map(|name| value[*name].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        let kind = text(["__type", "code"]);
        Ok(Err(Refusal {
            kind: kind.rsplit(['#', '.']).next().unwrap_or_default().to_owned(),
            message: text(["message", "Message"]),
        }))
    }

    /// Creates a bucket; one that exists is as good.
    ///
    /// # Errors
    /// When the part does not answer or refuses.
    pub(crate) async fn create_bucket(&self, name: &str) -> Result<()> {
        let request = self
            .request("s3", Method::PUT, &format!("/{name}"))
            .body(Full::default())?;
        let (status, answer) = self.send(request).await?;
        if status.is_success() || status == StatusCode::CONFLICT {
            return Ok(());
        }
        bail!("the answer is {status}: {}", String::from_utf8_lossy(&answer))
    }

    fn request(&self, service: &str, method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint(service)))
            .header("x-amz-date", "20260101T000000Z")
            .header(
                "authorization",
                format!(
                    "AWS4-HMAC-SHA256 Credential=local/20260101/{REGION}/{service}/aws4_request, \
                     SignedHeaders=host, Signature=0"
                ),
            )
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
        let answer = self.client.request(request).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }
}

/// An address as the parts have it: plain HTTP, without a path.
///
/// # Errors
/// When it is something else.
pub(crate) fn checked(endpoint: &str) -> Result<String> {
    let trimmed = endpoint.trim_end_matches('/');
    let uri: Uri = trimmed
        .parse()
        .with_context(|| format!("`{endpoint}` is no URL"))?;
    if uri.scheme_str() != Some("http") || uri.authority().is_none() || uri.path() != "/" {
        bail!("`{endpoint}` is not of the form http://HOST:PORT");
    }
    Ok(trimmed.to_owned())
}
