//! What went wrong with a call to AWS, without anything that was sent or came back.

use slipway_ports::chain;
use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// Codes that ask for patience, although their status does not say so.
const PATIENCE: &[&str] = &[
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestTimeout",
    "SlowDown",
    "TooManyRequestsException",
];

/// A call that failed. An SDK error keeps request and response, which may hold a secret and would be shown by `Debug`;
/// this keeps neither.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed: {reason}")]
pub(crate) struct Failure {
    /// Such as `secretsmanager:CreateSecret`, as IAM writes it.
    operation: &'static str,
    reason: String,
    code: Option<String>,
    transient: bool,
}

impl Failure {
    /// What an SDK error says.
    pub(crate) fn of<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let code = error.code().map(str::to_owned);
        let status = error.raw_response().map(|response| response.status().as_u16());
        let reason = match (error.code(), error.message(), status) {
            (Some(code), Some(message), _) => format!("{code}: {message}"),
            (Some(code), None, _) => code.to_owned(),
            (None, _, Some(status)) if error.as_service_error().is_some() => {
                format!("AWS answered {status} without a code")
            }
            _ => chain(error),
        };
        let transient = match error {
            SdkError::ServiceError(_) => {
                status.is_some_and(|status| status >= 500 || status == 429)
                    || code
                        .as_deref()
                        .is_some_and(|code| code.contains("Throttl") || PATIENCE.contains(&code))
            }
            SdkError::ConstructionFailure(_) => false,
            other => !lacks_credentials(other),
        };
        Self {
            operation,
            reason,
            code,
            transient,
        }
    }

    /// The same without the service's words, for calls whose words may repeat what was sent.
    pub(crate) fn without_message(self) -> Self {
        match &self.code {
            Some(code) => Self {
                reason: code.clone(),
                ..self
            },
            None => self,
        }
    }

    /// The service's code, such as `AccessDeniedException`.
    pub(crate) fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }

    /// Whether a repeat can help.
    pub(crate) fn is_transient(&self) -> bool {
        self.transient
    }
}

/// Whether nobody gave credentials, which no repeat will change.
fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(credentials) = error.downcast_ref::<CredentialsError>() {
            return matches!(
                credentials,
                CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
            );
        }
        source = error.source();
    }
    false
}
