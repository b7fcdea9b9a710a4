//! Plain Helm, as somebody else runs it: what others leave behind, and what ours is compared with.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use slipway_ports::{Release, ReleaseRecord, ReleaseStatus, Target};

use crate::support::{Chart, kubeconfig};

/// Helm with folders of its own.
pub(crate) struct PlainHelm {
    folder: tempfile::TempDir,
    binary: PathBuf,
}

impl PlainHelm {
    pub(crate) fn new() -> Self {
        let binary = match std::env::var_os("SLIPWAY_HELM") {
            Some(path) => PathBuf::from(path),
            None => xtask::tools::helm().unwrap(),
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            binary,
        }
    }

    fn command(&self, release: &Release, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .args(["--namespace", &release.namespace])
            .arg("--kubeconfig")
            .arg(kubeconfig())
            .env("HOME", self.folder.path())
            .env("HELM_CACHE_HOME", self.folder.path().join("cache"))
            .env("HELM_CONFIG_HOME", self.folder.path().join("config"))
            .env("HELM_DATA_HOME", self.folder.path().join("data"));
        command
    }

    /// Runs it to its end.
    pub(crate) fn output(&self, release: &Release, arguments: &[&str]) -> Output {
        self.command(release, arguments).output().unwrap()
    }

    /// Runs it to its end, which must be a good one.
    pub(crate) fn run(&self, release: &Release, arguments: &[&str]) {
        let output = self.output(release, arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Runs it until its record has a status, then kills it with SIGKILL. Returns the record that it leaves.
    pub(crate) async fn kill_when(
        &self,
        target: &dyn Target,
        release: &Release,
        status: ReleaseStatus,
        arguments: &[&str],
    ) -> ReleaseRecord {
        let (mut child, record) = self.run_until(target, release, status, arguments).await;
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        record
    }

    /// Runs it until its record has a status, then ends it with SIGTERM. Returns what it complains.
    pub(crate) async fn terminate_when(
        &self,
        target: &dyn Target,
        release: &Release,
        status: ReleaseStatus,
        arguments: &[&str],
    ) -> String {
        let (mut child, _) = self.run_until(target, release, status, arguments).await;
        kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
        let mut complaint = String::new();
        let mut stderr = child.0.stderr.take().unwrap();
        stderr.read_to_string(&mut complaint).unwrap();
        child.0.wait().unwrap();
        complaint
    }

    async fn run_until(
        &self,
        target: &dyn Target,
        release: &Release,
        status: ReleaseStatus,
        arguments: &[&str],
    ) -> (Killed, ReleaseRecord) {
        let mut child = Killed(
            self.command(release, arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let start = Instant::now();
        loop {
            let record = target.record(release).await.unwrap();
            if let Some(record) = record.filter(|record| record.status == status) {
                return (child, record);
            }
            assert_eq!(
                child.0.try_wait().unwrap(),
                None,
                "it ended before it was {status:?}"
            );
            assert!(start.elapsed() < Duration::from_secs(30), "never {status:?}");
        }
    }

    /// The chart as a file.
    pub(crate) fn file(&self, name: &str, chart: &Chart) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, chart.pack()).unwrap();
        text(&path)
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A process that does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
