//! One process of a function.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hyper::body::Bytes;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::runtime_api::{Init, RuntimeApi};
use super::{Machine, Outcome, environment};
use crate::template::FunctionDefinition;

/// How long a process may take until it asks for its first event.
const INIT: Duration = Duration::from_secs(10);

/// Names the folder for what a process writes for the moment.
const TMPDIR: &str = "TMPDIR";

/// The failure of an invocation that took too long.
pub(super) const TIMED_OUT: &str = "Function.TimedOut";

/// A process that handles one invocation at a time. It is killed when this value is dropped.
#[derive(Debug)]
pub(super) struct Sandbox {
    child: Child,
    process: u32,
    runtime: RuntimeApi,
    alive: bool,
    /// What stands for its `/tmp`, which no other process has; removed with it.
    _scratch: TempDir,
}

impl Sandbox {
    /// Starts a process, and waits until it asks for its first event. Returns how long that took.
    pub(super) async fn start(
        definition: &FunctionDefinition,
        machine: &Machine,
        endpoint: &str,
    ) -> Result<(Self, Duration), Outcome> {
        let cannot =
            |error: anyhow::Error| Outcome::failed("Runtime.InvalidEntrypoint", format!("{error:#}"));
        let runtime = RuntimeApi::start(&definition.name).await.map_err(cannot)?;
        let start = Instant::now();
        let scratch = scratch(machine).map_err(cannot)?;
        let child =
            spawn(definition, machine, runtime.address(), endpoint, scratch.path()).map_err(cannot)?;
        let process = child.id().unwrap_or_default();
        let mut sandbox = Self {
            child,
            process,
            runtime,
            alive: true,
            _scratch: scratch,
        };
        let init = tokio::select! {
            biased;
            init = timeout(INIT, sandbox.runtime.init()) => init,
            status = sandbox.child.wait() => {
                let said = timeout(Duration::ZERO, sandbox.runtime.init()).await;
                Ok(match said {
                    Ok(Init::Failed(outcome)) => Init::Failed(outcome),
                    _ => Init::Failed(exited(definition, machine, status)),
                })
            }
        };
        match init {
            Ok(Init::Ready) => Ok((sandbox, start.elapsed())),
            Ok(Init::Failed(outcome)) => Err(outcome),
            Ok(Init::Starting) | Err(_) => Err(Outcome::failed(
                TIMED_OUT,
                format!(
                    "{} asked for no event within {} s",
                    definition.program,
                    INIT.as_secs()
                ),
            )),
        }
    }

    /// Its process id.
    pub(super) fn process(&self) -> u32 {
        self.process
    }

    /// Whether it can take another invocation.
    pub(super) fn is_alive(&mut self) -> bool {
        self.alive && matches!(self.child.try_wait(), Ok(None))
    }

    /// Runs one invocation. A process that ends or takes too long takes no other.
    pub(super) async fn handle(&mut self, payload: Bytes, limit: Duration) -> Outcome {
        let work = async {
            let outcome = self.runtime.offer(payload, limit).await;
            tokio::select! {
                biased;
                outcome = outcome => outcome.ok(),
                _ = self.child.wait() => None,
            }
        };
        match timeout(limit, work).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => {
                self.alive = false;
                Outcome::failed(
                    "Runtime.ExitError",
                    "the process ended in mid-invocation".to_owned(),
                )
            }
            Err(_) => {
                self.alive = false;
                // It is also killed when it is dropped; here it is made sure that it acts no more.
                let _ = self.child.kill().await;
                Outcome::failed(
                    TIMED_OUT,
                    format!("the invocation took longer than {} s", limit.as_secs()),
                )
            }
        }
    }

    /// The most memory that it has had at once, in kilobytes, where the system tells.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    }
}

/// Kills a process by its id.
pub(super) fn kill(process: u32) {
    let pid = i32::try_from(process)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended in the meantime.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// A folder for what a process writes, below the one that the functions are given.
fn scratch(machine: &Machine) -> Result<TempDir> {
    let given = machine.environment.iter().rev().find(|(name, _)| name == TMPDIR);
    let above = given.map_or_else(std::env::temp_dir, |(_, folder)| folder.into());
    tempfile::Builder::new()
        .prefix("sandbox-")
        .tempdir_in(&above)
        .with_context(|| format!("cannot make a folder in {}", above.display()))
}

fn spawn(
    definition: &FunctionDefinition,
    machine: &Machine,
    runtime: &str,
    endpoint: &str,
    scratch: &Path,
) -> Result<Child> {
    let program = machine.programs.join(&definition.program);
    let log_file = machine.logs.join(format!("{}.log", definition.program));
    let log = File::options()
        .create(true)
        .append(true)
        .open(&log_file)
        .with_context(|| format!("cannot open the log {}", log_file.display()))?;
    Command::new(&program)
        .env_clear()
        .envs(environment::of(definition, machine, runtime, endpoint))
        .env(TMPDIR, scratch)
        .current_dir(&machine.programs)
        .stdin(Stdio::null())
        .stdout(
            log.try_clone()
                .context("cannot share the log between two outputs")?,
        )
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

fn exited(
    definition: &FunctionDefinition,
    machine: &Machine,
    status: std::io::Result<std::process::ExitStatus>,
) -> Outcome {
    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    Outcome::failed(
        "Runtime.ExitError",
        format!(
            "{} ended with {status} before its first event; see {}",
            definition.program,
            machine.logs.join(format!("{}.log", definition.program)).display()
        ),
    )
}
