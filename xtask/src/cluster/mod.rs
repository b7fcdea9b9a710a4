//! A Kubernetes cluster on this machine: etcd, the API server, the controller manager and the scheduler as real
//! processes, and KWOK, which plays the nodes and the pods on them.
//!
//! A cluster outlives the command that started it. Everything about it lies in one folder of the cache: its state, its
//! kubeconfig, its data, and one log per process.

mod components;
mod files;
mod objects;
mod real_node;
mod state;

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cache::{Lock, Share};
use crate::process::{self, Process};
use crate::run::{output, say};
use crate::tools;
use files::Files;
use state::State;

pub use real_node::{IMAGE as REAL_NODE_IMAGE, NODE as REAL_NODE};

/// Which cluster, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Its name: small letters, digits and dashes, at most 32.
    pub name: String,
    /// How many nodes KWOK plays at least. A cluster that already runs gets those that it lacks.
    pub nodes: u32,
    /// Whether this machine is to be a node as well, which needs root. A cluster that runs without it gets it.
    pub real_node: bool,
}

impl Default for Options {
    /// The cluster `dev` with three nodes that KWOK plays.
    fn default() -> Self {
        Self {
            name: "dev".to_owned(),
            nodes: 3,
            real_node: false,
        }
    }
}

/// A cluster that answers.
#[derive(Debug, Clone)]
pub struct RunningCluster {
    /// Administrator's access, complete in itself: the server's address, its certificate authority, a token.
    pub kubeconfig: PathBuf,
    /// Where its data and logs are.
    pub folder: PathBuf,
}

impl RunningCluster {
    /// A kubectl that speaks to this cluster.
    ///
    /// # Errors
    /// When kubectl cannot be set up.
    pub fn kubectl(&self) -> Result<Command> {
        objects::kubectl(&self.kubeconfig, &self.folder)
    }
}

/// Starts the cluster and waits until its nodes are ready; finds it when it runs already; clears away and starts anew
/// when some of its processes are gone or it does not answer.
///
/// # Errors
/// When a part cannot be set up; when a component ends or does not get ready in time: its name and the end of its log.
/// What was started is then ended again.
pub fn up(options: &Options) -> Result<RunningCluster> {
    let files = Files::of(&options.name)?;
    tools::set_up(tools::CLUSTER)?;
    if options.real_node {
        tools::set_up(tools::REAL_NODE)?;
    }
    let _lock = Lock::take(&files.lock())?;
    if let Some((running, mut state)) = find(&files)? {
        objects::ensure_nodes(&running, options.nodes)?;
        if options.real_node && !real_node::is_in(&state) {
            real_node::start(&files, &mut state, &running, options.nodes > 0)
                .with_context(|| format!("cluster {} gets no real node", options.name))?;
        }
        return Ok(running);
    }
    let start = Instant::now();
    remove(&files)?;
    match start_all(&files, options) {
        Ok(running) => {
            say(&format!(
                "cluster {} is up ({:.1} s)",
                options.name,
                start.elapsed().as_secs_f32()
            ));
            Ok(running)
        }
        Err(error) => {
            if let Ok(Some(state)) = State::read(&files.state()) {
                end(&files, &state)?;
            }
            Err(error.context(format!("cluster {} does not start", options.name)))
        }
    }
}

/// As [`up`], for one of several runs that use the cluster at the same time; [`leave`] ends that.
///
/// # Errors
/// As [`up`].
pub fn join(options: &Options) -> Result<(RunningCluster, Share)> {
    let share = Share::take(&Files::of(&options.name)?.users())?;
    Ok((up(options)?, share))
}

/// Ends a use of the cluster, and the cluster itself when nobody else uses it.
///
/// # Errors
/// As [`down`].
pub fn leave(name: &str, share: Share) -> Result<()> {
    if !share.leave(|| down(name))? {
        say(&format!("cluster {name} stays up: another run uses it"));
    }
    Ok(())
}

/// What a control plane gets to end by itself. Its data goes away with it, so nothing is worth a long wait.
const GRACE: Duration = Duration::from_millis(500);

