//! Calls to the outside that notifications and `http_request` steps make.

use std::{collections::BTreeMap, error::Error, time::Duration};

use async_trait::async_trait;
use secrecy::SecretString;

/// An HTTP call. URL, header values and body may hold secrets: they are never logged.
#[derive(Debug)]
pub struct HttpCall {
    /// `GET`, `POST`, …
    pub method: String,
    /// Absolute `http` or `https` URL.
    pub url: SecretString,
    /// Headers by name.
    pub headers: BTreeMap<String, SecretString>,
    /// Body, if any.
    pub body: Option<SecretString>,
    /// How long to wait for the whole answer.
    pub timeout: Duration,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// HTTP status.
    pub status: u16,
    /// Headers, lower-case names.
    pub headers: BTreeMap<String, String>,
    /// Body as text, cut at [`LARGEST_BODY`](Self::LARGEST_BODY): it may then end within a secret that it repeats.
    pub body: String,
}

impl HttpAnswer {
    /// Most bytes of a body that are read, 64 KiB.
    pub const LARGEST_BODY: usize = 64 << 10;
}

/// The outside.
#[async_trait]
pub trait Outside: Send + Sync {
    /// Makes an HTTP call; redirects are not followed. Any status is an answer.
    async fn http(&self, call: HttpCall) -> Result<HttpAnswer, OutsideError>;

    /// Publishes a message to an SNS topic by ARN.
    async fn publish(&self, topic: &str, subject: &str, message: &str) -> Result<(), OutsideError>;
}

/// Why a call to the outside failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutsideError {
    /// Never allowed or never possible: repeating is pointless.
    #[error("{0}")]
    Refused(String),
    /// The other side does not answer; the call may or may not have had its effect.
    #[error("no answer from {host}")]
    NoAnswer {
        /// Host and port.
        host: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}
