//! The AWS side on this machine: DynamoDB Local, ElasticMQ and moto as processes, and `aws-local`, which makes in them
//! what `infra/template.yaml` declares and plays Lambda and API Gateway around the functions' own programs.
//!
//! It outlives the command that started it. Everything about it lies in one folder of the cache: its state, its data,
//! and one log per process and function. What the parts hold is in memory, and goes with them.

mod build;
mod state;

use std::fmt;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::aws_parts::{Kind, answers};
use crate::cache::{self, Lock};
use crate::net::free_ports;
use crate::process::{self, Process};
use crate::run::{say, workspace};
use crate::tools;
use crate::wait;
use state::State;

pub use build::{FUNCTIONS, Profile, build, layers};

/// How long a part, and the stack, may take to answer.
const READY: Duration = Duration::from_secs(60);

/// What the processes get to end by themselves. What they hold goes away with them, so nothing is worth a long wait.
const GRACE: Duration = Duration::from_millis(500);

/// Which stack, and how it behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Its name: small letters, digits and dashes, a letter first, at most 32.
    pub name: String,
    /// How the functions are built.
    pub profile: Profile,
    /// How many in a hundred of the functions' calls to AWS fail.
    pub fail_percent: f64,
    /// Decides which of them, and how.
    pub seed: u64,
    /// What else `aws-local` is told, as it stands on its command line.
    pub arguments: Vec<String>,
}

impl Default for Options {
    /// The stack `dev`, of release programs, in which no call fails.
    fn default() -> Self {
        Self {
            name: "dev".to_owned(),
            profile: Profile::Release,
            fail_percent: 0.0,
            seed: 1,
            arguments: Vec::new(),
        }
    }
}

/// Where a stack answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// The API, which is what `slipway --url` takes.
    pub url: String,
    /// A token for an administrator of the tenant `local`.
    pub token: String,
    /// The controls.
    pub control: String,
}

/// The command that runs `aws-local` on given parts, with the programs of a profile: for those who want a stack of
/// their own for as long as they run. `data` is its folder; `stack.json` appears there when it serves.
///
/// # Errors
/// When something cannot be built or set up.
pub fn command(
    name: &str,
    profile: Profile,
    data: &Path,
    dynamodb: &str,
    elasticmq: &str,
    moto: &str,
) -> Result<Command> {
    let programs = build(profile)?;
    let mut command = Command::new(programs.join("aws-local"));
    command
        .current_dir(workspace())
        .arg("--template")
        .arg(workspace().join("infra/template.yaml"))
        .args(["--name", name])
        .arg("--functions")
        .arg(&programs)
        .arg("--layers")
        .arg(layers()?)
        .arg("--data")
        .arg(data)
        .args(["--dynamodb", dynamodb, "--elasticmq", elasticmq, "--moto", moto]);
    Ok(command)
}

/// Starts a stack and waits until it answers; finds it when it runs already; clears away and starts anew when some of
/// its processes are gone.
///
/// # Errors
/// When a part cannot be set up, the functions cannot be built, or a process ends or does not answer in time: its name
/// and the end of its log. What was started is then ended again.
pub fn up(options: &Options) -> Result<Stack> {
    let folder = folder(&options.name)?;
    tools::set_up(tools::AWS)?;
    let _lock = Lock::take(&folder.with_extension("lock"))?;
    let state_file = folder.join("state.json");
    if let Some(state) = State::read(&state_file)? {
        if let Some(stack) = state.running() {
            return Ok(stack.clone());
        }
        say("the stack does not run as it should: starting it anew");
        process::end(&state.processes, GRACE)?;
    }
    remove_folder(&folder)?;
    let start = Instant::now();
    let mut state = State::default();
    let started = start_all(options, &folder, &mut state);
    match started {
        Ok(stack) => {
            state.stack = Some(stack.clone());
            state.write(&state_file)?;
            say(&format!(
                "the stack {} is up ({:.1} s)",
                options.name,
                start.elapsed().as_secs_f32()
            ));
            Ok(stack)
        }
        Err(error) => {
            // A process that ended is the cause of whatever was noticed first.
            let cause = state.processes.iter().find_map(|process| process.check().err());
            process::end(&state.processes, GRACE)?;
            Err(cause.unwrap_or(error)).with_context(|| format!("the stack {} does not start", options.name))
        }
    }
}

