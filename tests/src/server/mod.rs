//! A control plane of its own for each test: the embedded one as a process, or the functions on the local stand-in for
//! AWS. The scenarios do not know which.

mod aws_local;
mod embedded;
mod parts;

use std::fmt;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use xtask::run::{last_lines, say};
use xtask::wait;

use crate::{Client, Kubernetes, ProcessId, Registry};
use aws_local::AwsLocal;
use embedded::Embedded;

/// How long a control plane gets to listen; a machine that is busy compiling is slow.
const START: Duration = Duration::from_secs(60);

/// What the scenarios are played on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// `slipway serve`.
    Embedded,
    /// The functions, on the local stand-in for AWS.
    AwsLocal,
}

impl Platform {
    /// What `SLIPWAY_TEST_PLATFORM` says: `embedded`, also when it says nothing, or `aws-local`.
    ///
    /// # Panics
    /// When it says something else.
    #[must_use]
    pub fn of_this_run() -> Self {
        match std::env::var("SLIPWAY_TEST_PLATFORM").as_deref() {
            Err(_) | Ok("embedded") => Self::Embedded,
            Ok("aws-local") => Self::AwsLocal,
            Ok(other) => panic!("SLIPWAY_TEST_PLATFORM is '{other}': expected embedded or aws-local"),
        }
    }
}

/// Where the control plane of a test runs.
trait Plane: fmt::Debug {
    /// A word that no other control plane has.
    fn tag(&self) -> String;

    /// The program, told where this control plane is.
    fn command(&self) -> Command;

    /// Ends it as `kill -9` does.
    fn kill9(&mut self);

    /// Brings it up again on what it had stored.
    fn restart(&mut self, environment: &[(String, String)]) -> Client;

    /// Asks it to end, and checks that it does so in order.
    fn stop(&mut self);

    /// Puts a text on an internal queue, whatever it is. A client, if it had to be brought up again for that.
    fn poison(&mut self, queue: &str, body: &str, environment: &[(String, String)]) -> Option<Client>;

    /// Processes that it started and that still run, beside itself.
    fn helms(&self) -> Vec<String>;

    /// All that it logged.
    fn whole_log(&self) -> String;

    /// Whether it runs.
    fn is_alive(&mut self) -> bool;

    /// The manifests that `render` targets keep, as (where, text).
    fn manifests(&self) -> Vec<(String, String)>;

    /// Where among all that it keeps a text stands.
    fn holding(&self, text: &str) -> Vec<String>;

    /// The controls of the stand-in for AWS.
    fn control(&self) -> Option<&Client>;

    /// The one process that it is, while it runs.
    fn process(&self) -> Option<ProcessId>;
}

/// What a control plane is told besides where its data are.
#[derive(Debug, Clone, Default)]
pub struct Options {
    platform: Option<Platform>,
    visibility: Option<u32>,
    data: Option<PathBuf>,
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

    /// On this platform, whatever the run says.
    #[must_use]
    pub fn on(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// On the stand-in for AWS: seconds after which a message that was received and not dealt with comes again, instead
    /// of what is deployed.
    #[must_use]
    pub fn visibility(mut self, seconds: u32) -> Self {
        self.visibility = Some(seconds);
        self
    }

    /// An embedded control plane keeps everything below this folder, and its log elsewhere.
    #[must_use]
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.join("data"));
        self
    }

    fn platform(&self) -> Platform {
        self.platform.unwrap_or_else(Platform::of_this_run)
    }

    /// Starts it, with nothing stored, on a free port.
    ///
    /// # Panics
    /// When it does not listen in time: with the end of its log.
    #[must_use]
    pub fn start(self) -> Server {
        let (plane, client): (Box<dyn Plane>, Client) = match self.platform() {
            Platform::Embedded => {
                let (plane, client) = Embedded::start(&self.environment, self.data.clone());
                (Box::new(plane), client)
            }
            Platform::AwsLocal => {
                let (plane, client) = AwsLocal::start(&self.environment, self.visibility);
                (Box::new(plane), client)
            }
        };
        Server {
            options: self,
            plane,
            client,
        }
    }
}

/// A running control plane; it reads as a [`Client`] of itself. When it is dropped its processes are ended, and what
/// it wrote last is shown if the test failed.
#[derive(Debug)]
pub struct Server {
    options: Options,
    plane: Box<dyn Plane>,
    client: Client,
}

impl Server {
    /// A control plane that knows bundled charts only.
    #[must_use]
    pub fn start() -> Self {
        Options::default().start()
    }

