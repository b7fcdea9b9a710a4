//! Processes that outlive the command that started them.
//!
//! Each is remembered by its process id *and* the moment it started, so that an id that the system has given to
//! somebody else in the meantime is never signalled.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::run::{last_lines, shown};
use crate::wait;

/// A process that this crate started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// What it is, for messages: `kube-apiserver`.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// The moment it started, in a form that only this module reads.
    pub started: String,
    /// The file that holds what it writes.
    pub log: PathBuf,
}

impl Process {
    /// Starts `command` in a process group of its own, so that a Ctrl-C meant for the caller does not reach it. Its
    /// output is appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened, the program cannot be executed, or it is gone at once.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open the log {}", log.display()))?;
        let errors = output
            .try_clone()
            .context("cannot share the log between two outputs")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", shown(command)))?;
        let pid = child.id();
        let Some(started) = start_of(pid) else {
            bail!("{name} ended at once; the end of its log:\n{}", tail(log));
        };
        Ok(Self {
            name: name.to_owned(),
            pid,
            started,
            log: log.to_owned(),
        })
    }

    /// Whether it still runs. A process that has ended and that nobody has waited for yet does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        start_of(self.pid).is_some_and(|started| started == self.started)
    }

    /// Nothing while it runs.
    ///
    /// # Errors
    /// When it has ended, with the end of its log.
    pub fn check(&self) -> Result<()> {
        if self.is_alive() {
            return Ok(());
        }
        bail!(
            "{} ended; the end of its log {}:\n{}",
            self.name,
            self.log.display(),
            self.tail()
        )
    }

    /// The last lines that it wrote.
    #[must_use]
    pub fn tail(&self) -> String {
        tail(&self.log)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            bail!("{} is not the id of a process", self.pid);
        };
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => {
                Err(error).with_context(|| format!("cannot end {} (process {})", self.name, self.pid))
            }
        }
    }
}

/// Ends the processes: asks all of them first, and kills those that are still there after `grace`.
///
/// # Errors
/// When one of them may not be signalled, or does not go away even when it is killed.
pub fn end(processes: &[Process], grace: Duration) -> Result<()> {
    for process in processes {
        process.signal(Signal::TERM)?;
    }
    let gone = || Ok(processes.iter().all(|process| !process.is_alive()).then_some(()));
    if wait::until(grace, "the end of the processes", gone).is_ok() {
        return Ok(());
    }
    for process in processes {
        process.signal(Signal::KILL)?;
    }
    wait::until(Duration::from_secs(10), "the end of killed processes", gone)
}

fn tail(log: &Path) -> String {
    fs::read(log).map_or_else(
        |error| format!("(it cannot be read: {error})"),
        |bytes| last_lines(&String::from_utf8_lossy(&bytes), 20),
    )
}

/// The moment at which a process started, or nothing when it has ended.
#[cfg(target_os = "linux")]
fn start_of(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything; the third is the state and the
    // twenty-second the start in clock ticks since boot.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    let ticks = fields.nth(18)?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{} {ticks}", boot.trim()))
}

/// The moment at which a process started, or nothing when it has ended.
#[cfg(not(target_os = "linux"))]
fn start_of(pid: u32) -> Option<String> {
    let shown = Command::new("ps")
        .args(["-o", "stat=,lstart=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let line = String::from_utf8_lossy(&shown.stdout).trim().to_owned();
    let (state, started) = line.split_once(char::is_whitespace)?;
    (!state.starts_with('Z')).then(|| started.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path, script: &str) -> Process {
        Process::start(
            "sleeper",
            Command::new("sh").args(["-c", script]),
            &folder.join("log"),
        )
        .unwrap()
    }

    #[test]
    fn a_process_is_ended_by_its_own_id_and_then_counts_as_gone() {
        let folder = tempfile::tempdir().unwrap();
        let process = sleeper(folder.path(), "exec sleep 600");
        assert!(process.is_alive());
        end(std::slice::from_ref(&process), Duration::from_secs(10)).unwrap();
        assert!(!process.is_alive());
    }

    #[test]
    fn a_process_that_ignores_the_request_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let process = sleeper(folder.path(), "trap '' TERM; echo ready; exec sleep 600");
        let log = process.log.clone();
        wait::until(Duration::from_secs(10), "the trap", || {
            Ok(fs::read_to_string(&log)?.contains("ready").then_some(()))
        })
        .unwrap();
        end(std::slice::from_ref(&process), Duration::from_millis(100)).unwrap();
        assert!(!process.is_alive());
    }

    #[test]
    fn another_process_under_the_same_id_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let process = sleeper(folder.path(), "exec sleep 600");
        let stale = Process {
            started: "an earlier boot 1".to_owned(),
            ..process.clone()
        };
        assert!(!stale.is_alive());
        end(&[stale], Duration::from_secs(1)).unwrap();
        assert!(process.is_alive());
        end(&[process], Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn a_process_that_ended_is_reported_with_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let process = sleeper(folder.path(), "sleep 0.1; echo the port is taken >&2; exit 1");
        let error = wait::until(Duration::from_secs(10), "its end", || Ok(process.check().err())).unwrap();
        assert!(error.to_string().ends_with("the port is taken"), "{error}");
    }
}
