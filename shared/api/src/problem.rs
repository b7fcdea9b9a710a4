//! Problem documents as responses.

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use slipway_app::AppError;
use slipway_model::{Problem, ProblemType};
use slipway_ports::chain;

/// The media type of RFC 9457.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Longest text of a rejection that goes into a problem's detail.
const LONGEST_DETAIL: usize = 4096;

/// A failed call, as the caller sees it.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) Problem);

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<AppError> for Failed {
    fn from(error: AppError) -> Self {
        let problem = error.to_problem();
        if problem.status >= 500 {
            tracing::error!(error = chain(&error), "a call failed");
        }
        Self(problem)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        response(&self.0)
    }
}

/// The response that carries `problem`.
pub(crate) fn response(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(problem).expect("a problem is text and numbers");
    let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"slipway\""),
        );
    }
    response
}

/// Turns every error that is not a problem document yet into one: the rejections of the HTTP library among them.
pub(crate) async fn only_problems(request: Request, next: Next) -> Response {
    let answer = next.run(request).await;
    let status = answer.status();
    if !(status.is_client_error() || status.is_server_error()) || is_problem(&answer) {
        return answer;
    }
    let (parts, body) = answer.into_parts();
    let text = to_bytes(body, LONGEST_DETAIL).await.unwrap_or_default();
    let detail = String::from_utf8_lossy(&text);
    let mut problem = Problem::new(type_of(status), detail.trim());
    problem.status = status.as_u16();
    if problem.detail.is_empty() {
        problem.detail = status
            .canonical_reason()
            .unwrap_or("the request failed")
            .to_lowercase();
    }
    let mut answer = response(&problem);
    if let Some(allow) = parts.headers.get(header::ALLOW) {
        answer.headers_mut().insert(header::ALLOW, allow.clone());
    }
    answer
}

fn is_problem(answer: &Response<Body>) -> bool {
    answer
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value == PROBLEM_JSON)
}

fn type_of(status: StatusCode) -> ProblemType {
    match status {
        StatusCode::UNAUTHORIZED => ProblemType::Unauthenticated,
        StatusCode::FORBIDDEN => ProblemType::Forbidden,
        StatusCode::NOT_FOUND => ProblemType::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => ProblemType::MethodNotAllowed,
        StatusCode::CONFLICT => ProblemType::Conflict,
        StatusCode::PAYLOAD_TOO_LARGE => ProblemType::TooLarge,
        StatusCode::UNPROCESSABLE_ENTITY => ProblemType::Invalid,
        StatusCode::TOO_MANY_REQUESTS => ProblemType::TooMany,
        StatusCode::SERVICE_UNAVAILABLE => ProblemType::Unavailable,
        status if status.is_client_error() => ProblemType::Malformed,
        _ => ProblemType::Internal,
    }
}
