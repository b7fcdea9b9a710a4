//! Who calls, from what API Gateway checked.

use aws_lambda_events::apigw::{
    ApiGatewayRequestAuthorizer, ApiGatewayRequestAuthorizerIamDescription,
    ApiGatewayRequestAuthorizerJwtDescription,
};
use axum::http::request::Parts;
use slipway_api::Authenticator;
use slipway_app::{Caller, Role};
use slipway_model::{Problem, ProblemType, TenantId};

use crate::settings::{Callers, role_of};

/// What API Gateway says about a caller; among a request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Checked(pub(crate) ApiGatewayRequestAuthorizer);

/// Trusts the gateway: its authorizer checked the token or the signature before the function was called.
#[derive(Debug, Clone)]
pub(crate) struct GatewayCallers(pub(crate) Callers);

impl Authenticator for GatewayCallers {
    fn authenticate(&self, request: &Parts) -> Result<Caller, Problem> {
        let checked = request.extensions.get::<Checked>().map(|checked| &checked.0);
        if let Some(jwt) = checked.and_then(|checked| checked.jwt.as_ref()) {
            return self.of_token(jwt);
        }
        if let Some(iam) = checked.and_then(|checked| checked.iam.as_ref()) {
            return self.of_signature(iam);
        }
        Err(Problem::new(
            ProblemType::Unauthenticated,
            "this call needs the header 'Authorization: Bearer TOKEN' with a token of the API's issuer",
        ))
    }
}

impl GatewayCallers {
    fn of_token(&self, jwt: &ApiGatewayRequestAuthorizerJwtDescription) -> Result<Caller, Problem> {
        let claim = |name: &str| {
            jwt.claims
                .get(name)
                .map(|value| value.trim())
                .filter(|value| !value.is_empty())
        };
        let user_id = claim("sub").ok_or_else(|| {
            Problem::new(
                ProblemType::Unauthenticated,
                "the token names nobody: it has no claim 'sub'",
            )
        })?;
        let tenant_claim = &self.0.tenant_claim;
        let tenant: TenantId = claim(tenant_claim)
            .ok_or_else(|| {
                forbidden(format!(
                    "the token has no claim '{tenant_claim}', which names the caller's tenant"
                ))
            })?
            .parse()
            .map_err(|error| {
                forbidden(format!(
                    "the token's claim '{tenant_claim}' names no tenant: {error}"
                ))
            })?;
        let role_claim = &self.0.role_claim;
        let role = claim(role_claim).and_then(greatest_role).ok_or_else(|| {
            forbidden(format!(
                "the token's claim '{role_claim}' names no role: expected viewer, deployer or admin"
            ))
        })?;
        Ok(Caller {
            tenant,
            user_id: user_id.to_owned(),
            role,
        })
    }

    fn of_signature(&self, iam: &ApiGatewayRequestAuthorizerIamDescription) -> Result<Caller, Problem> {
        let Some(callers) = &self.0.iam else {
            return Err(forbidden(
                "callers with AWS credentials are not let in: an operator says their role with SLIPWAY_IAM_ROLE".to_owned(),
            ));
        };
        let user_id = iam
            .user_arn
            .as_deref()
            .or(iam.caller_id.as_deref())
            .filter(|name| !name.is_empty())
            .ok_or_else(|| Problem::new(ProblemType::Unauthenticated, "the signature names nobody"))?;
        Ok(Caller {
            tenant: callers.tenant.clone(),
            user_id: user_id.to_owned(),
            role: callers.role,
        })
    }
}

/// A claim with one value is text; one with several is written by API Gateway as `[one two]`. Groups that are no
/// roles are for others.
fn greatest_role(claim: &str) -> Option<Role> {
    match claim.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(list) => list
            .split([' ', ','])
            .filter_map(|name| role_of(name.trim().trim_matches('"')))
            .max(),
        None => role_of(claim),
    }
}

fn forbidden(detail: String) -> Problem {
    Problem::new(ProblemType::Forbidden, detail)
}
