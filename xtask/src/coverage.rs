//! `cargo xtask coverage`: how much of the engine and of the use cases the simulator alone goes through.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::run::{cargo, on_path, output, say, workspace};
use crate::simulate::{PACKAGE, PROGRAM};
use crate::tools;

/// The crates that are judged, by the folder of their sources.
const JUDGED: [&str; 2] = ["shared/engine/src", "shared/app/src"];

/// The least part of a crate's lines, in percent.
const LEAST: f64 = 90.0;

/// A crate's lines.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Lines {
    all: u64,
    covered: u64,
}

impl Lines {
    fn percent(self) -> f64 {
        if self.all == 0 {
            return 0.0;
        }
        self.covered as f64 * 100.0 / self.all as f64
    }
}

/// What `llvm-cov export --summary-only` writes, as far as it is read.
#[derive(Debug, Deserialize)]
struct Export {
    data: Vec<ExportData>,
}

#[derive(Debug, Deserialize)]
struct ExportData {
    files: Vec<ExportFile>,
}

#[derive(Debug, Deserialize)]
struct ExportFile {
    filename: String,
    summary: Summary,
}

#[derive(Debug, Deserialize)]
struct Summary {
    lines: LineSummary,
}

#[derive(Debug, Deserialize)]
struct LineSummary {
    count: u64,
    covered: u64,
}

/// Plays `seeds` seeds on an instrumented simulator and writes, per judged crate, which part of its lines was reached,
/// and the files of which least was.
///
/// # Errors
/// When less than the least part of a crate was reached, after all is written; when the simulator does not build or
/// finds a broken invariant; when LLVM's tools are not to be had.
pub fn run(seeds: u64, out: &mut dyn Write) -> Result<()> {
    let tools = Tools::find()?;
    let folder = workspace().join("target").join("coverage");
    let target = folder.to_string_lossy().into_owned();
    let profiles = folder.join("profiles");
    if profiles.exists() {
        fs::remove_dir_all(&profiles).context("cannot remove the profiles of an earlier run")?;
    }
    fs::create_dir_all(&profiles).context("cannot create a folder for profiles")?;
    say("building the simulator with counters in it");
    output(
        cargo()
            .args(["build", "--quiet", "--profile", "simulate", "-p", PACKAGE])
            .args(["--target-dir", &target])
            .env("RUSTFLAGS", "-Cinstrument-coverage")
            // Build scripts count, too, and would leave their profiles in the checkout.
            .env("LLVM_PROFILE_FILE", folder.join("build").join("%m.profraw")),
    )?;
    let program = folder.join("simulate").join(PROGRAM);
    say(&format!("playing {seeds} seeds"));
    output(
        Command::new(&program)
            .args(["--seeds", &seeds.to_string()])
            .env("LLVM_PROFILE_FILE", profiles.join("%p.profraw")),
    )?;
    let lines = tools.lines(&program, &profiles)?;
    report(&lines, out)
}

fn report(files: &[(String, Lines)], out: &mut dyn Write) -> Result<()> {
    let mut short = Vec::new();
    for folder in JUDGED {
        let mut own: Vec<_> = files
            .iter()
            .filter(|(file, _)| file.starts_with(folder))
            .collect();
        let total = own.iter().fold(Lines::default(), |sum, (_, lines)| Lines {
            all: sum.all + lines.all,
            covered: sum.covered + lines.covered,
        });
        writeln!(out, "{folder}: {:.1} % of {} lines", total.percent(), total.all)?;
        own.sort_by_key(|(_, lines)| std::cmp::Reverse(lines.all - lines.covered));
        for (file, lines) in own.iter().take(12).filter(|(_, lines)| lines.covered < lines.all) {
            writeln!(
                out,
                "  {file}: {} of {} lines not reached",
                lines.all - lines.covered,
                lines.all
            )?;
        }
        if total.percent() <= LEAST {
            short.push(format!("{folder} {:.1} %", total.percent()));
        }
    }
    if short.is_empty() {
        return Ok(());
    }
    bail!("no more than {LEAST} % reached: {}", short.join(", "))
}

