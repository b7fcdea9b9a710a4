//! The embedded control plane: `slipway serve`, on a data folder of its own.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use xtask::run::last_lines;
use xtask::{tools, wait};

use super::{Plane, START, files_below, files_holding};
use crate::{Client, ProcessId, mentioning, slipway};

/// How long it gets to end, with a Helm in the middle of its work.
const END: Duration = Duration::from_secs(30);

/// A process, and the folder that it works in.
#[derive(Debug)]
pub(super) struct Embedded {
    folder: TempDir,
    data: PathBuf,
    child: Option<Child>,
}

impl Embedded {
    pub(super) fn start(environment: &[(String, String)], data: Option<PathBuf>) -> (Self, Client) {
        let folder = super::folder();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        let data = data.unwrap_or_else(|| folder.path().join("data"));
        let mut embedded = Self {
            folder,
            data,
            child: None,
        };
        let client = embedded.launch(environment).unwrap();
        (embedded, client)
    }

    fn data(&self) -> PathBuf {
        self.data.clone()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn launch(&mut self, environment: &[(String, String)]) -> Result<Client> {
        let folder = self.folder.path();
        let server_file = self.data().join("server.json");
        // The one of a process that was killed names a port that may be somebody else's by now.
        let _ = fs::remove_file(&server_file);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file())?;
        let mut command = Command::new(slipway());
        command
            .current_dir(xtask::run::workspace())
            .arg("serve")
            .arg("--data")
            .arg(self.data())
            .args(["--listen", "127.0.0.1:0"])
            .env("SLIPWAY_HELM", tools::helm()?)
            .env("TMPDIR", folder.join("tmp"))
            .env_remove("SLIPWAY_DATA")
            .env_remove("SLIPWAY_CHART_HOSTS")
            .env_remove("SLIPWAY_PLAIN_HTTP_HOSTS")
            .env_remove("SLIPWAY_TOPICS")
            .env_remove("USE_PIPELINE_ORCHESTRATION")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C at the tests ends them, and they end it.
            .process_group(0);
        let mut child = command.spawn().context("slipway does not start")?;
        let found = wait::until(START, "the start of the control plane", || {
            if let Some(status) = child.try_wait()? {
                bail!("it ended with {status}:\n{}", last_lines(&self.whole_log(), 40));
            }
            Ok(client_of(&server_file))
        });
        match found {
            Ok(client) => {
                self.child = Some(child);
                Ok(client)
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }
}

impl Plane for Embedded {
    fn tag(&self) -> String {
        super::tag_of(&self.folder)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(slipway());
        command
            .env("SLIPWAY_DATA", self.data())
            .env_remove("SLIPWAY_URL")
            .env_remove("SLIPWAY_TOKEN");
        command
    }

    fn kill9(&mut self) {
        let mut child = self.child.take().expect("the control plane runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn restart(&mut self, environment: &[(String, String)]) -> Client {
        assert!(self.child.is_none(), "it still runs");
        self.launch(environment).unwrap()
    }

    fn stop(&mut self) {
        let mut child = self.child.take().expect("the control plane runs");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = wait::until(END, "the end of the control plane", || Ok(child.try_wait()?));
        if status.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let status = status.unwrap();
        assert!(status.success(), "the control plane ended with {status}");
    }

    fn poison(&mut self, queue: &str, body: &str, environment: &[(String, String)]) -> Option<Client> {
        // Its queues are its own: nobody else can write while it runs.
        self.stop();
        let database = rusqlite::Connection::open(self.data().join("slipway.db")).unwrap();
        // Sent now: what was sent long ago, and was received by nobody, is forgotten as soon as it is up.
        database
            .execute(
                "INSERT INTO messages (id, queue, body, sent_at, visible_at, receive_count)
                 SELECT 1 + max(id), ?1, ?2, 1000 * unixepoch(), 0, 0
                 FROM (SELECT 0 AS id UNION SELECT id FROM messages UNION SELECT id FROM dead_letters)",
                (queue, body),
            )
            .unwrap();
        database.close().unwrap();
        Some(self.restart(environment))
    }

    fn helms(&self) -> Vec<String> {
        let own = self.child.as_ref().map(|child| format!("{}: ", child.id()));
        let mut left = mentioning(&self.folder.path().to_string_lossy());
        if !self.data.starts_with(self.folder.path()) {
            left.extend(mentioning(&self.data.to_string_lossy()));
        }
        left.retain(|process| own.as_ref().is_none_or(|own| !process.starts_with(own)));
        left
    }

    fn whole_log(&self) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn is_alive(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn manifests(&self) -> Vec<(String, String)> {
        files_below(&self.data().join("render"))
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
            .map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap()))
            .collect()
    }

    fn holding(&self, text: &str) -> Vec<String> {
        files_holding(&self.data(), text)
    }

    fn control(&self) -> Option<&Client> {
        None
    }

    fn process(&self) -> Option<ProcessId> {
        self.child.as_ref().map(|child| ProcessId(child.id()))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nobody is left who could be told.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Nothing while the file is not there as a whole.
fn client_of(server_file: &Path) -> Option<Client> {
    let file: Value = serde_json::from_str(&fs::read_to_string(server_file).ok()?).ok()?;
    let token = fs::read_to_string(file["token_file"].as_str()?).ok()?;
    Some(Client::new(file["url"].as_str()?, token.trim()))
}
