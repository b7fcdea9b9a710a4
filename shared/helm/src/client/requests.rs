//! Requests by path, with errors that say what was asked and whether a repeat can help.

use std::{fmt::Write as _, future::Future};

use futures::{AsyncBufReadExt as _, Stream, StreamExt as _};
use http::{Method, Request};
use kube::core::WatchEvent;
use serde_json::Value;
use slipway_ports::TargetError;
use tokio::time::timeout;

use super::{Kubernetes, REQUEST_TIMEOUT, encode};
use crate::binary::is_passing;

/// Objects per page of a list.
const PAGE: usize = 500;

/// How a body changes an object.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PatchKind {
    /// RFC 7386.
    Merge,
    /// Server-side apply as `slipway`, taking over conflicting fields.
    Apply,
}

/// What becomes of fields that the server does not know.
#[derive(Debug, Clone, Copy)]
pub(crate) enum UnknownFields {
    /// The object is refused.
    Refuse,
    /// They are left out.
    Ignore,
}

/// Why the server does not take an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// HTTP status.
    pub(crate) code: u16,
    /// In the server's words.
    pub(crate) message: String,
}

impl Kubernetes {
    /// The address of the API server.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// The object at `path`, if there is one.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Value>, TargetError> {
        let answer = self.send(Method::GET, path, "", None).await;
        absent_is_none(answer, &format!("read {path}"), self)
    }

    /// All objects at `path` that meet `query`, page by page. A kind that the server does not know has none.
    pub(crate) async fn list(&self, path: &str, query: &str) -> Result<Vec<Value>, TargetError> {
        self.list_as(path, query, "application/json").await
    }

    /// As `list`, without anything but the metadata.
    pub(crate) async fn list_metadata(&self, path: &str, query: &str) -> Result<Vec<Value>, TargetError> {
        let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        self.list_as(path, query, accept).await
    }

    async fn list_as(&self, path: &str, query: &str, accept: &str) -> Result<Vec<Value>, TargetError> {
        let mut items = Vec::new();
        let mut next = String::new();
        loop {
            let mut full = format!("{path}?limit={PAGE}");
            if !query.is_empty() {
                let _ = write!(full, "&{query}");
            }
            if !next.is_empty() {
                let _ = write!(full, "&continue={}", encode(&next));
            }
            let answer = self.send_accepting(Method::GET, &full, "", None, accept).await;
            let Some(mut page) = absent_is_none(answer, &format!("list {path}"), self)? else {
                return Ok(items);
            };
            if let Some(Value::Array(page)) = page.get_mut("items").map(Value::take) {
                items.extend(page);
            }
            match page.pointer("/metadata/continue").and_then(Value::as_str) {
                Some(more) if !more.is_empty() => more.clone_into(&mut next),
                _ => return Ok(items),
            }
        }
    }

    /// Everything that the server serves below `/api` or `/apis`; none if it cannot tell.
    pub(crate) async fn discover(&self, root: &str) -> Result<Option<Value>, TargetError> {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let answer = self.send_accepting(Method::GET, root, "", None, accept).await;
        let found = absent_is_none(answer, &format!("read {root}"), self)?;
        Ok(found.filter(|list| list.get("kind").and_then(Value::as_str) == Some("APIGroupDiscoveryList")))
    }

    /// Creates an object; `false` if there is one of that name.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> Result<bool, TargetError> {
        match self
            .send(Method::POST, path, "application/json", Some(object))
            .await
        {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(false),
            Err(error) => Err(self.error(&format!("create {path}"), &error)),
        }
    }

    /// Replaces an object; its `resourceVersion` guards.
    pub(crate) async fn replace(&self, path: &str, object: &Value) -> Result<(), TargetError> {
        self.send(Method::PUT, path, "application/json", Some(object))
            .await
            .map(|_| ())
            .map_err(|error| self.error(&format!("write {path}"), &error))
    }

    /// Changes an object.
    pub(crate) async fn patch(&self, path: &str, kind: PatchKind, body: &Value) -> Result<(), TargetError> {
        let (path, content) = match kind {
            PatchKind::Merge => (path.to_owned(), "application/merge-patch+json"),
            PatchKind::Apply => (
                format!("{path}?fieldManager=slipway&force=true"),
                "application/apply-patch+yaml",
            ),
        };
        self.send(Method::PATCH, &path, content, Some(body))
            .await
            .map(|_| ())
            .map_err(|error| self.error(&format!("change {path}"), &error))
    }

    /// Applies an object as Helm does, from its own field manager, without taking over what others have set; unknown
    /// fields are refused. Returns what is there now.
    pub(crate) async fn apply_as_helm(&self, path: &str, object: &Value) -> Result<Value, TargetError> {
        let full = format!("{path}?fieldManager=helm&force=false&fieldValidation=Strict");
        self.send(Method::PATCH, &full, "application/apply-patch+yaml", Some(object))
            .await
            .map_err(|error| self.error(&format!("create {path}"), &error))
    }

    /// What server-side apply as `manager` would make of an object, without doing it; `force` takes over fields that
    /// others own. The inner error is the server's refusal of this object.
    pub(crate) async fn dry_run(
        &self,
        path: &str,
        manager: &str,
        force: bool,
        unknown: UnknownFields,
        object: &Value,
    ) -> Result<Result<Value, Refusal>, TargetError> {
        let validation = match unknown {
            UnknownFields::Refuse => "Strict",
            UnknownFields::Ignore => "Ignore",
        };
        let path =
            format!("{path}?dryRun=All&fieldManager={manager}&force={force}&fieldValidation={validation}");
        let answer = self
            .send(Method::PATCH, &path, "application/apply-patch+yaml", Some(object))
            .await;
        match answer {
            Ok(result) => Ok(Ok(result)),
            Err(kube::Error::Api(status)) if is_refusal(status.code, &status.message) => Ok(Err(Refusal {
                code: status.code,
                message: status.message.clone(),
            })),
            Err(error) => Err(self.error(&format!("try a change of {path}"), &error)),
        }
    }

    /// One page of the metadata of objects, after the place where the page before ended, and where the next begins.
    pub(crate) async fn page_of_metadata(
        &self,
        path: &str,
        query: &str,
        after: Option<&str>,
    ) -> Result<(Vec<Value>, Option<String>), TargetError> {
        let mut full = format!("{path}?limit={PAGE}&{query}");
        if let Some(after) = after {
            let _ = write!(full, "&continue={}", encode(after));
        }
        let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let answer = self.send_accepting(Method::GET, &full, "", None, accept).await;
        let mut page = absent_is_none(answer, &format!("list {path}"), self)?.unwrap_or_default();
        let items = match page.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        let next = page.pointer("/metadata/continue").and_then(Value::as_str);
        Ok((items, next.filter(|next| !next.is_empty()).map(str::to_owned)))
    }

    /// Deletes an object; one that is absent is no error.
    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Result<(), TargetError> {
        let answer = self
            .send(Method::DELETE, path, "application/json", Some(options))
            .await;
        absent_is_none(answer, &format!("delete {path}"), self).map(|_| ())
    }

    /// Text at `path`; none if it is absent.
    pub(crate) async fn text(&self, path: &str) -> Result<Option<String>, TargetError> {
        let request = build(Method::GET, path, "", None, "*/*");
        let answer = match request {
            Ok(request) => within(self.client.request_text(request)).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(text) => Ok(Some(text)),
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404) => Ok(None),
            Err(error) => Err(self.error(&format!("read {path}"), &error)),
        }
    }

    /// The end of the text at `path`, such as a pod's log, and whether there was more before it; none if it is absent or
    /// cannot be had yet. Of what is longer, `kept` bytes at least and twice as many at most; what is no UTF-8 is replaced.
    pub(crate) async fn end_of_text(
        &self,
        path: &str,
        kept: usize,
    ) -> Result<Option<(String, bool)>, TargetError> {
        let reading = async {
            let request = build(Method::GET, path, "", None, "*/*")?;
            let mut answer = self.client.request_stream(request).await?;
            let (mut end, mut is_cut) = (Vec::new(), false);
            loop {
                let chunk = answer.fill_buf().await.map_err(kube::Error::ReadEvents)?;
                if chunk.is_empty() {
                    return Ok((end, is_cut));
                }
                end.extend_from_slice(chunk);
                let length = chunk.len();
                answer.consume_unpin(length);
                if end.len() > 2 * kept {
                    end.drain(..end.len() - kept);
                    is_cut = true;
                }
            }
        };
        match within(reading).await {
            Ok((end, is_cut)) => Ok(Some((String::from_utf8_lossy(&end).into_owned(), is_cut))),
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404) => Ok(None),
            Err(error) => Err(self.error(&format!("read {path}"), &error)),
        }
    }

    /// Changes of the objects at `path` from now on; each item is one change, and the stream ends when the server
    /// ends it.
    pub(crate) async fn changes(
        &self,
        path: &str,
    ) -> Result<impl Stream<Item = Result<(), TargetError>> + Send + use<>, TargetError> {
        let asked = format!("watch {path}");
        let server = self.clone();
        let now = self.get(&format!("{path}?limit=1")).await?.unwrap_or_default();
        let version = now
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str)
            .unwrap_or("0");
        let request = build(
            Method::GET,
            &format!(
                "{path}?watch=true&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion={version}"
            ),
            "",
            None,
            "application/json",
        );
        let request = request.map_err(|error| self.error(&asked, &error))?;
        let stream = within(self.client.request_events::<Value>(request))
            .await
            .map_err(|error| self.error(&asked, &error))?;
        Ok(stream.filter_map(move |event| {
            let item = match event {
                Ok(WatchEvent::Bookmark(_)) => None,
                Ok(WatchEvent::Error(status)) => Some(Err(TargetError::transient(format!(
                    "the watch ended: {}",
                    status.message
                )))),
                Ok(_) => Some(Ok(())),
                Err(error) => Some(Err(server.error(&asked, &error))),
            };
            std::future::ready(item)
        }))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Option<&Value>,
    ) -> Result<Value, kube::Error> {
        self.send_accepting(method, path, content, body, "application/json")
            .await
    }

    async fn send_accepting(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Option<&Value>,
        accept: &str,
    ) -> Result<Value, kube::Error> {
        let request = build(method, path, content, body, accept)?;
        // Not the client's own reading of JSON, which logs what it cannot read.
        let text = within(self.client.request_text(request)).await?;
        serde_json::from_str(&text).map_err(kube::Error::SerdeError)
    }

    /// What an error of the API means.
    pub(super) fn error(&self, asked: &str, error: &kube::Error) -> TargetError {
        match error {
            kube::Error::Api(status) => {
                let message = format!("the cluster refused to {asked}: {}", status.message);
                // Said with 403 and 409 where the code alone would mislead.
                if is_passing(&status.message) {
                    return TargetError::transient(message);
                }
                if status.message.starts_with("Apply failed with") {
                    return TargetError::permanent(format!(
                        "{message}; these fields were set by somebody else: set adopt: true to take them over, or leave them out"
                    ));
                }
                match status.code {
                    401 => TargetError::permanent(format!(
                        "{message}; its credentials are not accepted (any more): register the cluster with a new kubeconfig"
                    )),
                    403 => {
                        TargetError::permanent(format!("{message}; grant the kubeconfig's user that right"))
                    }
                    409 | 429 | 500..=599 => TargetError::transient(message),
                    _ => TargetError::permanent(message),
                }
            }
            error => match refused_certificate(error) {
                // No waiting makes it another.
                Some(why) => TargetError::permanent(format!(
                    "the certificate of the cluster at {} is not accepted: {why}; register the cluster with a kubeconfig \
                     whose server and certificate-authority-data are its own",
                    self.server
                )),
                None => TargetError::transient(format!(
                    "the cluster at {} does not answer: {}; check that it runs and can be reached from here",
                    self.server,
                    root_cause(error)
                )),
            },
        }
    }
}

