//! The functions, on the local stand-in for AWS: a stack of its own for each control plane, on parts that all share.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::infra::judge;
use xtask::run::{last_lines, workspace};
use xtask::{aws_parts, tools, wait};

use super::parts::Parts;
use super::{Plane, START, files_below};
use crate::program::build;
use crate::{Client, ProcessId, mentioning, slipway};

/// How long the stand-in gets to end.
const END: Duration = Duration::from_secs(20);

static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();

/// A stack, and the folder with its logs.
#[derive(Debug)]
pub(super) struct AwsLocal {
    folder: TempDir,
    environment: Vec<(String, String)>,
    visibility: Option<u32>,
    child: Option<Child>,
    client: Client,
    control: Client,
}

impl AwsLocal {
    pub(super) fn start(environment: &[(String, String)], visibility: Option<u32>) -> (Self, Client) {
        let folder = super::folder();
        for name in ["data", "tmp", "layers/helm"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let layers = folder.path().join("layers");
        symlink(tools::helm().unwrap(), layers.join("helm/helm")).unwrap();
        symlink(workspace().join("charts"), layers.join("charts")).unwrap();
        let (child, client, control) = launch(folder.path(), environment, visibility).unwrap();
        let plane = Self {
            folder,
            environment: environment.to_vec(),
            visibility,
            child: Some(child),
            client: client.clone(),
            control,
        };
        (plane, client)
    }

    /// The names of its functions.
    fn functions(&self) -> Vec<String> {
        let report = self.control.get("/functions").expect(200);
        let functions = report.as_array().unwrap().iter();
        functions
            .map(|function| function["function"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The name of the stack.
    fn name(&self) -> String {
        stack_name(self.folder.path())
    }

    fn end(&mut self) {
        let mut child = self.child.take().expect("the stack runs");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = wait::until(END, "the end of the stack", || Ok(child.try_wait()?));
        if status.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let status = status.unwrap();
        assert!(status.success(), "the stack ended with {status}");
    }
}

impl Plane for AwsLocal {
    fn tag(&self) -> String {
        super::tag_of(&self.folder)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(slipway());
        command
            .env_remove("SLIPWAY_DATA")
            .env("SLIPWAY_URL", self.client.url())
            .env("SLIPWAY_TOKEN", self.client.token());
        command
    }

    /// Every process of a function that is in an invocation.
    fn kill9(&mut self) {
        for function in self.functions() {
            let order = json!({"function": function});
            while !self.control.post("/kill", &order).expect(200)["killed"].is_null() {}
        }
    }

    /// Functions are always there; only other variables take another deployment.
    fn restart(&mut self, environment: &[(String, String)]) -> Client {
        if self.child.is_none() || self.environment != environment {
            if self.child.is_some() {
                self.end();
            }
            let (child, client, control) = launch(self.folder.path(), environment, self.visibility).unwrap();
            self.child = Some(child);
            self.client = client;
            self.control = control;
            environment.clone_into(&mut self.environment);
        }
        self.client.clone()
    }

    /// Nothing is left that nobody could deal with, and no function called what its role does not allow.
    fn stop(&mut self) {
        let letters = self.client.get("/dead-letters").expect(200);
        assert_eq!(
            letters["items"],
            json!([]),
            "messages that nobody could deal with"
        );
        let calls = self.control.get("/calls");
        assert_eq!(calls.status, 200, "{}", calls.text);
        let judged = judge(&calls.text, &self.name(), BTreeMap::new()).unwrap();
        assert!(judged.refused.is_empty(), "{:#?}", judged.refused);
        self.end();
    }

    fn poison(&mut self, queue: &str, body: &str, _environment: &[(String, String)]) -> Option<Client> {
        Parts::shared().send(&self.tag(), queue, body);
        None
    }

    fn helms(&self) -> Vec<String> {
        let own = self.child.as_ref().map(|child| format!("{}: ", child.id()));
        let functions = programs().to_string_lossy().into_owned();
        let mut left = mentioning(&self.folder.path().to_string_lossy());
        left.retain(|process| {
            own.as_ref().is_none_or(|own| !process.starts_with(own))
                && !process
                    .split_once(": ")
                    .is_some_and(|(_, line)| line.starts_with(&functions))
        });
        left
    }

    fn whole_log(&self) -> String {
        let mut files = files_below(&self.folder.path().join("data/logs"));
        files.push(self.folder.path().join("log"));
        files.sort();
        files
            .iter()
            .map(|file| String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned())
            .collect()
    }

    fn is_alive(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn manifests(&self) -> Vec<(String, String)> {
        let objects = Parts::shared().objects(&self.tag());
        objects
            .into_iter()
            .filter(|(key, _)| key.ends_with(".yaml"))
            .collect()
    }

    fn control(&self) -> Option<&Client> {
        Some(&self.control)
    }

    fn process(&self) -> Option<ProcessId> {
        None
    }

    fn holding(&self, text: &str) -> Vec<String> {
        let parts = Parts::shared();
        let kept = parts
            .objects(&self.tag())
            .into_iter()
            .chain(parts.items(&self.tag()));
        kept.filter(|(_, content)| content.contains(text))
            .map(|(place, _)| place)
            .collect()
    }
}

impl Drop for AwsLocal {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nobody is left who could be told.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The folder of the functions' programs and of the stand-in. They are built first, in the profile of the tests, so that
/// what is tested is never an older state of the sources; when `SLIPWAY_TEST_FUNCTIONS` names a folder, what is there is
/// taken as it is.
fn programs() -> &'static Path {
    PROGRAMS.get_or_init(|| match std::env::var_os("SLIPWAY_TEST_FUNCTIONS") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let functions = fs::read_dir(workspace().join("functions")).unwrap();
            let mut packages: Vec<String> = functions
                .map(|function| function.unwrap().file_name().to_string_lossy().into_owned())
                .collect();
            packages.push("aws-local".to_owned());
            build(&packages)
        }
    })
}

fn stack_name(folder: &Path) -> String {
    let name = folder.file_name().unwrap().to_string_lossy();
    format!("s-{}", name.rsplit('-').next().unwrap().to_lowercase())
}

fn launch(
    folder: &Path,
    environment: &[(String, String)],
    visibility: Option<u32>,
) -> Result<(Child, Client, Client)> {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    let mut command = Command::new(programs().join("aws-local"));
    command
        .current_dir(workspace())
        .arg("--template")
        .arg(workspace().join("infra/template.yaml"))
        .args(["--name", &stack_name(folder)])
        .arg("--functions")
        .arg(programs())
        .arg("--layers")
        .arg(folder.join("layers"))
        .arg("--data")
        .arg(folder.join("data"))
        .args(["--dynamodb", &aws_parts::dynamodb()?])
        .args(["--elasticmq", &aws_parts::elasticmq()?])
        .args(["--moto", &aws_parts::moto()?])
        .arg("--environment")
        .arg(format!("TMPDIR={}", folder.join("tmp").display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // A Ctrl-C at the tests ends them, and they end it.
        .process_group(0);
    for (name, value) in environment {
        command.arg("--environment").arg(format!("{name}={value}"));
    }
    if let Some(seconds) = visibility {
        command.arg("--visibility").arg(seconds.to_string());
    }
    let mut child = command.spawn().context("aws-local does not start")?;
    let mut line = String::new();
    let output = child.stdout.take().expect("standard output is a pipe");
    // It says where it is, or ends.
    BufReader::new(output).read_line(&mut line)?;
    let Ok(said) = serde_json::from_str::<Value>(&line) else {
        let _ = child.kill();
        let _ = child.wait();
        let log = fs::read(folder.join("log")).unwrap_or_default();
        bail!(
            "aws-local did not say where it is:\n{}",
            last_lines(&String::from_utf8_lossy(&log), 40)
        );
    };
    let text = |field: &str| {
        said[field]
            .as_str()
            .with_context(|| format!("no {field} in {said}"))
    };
    let control = Client::bare(text("control")?);
    let order = json!({"tenant": "local", "role": "admin"});
    let token = control.post("/token", &order).expect(200);
    let client = Client::new(text("url")?, token["token"].as_str().unwrap_or_default());
    wait::until(START, "the first answer of the functions", || {
        Ok(client
            .try_get("/actions")
            .ok()
            .filter(|answer| answer.status == 200)
            .map(|_| ()))
    })?;
    Ok((child, client, control))
}
