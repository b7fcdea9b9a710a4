//! How long a release may take to become ready.

use serde_json::Value;

/// The longest time-out in seconds: one day.
const LONGEST: u64 = 86_400;

/// A value that is not a time-out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a time-out is a number of seconds or a text like 600s, 10m or 1h30m, from 1 second to 24 hours")]
pub struct TimeoutError;

/// Reads a time-out into seconds: an integer, or a text of hours, minutes and seconds in that order.
///
/// # Errors
/// [`TimeoutError`] for anything else.
pub fn parse_timeout(value: &Value) -> Result<u64, TimeoutError> {
    let seconds = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => seconds(text),
        _ => None,
    };
    seconds
        .filter(|seconds| (1..=LONGEST).contains(seconds))
        .ok_or(TimeoutError)
}

fn seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    for (unit, factor) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((digits, after)) = rest.split_once(unit) {
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(factor)?)?;
            rest = after;
        }
    }
    rest.is_empty().then_some(total)
}
