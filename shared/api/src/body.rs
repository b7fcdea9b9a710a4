//! Request bodies: bounded, JSON or YAML, read into typed requests with errors that name the place.

use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use slipway_app::IdempotentRequest;
use slipway_model::{FieldError, Problem, ProblemType};

use crate::problem::Failed;

/// Largest body of most calls.
const MEBIBYTE: usize = 1024 * 1024;

/// A body of at most `MEBIBYTES` MiB, with the headers that say how to read it.
pub(crate) struct Sent<const MEBIBYTES: usize = 1> {
    bytes: Bytes,
    headers: HeaderMap,
}

impl<S: Send + Sync, const MEBIBYTES: usize> FromRequest<S> for Sent<MEBIBYTES> {
    type Rejection = Failed;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failed> {
        let limit = MEBIBYTES * MEBIBYTE;
        let too_large = || {
            Problem::new(
                ProblemType::TooLarge,
                format!("the body is larger than the {MEBIBYTES} MiB that this call takes"),
            )
        };
        let (parts, body) = request.into_parts();
        let announced = parts
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit as u64) {
            return Err(too_large().into());
        }
        let bytes = to_bytes(body, limit).await.map_err(|error| {
            // The library reports a passed limit and a broken connection with the same type.
            let passed =
                std::error::Error::source(&error).is_some_and(|cause| cause.to_string().contains("limit"));
            if passed {
                Failed(too_large())
            } else {
                Failed(Problem::new(
                    ProblemType::Malformed,
                    "the body ended before all of it was sent",
                ))
            }
        })?;
        Ok(Self {
            bytes,
            headers: parts.headers,
        })
    }
}

impl<const MEBIBYTES: usize> Sent<MEBIBYTES> {
    /// The body as a document, in JSON.
    pub(crate) fn json(&self) -> Result<Value, Failed> {
        match self.media_type()?.as_deref() {
            None => self.read_json(),
            Some(media) if is_json(media) => self.read_json(),
            Some(media) => Err(unknown_media(media, "application/json")),
        }
    }

    /// The body as a document, in JSON or YAML.
    pub(crate) fn json_or_yaml(&self) -> Result<Value, Failed> {
        match self.media_type()?.as_deref() {
            None => self.read_json(),
            Some(media) if is_json(media) => self.read_json(),
            Some("application/yaml" | "text/yaml" | "application/x-yaml" | "text/x-yaml") => self.read(),
            Some(media) => Err(unknown_media(media, "application/json or application/yaml")),
        }
    }

    /// A typed request; an empty body where everything is optional reads as `{}`.
    pub(crate) fn typed<T: DeserializeOwned>(&self) -> Result<T, Failed> {
        let value = if self.bytes.iter().all(u8::is_ascii_whitespace) {
            Value::Object(serde_json::Map::new())
        } else {
            self.json()?
        };
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = match error.path().to_string() {
                root if root == "." => String::new(),
                path => path,
            };
            Problem::invalid(
                "the request is invalid",
                vec![FieldError::new(path, error.into_inner().to_string())],
            )
            .into()
        })
    }

    /// What makes a repeat of this call the same one, if the caller sent a key.
    pub(crate) fn idempotent<'a>(
        &'a self,
        operation: &'a str,
    ) -> Result<Option<IdempotentRequest<'a>>, Failed> {
        let Some(value) = self.headers.get("idempotency-key") else {
            return Ok(None);
        };
        let key = value.to_str().map_err(|_| {
            Problem::new(
                ProblemType::Malformed,
                "the Idempotency-Key must be visible ASCII characters, such as a UUID",
            )
        })?;
        Ok(Some(IdempotentRequest {
            key,
            operation,
            body: &self.bytes,
        }))
    }

    fn media_type(&self) -> Result<Option<String>, Failed> {
        let Some(value) = self.headers.get(header::CONTENT_TYPE) else {
            return Ok(None);
        };
        let text = value
            .to_str()
            .map_err(|_| Problem::new(ProblemType::Malformed, "the Content-Type header is not text"))?;
        let media = text.split(';').next().unwrap_or_default().trim();
        Ok(Some(media.to_ascii_lowercase()))
    }

    fn text(&self) -> Result<&str, Failed> {
        std::str::from_utf8(&self.bytes)
            .map_err(|error| malformed(format!("the body is not UTF-8 text: {error}")))
    }

    fn read_json(&self) -> Result<Value, Failed> {
        // The shared reader takes YAML for JSON's superset; who says JSON is held to it.
        serde_json::from_str::<IgnoredAny>(self.text()?)
            .map_err(|error| malformed(format!("the body is not JSON: {error}")))?;
        self.read()
    }

    fn read(&self) -> Result<Value, Failed> {
        slipway_dag::parse(self.text()?, MEBIBYTES * MEBIBYTE).map_err(|error| malformed(error.to_string()))
    }
}

fn malformed(detail: String) -> Failed {
    Problem::new(ProblemType::Malformed, detail).into()
}

fn is_json(media: &str) -> bool {
    media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
}

fn unknown_media(media: &str, expected: &str) -> Failed {
    let media: String = media.chars().take(100).collect();
    Problem::new(
        ProblemType::Malformed,
        format!("the Content-Type '{media}' is not one that this call reads: expected {expected}"),
    )
    .into()
}
