//! Version constraints in the syntax that Helm reads.

/// A text that is not a constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{constraint}' is not a version constraint; write a version or a range, such as 1.2.3, ^1.2, ~1.2.3, 1.x, >=1.0.0 <2.0.0 or 1.2 - 1.4"
)]
pub struct ConstraintError {
    constraint: String,
}

/// Whether Helm would read `constraint`: alternatives between `||`, each of comparisons between spaces or commas,
/// or of ranges with ` - `. Versions may have one to three numbers, wildcards, a pre-release and metadata.
///
/// # Errors
/// [`ConstraintError`] if not.
pub fn check_constraint(constraint: &str) -> Result<(), ConstraintError> {
    let right = constraint.len() <= 200 && constraint.split("||").all(is_alternative);
    if right {
        Ok(())
    } else {
        let shown = constraint
            .chars()
            .take(100)
            .flat_map(char::escape_debug)
            .collect();
        Err(ConstraintError { constraint: shown })
    }
}

const OPERATORS: [&str; 11] = ["!=", ">=", "=>", "<=", "=<", "~>", "=", ">", "<", "~", "^"];

fn is_alternative(text: &str) -> bool {
    let words: Vec<&str> = text
        .split([' ', ',', '\t'])
        .filter(|word| !word.is_empty())
        .collect();
    let mut words = words.as_slice();
    if words.is_empty() {
        return false;
    }
    while let [first, rest @ ..] = words {
        words = match rest {
            ["-", last, rest @ ..] if is_version(first) && is_version(last) => rest,
            _ => match OPERATORS.iter().find_map(|operator| first.strip_prefix(operator)) {
                Some("") => match rest {
                    [version, rest @ ..] if is_version(version) => rest,
                    _ => return false,
                },
                Some(version) if is_version(version) => rest,
                None if is_version(first) => rest,
                _ => return false,
            },
        };
    }
    true
}

fn is_version(text: &str) -> bool {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (text, metadata) = text
        .split_once('+')
        .map_or((text, None), |(text, after)| (text, Some(after)));
    let (numbers, release) = text
        .split_once('-')
        .map_or((text, None), |(text, after)| (text, Some(after)));
    let identifiers = |list: &str| {
        list.split('.').all(|identifier| {
            !identifier.is_empty()
                && identifier
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
    };
    let number = |number: &str| {
        matches!(number, "x" | "X" | "*")
            || ((1..=18).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    numbers.split('.').count() <= 3
        && numbers.split('.').all(number)
        && metadata.is_none_or(identifiers)
        && release.is_none_or(identifiers)
}