    /// A word that no other control plane has: lower-case letters and digits.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn tag(&self) -> String {
        self.plane.tag()
    }

    /// A command of the program, as a user would type it beside this control plane.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.plane.command();
        command.args(arguments);
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

    /// Kills its processes as `kill -9` does and waits until they are gone.
    ///
    /// # Panics
    /// When it was gone before.
    pub fn kill9(&mut self) {
        self.plane.kill9();
    }

    /// Starts it again on the same data.
    ///
    /// # Panics
    /// When it still runs, or does not listen in time.
    pub fn restart(&mut self) {
        self.client = self.plane.restart(&self.options.environment);
    }

    /// Starts it again on the same data with other options.
    ///
    /// # Panics
    /// As [`restart`](Self::restart).
    pub fn restart_with(&mut self, options: Options) {
        self.options = options;
        self.restart();
    }

    /// Asks it to end, and checks that it does, that it says that all went well, and that no Helm is left.
    ///
    /// # Panics
    /// When one of these is not so.
    pub fn stop(&mut self) {
        self.plane.stop();
        self.expect_no_helms();
    }

    /// Puts a text on the queue of that name (`plan-dag`, `execute-step` or `deploy-helm`), as a program does that
    /// knows nothing of Slipway. It may be brought up again for that.
    ///
    /// # Panics
    /// When the queue cannot be written.
    pub fn poison(&mut self, queue: &str, body: &str) {
        if let Some(client) = self.plane.poison(queue, body, &self.options.environment) {
            self.client = client;
        }
    }

    /// The processes that it started and that still run.
    #[must_use]
    pub fn helms(&self) -> Vec<String> {
        self.plane.helms()
    }

    /// Waits until none of the processes that it started is left. It takes a moment after a `kill -9`: the guards of
    /// Helm have to notice.
    ///
    /// # Panics
    /// When one stays.
    #[track_caller]
    pub fn expect_no_helms(&self) {
        let gone = || Ok(self.helms().is_empty().then_some(()));
        let outcome = wait::until(Duration::from_secs(60), "the end of every Helm", gone);
        assert!(outcome.is_ok(), "still there: {:?}", self.helms());
    }

    /// Polls until `look` returns something. So many seconds are enough on a machine that does nothing else; the limit is
    /// for what hangs, so others have several times as long, the longest where each call of the control plane crosses
    /// several processes, as on the stand-in for AWS.
    ///
    /// # Panics
    /// When it does not within the time.
    #[track_caller]
    pub fn wait<T>(&self, seconds: u64, what: &str, mut look: impl FnMut(&Client) -> Option<T>) -> T {
        let patience = match self.options.platform() {
            Platform::Embedded => 2,
            Platform::AwsLocal => 4,
        };
        match wait::until(Duration::from_secs(seconds * patience), what, || {
            Ok(look(&self.client))
        }) {
            Ok(found) => found,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log(&self, lines: usize) -> String {
        last_lines(&self.whole_log(), lines)
    }

    /// All of its log.
    #[must_use]
    pub fn whole_log(&self) -> String {
        self.plane.whole_log()
    }

    /// The manifests that `render` targets keep, as (where, text), in order.
    #[must_use]
    pub fn manifests(&self) -> Vec<(String, String)> {
        let mut manifests = self.plane.manifests();
        manifests.sort();
        manifests
    }

    /// Where among all that it keeps, its log excepted, a text stands.
    #[must_use]
    pub fn holding(&self, text: &str) -> Vec<String> {
        self.plane.holding(text)
    }

    /// The controls of the stand-in for AWS.
    ///
    /// # Panics
    /// On another platform.
    #[must_use]
    pub fn control(&self) -> &Client {
        self.plane.control().expect("this is the stand-in for AWS")
    }

    /// The process of an embedded control plane.
    ///
    /// # Panics
    /// On another platform, or when it does not run.
    #[must_use]
    pub fn process(&self) -> ProcessId {
        self.plane.process().expect("this is one process that runs")
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        self.plane.is_alive()
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
        if std::thread::panicking() {
            say(&format!("what the control plane wrote last:\n{}", self.log(60)));
        }
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("slipway-scenario-")
        .tempdir()
        .unwrap()
}

fn tag_of(folder: &TempDir) -> String {
    let name = folder.path().file_name().unwrap().to_string_lossy();
    name.rsplit('-').next().unwrap().to_lowercase()
}

/// Every file below a folder; none where there is no folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

/// Files below a folder in which a text stands.
fn files_holding(folder: &Path, text: &str) -> Vec<String> {
    let holds = |path: &PathBuf| {
        // What was removed in between holds nothing.
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let files = files_below(folder).into_iter().filter(holds);
    files.map(|path| path.display().to_string()).collect()
}
