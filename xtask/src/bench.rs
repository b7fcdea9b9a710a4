//! `cargo xtask bench`: figures, and the document that holds them.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, output, say, workspace};

/// The document with the figures.
const DOCUMENT: &str = "docs/benchmarks.md";

/// Lines between which the document holds the newest figures.
const BEGIN: &str = "<!-- engine: from `cargo xtask bench engine --write` -->";
const END: &str = "<!-- /engine -->";

/// Measures the engine beside bare SQLite commits; with `write` the document is brought up to date.
///
/// # Errors
/// When the measurement does not build or run, or the document has lost its marks.
pub fn engine(write: bool, out: &mut dyn Write) -> Result<()> {
    say("measuring (a release build comes first)");
    let table = output(cargo().args(["bench", "--quiet", "-p", "slipway-tests", "--bench", "engine"]))?;
    let figures = format!("{}\n\n{}", machine(), table.trim());
    writeln!(out, "{figures}")?;
    if write {
        let path = workspace().join(DOCUMENT);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {DOCUMENT}"))?;
        fs::write(&path, replace(&text, &figures)?).with_context(|| format!("cannot write {DOCUMENT}"))?;
    }
    Ok(())
}

fn replace(text: &str, figures: &str) -> Result<String> {
    let marks = text
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = marks else {
        bail!("{DOCUMENT} has no lines '{BEGIN}' and '{END}'")
    };
    Ok(format!("{before}{BEGIN}\n{figures}\n{END}{after}"))
}

fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "Machine: {processors} processors ({}), {} {}.",
        model.as_deref().unwrap_or(std::env::consts::ARCH),
        std::env::consts::OS,
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(
            replace(&text, "new").unwrap(),
            format!("a\n{BEGIN}\nnew\n{END}\nb\n")
        );
        assert!(replace("no marks", "new").is_err());
    }

    #[test]
    fn the_document_has_the_marks() {
        let text = fs::read_to_string(workspace().join(DOCUMENT)).unwrap();
        assert!(replace(&text, "").is_ok());
    }
}
