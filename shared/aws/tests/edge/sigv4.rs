//! Signature version 4 of a presigned URL, computed from its public description and nothing of the SDK.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> Vec<u8> {
    let key = mac(format!("AWS4{secret}").as_bytes(), date);
    let key = mac(&key, region);
    let key = mac(&key, service);
    mac(&key, "aws4_request")
}

/// Only what RFC 3986 calls unreserved stays as it is.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// The signature of a `GET` of `/` with these parameters (all but the signature, unescaped) and signed headers.
pub(crate) fn signature(secret: &str, parameters: &[(String, String)], headers: &[(&str, &str)]) -> String {
    let of = |name: &str| {
        let found = parameters.iter().find(|(key, _)| key == name);
        found.unwrap_or_else(|| panic!("{name} is missing")).1.as_str()
    };
    let mut query: Vec<String> = parameters
        .iter()
        .map(|(key, value)| format!("{}={}", escape(key), escape(value)))
        .collect();
    query.sort();
    let mut headers = headers.to_vec();
    headers.sort_unstable();
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let request = format!(
        "GET\n/\n{}\n{lines}\n{}\n{}",
        query.join("&"),
        names.join(";"),
        hex(&Sha256::digest(b""))
    );
    let credential: Vec<&str> = of("X-Amz-Credential").split('/').collect();
    let [_, date, region, service, "aws4_request"] = credential[..] else {
        panic!("{credential:?} is no scope");
    };
    let text = format!(
        "AWS4-HMAC-SHA256\n{}\n{date}/{region}/{service}/aws4_request\n{}",
        of("X-Amz-Date"),
        hex(&Sha256::digest(request.as_bytes()))
    );
    hex(&mac(&signing_key(secret, date, region, service), &text))
}

#[test]
fn the_signing_key_is_that_of_the_published_example() {
    let key = signing_key(
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "20150830",
        "us-east-1",
        "iam",
    );
    assert_eq!(
        hex(&key),
        "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
    );
}