/// Ends every process of the cluster and removes its folder. A cluster that is not there is not an error.
///
/// # Errors
/// When a process does not end or the folder cannot be removed.
pub fn down(name: &str) -> Result<()> {
    let files = Files::of(name)?;
    let _lock = Lock::take(&files.lock())?;
    if !files.folder().exists() {
        say(&format!("there is no cluster {name}"));
        return Ok(());
    }
    remove(&files)?;
    say(&format!("cluster {name} is gone"));
    Ok(())
}

/// What runs of a cluster.
#[derive(Debug)]
pub struct Status {
    name: String,
    kubeconfig: PathBuf,
    processes: Vec<(Process, bool)>,
    answers: bool,
}

impl Status {
    /// Whether it has all its processes and its API server answers.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.answers && !self.processes.is_empty() && self.processes.iter().all(|(_, alive)| *alive)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.processes.is_empty() {
            return write!(formatter, "cluster {} is down", self.name);
        }
        let word = if self.is_healthy() {
            "is up"
        } else {
            "does not run as it should"
        };
        writeln!(formatter, "cluster {} {word}", self.name)?;
        for (process, alive) in &self.processes {
            let state = if *alive { "running" } else { "ended" };
            let log = process.log.display();
            writeln!(
                formatter,
                "  {:<24} {state:<8} process {:<8} {log}",
                process.name, process.pid
            )?;
        }
        write!(formatter, "kubeconfig: {}", self.kubeconfig.display())
    }
}

/// Says what runs of a cluster.
///
/// # Errors
/// When its state cannot be read.
pub fn status(name: &str) -> Result<Status> {
    let files = Files::of(name)?;
    let processes = State::read(&files.state())?
        .map(|state| state.processes)
        .unwrap_or_default();
    let answers = processes.iter().any(Process::is_alive) && answers(&files)?;
    Ok(Status {
        name: name.to_owned(),
        kubeconfig: files.kubeconfig(files::ADMIN),
        processes: processes
            .into_iter()
            .map(|process| (process.clone(), process.is_alive()))
            .collect(),
        answers,
    })
}

fn find(files: &Files) -> Result<Option<(RunningCluster, State)>> {
    let Some(state) = State::read(&files.state())? else {
        return Ok(None);
    };
    if !state.complete || !state.processes.iter().all(Process::is_alive) || !answers(files)? {
        say("the cluster does not run as it should: starting it anew");
        return Ok(None);
    }
    Ok(Some((running(files), state)))
}

fn running(files: &Files) -> RunningCluster {
    RunningCluster {
        kubeconfig: files.kubeconfig(files::ADMIN),
        folder: files.folder().to_owned(),
    }
}

fn answers(files: &Files) -> Result<bool> {
    let mut kubectl = objects::kubectl(&files.kubeconfig(files::ADMIN), files.folder())?;
    Ok(output(kubectl.args(["get", "--raw=/readyz", "--request-timeout=5s"])).is_ok())
}

fn remove(files: &Files) -> Result<()> {
    if let Some(state) = State::read(&files.state())? {
        if state.complete && answers(files)? {
            objects::remove_volumes(&running(files));
        }
        end(files, &state)?;
    }
    match fs::remove_dir_all(files.folder()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", files.folder().display()))
        }
        _ => Ok(()),
    }
}

fn end(files: &Files, state: &State) -> Result<()> {
    if real_node::is_in(state) {
        real_node::stop(files, state, &running(files))?;
    }
    process::end(&state.processes, GRACE)
}

fn start_all(files: &Files, options: &Options) -> Result<RunningCluster> {
    let mut state = State::default();
    let running = running(files);
    let started = components::start(files, &mut state, || objects::create(&running, options.nodes))
        .and_then(|()| objects::wait_until_usable(&running, options.nodes))
        .and_then(|()| match options.real_node {
            true => real_node::start(files, &mut state, &running, options.nodes > 0),
            false => Ok(()),
        });
    if let Err(error) = started {
        // A component that ended is the cause of whatever was noticed first.
        for process in &state.processes {
            if let Err(ended) = process.check() {
                bail!("{ended:#}\n(noticed as: {error:#})");
            }
        }
        return Err(error);
    }
    state.complete = true;
    state.write(&files.state())?;
    Ok(running)
}