/// Whether the server does not take an object as it is, whatever code it says that with: a webhook that denies chooses its
/// own, and fields that the schema does not have are an error of the server's.
fn is_refusal(code: u16, message: &str) -> bool {
    matches!(code, 400 | 403 | 404 | 409 | 413 | 422)
        || message.contains("denied the request")
        || message.contains("field not declared in schema")
}

/// Why the server's certificate was refused, if that is why there is no connection.
fn refused_certificate(error: &kube::Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
            return Some(why.to_string());
        }
        // An I/O error passes over what it wraps, and names that one's cause as its own.
        cause = match error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// The last text of the chain, which is the one that says something.
fn root_cause(error: &kube::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn absent_is_none(
    answer: Result<Value, kube::Error>,
    asked: &str,
    server: &Kubernetes,
) -> Result<Option<Value>, TargetError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(server.error(asked, &error)),
    }
}

fn build(
    method: Method,
    path: &str,
    content: &str,
    body: Option<&Value>,
    accept: &str,
) -> Result<Request<Vec<u8>>, kube::Error> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("accept", accept);
    if !content.is_empty() {
        request = request.header("content-type", content);
    }
    let body = match body {
        Some(body) => serde_json::to_vec(body).map_err(kube::Error::SerdeError)?,
        None => Vec::new(),
    };
    request.body(body).map_err(kube::Error::HttpError)
}

async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    match timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => answer,
        Err(_) => Err(kube::Error::Service(
            format!("no answer in {} s", REQUEST_TIMEOUT.as_secs()).into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_refuses_is_told_from_what_it_cannot_do_now() {
        for (code, message) in [
            (422, "Service \"web\" is invalid"),
            (
                500,
                "failed to create typed patch object (ns/a; /v1, Kind=ConfigMap): .dato: field not declared in schema",
            ),
            (
                500,
                "admission webhook \"validate.kyverno.svc\" denied the request: no",
            ),
        ] {
            assert!(is_refusal(code, message), "{message}");
        }
        for (code, message) in [
            (
                500,
                "Internal error occurred: failed calling webhook \"validate.kyverno.svc\": connection refused",
            ),
            (503, "the server is currently unable to handle the request"),
        ] {
            assert!(!is_refusal(code, message), "{message}");
        }
    }
}
