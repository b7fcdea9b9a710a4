//! A control plane as a process of its own.

use std::fs;
use std::ops::Deref;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::run::{last_lines, say};
use xtask::{tools, wait};

use crate::{Client, Kubernetes, Registry, mentioning, slipway};

/// How long a control plane gets to listen; a machine that is busy compiling is slow.
const START: Duration = Duration::from_secs(60);

/// How long it gets to end, with a Helm in the middle of its work.
const END: Duration = Duration::from_secs(30);

/// What a control plane is told besides where its data are.
#[derive(Debug, Clone, Default)]
pub struct Options {
    environment: Vec<(String, String)>,
}

impl Options {
    /// Charts may come from this registry, without TLS.
    #[must_use]
    pub fn registry(self, registry: &Registry) -> Self {
        self.variable("SLIPWAY_CHART_HOSTS", registry.address())
            .variable("SLIPWAY_PLAIN_HTTP_HOSTS", registry.address())
    }

    /// An environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it, on an empty data folder and a free port.
    ///
    /// # Panics
    /// When it does not listen in time: with the end of its log.
    #[must_use]
    pub fn start(self) -> Server {
        let folder = tempfile::Builder::new()
            .prefix("slipway-scenario-")
            .tempdir()
            .unwrap();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        let (child, client) = launch(folder.path(), &self).unwrap();
        Server {
            options: self,
            folder,
            child: Some(child),
            client,
        }
    }
}

/// A running control plane; it reads as a [`Client`] of itself. When it is dropped the process is ended, and what it
/// wrote last is shown if the test failed.
#[derive(Debug)]
pub struct Server {
    options: Options,
    folder: TempDir,
    child: Option<Child>,
    client: Client,
}

impl Server {
    /// A control plane that knows bundled charts only.
    #[must_use]
    pub fn start() -> Self {
        Options::default().start()
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A word that no other control plane has: lower-case letters and digits.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn tag(&self) -> String {
        let name = self.folder.path().file_name().unwrap().to_string_lossy();
        name.rsplit('-').next().unwrap().to_lowercase()
    }

    /// A command of the program, as a user would type it beside this control plane.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(slipway());
        command
            .args(arguments)
            .env("SLIPWAY_DATA", self.data())
            .env_remove("SLIPWAY_URL")
            .env_remove("SLIPWAY_TOKEN");
        command
    }

    /// Registers a cluster that is none, under the name `local`.
    ///
    /// # Panics
    /// When that is refused.
    #[track_caller]
    pub fn add_render(&self) {
        let cluster = self.post("/clusters", &json!({"name": "local", "type": "render"}));
        let _ = cluster.expect(201);
    }

    /// Registers the development cluster, under the name `dev`.
    ///
    /// # Panics
    /// When that is refused.
    #[track_caller]
    pub fn add_kubernetes(&self, kubernetes: &Kubernetes) {
        let cluster = json!({"name": "dev", "type": "kubeconfig", "kubeconfig": kubernetes.kubeconfig()});
        let _ = self.post("/clusters", &cluster).expect(201);
    }

