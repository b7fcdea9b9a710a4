//! What every request passes before it reaches a route.

use std::panic::AssertUnwindSafe;

use axum::{
    extract::{Request, State},
    http::{Method, Uri, header},
    middleware::Next,
    response::Response,
};
use futures::FutureExt as _;
use slipway_model::{Problem, ProblemType};

use crate::{Api, problem};

/// A handler that panics answers 500 like any other broken part, and the process goes on.
pub(crate) async fn catch_panics(request: Request, next: Next) -> Response {
    let what = format!("{} {}", request.method(), request.uri().path());
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(answer) => answer,
        Err(panic) => {
            let reason = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            tracing::error!(call = what, reason, "a call panicked");
            problem::response(&Problem::new(
                ProblemType::Internal,
                "the server could not finish this call; its log says why",
            ))
        }
    }
}

/// Lets only callers through that the authenticator knows, and tells the routes who it is.
pub(crate) async fn authenticate(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match api.authenticator.authenticate(&parts) {
        Ok(caller) => {
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refusal) => problem::response(&refusal),
    }
}

/// Answers only to the machine's own names. A page on the internet can point a name of its own at 127.0.0.1 and have
/// a browser call it (DNS rebinding); then the name stands in `Host`.
pub async fn require_loopback_host(request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    if host.is_some_and(is_loopback) {
        return next.run(request).await;
    }
    problem::response(&Problem::new(
        ProblemType::Forbidden,
        "this control plane answers to localhost, 127.0.0.1 and [::1] only; the Host header names something else",
    ))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

/// What stands at an address that nothing answers.
pub(crate) async fn nothing_here(uri: Uri) -> Response {
    problem::response(&Problem::new(
        ProblemType::NotFound,
        format!(
            "nothing stands at {}; /api/v1/openapi.json lists what does",
            shorten(uri.path())
        ),
    ))
}

/// What a resource says to a method that it does not have. The library adds `Allow`.
pub(crate) async fn no_such_call(method: Method, uri: Uri) -> Response {
    problem::response(&Problem::new(
        ProblemType::MethodNotAllowed,
        format!(
            "{} has no {}; the Allow header lists what it has",
            shorten(uri.path()),
            shorten(method.as_str())
        ),
    ))
}

fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_the_machines_own_names_are_loopback() {
        for own in [
            "localhost",
            "LOCALHOST:7070",
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:7070",
        ] {
            assert!(is_loopback(own), "{own}");
        }
        for foreign in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "evil.example:127",
            "127.0.0.1:80:80x",
            "[::1",
        ] {
            assert!(!is_loopback(foreign), "{foreign}");
        }
    }
}
