//! `cargo xtask demo`: the main job from a fresh checkout, done with the `slipway` program itself and nothing else, so
//! that everything shown can be typed again by hand.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cache::Lock;
use crate::cluster;
use crate::process::{self, Process};
use crate::run::{cargo, say, workspace};
use crate::tools;
use crate::wait;

/// Where the demo deploys to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// No cluster: manifests are rendered, checked and kept.
    Render,
    /// The cluster of `cargo xtask cluster up`, which is started when it does not run.
    DevelopmentCluster,
    /// The cluster of this kubeconfig.
    Kubeconfig(PathBuf),
}

/// What the demo is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where to deploy.
    pub target: Target,
    /// Whether to end with the deployment instead of staying up until Ctrl-C.
    pub exit: bool,
}

const TEMPLATE: &str = "agent-rag";
const DEPLOYMENT: &str = "my-agent-rag";
const CLUSTER: &str = "demo";

/// Runs the demo and returns whether the deployment came up. What a reader wants to keep goes to `out`.
///
/// # Errors
/// When something cannot be set up, built or started; when a command that must succeed does not.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<bool> {
    let interrupted = interrupts()?;
    let helm = tools::helm()?;
    let program = build()?;
    let folder = program.with_file_name("demo");
    let _lock = Lock::take(&folder.with_extension("lock"))?;
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let data = folder.join("data");
    fs::create_dir_all(&data).with_context(|| format!("cannot create {}", data.display()))?;
    let access = match &options.target {
        Target::Render => vec!["--render".to_owned()],
        Target::DevelopmentCluster => {
            kubeconfig_arguments(&cluster::up(&cluster::Options::default())?.kubeconfig)
        }
        Target::Kubeconfig(file) => kubeconfig_arguments(
            &file
                .canonicalize()
                .with_context(|| format!("there is no kubeconfig {}", file.display()))?,
        ),
    };

    let mut serve = Command::new(&program);
    serve.current_dir(workspace()).env("SLIPWAY_HELM", &helm);
    serve
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data);
    let server = Process::start("slipway", &mut serve, &folder.join("serve.log"))?;
    let outcome = show(options, &access, &program, &server, &data, &interrupted, out);
    process::end(std::slice::from_ref(&server), Duration::from_secs(10))?;
    outcome
}

fn kubeconfig_arguments(file: &Path) -> Vec<String> {
    vec!["--kubeconfig".to_owned(), file.display().to_string()]
}

fn show(
    options: &Options,
    access: &[String],
    program: &Path,
    server: &Process,
    data: &Path,
    interrupted: &AtomicBool,
    out: &mut dyn Write,
) -> Result<bool> {
    let place = wait::until(Duration::from_secs(30), "the start of the control plane", || {
        server.check()?;
        Ok(ServerFile::in_folder(data))
    })?;
    let slipway = |arguments: &[&str]| -> Result<bool> {
        say(&format!("\n$ slipway {}", arguments.join(" ")));
        let status = Command::new(program)
            .current_dir(workspace())
            .env("SLIPWAY_DATA", data)
            .env_remove("SLIPWAY_URL")
            .env_remove("SLIPWAY_TOKEN")
            .args(arguments)
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(status.success())
    };
    let must = |arguments: &[&str]| -> Result<()> {
        if !slipway(arguments)? {
            bail!(
                "`slipway {}` failed; what the control plane wrote:\n{}",
                arguments.join(" "),
                server.tail()
            );
        }
        Ok(())
    };

    must(&["template", "publish", &format!("templates/{TEMPLATE}.yaml")])?;
    let add: Vec<_> = ["cluster", "add", CLUSTER]
        .into_iter()
        .chain(access.iter().map(String::as_str))
        .collect();
    must(&add)?;
    let deploy = ["deploy", TEMPLATE, "--name", DEPLOYMENT, "--cluster", CLUSTER];
    let with = |flag| deploy.into_iter().chain([flag]).collect::<Vec<_>>();
    must(&with("--dry-run"))?;
    let came_up = slipway(&with("--watch"))?;
    if interrupted.load(Ordering::Relaxed) {
        return Ok(false);
    }

    let token = fs::read_to_string(&place.token_file)
        .with_context(|| format!("cannot read {}", place.token_file.display()))?;
    writeln!(out, "\ncontrol plane: {}", place.url)?;
    writeln!(out, "token:         {}", token.trim())?;
    writeln!(
        out,
        "by hand:       SLIPWAY_DATA={} {}",
        data.display(),
        program.display()
    )?;
    if options.target == Target::Render {
        for folder in manifest_folders(&data.join("render")) {
            writeln!(out, "manifests:     {}", folder.display())?;
        }
    }
    if !options.exit {
        writeln!(
            out,
            "\nthe control plane stays up at {}; Ctrl-C ends it",
            place.url
        )?;
        while !interrupted.load(Ordering::Relaxed) {
            server.check()?;
            wait::pause(Duration::from_millis(100));
        }
    }
    Ok(came_up)
}

/// Set when somebody asks this program to end, so that it can end the control plane first.
fn interrupts() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // A second signal ends this program at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupted))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&interrupted)))
            .context("cannot listen for Ctrl-C")?;
    }
    Ok(interrupted)
}

/// Builds the `slipway` program in the development profile, which compiles in a fraction of the time that the release
/// profile takes and is fast enough to look at, and returns its path.
fn build() -> Result<PathBuf> {
    say("building slipway (the first time takes minutes)");
    let mut command = cargo();
    command.args([
        "build",
        "--package",
        "slipway",
        "--message-format",
        "json-render-diagnostics",
    ]);
    let built = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !built.status.success() {
        bail!("slipway does not build, see above");
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "slipway")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo built no program of the name slipway")
}

/// What `slipway serve` leaves in its data folder for clients once it listens.
#[derive(Debug, Deserialize)]
struct ServerFile {
    url: String,
    token_file: PathBuf,
}

impl ServerFile {
    /// Nothing while it is not there as a whole.
    fn in_folder(data: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(data.join("server.json")).ok()?).ok()
    }
}

/// The folders below `data` that hold rendered manifests directly.
fn manifest_folders(data: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![data.to_owned()];
    while let Some(folder) = open.pop() {
        let mut entries: Vec<_> = fs::read_dir(&folder)
            .map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect())
            .unwrap_or_default();
        entries.sort();
        if entries
            .iter()
            .any(|entry| entry.extension().is_some_and(|extension| extension == "yaml"))
        {
            found.push(folder);
        }
        open.extend(entries.into_iter().filter(|entry| entry.is_dir()));
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_for_clients_is_read_once_it_is_whole() {
        let data = tempfile::tempdir().unwrap();
        assert!(ServerFile::in_folder(data.path()).is_none());
        let file = data.path().join("server.json");
        fs::write(&file, r#"{"url": "http://127.0.0.1:4"#).unwrap();
        assert!(ServerFile::in_folder(data.path()).is_none());
        fs::write(
            &file,
            r#"{"url": "http://127.0.0.1:4000", "token_file": "/data/token"}"#,
        )
        .unwrap();
        assert_eq!(
            ServerFile::in_folder(data.path()).unwrap().url,
            "http://127.0.0.1:4000"
        );
    }

    #[test]
    fn manifests_are_found_at_any_depth() {
        let data = tempfile::tempdir().unwrap();
        let revision = data.path().join("render/uc-1/store/1");
        fs::create_dir_all(&revision).unwrap();
        fs::write(revision.join("manifest.yaml"), "").unwrap();
        fs::write(data.path().join("state.db"), "").unwrap();
        assert_eq!(manifest_folders(data.path()), [revision]);
    }
}
