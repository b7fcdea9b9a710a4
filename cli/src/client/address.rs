//! Where a control plane is, and how its answers are read.

use serde_json::Value;
use slipway_model::{Problem, ProblemType};
use ureq::{
    Body, Error, Timeout,
    http::{Request, Response, request::Builder},
};

use crate::failure::Failure;

/// Most bytes of an answer.
const LARGEST_ANSWER: u64 = 64 * 1024 * 1024;

/// The address of a control plane, with the token for it.
#[derive(Debug, Clone)]
pub(super) struct Address {
    url: String,
    token: Option<String>,
}

impl Address {
    /// One that the token may be sent to.
    pub(super) fn new(url: &str, token: Option<String>) -> Result<Self, Failure> {
        let url = url.trim_end_matches('/').to_owned();
        let known = url.starts_with("https://") || url.starts_with("http://");
        if !known {
            return Err(Failure::misuse(format!(
                "'{url}' is not the address of a control plane: expected http://… or https://…"
            )));
        }
        let address = Self { url, token };
        if address.url.starts_with("http://") && address.token.is_some() && !address.is_loopback() {
            return Err(Failure::misuse(format!(
                "the token is not sent to {}, because everybody on the way could read it",
                address.url
            ))
            .next("use the https:// address"));
        }
        Ok(address)
    }

    /// Whether it is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        let rest = self
            .url
            .strip_prefix("http://")
            .or_else(|| self.url.strip_prefix("https://"))
            .unwrap_or(&self.url);
        let authority = rest.split('/').next().unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1" || host == "[::1]"
    }

    /// A request for what stands at `path`, below `/api/v1`.
    pub(super) fn request(&self, method: &str, path: &str) -> Builder {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v1{path}", self.url));
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// An answer's JSON.
    pub(super) fn json(&self, text: &str) -> Result<Value, Failure> {
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(text).map_err(|_| {
            Failure::failed(format!("{} answered with something that is not JSON", self.url))
                .next("check that the address is a Slipway control plane")
        })
    }

    /// An answer's text.
    pub(super) fn text(&self, mut answer: Response<Body>) -> Result<String, Unanswered> {
        if !answer.status().is_success() {
            return Err(Unanswered::Refused(self.refusal(answer)));
        }
        let body = answer.body_mut().with_config().limit(LARGEST_ANSWER);
        body.read_to_string().map_err(Unanswered::Broken)
    }

    /// What an answer says that is no success.
    pub(super) fn refusal(&self, mut answer: Response<Body>) -> Failure {
        let status = answer.status();
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        if let Ok(problem) = serde_json::from_str::<Problem>(&text) {
            return Failure::of_problem(problem);
        }
        match of_gateway(status.as_u16(), &text) {
            Some(problem) => Failure::of_problem(problem),
            None => Failure::failed(format!("{} answered {status}", self.url))
                .next("check that the address is a Slipway control plane"),
        }
    }

    /// That nobody answers.
    pub(super) fn unreachable(&self, error: &Error) -> Failure {
        let failure = Failure::failed(format!("no control plane answers at {}: {error}", self.url)).passing();
        if self.is_loopback() {
            failure.next("start one with `slipway serve`, or name another with --url or SLIPWAY_URL")
        } else {
            failure.next("check the address in --url or SLIPWAY_URL")
        }
    }

    /// That nobody knows what became of a change that was asked for.
    pub(super) fn unknown_outcome(&self, error: &Error) -> Failure {
        Failure::failed(format!(
            "{} did not answer to the end, so that what was asked for may have been done: {error}",
            self.url
        ))
        .next("look how it stands before you ask again, for example with `slipway status`")
        .passing()
        .undecided()
    }
}

/// What a gateway in front of the control plane means, which refuses by itself what never gets through: it says so in its
/// own words, or in none. Nothing for what a control plane's gateway does not answer.
fn of_gateway(status: u16, text: &str) -> Option<Problem> {
    let (problem_type, what) = match status {
        401 => (
            ProblemType::Unauthenticated,
            "the token is absent, wrong or expired",
        ),
        403 => (ProblemType::Forbidden, "the caller may not do this"),
        413 => (ProblemType::TooLarge, "what was sent is too large"),
        429 => (ProblemType::TooMany, "too many calls at once"),
        500 => (ProblemType::Internal, "something went wrong"),
        502..=504 => (
            ProblemType::Unavailable,
            "the control plane did not answer in time",
        ),
        // Of its own making, some of them only after the control plane has received what was asked for.
        408 | 499 | 501.. => (
            ProblemType::Unavailable,
            "the answer of the control plane did not get through",
        ),
        _ => return None,
    };
    let said = serde_json::from_str::<Value>(text).ok();
    let said = said.as_ref().and_then(|said| said["message"].as_str());
    let detail = match said {
        Some(said) => format!("the gateway answered {status}, «{said}»: {what}"),
        None => format!("the gateway answered {status}: {what}"),
    };
    Some(Problem::new(problem_type, detail))
}

/// Why there is no answer that says what was asked for.
pub(super) enum Unanswered {
    /// The control plane says why.
    Refused(Failure),
    /// The connection was not made, or broke.
    Broken(Error),
}

/// Whether a request with this error was certainly not received.
pub(super) fn is_unsent(error: &Error) -> bool {
    use std::io::ErrorKind;
    match error {
        Error::Timeout(Timeout::Resolve | Timeout::Connect)
        | Error::HostNotFound
        | Error::ConnectionFailed
        | Error::BadUri(_)
        | Error::Http(_)
        | Error::InvalidProxyUrl
        | Error::Tls(_) => true,
        Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_sent_in_the_clear_over_a_network() {
        let token = || Some("t".to_owned());
        assert!(Address::new("http://127.0.0.1:7070/", token()).is_ok());
        assert!(Address::new("http://[::1]:7070", token()).is_ok());
        assert!(Address::new("https://slipway.example.com", token()).is_ok());
        assert!(Address::new("http://slipway.example.com", token()).is_err());
        assert!(Address::new("http://localhost.example.com", token()).is_err());
        assert!(Address::new("slipway.example.com", None).is_err());
    }

    #[test]
    fn what_a_gateway_refuses_is_told_as_what_it_means() {
        let told = |status, text| of_gateway(status, text).map(Failure::of_problem);
        let expired = told(401, r#"{"message":"Unauthorized"}"#).unwrap();
        let text = expired.to_string();
        assert!(
            text.contains("Unauthorized") && text.contains("expired") && text.contains("SLIPWAY_TOKEN"),
            "{text}"
        );
        assert!(!expired.may_pass);
        for (status, text) in [
            (408, ""),
            (429, r#"{"message":"Too Many Requests"}"#),
            (499, "<html>"),
            (503, r#"{"message":"Service Unavailable"}"#),
            (504, "<html>"),
            (524, "error code: 524"),
            (598, ""),
        ] {
            let busy = told(status, text).unwrap();
            assert!(busy.may_pass && busy.to_string().contains("try again"), "{busy}");
        }
        assert!(!told(403, r#"{"message":"Forbidden"}"#).unwrap().may_pass);
        // Nobody's gateway: whatever listens there knows no control plane.
        assert!(told(404, "<html>").is_none());
    }
}
