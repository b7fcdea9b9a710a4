//! A change as text: a unified diff of two manifests.

use serde_json::Value;
use similar::TextDiff;

use crate::manifest::to_yaml;

/// Most lines of one manifest that are compared line by line.
const MOST_COMPARED: usize = 5_000;

/// Most lines and bytes of one diff.
const MOST_LINES: usize = 400;
const MOST_BYTES: usize = 16 << 10;

/// Lines around each change.
const CONTEXT: usize = 3;

/// A unified diff of two objects as YAML, without file names; cut with a note when it is long. Empty if they are equal.
pub(crate) fn unified(before: Option<&Value>, after: Option<&Value>) -> String {
    let yaml = |object: Option<&Value>| object.map(to_yaml).unwrap_or_default();
    let (before, after) = (yaml(before), yaml(after));
    let (old, new) = (before.lines().count(), after.lines().count());
    if old.max(new) > MOST_COMPARED {
        return if before == after {
            String::new()
        } else {
            format!("… too long to be compared line by line: {old} lines become {new}\n")
        };
    }
    let diff = TextDiff::from_lines(&before, &after);
    cut(&diff.unified_diff().context_radius(CONTEXT).to_string())
}

/// The first lines, and how many are left out.
fn cut(text: &str) -> String {
    let mut out = String::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if index == MOST_LINES || out.len() + line.len() > MOST_BYTES {
            let left = text.lines().count() - index;
            out.push_str(&format!("… {left} more lines\n"));
            break;
        }
        out.push_str(line);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_changes_is_shown_with_the_lines_around_it() {
        let object = |image: &str| json!({"a": 1, "b": 2, "c": 3, "d": 4, "image": image, "z": 9});
        assert_eq!(unified(Some(&object("x:1")), Some(&object("x:1"))), "");
        assert_eq!(
            unified(Some(&object("x:1")), Some(&object("x:2"))),
            "@@ -2,5 +2,5 @@\n b: 2\n c: 3\n d: 4\n-image: x:1\n+image: x:2\n z: 9\n"
        );
    }

    #[test]
    fn long_diffs_are_cut_and_say_so() {
        let lines = |count: usize| json!((0..count).collect::<Vec<_>>());
        let diff = unified(None, Some(&lines(1_000)));
        assert_eq!(diff.lines().count(), MOST_LINES + 1, "{diff}");
        // One line of the diff is its header.
        assert!(
            diff.ends_with(&format!("… {} more lines\n", 1_001 - MOST_LINES)),
            "{diff}"
        );
        let wide = unified(None, Some(&json!(["x".repeat(MOST_BYTES + 1)])));
        assert!(
            wide.len() < MOST_BYTES && wide.ends_with("… 1 more lines\n"),
            "{wide}"
        );
        let long = unified(Some(&lines(MOST_COMPARED + 1)), Some(&lines(3)));
        assert!(long.contains("too long") && long.contains("become 3"), "{long}");
    }
}
