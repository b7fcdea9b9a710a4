//! The time, and what must be different each time. This is the one place of this program that asks for either.

use std::time::Duration;

use jiff::Timestamp;

/// The time of day.
#[expect(
    clippy::disallowed_methods,
    reason = "this program plays services that tell the time"
)]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Lets time pass before something that may fail is tried again.
#[expect(
    clippy::disallowed_methods,
    reason = "a service that is gone gives no notice of its return"
)]
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// As many random hexadecimal digits.
pub(crate) fn random_hex(digits: usize) -> String {
    let mut bytes = vec![0; digits.div_ceil(2)];
    getrandom::fill(&mut bytes).expect("this machine has a source of randomness");
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    text
}

/// An identifier as AWS gives them to requests: a random UUID.
pub(crate) fn request_id() -> String {
    let hex = random_hex(32);
    format!(
        "{}-{}-4{}-a{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..]
    )
}

/// A trace of its own, in the form of X-Ray's header.
pub(crate) fn new_trace() -> String {
    format!(
        "Root=1-{:08x}-{};Parent={};Sampled=1",
        now().as_second(),
        random_hex(24),
        random_hex(16)
    )
}
