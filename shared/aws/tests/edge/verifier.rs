//! What an EKS cluster does with a token before and when it asks STS: the rules of its authenticator, and then those of
//! STS itself.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::sigv4::signature;

const ALLOWED: &[&str] = &[
    "action",
    "version",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

const FIFTEEN_MINUTES: i64 = 15 * 60;

/// One cluster's verifier.
pub(crate) struct Verifier<'a> {
    /// The name that the cluster's own authenticator was given.
    pub(crate) cluster: &'a str,
    /// Hosts of STS in its partition.
    pub(crate) hosts: &'a [&'a str],
    /// Seconds since the epoch.
    pub(crate) now: i64,
    /// What STS knows of the caller: access key, secret key, session token.
    pub(crate) caller: (&'a str, &'a str, Option<&'a str>),
}

fn unescape(text: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).map_err(|error| error.to_string())?;
                bytes.push(u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?);
                rest = after;
            }
            (b'%', _) => return Err("malformed query parameter".to_owned()),
            (b'+', after) => {
                bytes.push(b' ');
                rest = after;
            }
            (byte, after) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// Seconds since the epoch of `20260101T000000Z`.
fn seconds(date: &str) -> Result<i64, String> {
    let bad = || format!("error parsing X-Amz-Date '{date}'");
    let number = |range: std::ops::Range<usize>| -> Result<i64, String> {
        date.get(range).and_then(|part| part.parse().ok()).ok_or_else(bad)
    };
    if date.len() != 16 || date.get(8..9) != Some("T") || !date.ends_with('Z') {
        return Err(bad());
    }
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    // Days from civil, counted from March so that the leap day comes last.
    let (year, month) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Ok(days * 86_400 + number(9..11)? * 3600 + number(11..13)? * 60 + number(13..15)?)
}

impl Verifier<'_> {
    /// The access key that the cluster would know the caller by.
    pub(crate) fn verify(&self, token: &str) -> Result<String, String> {
        if token.len() > 4096 {
            return Err("token is too large".to_owned());
        }
        let encoded = token
            .strip_prefix("k8s-aws-v1.")
            .ok_or("token is missing its prefix")?;
        let url = BASE64_URL_SAFE_NO_PAD
            .decode(encoded)
            .map_err(|error| error.to_string())?;
        let url = String::from_utf8(url).map_err(|error| error.to_string())?;
        self.verify_url(&url)
    }

    pub(crate) fn verify_url(&self, url: &str) -> Result<String, String> {
        let rest = url.strip_prefix("https://").ok_or("unexpected scheme")?;
        let slash = rest.find(['/', '?']).ok_or("unexpected path")?;
        let (host, rest) = rest.split_at(slash);
        if !self.hosts.contains(&host) {
            return Err(format!("unexpected hostname '{host}'"));
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if path != "/" {
            return Err(format!("unexpected path '{path}'"));
        }
        let mut parameters = Vec::new();
        for part in query.split('&') {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (key, value) = (unescape(key)?, unescape(value)?);
            if !ALLOWED.contains(&key.to_lowercase().as_str()) {
                return Err(format!("parameter '{key}' is not allowed"));
            }
            if parameters
                .iter()
                .any(|(other, _): &(String, String)| other.eq_ignore_ascii_case(&key))
            {
                return Err(format!("parameter '{key}' has several values"));
            }
            parameters.push((key, value));
        }
        let get = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        if get("action") != "GetCallerIdentity" || get("version") != "2011-06-15" {
            return Err("unexpected action".to_owned());
        }
        let signed: Vec<&str> = get("x-amz-signedheaders").split(';').collect();
        if !signed.contains(&"x-k8s-aws-id") {
            return Err("x-k8s-aws-id is not signed".to_owned());
        }
        let expires: i64 = get("x-amz-expires")
            .parse()
            .map_err(|_| "invalid X-Amz-Expires")?;
        if !(0..=FIFTEEN_MINUTES).contains(&expires) {
            return Err(format!("invalid X-Amz-Expires {expires}"));
        }
        let date = seconds(get("x-amz-date"))?;
        if self.now > date + FIFTEEN_MINUTES {
            return Err("X-Amz-Date is expired".to_owned());
        }
        self.ask_sts(host, &signed, &parameters)
    }

    /// STS, with the header that the cluster adds: its own name.
    fn ask_sts(
        &self,
        host: &str,
        signed: &[&str],
        parameters: &[(String, String)],
    ) -> Result<String, String> {
        let get = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        let mut headers = Vec::new();
        for name in signed {
            headers.push(match *name {
                "host" => ("host", host),
                "x-k8s-aws-id" => ("x-k8s-aws-id", self.cluster),
                other => return Err(format!("header '{other}' is signed, and nobody sends it")),
            });
        }
        if headers.len() != 2 {
            return Err("host must be signed".to_owned());
        }
        let (key, secret, session) = self.caller;
        let region = host.split('.').nth(1).unwrap_or_default();
        let credential = get("X-Amz-Credential").unwrap_or_default();
        let date = get("X-Amz-Date").unwrap_or_default();
        let day = date.get(..8).unwrap_or_default();
        if credential != format!("{key}/{day}/{region}/sts/aws4_request") {
            return Err(format!("'{credential}' is not the caller's in {region}"));
        }
        if get("X-Amz-Security-Token") != session {
            return Err("the session token is another".to_owned());
        }
        if get("X-Amz-Algorithm") != Some("AWS4-HMAC-SHA256") {
            return Err("unknown algorithm".to_owned());
        }
        let unsigned: Vec<_> = parameters
            .iter()
            .filter(|(key, _)| key != "X-Amz-Signature")
            .cloned()
            .collect();
        if get("X-Amz-Signature") != Some(&signature(secret, &unsigned, &headers)) {
            return Err("the signature does not match".to_owned());
        }
        Ok(key.to_owned())
    }
}

#[test]
fn dates_are_read_as_seconds() {
    assert_eq!(seconds("19700101T000000Z").unwrap(), 0);
    assert_eq!(seconds("20000229T235959Z").unwrap(), 951_868_799);
    assert_eq!(seconds("20260101T000000Z").unwrap(), 1_767_225_600);
    assert!(seconds("2026-01-01T00:00").is_err());
}
