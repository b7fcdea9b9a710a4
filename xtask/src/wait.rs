//! Waiting for a condition of a process outside, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Calls `probe` until it returns a value, pausing briefly between calls.
///
/// # Errors
/// The first error of `probe`, or `«what» did not happen within N s` once `limit` has passed.
pub fn until<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let probed = Instant::now();
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if start.elapsed() >= limit {
            bail!("{what} did not happen within {} s", limit.as_secs_f32());
        }
        // A probe that starts a program takes processor time from whatever it waits for.
        pause((probed.elapsed() * 2).clamp(Duration::from_millis(25), Duration::from_millis(150)));
    }
}

/// Lets time pass between two looks at something that gives no notice of its changes.
#[expect(
    clippy::disallowed_methods,
    reason = "the state of another process can only be polled"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
