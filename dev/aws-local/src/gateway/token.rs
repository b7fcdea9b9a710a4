//! Tokens: made and checked by this program, as a user pool and the JWT authorizer would.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use crate::clock;

/// How long a token is good for, in seconds.
const LIFE: i64 = 24 * 60 * 60;

/// Makes and checks tokens with a secret of its own.
#[derive(Debug)]
pub(crate) struct Issuer {
    secret: String,
    issuer: String,
    audience: String,
    tenant_claim: String,
    role_claim: String,
}

impl Issuer {
    /// An issuer whose tokens tell tenant and role in these claims.
    pub(crate) fn new(
        secret: String,
        issuer: &str,
        audience: &str,
        tenant_claim: &str,
        role_claim: &str,
    ) -> Self {
        Self {
            secret,
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            tenant_claim: tenant_claim.to_owned(),
            role_claim: role_claim.to_owned(),
        }
    }

    /// A token for somebody of a tenant with a role; a role of none makes a token without that claim.
    pub(crate) fn token(&self, tenant: Option<&str>, role: Option<&str>) -> String {
        let now = clock::now().as_second();
        let mut claims = json!({
            "iss": self.issuer,
            "aud": self.audience,
            "sub": format!("local-{}", role.unwrap_or("nobody")),
            "iat": now,
            "exp": now + LIFE,
        });
        for (claim, value) in [(&self.tenant_claim, tenant), (&self.role_claim, role)] {
            if let Some(value) = value {
                claims[claim] = Value::from(value);
            }
        }
        self.signed(&json!({"alg": "HS256", "typ": "JWT"}), &claims)
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.mac(&signed).finalize().into_bytes());
        format!("{signed}.{signature}")
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("a key of any length is good");
        mac.update(text.as_bytes());
        mac
    }

    /// The claims of a good token in an `Authorization` header, as texts, as API Gateway hands them on.
    pub(crate) fn claims(&self, header: &str) -> Option<Map<String, Value>> {
        let token = match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            Some(_) => return None,
            None => header,
        };
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        self.mac(signed)
            .verify_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?)
            .ok()?;
        let decode = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let claims = decode(claims)?;
        let now = clock::now().as_second();
        let is_good = decode(header)?["alg"] == "HS256"
            && claims["iss"] == self.issuer.as_str()
            && claims["aud"] == self.audience.as_str()
            && claims["exp"].as_i64().is_some_and(|end| end > now);
        let texts = claims.as_object()?.iter().map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (name.clone(), Value::from(text))
        });
        is_good.then(|| texts.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(secret: &str) -> Issuer {
        Issuer::new(
            secret.to_owned(),
            "https://local",
            "slipway",
            "custom:tenant",
            "custom:role",
        )
    }

    #[test]
    fn a_token_gives_its_claims_as_texts() {
        let issuer = issuer("s");
        let token = issuer.token(Some("acme"), Some("viewer"));
        let claims = issuer.claims(&format!("Bearer {token}")).unwrap();
        assert_eq!(claims["custom:tenant"], "acme");
        assert_eq!(claims["custom:role"], "viewer");
        assert!(claims["exp"].is_string());
    }

    #[test]
    fn what_is_forged_expired_or_for_others_is_refused() {
        let issuer = issuer("s");
        let header = json!({"alg": "HS256"});
        let good = json!({"iss": "https://local", "aud": "slipway", "exp": i64::MAX});
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            issuer.signed(&header, &claims)
        };
        assert!(issuer.claims(&issuer.signed(&header, &good)).is_some());
        for refused in [
            super::tests::issuer("t").signed(&header, &good),
            with("exp", json!(1)),
            with("aud", json!("others")),
            with("iss", json!("https://others")),
            issuer.signed(&json!({"alg": "none"}), &good),
            "a.b.c".to_owned(),
            "Basic YTpi".to_owned(),
            String::new(),
        ] {
            assert!(issuer.claims(&refused).is_none(), "{refused}");
        }
    }
}
