//! Secrets, blobs, topics and EKS clusters against moto, and against servers of canned answers where moto is too kind.

#![expect(clippy::unwrap_used, reason = "what tests share fails as tests do")]

mod blobs;
mod canned;
mod eks;
mod outside;
mod secrets;
mod sigv4;
mod verifier;

use std::sync::atomic::{AtomicU32, Ordering};

use slipway_aws::{AwsConfig, Clients};

const REGION: &str = "eu-central-1";

/// Clients whose every call goes to `endpoint`.
async fn clients(endpoint: &str) -> Clients {
    let endpoint = endpoint.to_owned();
    let config = AwsConfig::from_variables(|name| {
        let value = match name {
            "AWS_REGION" => REGION,
            "AWS_ACCESS_KEY_ID" => "AKIDHOME",
            "AWS_SECRET_ACCESS_KEY" => "home-secret",
            "AWS_ENDPOINT_URL" => &endpoint,
            _ => return None,
        };
        Some(value.to_owned())
    });
    Clients::new(config.unwrap()).await
}

async fn moto() -> Clients {
    clients(&xtask::aws_parts::moto().unwrap()).await
}

/// A name that no other test uses, neither of this process nor of another with the same moto.
fn unique(word: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{word}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Everything that an error would print anywhere.
fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(" {error} {error:?}"));
        source = error.source();
    }
    text
}
