//! Pauses before what a batch left out is tried again. Whole calls are repeated by the SDK.

use std::time::Duration;

/// Waits before attempt `attempt` (1 is the first repetition): some time up to 50 ms, twice that with each attempt,
/// 2 s at most.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing tells when AWS takes calls again"
)]
pub(crate) async fn pause(attempt: u32) {
    let longest = Duration::from_millis(50) * 2_u32.pow(attempt.saturating_sub(1).min(6));
    // Without randomness, all that were refused together would come again together.
    let part = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    tokio::time::sleep(longest.min(Duration::from_secs(2)).mul_f64(part)).await;
}