/// Ends every process of the stack and removes its folder. A stack that is not there is not an error.
///
/// # Errors
/// When a process does not end or the folder cannot be removed.
pub fn down(name: &str) -> Result<()> {
    let folder = folder(name)?;
    let _lock = Lock::take(&folder.with_extension("lock"))?;
    if !folder.exists() {
        say(&format!("there is no stack {name}"));
        return Ok(());
    }
    if let Some(state) = State::read(&folder.join("state.json"))? {
        process::end(&state.processes, GRACE)?;
    }
    remove_folder(&folder)?;
    say(&format!("the stack {name} is gone"));
    Ok(())
}

/// What runs of a stack.
#[derive(Debug)]
pub struct Status {
    name: String,
    folder: PathBuf,
    state: State,
}

impl Status {
    /// Whether all of it runs.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.state.running().is_some()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.state.processes.is_empty() {
            return write!(formatter, "the stack {} is down", self.name);
        }
        let word = if self.is_healthy() {
            "is up"
        } else {
            "does not run as it should"
        };
        writeln!(formatter, "the stack {} {word}", self.name)?;
        for process in &self.state.processes {
            let state = if process.is_alive() { "running" } else { "ended" };
            let log = process.log.display();
            writeln!(
                formatter,
                "  {:<12} {state:<8} process {:<8} {log}",
                process.name, process.pid
            )?;
        }
        writeln!(
            formatter,
            "  logs of the functions: {}",
            self.folder.join("data/logs").display()
        )?;
        match &self.state.stack {
            Some(stack) => write!(formatter, "{stack}"),
            None => write!(formatter, "it never answered"),
        }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "SLIPWAY_URL={}\nSLIPWAY_TOKEN={}\ncontrols: {}",
            self.url, self.token, self.control
        )
    }
}

/// Says what runs of a stack.
///
/// # Errors
/// When its state cannot be read.
pub fn status(name: &str) -> Result<Status> {
    let folder = folder(name)?;
    Ok(Status {
        name: name.to_owned(),
        state: State::read(&folder.join("state.json"))?.unwrap_or_default(),
        folder,
    })
}

fn start_all(options: &Options, folder: &Path, state: &mut State) -> Result<Stack> {
    // First, because it takes longest, and because what does not compile needs no parts.
    build(options.profile)?;
    // Tokens and secrets lie in it.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let state_file = folder.join("state.json");
    let [dynamodb, elasticmq, moto] = free_ports()?;
    let ports = [dynamodb, elasticmq, moto];
    for (kind, port) in Kind::ALL.into_iter().zip(ports) {
        let name = kind.part().name;
        let log = folder.join(format!("{name}.log"));
        state.push(Process::start(name, &mut kind.command(port)?, &log)?, &state_file)?;
    }
    for (index, (kind, port)) in Kind::ALL.into_iter().zip(ports).enumerate() {
        wait::until(
            READY,
            &format!("the first answer of {}", kind.part().name),
            || {
                state.processes[index].check()?;
                Ok(answers(port).then_some(()))
            },
        )?;
    }
    let [dynamodb, elasticmq, moto] = ports.map(|port| format!("http://127.0.0.1:{port}"));
    let data = folder.join("data");
    let mut command = command(
        &options.name,
        options.profile,
        &data,
        &dynamodb,
        &elasticmq,
        &moto,
    )?;
    command
        .args(["--fail-percent", &options.fail_percent.to_string()])
        .args(["--seed", &options.seed.to_string()])
        .args(&options.arguments);
    let process = Process::start("aws-local", &mut command, &folder.join("aws-local.log"))?;
    state.push(process.clone(), &state_file)?;
    announced(&data, || process.check())
}

/// Waits until a stack has written where it answers. `check` fails when it will not any more.
///
/// # Errors
/// What `check` fails with, or that it took too long.
pub fn announced(data: &Path, check: impl Fn() -> Result<()>) -> Result<Stack> {
    let file = data.join("stack.json");
    wait::until(READY, "the stack's announcement", || {
        check()?;
        let Ok(text) = fs::read_to_string(&file) else {
            return Ok(None);
        };
        let stack = serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))?;
        Ok(Some(stack))
    })
}

fn folder(name: &str) -> Result<PathBuf> {
    let right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !starts || name.len() > 32 || !name.bytes().all(right) {
        bail!(
            "a stack's name has 1 to 32 small letters, digits and dashes, a letter first; `{name}` is not one"
        );
    }
    Ok(cache::root()?.join("aws-local").join(name))
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
