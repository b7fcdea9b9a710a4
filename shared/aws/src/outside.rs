//! Calls to the outside: HTTP by the client that every control plane has, and SNS.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use slipway_ports::{HttpAnswer, HttpCall, Outside, OutsideError};

use crate::{clients::Clients, failure::Failure};

/// What SNS takes as a subject, in characters.
const LONGEST_SUBJECT: usize = 100;

/// What SNS takes as a message, in bytes.
const LARGEST_MESSAGE: usize = 256 << 10;

/// HTTP calls and SNS topics in any region.
#[derive(Clone)]
pub struct AwsOutside {
    http: Arc<dyn Outside>,
    clients: Clients,
}

impl fmt::Debug for AwsOutside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsOutside").finish_non_exhaustive()
    }
}

impl AwsOutside {
    /// `http` makes the HTTP calls; topics are reached with the credentials of `clients`, each in its own region.
    pub fn new(http: Arc<dyn Outside>, clients: Clients) -> Self {
        Self { http, clients }
    }
}

/// The region of a topic.
fn region_of(topic: &str) -> Result<&str, OutsideError> {
    let parts: Vec<&str> = topic.split(':').collect();
    match parts[..] {
        ["arn", _, "sns", _, _, name] if name.ends_with(".fifo") => Err(OutsideError::Refused(format!(
            "'{topic}' is a FIFO topic: expected a standard one"
        ))),
        ["arn", partition, "sns", region, account, name]
            if partition.starts_with("aws")
                && !region.is_empty()
                && account.len() == 12
                && account.bytes().all(|byte| byte.is_ascii_digit())
                && !name.is_empty() =>
        {
            Ok(region)
        }
        _ => Err(OutsideError::Refused(format!(
            "'{topic}' is not the ARN of a topic: expected one such as arn:aws:sns:eu-central-1:123456789012:alerts"
        ))),
    }
}

/// A subject as SNS takes it: printable ASCII on one line; nothing if nothing is left.
fn subject_line(subject: &str) -> Option<String> {
    let line: String = subject
        .chars()
        .map(|c| match c {
            ' '..='~' => c,
            c if c.is_whitespace() => ' ',
            _ => '?',
        })
        .take(LONGEST_SUBJECT)
        .collect();
    let line = line.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

#[async_trait]
impl Outside for AwsOutside {
    async fn http(&self, call: HttpCall) -> Result<HttpAnswer, OutsideError> {
        self.http.http(call).await
    }

    async fn publish(&self, topic: &str, subject: &str, message: &str) -> Result<(), OutsideError> {
        let region = region_of(topic)?;
        if message.is_empty() || message.len() > LARGEST_MESSAGE {
            return Err(OutsideError::Refused(format!(
                "the message for '{topic}' has {} bytes: SNS takes 1 to {LARGEST_MESSAGE}",
                message.len()
            )));
        }
        let sent = self
            .clients
            .sns_in(region)
            .publish()
            .topic_arn(topic)
            .set_subject(subject_line(subject))
            .message(message)
            .send()
            .await;
        let Err(error) = sent else { return Ok(()) };
        let failure = Failure::of("sns:Publish", &error);
        if failure.is_transient() {
            return Err(OutsideError::NoAnswer {
                host: format!("SNS in {region}"),
                source: failure.into(),
            });
        }
        Err(OutsideError::Refused(format!(
            "nothing can be published to '{topic}': {failure}"
        )))
    }
}
