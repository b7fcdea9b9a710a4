//! Every alarm has a section in docs/operations.md that says what to do, and every such section an alarm.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

use super::template::Template;
use crate::run::workspace;

/// Under this heading, every heading of the next level names alarms.
const CHAPTER: &str = "## Alarms";

pub(super) fn violations() -> Result<Vec<String>> {
    let path = workspace().join("docs/operations.md");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(differences(&Template::read()?.alarms(), &text))
}

fn differences(alarms: &[String], document: &str) -> Vec<String> {
    let alarms: BTreeSet<_> = alarms.iter().map(String::as_str).collect();
    let described: BTreeSet<_> = described(document).into_iter().collect();
    let missing = alarms
        .difference(&described)
        .map(|alarm| format!("the alarm `{alarm}` has no section under «{CHAPTER}»"));
    let stale = described
        .difference(&alarms)
        .map(|alarm| format!("the section of `{alarm}` has no alarm in infra/template.yaml"));
    missing.chain(stale).collect()
}

/// What stands between backticks in the headings of the chapter.
fn described(document: &str) -> Vec<&str> {
    document
        .lines()
        .skip_while(|line| *line != CHAPTER)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("### "))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_and_alarms_must_agree() {
        let document = "## Other\n### `x`\n## Alarms\n### `a`, `b`\ntext with `y`\n### `c`\n## End\n### `z`";
        let alarms = ["a", "b", "d"].map(str::to_owned);
        assert_eq!(
            differences(&alarms, document),
            [
                "the alarm `d` has no section under «## Alarms»",
                "the section of `c` has no alarm in infra/template.yaml"
            ]
        );
    }
}
