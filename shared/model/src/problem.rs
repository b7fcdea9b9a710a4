//! Errors as callers see them: RFC 9457 problem documents.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One thing that is wrong with an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Where, such as `components[2].chart.values.llm_endpoint`; empty for the whole.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl FieldError {
    /// An error at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// The stable kinds of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemType {
    /// 400: not JSON or YAML, or not the right shape.
    Malformed,
    /// 401: no or a wrong token.
    Unauthenticated,
    /// 403: the role does not allow it.
    Forbidden,
    /// 404: no such thing for this tenant.
    NotFound,
    /// 405: no such call on this resource.
    MethodNotAllowed,
    /// 409: wrong state, or there is one already.
    Conflict,
    /// 413: the body is too large.
    TooLarge,
    /// 422: well-formed but invalid.
    Invalid,
    /// 429: too many calls.
    TooMany,
    /// 500: our fault.
    Internal,
    /// 503: a part that is needed does not answer.
    Unavailable,
}

impl ProblemType {
    /// The stable identifier, below `https://slipway.dev/problems/`.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Conflict => "conflict",
            Self::TooLarge => "too-large",
            Self::Invalid => "invalid",
            Self::TooMany => "too-many",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    /// HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Invalid => 422,
            Self::TooMany => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }

    /// The same for every problem of the type.
    pub fn title(self) -> &'static str {
        match self {
            Self::Malformed => "The request cannot be read",
            Self::Unauthenticated => "The caller is not known",
            Self::Forbidden => "The caller's role does not allow this",
            Self::NotFound => "There is no such thing",
            Self::MethodNotAllowed => "There is no such call",
            Self::Conflict => "The present state does not allow this",
            Self::TooLarge => "The request is too large",
            Self::Invalid => "The request is invalid",
            Self::TooMany => "Too many requests",
            Self::Internal => "Something is wrong with the server",
            Self::Unavailable => "A part that is needed does not answer",
        }
    }
}

/// A problem document, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `https://slipway.dev/problems/<slug>`.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// The same for every problem of the type.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// This one: what is wrong, where, and what would be right.
    pub detail: String,
    /// Every single error, when there are several places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// A problem of a type, with its detail.
    pub fn new(problem_type: ProblemType, detail: impl Into<String>) -> Self {
        Self {
            problem_type: format!("https://slipway.dev/problems/{}", problem_type.slug()),
            title: problem_type.title().to_owned(),
            status: problem_type.status(),
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    /// With a list of places; the detail stays as it is.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// A 422 whose detail is made of all errors.
    pub fn invalid(what: &str, errors: Vec<FieldError>) -> Self {
        let list = errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ");
        Self::new(ProblemType::Invalid, format!("{what}: {list}")).with_errors(errors)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}

impl std::error::Error for Problem {}
