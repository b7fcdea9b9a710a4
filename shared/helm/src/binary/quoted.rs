//! Values that API servers quote when they refuse them. One may be a whole pod template, said once per object: what is
//! said about it would be lost behind it.

/// A longer value is left out, in bytes.
const LONGEST: usize = 200;

const SIGN: &str = "Invalid value: ";

/// The text with `…` for values that are too long to be of use. From a value on that does not end it stays as it is: what
/// comes after it cannot be told from it, and to look for more values there would read the rest once for each.
pub(super) fn without_long_values(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(SIGN) {
        let Some(length) = length_of_value(after) else {
            break;
        };
        let (value, after) = after.split_at(length);
        short.push_str(before);
        short.push_str(SIGN);
        short.push_str(if value.len() > LONGEST { "…" } else { value });
        rest = after;
    }
    short.push_str(rest);
    short
}

/// How long the value is that a text begins with, in JSON or in Go's syntax; none if it does not end.
fn length_of_value(text: &str) -> Option<usize> {
    let (mut depth, mut is_quoted, mut is_escaped) = (0_usize, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' if depth > 0 => depth -= 1,
            // The name of a type may stand before braces: `[]core.Volume{`.
            _ if depth == 0 && !character.is_ascii_alphanumeric() && !"._*&".contains(character) => {
                return Some(at);
            }
            _ => {}
        }
    }
    (depth == 0 && !is_quoted).then_some(text.len())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn only_long_values_are_left_out() {
        let long = "x".repeat(LONGEST);
        let others = [
            "values don't meet: '{\" [",
            "spec.ports[0]: Invalid value: 70000: must be between 1 and 65535",
            "[a: Invalid value: \"\\\": {\": bad, b: Invalid value: {\"c\":[1]}: worse, d: Required value]",
            "spec: Invalid value: []core.Volume{core.Volume{Name:\"}\"}}: field is immutable && more",
        ];
        for said in others {
            assert_eq!(without_long_values(said), said);
        }
        for (said, left) in [
            (
                format!("a: Invalid value: \"{long}\": bad"),
                "a: Invalid value: …: bad",
            ),
            (
                format!(
                    "[a: Invalid value: []core.A{{{{B:(*int64)(nil), C:\"}} && {long}\"}}}}, b: Invalid value: 1] && c"
                ),
                "[a: Invalid value: …, b: Invalid value: 1] && c",
            ),
        ] {
            assert_eq!(without_long_values(&said), left);
        }
        let endless = format!("a: Invalid value: {{\"b\": \"{long}");
        assert_eq!(without_long_values(&endless), endless);
    }

    #[test]
    fn values_that_do_not_end_are_read_once() {
        let endless = format!("{SIGN}{{").repeat(16_000);
        let start = Instant::now();
        assert_eq!(without_long_values(&endless), endless);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}
