//! Errors in words.

use std::error::Error;

/// An error with everything that led to it, in one line, for logs and reasons. What a library says twice, in its error
/// and in the source, stands there once.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Outer {
        said: &'static str,
        source: io::Error,
    }

    #[test]
    fn every_cause_is_said_once() {
        for (said, expected) in [
            ("it cannot be read", "it cannot be read: no disk"),
            ("no disk was found", "no disk was found"),
        ] {
            let source = io::Error::other("no disk");
            assert_eq!(chain(&Outer { said, source }), expected);
        }
    }
}
