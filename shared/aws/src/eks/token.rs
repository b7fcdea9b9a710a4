//! Tokens for EKS: a signed request for the caller's identity, which the cluster sends to STS in the caller's stead.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4::SigningParams,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use slipway_model::Timestamp;
use slipway_ports::SecretString;

/// How long STS honours a token, whatever its own parameter says.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// What the parameter says: old verifiers take nothing longer.
const EXPIRES: Duration = Duration::from_secs(60);

const PREFIX: &str = "k8s-aws-v1.";

/// Header that ties a token to one cluster.
const CLUSTER_HEADER: &str = "x-k8s-aws-id";

/// Verifiers take nothing longer.
const LONGEST_TOKEN: usize = 4 << 10;

/// Why there is no token. Holds no part of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The request cannot be signed.
    #[error("the identity request cannot be signed: {0}")]
    Unsigned(String),
    /// The credentials are too long to fit.
    #[error(
        "the token has {0} bytes, and clusters take at most {LONGEST_TOKEN}: the session token is too long, give the role fewer session tags or a shorter session policy"
    )]
    TooLong(usize),
}

/// Where STS is in a region, by the partition that the region's name tells.
fn sts_host(region: &str) -> String {
    let suffix = match region.split('-').next().unwrap_or_default() {
        "cn" => "amazonaws.com.cn",
        "eusc" => "amazonaws.eu",
        _ if region.starts_with("us-iso-") => "c2s.ic.gov",
        _ if region.starts_with("us-isob-") => "sc2s.sgov.gov",
        _ if region.starts_with("us-isof-") => "csp.hci.ic.gov",
        _ if region.starts_with("eu-isoe-") => "cloud.adc-e.uk",
        _ => "amazonaws.com",
    };
    format!("sts.{region}.{suffix}")
}

/// A token for the cluster of that name, signed as of `now`, with which its API server takes the caller for the owner
/// of `credentials`. Nothing is sent.
///
/// # Errors
/// When the names do not fit into a request, or the session token is too long.
pub fn mint_token(
    region: &str,
    cluster: &str,
    credentials: Credentials,
    now: Timestamp,
) -> Result<SecretString, TokenError> {
    let host = sts_host(region);
    let url = format!("https://{host}/?Action=GetCallerIdentity&Version=2011-06-15");
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(EXPIRES);
    let identity = credentials.into();
    let seconds = u64::try_from(now.as_millis() / 1000).unwrap_or_default();
    let unsigned = |error: &dyn std::error::Error| TokenError::Unsigned(slipway_ports::chain(error));
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(UNIX_EPOCH + Duration::from_secs(seconds))
        .settings(settings)
        .build()
        .map_err(|error| unsigned(&error))?
        .into();
    let headers = [("host", host.as_str()), (CLUSTER_HEADER, cluster)];
    let request = SignableRequest::new("GET", &url, headers.into_iter(), SignableBody::Bytes(&[]))
        .map_err(|error| unsigned(&error))?;
    let (instructions, _) = sign(request, &params)
        .map_err(|error| unsigned(&error))?
        .into_parts();
    let mut request = http::Request::get(&url)
        .body(())
        .map_err(|error| unsigned(&error))?;
    instructions.apply_to_request_http1x(&mut request);
    let token = format!(
        "{PREFIX}{}",
        BASE64_URL_SAFE_NO_PAD.encode(request.uri().to_string())
    );
    if token.len() > LONGEST_TOKEN {
        return Err(TokenError::TooLong(token.len()));
    }
    Ok(token.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sts_is_asked_in_the_regions_own_partition() {
        for (region, host) in [
            ("eu-central-1", "sts.eu-central-1.amazonaws.com"),
            ("us-gov-west-1", "sts.us-gov-west-1.amazonaws.com"),
            ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn"),
            ("us-iso-east-1", "sts.us-iso-east-1.c2s.ic.gov"),
            ("us-isob-east-1", "sts.us-isob-east-1.sc2s.sgov.gov"),
        ] {
            assert_eq!(sts_host(region), host);
        }
    }
}
