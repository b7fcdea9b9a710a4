//! The program as people run it: a control plane, and commands that find it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn slipway(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
    for name in [
        "SLIPWAY_URL",
        "SLIPWAY_TOKEN",
        "SLIPWAY_CHART_HOSTS",
        "USE_PIPELINE_ORCHESTRATION",
    ] {
        command.env_remove(name);
    }
    // No test here deploys a chart; a Helm that is not there must not keep anything else from working.
    command
        .env("SLIPWAY_HELM", "/nonexistent/helm")
        .env("SLIPWAY_DATA", data)
        .stdin(Stdio::null());
    command
}

fn run(data: &Path, arguments: &[&str]) -> Output {
    slipway(data).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A command that must succeed, and what it printed as JSON.
fn json_of(data: &Path, arguments: &[&str]) -> Value {
    let output = run(data, &[arguments, &["--output", "json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

struct Server {
    child: Child,
    token: String,
}

impl Server {
    /// Starts a control plane and waits until it says that it is up.
    fn start(data: &Path) -> Self {
        let mut child = slipway(data)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = |label: &str| {
            let line = lines.next().expect("the control plane ended early").unwrap();
            let value = line.strip_prefix(label).unwrap_or_else(|| panic!("{line}"));
            value.trim().to_owned()
        };
        assert!(next("address:").starts_with("http://127.0.0.1:"));
        let token = next("token:");
        Self { child, token }
    }

    fn signal(&mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dag(folder: &Path) -> String {
    let file = folder.join("dag.json");
    let dag = json!({
        "name": "greeting",
        "parameters": {"who": "nobody"},
        "steps": [
            {"id": "first", "action": "pass", "params": {"text": "hello {{ parameters.who }}"}},
            {
                "id": "second",
                "action": "pass",
                "depends_on": ["first"],
                "params": {"said": "{{ steps.first.outputs.text }}"},
            },
        ],
        "outputs": {"said": "{{ steps.second.outputs.said }}"},
    });
    fs::write(&file, dag.to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_control_plane_survives_being_killed_and_ends_when_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let dag = dag(folder.path());

    let mut server = Server::start(&data);
    let done = run(&data, &["run", &dag, "--param", "who=world", "--watch"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let shown = text(&done.stdout);
    assert!(shown.contains("COMPLETED 2 of 2 steps (100%)"), "{shown}");
    json_of(&data, &["cluster", "add", "local", "--render"]);
    let token = server.token.clone();
    server.signal(Signal::KILL);

    let mut server = Server::start(&data);
    assert_eq!(server.token, token, "the token changed");
    let clusters = json_of(&data, &["cluster", "list"]);
    assert_eq!(clusters[0]["name"], "local");
    let progress = json_of(&data, &["run", &dag, "--watch"]);
    assert_eq!(progress["status"], "COMPLETED");
    assert!(server.signal(Signal::TERM).success());
    assert!(
        !data.join("server.json").exists(),
        "clients would look for a control plane that is gone"
    );
}

#[test]
fn one_data_folder_has_one_control_plane() {
    let folder = tempfile::tempdir().unwrap();
    let _server = Server::start(folder.path());
    let second = run(folder.path(), &["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        text(&second.stderr).contains("end that process, or choose another folder"),
        "{}",
        text(&second.stderr)
    );
}

#[test]
fn errors_say_what_to_do_next_and_end_with_the_right_status() {
    let folder = tempfile::tempdir().unwrap();
    let failure = |arguments: &[&str], status: i32, said: &str| {
        let output = run(folder.path(), arguments);
        let shown = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {shown}");
        assert!(shown.contains(said), "{arguments:?}: {shown}");
    };
    failure(&["status"], 1, "slipway serve");
    failure(&["serve", "--listen", "0.0.0.0:80"], 2, "127.0.0.1:80");

    let server = Server::start(folder.path());
    failure(&["deploy", "agent-rag"], 2, "cluster add");
    failure(&["deploy", "templates/agent-rag.yaml"], 2, "template publish");
    failure(&["status", "nobody"], 2, "does not exist");
    failure(&["status", "--token", "wrong"], 2, "--token");
    failure(&["template", "publish", "/nonexistent.yaml"], 2, "cannot be read");
    failure(&["deploy", "x", "--set", "broken"], 2, "KEY=VALUE");
    drop(server);
    // It was killed, so its file for clients is still there.
    failure(&["status"], 1, "no control plane answers");
}

#[test]
fn checking_needs_no_control_plane() {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let template = root.join("templates/agent-rag.yaml");
    let template = template.to_str().unwrap();
    assert!(
        run(folder.path(), &["template", "validate", template])
            .status
            .success()
    );
    assert_eq!(json_of(folder.path(), &["dag", "check", template])["steps"], 5);
    let graph = run(folder.path(), &["dag", "graph", template, "--format", "mermaid"]);
    assert_eq!(text(&graph.stdout).matches(" --> ").count(), 4);

    let broken = folder.path().join("broken.json");
    let dag = json!({"name": "x", "steps": [{"id": "a", "action": "pas"}]});
    fs::write(&broken, dag.to_string()).unwrap();
    let checked = run(folder.path(), &["dag", "check", broken.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(1));
    let shown = text(&checked.stdout);
    assert!(shown.contains("steps[0].action"), "{shown}");
}
