//! Chance for tokens, keys and names.

use crate::failure::Failure;

/// `N` random bytes in hexadecimal.
pub(crate) fn hexadecimal<const N: usize>() -> Result<String, Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::failed(format!("the operating system gives no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
