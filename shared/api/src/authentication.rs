//! Who calls: the port behind which tokens are checked, and the embedded one.

use axum::http::{header, request::Parts};
use slipway_app::{Caller, Role};
use slipway_model::{Problem, ProblemType, TenantId};
use subtle::ConstantTimeEq as _;

/// Finds out who calls. On AWS the claims that API Gateway checked are among the request's extensions.
pub trait Authenticator: Send + Sync {
    /// The caller of a request.
    ///
    /// # Errors
    /// A 401 problem that says how to call; never part of what was sent.
    fn authenticate(&self, request: &Parts) -> Result<Caller, Problem>;
}

/// The authenticator of an embedded control plane: whoever holds its token is the local administrator.
pub struct BearerToken {
    token: String,
}

impl BearerToken {
    /// Accepts exactly this token.
    pub fn new(token: impl Into<String>) -> Self {
        Self { token: token.into() }
    }
}

impl Authenticator for BearerToken {
    fn authenticate(&self, request: &Parts) -> Result<Caller, Problem> {
        let refuse = |detail| Err(Problem::new(ProblemType::Unauthenticated, detail));
        let Some(header) = request.headers.get(header::AUTHORIZATION) else {
            return refuse(
                "this call needs the header 'Authorization: Bearer TOKEN'; 'slipway serve' printed the token",
            );
        };
        let sent = header.to_str().ok().and_then(|text| text.split_once(' '));
        match sent {
            Some((scheme, token))
                if scheme.eq_ignore_ascii_case("bearer")
                    && bool::from(token.trim().as_bytes().ct_eq(self.token.as_bytes())) =>
            {
                Ok(Caller {
                    tenant: TenantId::local(),
                    user_id: "local".to_owned(),
                    role: Role::Admin,
                })
            }
            _ => refuse("the token is not the one of this control plane; 'slipway serve' prints it"),
        }
    }
}