/// LLVM's tools of the version that the compiler has.
struct Tools {
    profdata: PathBuf,
    cov: PathBuf,
    libraries: Option<PathBuf>,
}

impl Tools {
    /// From the compiler's own folder (rustup's component `llvm-tools`), from `PATH`, or from Debian.
    fn find() -> Result<Self> {
        let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
        let about = output(Command::new("rustc").arg("-vV"))?;
        let field = |name: &str| {
            about
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let host = field("host:").context("rustc -vV names no host")?;
        let version = field("LLVM version:").context("rustc -vV names no version of LLVM")?;
        let major = version.split('.').next().unwrap_or_default().to_owned();
        let component = Path::new(sysroot.trim())
            .join("lib/rustlib")
            .join(host)
            .join("bin");
        if component.join("llvm-cov").is_file() {
            return Ok(Self {
                profdata: component.join("llvm-profdata"),
                cov: component.join("llvm-cov"),
                libraries: None,
            });
        }
        let named = |tool: &str| format!("{tool}-{major}");
        if let (Some(profdata), Some(cov)) = (on_path(&named("llvm-profdata")), on_path(&named("llvm-cov"))) {
            return Ok(Self {
                profdata,
                cov,
                libraries: None,
            });
        }
        if major != tools::LLVM.version {
            bail!(
                "the compiler's LLVM is {major} and this command sets up {}: `rustup component add llvm-tools`, or install Debian's llvm-{major}",
                tools::LLVM.version
            );
        }
        let root = tools::LLVM.file("usr")?;
        Ok(Self {
            profdata: root.join("bin").join(named("llvm-profdata")),
            cov: root.join("bin").join(named("llvm-cov")),
            libraries: Some(root.join("lib/x86_64-linux-gnu")),
        })
    }

    fn command(&self, tool: &Path) -> Command {
        let mut command = Command::new(tool);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }

    /// File, below the workspace → its lines.
    fn lines(&self, program: &Path, profiles: &Path) -> Result<Vec<(String, Lines)>> {
        let merged = profiles.join("merged.profdata");
        let raw = fs::read_dir(profiles)
            .context("cannot read the folder of profiles")?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        output(
            self.command(&self.profdata)
                .args(["merge", "--sparse", "--output"])
                .arg(&merged)
                .args(raw),
        )?;
        let text = output(
            self.command(&self.cov)
                .args(["export", "--summary-only", "--instr-profile"])
                .arg(&merged)
                .arg(program),
        )?;
        in_workspace(&text)
    }
}

fn in_workspace(export: &str) -> Result<Vec<(String, Lines)>> {
    let export: Export =
        serde_json::from_str(export).context("llvm-cov wrote something else than expected")?;
    let root = format!("{}/", workspace().display());
    let files = export.data.into_iter().flat_map(|data| data.files);
    Ok(files
        .filter_map(|file| {
            let name = file.filename.strip_prefix(&root)?.to_owned();
            let LineSummary { count, covered } = file.summary.lines;
            Some((name, Lines { all: count, covered }))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(covered: u64) -> String {
        let file = |name: &str| serde_json::json!({"filename": name, "summary": {"lines": {"count": 100, "covered": covered}}});
        let root = workspace().display();
        let files = [
            file(&format!("{root}/shared/engine/src/decide.rs")),
            file(&format!("{root}/shared/app/src/keys.rs")),
            file("/elsewhere/shared/app/src/other.rs"),
        ];
        serde_json::json!({"data": [{"files": files}]}).to_string()
    }

    #[test]
    fn only_the_judged_crates_count_and_too_little_is_an_error() {
        let mut out = Vec::new();
        report(&in_workspace(&export(91)).unwrap(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("shared/app/src: 91.0 % of 100 lines"), "{text}");
        let refused = report(&in_workspace(&export(89)).unwrap(), &mut Vec::new()).unwrap_err();
        assert!(
            refused.to_string().contains("shared/engine/src 89.0 %"),
            "{refused}"
        );
    }
}
