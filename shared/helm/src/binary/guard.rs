//! Running Helm so that it cannot outlive us, its time, its memory or our patience with its output.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    time::{Instant, timeout, timeout_at},
};

use super::{Helm, Workspace};

/// Most output that is kept; a chart of 1 MiB stands in `-o json` about twice.
const STDOUT_LIMIT: usize = 32 << 20;

/// How much of the end of what Helm complains is kept. Of several objects that the API server refuses it may repeat every
/// one, on one line.
const STDERR_LIMIT: usize = 1 << 20;

/// Helm survives the `kill -9` of its parent, hence this shell between the two. Its standard input is a pipe whose
/// other end only we hold: when that closes, Helm is killed, the private directory removed and the whole group ended.
/// Otherwise it writes down Helm's exit code and ends the group, so that nothing that Helm started stays behind.
/// The group is its own; SIGTERM to the group reaches Helm and is ignored by the shell.
const GUARD: &str = r#"
exec 3<&0 </dev/null
directory=$1 memory=$2 blocks=$3
shift 3
trap : TERM
( ulimit -v "$memory" 2>/dev/null; ulimit -f "$blocks" 2>/dev/null; exec 3<&-; exec "$@" ) &
helm=$!
(
  trap '' TERM
  exec >/dev/null 2>&1
  read -r _ <&3
  # The shell, too, which would end the group before the directory is gone.
  kill -KILL "$helm" "$$"
  rm -rf -- "$directory"
  kill -s KILL -- "-$$"
) &
while :; do
  wait "$helm"
  code=$?
  [ "$code" -eq 127 ] && break
  kill -0 "$helm" 2>/dev/null || break
done
printf '%s' "$code" >"$directory/exit-code"
kill -s KILL -- "-$$"
"#;

/// How an invocation ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Helm's exit code; `None` when it was killed.
    pub(crate) code: Option<i32>,
    /// Its output. Holds values and manifests: never logged.
    pub(crate) stdout: Vec<u8>,
    /// Whether more was written than is kept.
    pub(crate) overflowed: bool,
    /// The end of its complaints.
    pub(crate) stderr: String,
    /// Whether it was stopped at its time limit.
    pub(crate) timed_out: bool,
}

impl Finished {
    /// Whether Helm did what it should.
    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0) && !self.timed_out && !self.overflowed
    }
}

/// Runs Helm with `arguments` in `workspace` for at most `limit`, then ends it. Dropping the future kills it at once.
///
/// It waits for a place for at most `patience`, of a quarter of its time at most: who waited longer would have Helm
/// stopped for it. Then nothing was begun, and the error is of the kind `WouldBlock`.
pub(crate) async fn run(
    helm: &Helm,
    workspace: &Workspace,
    arguments: &[OsString],
    patience: Duration,
    limit: Duration,
) -> io::Result<Finished> {
    let end = Instant::now() + limit;
    let _place = helm.place(patience.min(limit / 4)).await?;
    let path = workspace.path();
    let memory = (helm.settings.memory_limit >> 10).to_string();
    // Shells count files in blocks of 512 bytes, and memory in KiB.
    let blocks = (helm.settings.file_limit >> 9).to_string();
    let mut command = Command::new("/bin/sh");
    command
        .args([OsStr::new("-c"), OsStr::new(GUARD), OsStr::new("slipway-guard")])
        .args([path.as_os_str(), OsStr::new(&memory), OsStr::new(&blocks)])
        .arg(&helm.path)
        .args(arguments)
        .env_clear()
        .envs(&helm.settings.environment)
        .env(
            "PATH",
            std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()),
        )
        .env("HOME", path)
        .env("TMPDIR", path.join("tmp"))
        .env("HELM_CACHE_HOME", path.join("cache"))
        .env("HELM_CONFIG_HOME", path.join("config"))
        .env("HELM_DATA_HOME", path.join("data"))
        .env("HELM_PLUGINS", path.join("plugins"))
        .env("KUBECONFIG", path.join("kubeconfig"))
        .current_dir(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut shell = command.spawn()?;
    let group = shell
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    // Held until the end: its closing is what kills Helm.
    let lifeline = shell.stdin.take();
    let stdout = shell.stdout.take();
    let stderr = shell.stderr.take();
    let reading = async {
        let ((stdout, overflowed), stderr) = tokio::join!(read_head(stdout), read_tail(stderr));
        (stdout, overflowed, stderr)
    };
    tokio::pin!(reading);
    let mut timed_out = false;
    let (stdout, overflowed, stderr) = match timeout_at(end, &mut reading).await {
        Ok(read) => read,
        Err(_) => {
            timed_out = true;
            signal(group, Signal::TERM);
            match timeout(helm.settings.grace, &mut reading).await {
                Ok(read) => read,
                Err(_) => {
                    signal(group, Signal::KILL);
                    reading.await
                }
            }
        }
    };
    if overflowed {
        // Nobody reads any more, so it would hang on a full pipe.
        signal(group, Signal::KILL);
    }
    shell.wait().await?;
    drop(lifeline);
    let code = fs::read_to_string(path.join("exit-code"))
        .ok()
        .and_then(|code| code.parse().ok());
    Ok(Finished {
        code: code.filter(|code| *code < 128),
        stdout,
        overflowed,
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
        timed_out,
    })
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // The group may have ended by itself in the meantime.
        let _ = kill_process_group(group, signal);
    }
}

