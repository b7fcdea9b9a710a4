//! `cargo xtask package`: what is deployed, as `infra/` names it: a zip archive per function, and the layers.

mod layers;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::aws_local::FUNCTIONS;
use crate::run::{say, shown, workspace};
use crate::tools;

/// The function that runs Helm, which its layer has for this architecture only.
const X86_64: &str = "deploy-helm";

/// How often zopfli goes over a program to pack it tighter; its levels come after the nine of zlib. Some 4 % are gained.
const ITERATIONS: i64 = 5;

/// The largest archive of a function, in megabytes of a million bytes.
pub const LARGEST: f64 = 5.0;

/// What is packaged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// One function only, without layers; everything otherwise.
    pub function: Option<String>,
}

/// One archive that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The function's or the layer's name.
    pub name: String,
    /// Where it is.
    pub file: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

/// Where archives are made, each function's in a folder of its name.
#[must_use]
pub fn folder() -> PathBuf {
    workspace().join("target/lambda")
}

/// Makes the archives, and writes a line for each of them.
///
/// # Errors
/// When there is no function of that name, cargo-lambda or a layer's source cannot be set up, or something does not
/// compile.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<Vec<Archive>> {
    let functions: Vec<&str> = match &options.function {
        None => FUNCTIONS.to_vec(),
        Some(name) => match FUNCTIONS.iter().find(|function| *function == name) {
            Some(function) => vec![function],
            None => bail!(
                "there is no function `{name}`; there are {}",
                FUNCTIONS.join(", ")
            ),
        },
    };
    let (x86_64, arm64): (Vec<&str>, Vec<&str>) = functions.iter().partition(|function| **function == X86_64);
    for (architecture, functions) in [("--arm64", &arm64), ("--x86-64", &x86_64)] {
        if !functions.is_empty() {
            build(architecture, functions)?;
        }
    }
    let mut archives = functions
        .iter()
        .map(|function| archive(function, packed(&folder().join(function))?))
        .collect::<Result<Vec<_>>>()?;
    if options.function.is_none() {
        let folder = folder().join("layers");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        archives.push(archive("helm layer", layers::helm(&folder)?)?);
        archives.push(archive("charts layer", layers::charts(&folder)?)?);
    }
    for archive in &archives {
        writeln!(
            out,
            "{:<20} {:>8.2} MB  {}",
            archive.name,
            archive.megabytes(),
            shown_path(&archive.file)
        )?;
    }
    Ok(archives)
}

impl Archive {
    /// Its size in megabytes of a million bytes.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "archives are far smaller than 2^53 bytes"
    )]
    pub fn megabytes(&self) -> f64 {
        self.size as f64 / 1e6
    }
}

fn build(architecture: &str, functions: &[&str]) -> Result<()> {
    let lambda = tools::cargo_lambda()?;
    say(&format!("building {} {architecture}", functions.join(", ")));
    let mut command = Command::new(&lambda);
    command
        .current_dir(workspace())
        // cargo-lambda is called as cargo calls its subcommands; zig is a package of the Python beside it.
        .arg("lambda")
        .args([
            "build",
            "--profile",
            "function",
            "--output-format",
            "binary",
            architecture,
        ])
        // Cargo's own folder may be elsewhere, and the templates name this one.
        .arg("--lambda-dir")
        .arg(folder())
        .env("CARGO_ZIGBUILD_PYTHON_PATH", lambda.with_file_name("python"))
        .env("PATH", path_with(&lambda)?);
    for function in functions {
        command.args(["--package", function]);
    }
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", shown(&command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(&command));
    }
    Ok(())
}

/// The search path with the folder of a program in front.
fn path_with(program: &Path) -> Result<std::ffi::OsString> {
    let own = program.parent().context("a program lies in a folder")?.to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(own).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context("a folder on PATH has a colon in its name")
}

/// A function's program as Lambda takes it, as small as deflate makes it, and the same bytes for the same program.
fn packed(folder: &Path) -> Result<PathBuf> {
    let (program, target) = (folder.join("bootstrap"), folder.join("bootstrap.zip"));
    let program = fs::read(&program).with_context(|| format!("{} was not made", program.display()))?;
    let pack = || -> Result<()> {
        let mut archive = ZipWriter::new(fs::File::create(&target)?);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(ITERATIONS + 9))
            .last_modified_time(DateTime::default())
            .unix_permissions(0o755);
        archive.start_file("bootstrap", options)?;
        archive.write_all(&program)?;
        archive.finish()?;
        Ok(())
    };
    pack().with_context(|| format!("cannot write {}", target.display()))?;
    Ok(target)
}

fn archive(name: &str, file: PathBuf) -> Result<Archive> {
    let size = file
        .metadata()
        .with_context(|| format!("{} was not made", file.display()))?
        .len();
    Ok(Archive {
        name: name.to_owned(),
        file,
        size,
    })
}

fn shown_path(file: &Path) -> String {
    file.strip_prefix(workspace())
        .unwrap_or(file)
        .display()
        .to_string()
}
