//! The program as people run it: a control plane, and commands that find it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
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
    address: String,
    token: String,
}

impl Server {
    /// Starts a control plane and waits until it says that it is up.
    fn start(data: &Path) -> Self {
        Self::start_with_log(data, Stdio::null())
    }

    fn start_with_log(data: &Path, log: Stdio) -> Self {
        let mut child = slipway(data)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = |label: &str| {
            let line = lines.next().expect("the control plane ended early").unwrap();
            let value = line.strip_prefix(label).unwrap_or_else(|| panic!("{line}"));
            value.trim().to_owned()
        };
        let address = next("address:");
        let address = address.strip_prefix("http://").unwrap().to_owned();
        assert!(address.starts_with("127.0.0.1:"), "{address}");
        let token = next("token:");
        Self {
            child,
            address,
            token,
        }
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
fn a_log_that_cannot_be_written_is_done_without() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut server = Server::start_with_log(&data, full.into());
    let done = run(&data, &["run", &dag(folder.path()), "--watch"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(server.signal(Signal::TERM).success(), "it did not end in order");
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
    let url = format!("http://{}", server.address);
    drop(server);
    failure(&["status", "--url", &url], 1, "no control plane answers");
}

#[test]
fn the_token_is_not_sent_to_whoever_has_the_port_of_a_control_plane_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path());
    let address = server.address.clone();
    server.signal(Signal::KILL);
    assert!(folder.path().join("server.json").exists());

    let somebody = TcpListener::bind(&address).unwrap();
    somebody.set_nonblocking(true).unwrap();
    let output = run(folder.path(), &["status"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("no control plane runs"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(somebody.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn watching_goes_on_when_the_control_plane_was_away_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let dag = folder.path().join("dag.json");
    let waits = json!({"name": "gate", "steps": [{"id": "gate", "action": "approval"}]});
    fs::write(&dag, waits.to_string()).unwrap();

    let mut server = Server::start(&data);
    let mut watching = slipway(&data)
        .args(["run", dag.to_str().unwrap(), "--watch"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = BufReader::new(watching.stdout.take().unwrap()).lines();
    let begun = shown.next().unwrap().unwrap();
    let execution = begun.split(' ').nth(1).unwrap();
    assert!(server.signal(Signal::TERM).success());
    let mut remarks = BufReader::new(watching.stderr.take().unwrap()).lines();
    let remark = remarks.next().unwrap().unwrap();
    assert!(remark.contains("asking again"), "{remark}");

    // On another port: who watches finds it.
    let _server = Server::start(&data);
    let approved = run(&data, &["approve", execution, "gate"]);
    assert!(approved.status.success(), "{}", text(&approved.stderr));
    let rest: Vec<String> = shown.map(Result::unwrap).collect();
    assert!(watching.wait().unwrap().success(), "{rest:?}");
    assert_eq!(remarks.count(), 0, "one remark is enough");
}

/// A status and a body.
type Answer = (&'static str, String);

fn success(body: &Value) -> Option<Answer> {
    Some(("200 OK", body.to_string()))
}

/// Answers requests in order, or closes the connection where there is no answer. Returns what each asked for, and its
/// idempotency key.
fn answering(
    listener: TcpListener,
    answers: Vec<Option<Answer>>,
) -> thread::JoinHandle<Vec<(String, Option<String>)>> {
    thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = BufReader::new(connection.try_clone().unwrap());
            let mut first = String::new();
            request.read_line(&mut first).unwrap();
            let (mut length, mut key) = (0, None);
            loop {
                let mut line = String::new();
                request.read_line(&mut line).unwrap();
                let Some((name, value)) = line.trim().split_once(": ") else {
                    break;
                };
                match name.to_lowercase().as_str() {
                    "idempotency-key" => key = Some(value.to_owned()),
                    "content-length" => length = value.parse().unwrap(),
                    _ => {}
                }
            }
            request.read_exact(&mut vec![0; length]).unwrap();
            asked.push((first.trim().trim_end_matches(" HTTP/1.1").to_owned(), key));
            if let Some((status, body)) = answer {
                let head = format!(
                    "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                connection.write_all((head + &body).as_bytes()).unwrap();
            }
        }
        asked
    })
}

/// What comes in the place of an answer of which nobody knows whether it was a control plane's.
fn lost() -> [Option<Answer>; 3] {
    let page = "<html>a timeout occurred</html>".to_owned();
    [
        None,
        Some(("524 A Timeout Occurred", page.clone())),
        Some(("200 OK", page)),
    ]
}

#[test]
fn a_creation_whose_answer_was_lost_is_asked_for_again_under_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = json!({
        "id": "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b", "name": "local", "target": {"type": "render"},
        "created_at": "2026-01-01T00:00:00Z",
    });
    for lost in lost() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = answering(listener, vec![lost, success(&cluster)]);
        let added = run(
            folder.path(),
            &["cluster", "add", "local", "--render", "--url", &url],
        );
        assert!(added.status.success(), "{}", text(&added.stderr));
        let asked = server.join().unwrap();
        let keys: Vec<&String> = asked.iter().map(|(_, key)| key.as_ref().unwrap()).collect();
        assert_eq!(keys[0], keys[1]);
    }
}

#[test]
fn a_deployment_that_was_started_although_the_answer_was_lost_is_said_to_come_up() {
    let folder = tempfile::tempdir().unwrap();
    let id = "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b";
    let view = |status: &str| {
        success(&json!({
            "id": id, "name": "agent", "template": {"name": "rag", "version": "1.0.0"}, "cluster_id": id,
            "namespace": "uc-8f14e45f", "status": status, "callback_topics": [], "user_id": "u", "generation": 1,
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "components": [],
        }))
    };
    let cases = [
        (
            "DEPLOYING",
            0,
            "agent (8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b) is DEPLOYING",
        ),
        ("PENDING", 1, "whether it was started is not known"),
    ];
    for (lost, (status, code, said)) in lost()
        .into_iter()
        .flat_map(|lost| cases.map(|case| (lost.clone(), case)))
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = answering(listener, vec![view("PENDING"), lost, view(status)]);
        let deployed = run(
            folder.path(),
            &["deploy", "rag", "--cluster", "local", "--url", &url],
        );
        let told = text(&deployed.stdout) + &text(&deployed.stderr);
        assert!(
            deployed.status.code() == Some(code) && told.contains(said),
            "{told}"
        );
        let asked: Vec<String> = server.join().unwrap().into_iter().map(|(line, _)| line).collect();
        let place = format!("/api/v1/deployments/{id}");
        assert_eq!(
            asked,
            [
                "POST /api/v1/deployments".to_owned(),
                format!("POST {place}/start"),
                format!("GET {place}"),
            ]
        );
    }
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

    // A result that nobody can have read is no result.
    let check = |stdout: Stdio| {
        let mut command = slipway(folder.path());
        let checked = command
            .args(["dag", "check", template])
            .stdout(stdout)
            .stderr(Stdio::piped());
        let output = checked.spawn().unwrap().wait_with_output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let (status, said) = check(full.into());
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("standard output"), "{said}");
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    assert_eq!(check(writer.into()), (Some(141), String::new()));
}