/// Reads up to the limit; true if there was more.
async fn read_head(from: Option<impl AsyncRead + Unpin>) -> (Vec<u8>, bool) {
    let mut head = Vec::new();
    if let Some(from) = from {
        let most = u64::try_from(STDOUT_LIMIT).unwrap_or(u64::MAX);
        // What was read before an error is all that there is.
        let _ = from.take(most + 1).read_to_end(&mut head).await;
    }
    let overflowed = head.len() > STDOUT_LIMIT;
    head.truncate(STDOUT_LIMIT);
    (head, overflowed)
}

/// Reads everything and keeps the end, in whole lines: secrets are taken out of it later, and of one whose beginning is
/// missing the rest would not be found.
async fn read_tail(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut tail = Vec::new();
    let Some(mut from) = from else { return tail };
    let mut buffer = vec![0; 8 << 10];
    let mut is_cut = false;
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..length]);
        if tail.len() > 2 * STDERR_LIMIT {
            tail.drain(..tail.len() - STDERR_LIMIT);
            is_cut = true;
        }
    }
    let more = tail.len().saturating_sub(STDERR_LIMIT);
    tail.drain(..more);
    if is_cut || more > 0 {
        let line = tail.iter().position(|byte| *byte == b'\n');
        tail.drain(..line.map_or(tail.len(), |end| end + 1));
        if tail.is_empty() {
            tail = format!("a line of more than {} KiB\n", STDERR_LIMIT >> 10).into_bytes();
        }
    }
    tail
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, time::Instant};

    use super::*;
    use crate::binary::HelmSettings;

    /// A program that calls itself Helm and otherwise does what the script says.
    async fn helm(folder: &std::path::Path, script: &str) -> Helm {
        let path = folder.join("helm");
        let script = format!("#!/bin/sh\nif [ \"$1\" = version ]; then echo v4.0.0; exit; fi\n{script}\n");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let settings = HelmSettings {
            grace: Duration::from_millis(200),
            ..HelmSettings::new(folder)
        };
        Helm::locate(Some(&path), settings).await.unwrap()
    }

    async fn finish(script: &str, limit: Duration) -> (Finished, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let helm = helm(folder.path(), script).await;
        let workspace = Workspace::new(&helm).unwrap();
        let arguments = [folder.path().as_os_str().to_owned()];
        let finished = run(&helm, &workspace, &arguments, LONG, limit).await.unwrap();
        (finished, folder)
    }

    const LONG: Duration = Duration::from_secs(60);

    /// Whether the process whose id stands in the file has ended.
    fn has_ended(file: &std::path::Path) -> bool {
        let id = fs::read_to_string(file).unwrap();
        match fs::read_to_string(format!("/proc/{}/stat", id.trim())) {
            Err(_) => true,
            Ok(stat) => stat
                .rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim_start().starts_with('Z')),
        }
    }

    fn until(mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(20), "waited too long");
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn exit_code_output_and_complaints_come_back() {
        let (finished, _) = finish("echo out; echo bad >&2; exit 3", LONG).await;
        assert_eq!(finished.code, Some(3));
        assert_eq!(
            (finished.stdout.as_slice(), finished.stderr.as_str()),
            (&b"out\n"[..], "bad\n")
        );
        assert!(!finished.succeeded() && !finished.timed_out);
    }

    #[tokio::test]
    async fn helm_sees_nothing_of_our_environment_and_nothing_on_its_input() {
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let (finished, _) = finish("env; cat", LONG).await;
        let said = String::from_utf8(finished.stdout).unwrap();
        let foreign: Vec<&str> = said
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, _)| name)
            .filter(|name| {
                !name.starts_with("HELM_")
                    && ![
                        "PATH",
                        "HOME",
                        "TMPDIR",
                        "KUBECONFIG",
                        "PWD",
                        "OLDPWD",
                        "SHLVL",
                        "_",
                    ]
                    .contains(name)
            })
            .collect();
        assert_eq!(foreign, Vec::<&str>::new());
    }

    #[tokio::test]
    async fn a_file_without_an_end_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let mut helm = helm(folder.path(), "yes >\"$1/large\"").await;
        helm.settings.file_limit = 1 << 20;
        let workspace = Workspace::new(&helm).unwrap();
        let arguments = [folder.path().as_os_str().to_owned()];
        let finished = run(&helm, &workspace, &arguments, LONG, LONG).await.unwrap();
        assert!(!finished.succeeded() && !finished.timed_out);
        assert_eq!(fs::metadata(folder.path().join("large")).unwrap().len(), 1 << 20);
    }

    #[tokio::test]
    async fn everything_that_helm_may_write_is_in_its_private_directory() {
        let script = r#"for place in "$HOME" "$TMPDIR" "$HELM_CACHE_HOME" "$HELM_CONFIG_HOME" "$HELM_DATA_HOME"; do
            case "$place" in "$PWD"*) touch "$place/probe" || exit 1 ;; *) exit 1 ;; esac
        done"#;
        let (finished, _) = finish(script, LONG).await;
        assert!(finished.succeeded(), "{finished:?}");
    }

    #[tokio::test]
    async fn what_helm_leaves_running_is_ended_with_it() {
        let (finished, folder) = finish("sleep 1000 >/dev/null 2>&1 & echo $! >\"$1/child\"", LONG).await;
        assert!(finished.succeeded());
        until(|| has_ended(&folder.path().join("child")));
    }

    #[tokio::test]
    async fn at_the_limit_helm_may_tidy_up_and_is_killed_if_it_does_not() {
        let script = "trap 'echo stopped >&2; exit 4' TERM; while :; do sleep 0.01; done";
        let (polite, _) = finish(script, Duration::from_secs(2)).await;
        assert!(polite.timed_out && polite.code == Some(4) && polite.stderr.contains("stopped"));
        let script = "trap '' TERM; echo $$ >\"$1/child\"; while :; do sleep 0.01; done";
        let (deaf, folder) = finish(script, Duration::from_secs(2)).await;
        assert!(deaf.timed_out && deaf.code.is_none());
        until(|| has_ended(&folder.path().join("child")));
    }

    #[tokio::test]
    async fn output_without_an_end_is_cut() {
        let (finished, _) = finish("yes", LONG).await;
        assert!(finished.overflowed && !finished.succeeded());
        assert_eq!(finished.stdout.len(), STDOUT_LIMIT);
    }

    #[tokio::test]
    async fn complaints_are_kept_from_their_end() {
        let (finished, _) = finish("yes complaint | head -c 3000000 >&2; echo last >&2; exit 1", LONG).await;
        assert!(finished.stderr.len() <= STDERR_LIMIT && finished.stderr.ends_with("last\n"));
        assert!(finished.stderr.starts_with("complaint\n"), "whole lines");
        let one_line = "yes long | head -c 3000000 | tr '\\n' ' ' >&2; exit 1";
        let (finished, _) = finish(one_line, LONG).await;
        assert_eq!(finished.stderr, "a line of more than 1024 KiB\n");
    }

    #[tokio::test]
    async fn who_gets_no_place_soon_has_begun_nothing_and_keeps_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut helm = helm(folder.path(), "echo done").await;
        helm.places = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
        let workspace = Workspace::new(&helm).unwrap();
        let short = Duration::from_millis(50);
        let taken = helm.places.acquire().await.unwrap();
        // Neither patience nor a long time makes it wait for longer than the other allows.
        for (patience, limit) in [(short, 400 * short), (400 * short, short)] {
            let start = Instant::now();
            let error = run(&helm, &workspace, &[], patience, limit).await.unwrap_err();
            assert!(start.elapsed() < 200 * short, "waited {:?}", start.elapsed());
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
            assert!(error.to_string().contains("places for Helm are taken"), "{error}");
        }
        drop(taken);
        assert!(run(&helm, &workspace, &[], LONG, LONG).await.unwrap().succeeded());
    }

    #[tokio::test]
    async fn a_place_that_is_kept_is_for_any_number_of_helms_of_one_and_for_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut helm = helm(folder.path(), "echo done").await;
        helm.places = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
        let workspace = Workspace::new(&helm).unwrap();
        let short = Duration::from_millis(50);
        let placed = helm.with_place(short).await.unwrap();
        for _ in 0..2 {
            assert!(
                run(&placed, &workspace, &[], short, LONG)
                    .await
                    .unwrap()
                    .succeeded()
            );
        }
        let error = run(&helm, &workspace, &[], short, LONG).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        let error = helm.with_place(short).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        drop(placed);
        assert!(
            run(&helm, &workspace, &[], short, LONG)
                .await
                .unwrap()
                .succeeded()
        );
    }

    #[tokio::test]
    async fn giving_up_the_wait_ends_helm() {
        let folder = tempfile::tempdir().unwrap();
        let helm = helm(folder.path(), "echo $$ >\"$1/child\"; sleep 1000").await;
        let workspace = Workspace::new(&helm).unwrap();
        let arguments = [folder.path().as_os_str().to_owned()];
        let begun = async {
            while !fs::read_to_string(folder.path().join("child")).is_ok_and(|id| id.ends_with('\n')) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            finished = run(&helm, &workspace, &arguments, LONG, LONG) => panic!("ended by itself: {finished:?}"),
            () = begun => {}
        }
        until(|| has_ended(&folder.path().join("child")));
    }
}
