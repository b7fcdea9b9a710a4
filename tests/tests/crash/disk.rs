//! A disk without room.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use slipway_tests::{Answer, Chart, Client, Options, Registry, Server, Template, step, text};
use xtask::run::output;
use xtask::wait;

/// A file system in memory, which needs the right to mount one; everything that runs in CI as root has it.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn new(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path());
        if let Err(error) = output(&mut mount) {
            panic!("a small file system cannot be mounted, which this test needs root for: {error:#}");
        }
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Leaves no room at all.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.ballast()).unwrap();
        for length in [64 << 10, 4 << 10, 512, 1] {
            let block = vec![7; length];
            while std::io::Write::write_all(&mut ballast, &block).is_ok() {}
        }
    }

    /// Leaves room for records, but hardly any.
    fn make_hardly_any_room(&self) {
        let ballast = fs::File::options().write(true).open(self.ballast()).unwrap();
        let length = ballast.metadata().unwrap().len();
        ballast.set_len(length - (2 << 20)).unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What still has it open keeps it until it ends.
        let _ = output(Command::new("umount").arg("--lazy").arg(self.path()));
    }
}

/// What is said to a caller whose wish cannot be written down.
fn expect_unavailable(answer: &Answer) {
    let problem = answer.expect_problem(503);
    assert!(text(&problem, "type").ends_with("/unavailable"), "{problem}");
    assert!(
        text(&problem, "detail").contains("try again in a moment"),
        "{problem}"
    );
}

/// How often it was said that the messages of a queue wait for room.
fn waits(server: &Server, queue: &str) -> usize {
    let log = server.whole_log();
    let lines = log.lines().filter(|line| {
        line.contains("messages wait until there is room") && line.contains(&format!("\"{queue}\""))
    });
    lines.count()
}

/// Creates deployments until one is not accepted, and returns the names of those that were.
fn create_until_refused(client: &Client, prefix: &str) -> Vec<String> {
    let mut accepted = Vec::new();
    for number in 0..10_000 {
        let name = format!("{prefix}-{number}");
        let order = json!({"name": name, "template": "roomy", "cluster": "local"});
        let answer = client.post("/deployments", &order);
        if answer.status != 201 {
            expect_unavailable(&answer);
            return accepted;
        }
        accepted.push(name);
    }
    panic!("a full disk took 10,000 deployments");
}

#[test]
fn a_full_disk_is_said_loses_nothing_and_is_gone_on_from_without_a_restart() {
    let disk = SmallDisk::new("24m");
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).data(disk.path()).start();
    server.add_render();
    let chart = Chart::tiny().push(&registry);
    let wait = json!({"id": "hold", "action": "wait", "params": {"seconds": 3}});
    let tell = json!({"id": "end", "action": "pass", "depends_on": ["hold"], "params": {"word": "done"}});
    server.publish(&Template::named("roomy").helm("one", &chart, &json!({})));
    let _ = server.create_with(&json!({"name": "before", "template": "roomy", "cluster": "local"}));
    let waiting = server.execute(&json!({"name": "waiting", "steps": [wait, tell]}));
    server.begin("before");
    // Its lease is taken, and no step's claim is held, which would have to expire.
    server.wait(30, "a job that Helm is at work for", |client| {
        let jobs = client.get("/jobs?status=RUNNING").expect(200);
        jobs["items"].as_array().unwrap().first().map(|_| ())
    });
    disk.fill();
    let accepted = create_until_refused(&server, "full");
    assert_eq!(server.get("/deployments").status, 200, "reading goes on");

    let refused_from = std::time::Instant::now();
    // In a long run longer than a message that is counted each time could stand.
    let patience = Duration::from_secs(if std::env::var_os(xtask::test_run::LONG).is_some() {
        120
    } else {
        4
    });
    let refused = wait::until(patience * 2, "the end of a long time without room", || {
        let order = json!({"name": "never", "template": "roomy", "cluster": "local"});
        expect_unavailable(&server.post("/deployments", &order));
        Ok((refused_from.elapsed() > patience).then_some(()))
    });
    refused.unwrap();
    assert!(server.is_alive());
    assert!(server.whole_log().contains("database or disk is full"));

    // What is written down now is not begun before there is room for what it takes.
    disk.make_hardly_any_room();
    let pass = json!({"id": "only", "action": "pass", "params": {"word": "done"}});
    let held = server.wait(20, "an execution is accepted again", |client| {
        let answer = client.post("/executions", &json!({"name": "held", "steps": [pass]}));
        (answer.status == 201).then(|| text(&answer.json(), "id"))
    });
    let before = waits(&server, "execute-step");
    server.wait(20, "messages that wait for room", |_| {
        (waits(&server, "execute-step") >= before + 2).then_some(())
    });
    for (id, last) in [(&held, "only"), (&waiting, "end")] {
        let progress = server.steps(id);
        assert_eq!(step(&progress, last)["status"], "PENDING", "{progress:#}");
    }

    disk.make_room();
    server.wait(60, "a deployment is accepted again", |client| {
        let order = json!({"name": "after", "template": "roomy", "cluster": "local"});
        let answer = client.post("/deployments", &order);
        // An attempt whose answer got lost may have been the one that took effect.
        (answer.status == 201 || answer.status == 409).then_some(())
    });
    for name in &accepted {
        assert_eq!(
            server.deployment(name)["status"],
            "PENDING",
            "{name} was accepted"
        );
    }
    for id in [&held, &waiting] {
        let ended = server.ended(id, 60);
        assert_eq!(ended["status"], "COMPLETED", "{ended:#}");
    }
    // Also what was under way, whose release's lease could not be given back.
    let _ = server.running("before", 60);
    server.begin("after");
    let _ = server.running("after", 60);
    server.stop();

    // What has no room to begin says so, and changes nothing.
    disk.fill();
    let refused = slipway_tests::Run::of(
        server
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .env("SLIPWAY_LOG", "warn"),
    );
    assert_eq!(refused.code, 1, "{}{}", refused.out, refused.errors);
    assert!(refused.errors.contains("make room"), "{}", refused.errors);
    disk.make_room();
    server.restart();
    assert_eq!(server.deployment("after")["status"], "RUNNING");
    server.stop();

    // So does what was damaged.
    let database = disk.path().join("data/slipway.db");
    let mut content = fs::read(&database).unwrap();
    content[..16].fill(0x20);
    fs::write(&database, &content).unwrap();
    let refused = slipway_tests::Run::of(&mut server.command(&["serve", "--listen", "127.0.0.1:0"]));
    assert_eq!(refused.code, 1, "{}{}", refused.out, refused.errors);
    let named = refused.errors.contains(&database.to_string_lossy().into_owned());
    assert!(
        named && refused.errors.contains("is damaged"),
        "{}",
        refused.errors
    );
    assert_eq!(fs::read(&database).unwrap(), content);
}
