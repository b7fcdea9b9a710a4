//! `cargo xtask bench`: figures, and the document that holds them.

mod functions;

use std::fs;
use std::io::Write;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, output, say, workspace};

/// The document with the figures.
const DOCUMENT: &str = "docs/benchmarks.md";

/// Lines between which the document holds the newest figures of one kind.
#[derive(Debug, Clone, Copy)]
struct Marks {
    begin: &'static str,
    end: &'static str,
}

const ENGINE: Marks = Marks {
    begin: "<!-- engine: from `cargo xtask bench engine --write` -->",
    end: "<!-- /engine -->",
};

pub use functions::functions;

/// Measures the engine beside bare SQLite commits; with `write` the document is brought up to date.
///
/// # Errors
/// When a target is missed, after everything is measured and written; when the measurement does not build or run, or
/// the document has lost its marks.
pub fn engine(write: bool, out: &mut dyn Write) -> Result<()> {
    say("measuring (a release build comes first)");
    let bench = ["bench", "--quiet", "-p", "slipway-tests", "--bench", "engine"];
    output(cargo().args(bench).arg("--no-run"))?;
    let measured = cargo()
        .args(bench)
        .output()
        .context("cannot start the measurement")?;
    let (table, said) = (
        String::from_utf8_lossy(&measured.stdout),
        String::from_utf8_lossy(&measured.stderr),
    );
    if !table.trim_end().ends_with('|') {
        bail!("the measurement ended with {}: {}", measured.status, said.trim());
    }
    let figures = format!("{}\n\n{}", machine(), table.trim());
    writeln!(out, "{figures}")?;
    if write {
        write_figures(ENGINE, &figures)?;
    }
    if !measured.status.success() {
        bail!("{}", said.trim());
    }
    Ok(())
}

fn write_figures(marks: Marks, figures: &str) -> Result<()> {
    let path = workspace().join(DOCUMENT);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {DOCUMENT}"))?;
    fs::write(&path, replace(&text, marks, figures)?).with_context(|| format!("cannot write {DOCUMENT}"))
}

fn replace(text: &str, Marks { begin, end }: Marks, figures: &str) -> Result<String> {
    let parts = text
        .split_once(begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let Some((before, after)) = parts else {
        bail!("{DOCUMENT} has no lines '{begin}' and '{end}'")
    };
    Ok(format!("{before}{begin}\n{figures}\n{end}{after}"))
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
        let Marks { begin, end } = ENGINE;
        let text = format!("a\n{begin}\nold\n{end}\nb\n");
        assert_eq!(
            replace(&text, ENGINE, "new").unwrap(),
            format!("a\n{begin}\nnew\n{end}\nb\n")
        );
        assert!(replace("no marks", ENGINE, "new").is_err());
    }

    #[test]
    fn the_document_has_the_marks() {
        let text = fs::read_to_string(workspace().join(DOCUMENT)).unwrap();
        for marks in [ENGINE, functions::MARKS] {
            assert!(replace(&text, marks, "").is_ok(), "{marks:?}");
        }
    }
}