    /// Kills the process as `kill -9` does and waits until it is gone.
    ///
    /// # Panics
    /// When it was gone before.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("the control plane runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again on the same data.
    ///
    /// # Panics
    /// When it still runs, or does not listen in time.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        let (child, client) = launch(self.folder.path(), &self.options).unwrap();
        self.child = Some(child);
        self.client = client;
    }

    /// Starts it again on the same data with other options.
    ///
    /// # Panics
    /// As [`restart`](Self::restart).
    pub fn restart_with(&mut self, options: Options) {
        self.options = options;
        self.restart();
    }

    /// Asks the process to end, and checks that it does, that it says that all went well, and that no Helm is left.
    ///
    /// # Panics
    /// When one of these is not so.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("the control plane runs");
        signal(&child, Signal::TERM);
        let status = wait::until(END, "the end of the control plane", || Ok(child.try_wait()?));
        if status.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let status = status.unwrap();
        assert!(status.success(), "the control plane ended with {status}");
        self.expect_no_helms();
    }

    /// The processes that it started and that still run.
    #[must_use]
    pub fn helms(&self) -> Vec<String> {
        let own = self.child.as_ref().map(|child| format!("{}: ", child.id()));
        let mut left = mentioning(&self.folder.path().to_string_lossy());
        left.retain(|process| own.as_ref().is_none_or(|own| !process.starts_with(own)));
        left
    }

    /// Waits until none of the processes that it started is left. It takes a moment after a `kill -9`: the guards of
    /// Helm have to notice.
    ///
    /// # Panics
    /// When one stays.
    #[track_caller]
    pub fn expect_no_helms(&self) {
        let gone = || Ok(self.helms().is_empty().then_some(()));
        let outcome = wait::until(Duration::from_secs(15), "the end of every Helm", gone);
        assert!(outcome.is_ok(), "still there: {:?}", self.helms());
    }

    /// Polls until `look` returns something.
    ///
    /// # Panics
    /// When it does not within the time.
    #[track_caller]
    pub fn wait<T>(&self, seconds: u64, what: &str, mut look: impl FnMut(&Client) -> Option<T>) -> T {
        match wait::until(Duration::from_secs(seconds), what, || Ok(look(&self.client))) {
            Ok(found) => found,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log(&self, lines: usize) -> String {
        let bytes = fs::read(log_file(self.folder.path())).unwrap_or_default();
        last_lines(&String::from_utf8_lossy(&bytes), lines)
    }

    /// All of its log.
    #[must_use]
    pub fn whole_log(&self) -> String {
        let bytes = fs::read(log_file(self.folder.path())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether the process runs.
    pub fn is_alive(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }
}

impl Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nobody is left who could be told.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            say(&format!("what the control plane wrote last:\n{}", self.log(60)));
        }
    }
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).unwrap();
}

fn launch(folder: &Path, options: &Options) -> Result<(Child, Client)> {
    let data = folder.join("data");
    let server_file = data.join("server.json");
    // The one of a process that was killed names a port that may be somebody else's by now.
    let _ = fs::remove_file(&server_file);
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(log_file(folder))?;
    let mut command = Command::new(slipway());
    command
        .current_dir(xtask::run::workspace())
        .arg("serve")
        .arg("--data")
        .arg(&data)
        .args(["--listen", "127.0.0.1:0"])
        .env("SLIPWAY_HELM", tools::helm()?)
        .env("TMPDIR", folder.join("tmp"))
        .env_remove("SLIPWAY_DATA")
        .env_remove("SLIPWAY_CHART_HOSTS")
        .env_remove("SLIPWAY_PLAIN_HTTP_HOSTS")
        .env_remove("SLIPWAY_TOPICS")
        .env_remove("USE_PIPELINE_ORCHESTRATION")
        .envs(options.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A Ctrl-C at the tests ends them, and they end it.
        .process_group(0);
    let mut child = command.spawn().context("slipway does not start")?;
    let found = wait::until(START, "the start of the control plane", || {
        if let Some(status) = child.try_wait()? {
            let log = fs::read(log_file(folder)).unwrap_or_default();
            bail!(
                "it ended with {status}:\n{}",
                last_lines(&String::from_utf8_lossy(&log), 40)
            );
        }
        Ok(client_of(&server_file))
    });
    match found {
        Ok(client) => Ok((child, client)),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

/// Nothing while the file is not there as a whole.
fn client_of(server_file: &Path) -> Option<Client> {
    let file: Value = serde_json::from_str(&fs::read_to_string(server_file).ok()?).ok()?;
    let token = fs::read_to_string(file["token_file"].as_str()?).ok()?;
    Some(Client::new(file["url"].as_str()?, token.trim()))
}
