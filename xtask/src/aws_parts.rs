//! The parts that stand in for AWS: DynamoDB Local, ElasticMQ (SQS) and moto (SNS, STS, Secrets Manager, EKS, S3, KMS).
//!
//! Each keeps everything in memory and listens on a free loopback port. [`dynamodb`], [`elasticmq`] and [`moto`] give
//! one that is shared by the whole process; callers that need their own start an [`AwsPart`]. None of them checks
//! credentials, and each accepts any region.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::net::free_ports;
use crate::run::last_lines;
use crate::tools::{DYNAMODB, ELASTICMQ, MOTO, Part};
use crate::wait;

/// How long a part may take until it answers. A Java program on a busy machine needs seconds.
const READY: Duration = Duration::from_secs(60);

/// Logs of processes that nobody looked at for this long are removed.
const KEEP_LOGS: Duration = Duration::from_secs(24 * 60 * 60);

/// The account that everything seems to belong to; ElasticMQ knows no other.
const ACCOUNT: &str = "000000000000";

/// Runs a command until it ends or standard input does: so it goes away with the process that holds the other end of
/// that pipe, however that one ends.
const GUARD: &str = r#"exec 3<&0
"$@" 3<&- </dev/null &
child=$!
(read -r _ <&3; kill -9 "$child") 2>/dev/null &
watcher=$!
exec 3<&-
wait "$child"
status=$?
kill "$watcher" 2>/dev/null
exit "$status""#;

/// Which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// DynamoDB Local.
    DynamoDb,
    /// ElasticMQ, for SQS.
    ElasticMq,
    /// moto, for the other services.
    Moto,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::DynamoDb, Self::ElasticMq, Self::Moto];

    /// The environment variable that names the endpoint of one that already runs.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::DynamoDb => "SLIPWAY_TEST_DYNAMODB",
            Self::ElasticMq => "SLIPWAY_TEST_ELASTICMQ",
            Self::Moto => "SLIPWAY_TEST_MOTO",
        }
    }

    /// The part that it is made of.
    pub(crate) fn part(self) -> &'static Part {
        match self {
            Self::DynamoDb => &DYNAMODB,
            Self::ElasticMq => &ELASTICMQ,
            Self::Moto => &MOTO,
        }
    }

    /// The command that runs it on a port of the loopback interface, after setting it up when that is needed.
    pub(crate) fn command(self, port: u16) -> Result<Command> {
        // Asking for a file of it sets it up.
        let part = self.part().file("")?;
        let mut command = self.program(&part, port);
        // A machine's own AWS settings have no business here.
        command
            .env_remove("AWS_PROFILE")
            .env("AWS_ACCESS_KEY_ID", "local")
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .env("MOTO_ACCOUNT_ID", ACCOUNT);
        Ok(command)
    }

    fn program(self, part: &Path, port: u16) -> Command {
        match self {
            Self::DynamoDb => {
                let mut java = java(part);
                java.arg(format!("-Djava.library.path={}", part.join("lib").display()))
                    .arg("Loopback")
                    .args(["-inMemory", "-sharedDb", "-disableTelemetry", "-port"])
                    .arg(port.to_string());
                java
            }
            Self::ElasticMq => {
                let mut java = java(part);
                // Queue addresses are made from `node-address`, and its default port is not this one.
                for (setting, value) in [
                    ("node-address.host", "127.0.0.1".to_owned()),
                    ("node-address.port", port.to_string()),
                    ("rest-sqs.bind-hostname", "127.0.0.1".to_owned()),
                    ("rest-sqs.bind-port", port.to_string()),
                    ("rest-stats.enabled", "false".to_owned()),
                    ("generate-node-address", "false".to_owned()),
                ] {
                    java.arg(format!("-D{setting}={value}"));
                }
                java.arg("org.elasticmq.server.Main");
                java
            }
            Self::Moto => {
                let mut moto = Command::new(part.join("bin/moto_server"));
                moto.args(["-H", "127.0.0.1", "-p"]).arg(port.to_string());
                moto
            }
        }
    }
}

/// A Java program whose libraries lie in `lib`, tuned to start fast rather than to run long.
fn java(part: &Path) -> Command {
    let mut java = Command::new("java");
    java.args([
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-Xshare:auto",
        "-Xmx1g",
        "-cp",
    ])
    .arg(format!("{0}:{0}/lib/*", part.display()));
    java
}

/// A running part, empty at first. It ends when this value is dropped, or with this process.
#[derive(Debug)]
pub struct AwsPart {
    port: u16,
    guard: Child,
}

impl AwsPart {
    /// Starts one and waits until it answers, after setting it up when that is needed.
    ///
    /// # Errors
    /// When it cannot be set up, or does not answer in time: with the end of its log.
    pub fn start(kind: Kind) -> Result<Self> {
        let [port] = free_ports()?;
        Self::start_on(kind, port)
    }

    /// Starts one on a given port of the loopback interface.
    ///
    /// # Errors
    /// As [`AwsPart::start`].
    pub fn start_on(kind: Kind, port: u16) -> Result<Self> {
        let mut parts = [Self::spawn(kind, port)?];
        wait_for(&mut parts)?;
        let [(part, _, _)] = parts;
        Ok(part)
    }

    /// Starts one of each kind, all at once, in the order of [`Kind::ALL`].
    ///
    /// # Errors
    /// As [`AwsPart::start`].
    pub fn start_all() -> Result<[Self; 3]> {
        let [one, two, three] = free_ports()?;
        let [first, second, third] = Kind::ALL;
        let mut parts = [
            Self::spawn(first, one)?,
            Self::spawn(second, two)?,
            Self::spawn(third, three)?,
        ];
        wait_for(&mut parts)?;
        Ok(parts.map(|(part, _, _)| part))
    }

    /// Where it answers: `http://127.0.0.1:40123`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn spawn(kind: Kind, port: u16) -> Result<(Self, Kind, PathBuf)> {
        let command = kind.command(port)?;
        let log_file = log_file(kind, port)?;
        let log = File::create(&log_file).with_context(|| format!("cannot write {}", log_file.display()))?;
        let mut guard = Command::new("sh");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => guard.env(name, value),
                None => guard.env_remove(name),
            };
        }
        let guard = guard
            .args(["-c", GUARD, "guard"])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", kind.part().name))?;
        Ok((Self { port, guard }, kind, log_file))
    }
}

impl Drop for AwsPart {
    fn drop(&mut self) {
        // Closing the pipe makes the guard end the part; it holds nothing worth a graceful end.
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

fn wait_for(parts: &mut [(AwsPart, Kind, PathBuf)]) -> Result<()> {
    for (part, kind, log) in parts {
        let name = kind.part().name;
        let tail = |log: &Path| last_lines(&fs::read_to_string(log).unwrap_or_default(), 20);
        wait::until(READY, &format!("the first answer of {name}"), || {
            if let Some(status) = part.guard.try_wait()? {
                bail!(
                    "{name} ended with {status}; the end of its log {}:\n{}",
                    log.display(),
                    tail(log)
                );
            }
            Ok(answers(part.port).then_some(()))
        })
        .with_context(|| format!("{name} does not start; its log is {}", log.display()))?;
    }
    Ok(())
}

/// Whether an HTTP server on this loopback port answers a request, whatever it says.
pub(crate) fn answers(port: u16) -> bool {
    let ask = || -> io::Result<bool> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        let mut start = [0; 5];
        stream.read_exact(&mut start)?;
        Ok(&start == b"HTTP/")
    };
    ask().unwrap_or(false)
}

/// One log per part and port that it had.
fn log_file(kind: Kind, port: u16) -> Result<PathBuf> {
    let folder = cache::root()?.join("aws-parts");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        let age = entry
            .metadata()
            .and_then(|data| data.modified())
            .map(|time| time.elapsed());
        if matches!(age, Ok(Ok(age)) if age > KEEP_LOGS) {
            // Another process may have removed it first.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(folder.join(format!("{}-{port}.log", kind.part().name)))
}

/// The parts that this process has started and shares. They are never dropped: the guard of each notices the end of
/// the process.
static SHARED: Mutex<Vec<(Kind, AwsPart)>> = Mutex::new(Vec::new());

fn shared(kind: Kind) -> Result<String> {
    if let Some(endpoint) = std::env::var(kind.variable())
        .ok()
        .filter(|value| !value.is_empty())
    {
        return Ok(endpoint);
    }
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, part)) = shared.iter().find(|(started, _)| *started == kind) {
        return Ok(part.endpoint());
    }
    let part = AwsPart::start(kind)?;
    let endpoint = part.endpoint();
    shared.push((kind, part));
    Ok(endpoint)
}

/// The endpoint of a DynamoDB Local: the one in `SLIPWAY_TEST_DYNAMODB`, else one that this process shares.
///
/// # Errors
/// As [`AwsPart::start`].
pub fn dynamodb() -> Result<String> {
    shared(Kind::DynamoDb)
}

/// The endpoint of an ElasticMQ: the one in `SLIPWAY_TEST_ELASTICMQ`, else one that this process shares. Queues are
/// made by the caller, whose names must not clash with those of other tests.
///
/// # Errors
/// As [`AwsPart::start`].
pub fn elasticmq() -> Result<String> {
    shared(Kind::ElasticMq)
}

/// The endpoint of a moto: the one in `SLIPWAY_TEST_MOTO`, else one that this process shares.
///
/// # Errors
/// As [`AwsPart::start`].
pub fn moto() -> Result<String> {
    shared(Kind::Moto)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded(script: &str) -> Child {
        Command::new("sh")
            .args(["-c", GUARD, "guard", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    #[test]
    fn what_is_guarded_ends_when_the_pipe_closes() {
        let mut guard = guarded("echo $$; exec sleep 600");
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(guard.stdout.as_mut().unwrap()), &mut line).unwrap();
        let process = PathBuf::from(format!("/proc/{}", line.trim()));
        assert!(process.exists());
        drop(guard.stdin.take());
        guard.wait().unwrap();
        assert!(!process.exists());
    }

    #[test]
    fn the_guard_ends_with_what_it_guards_and_with_its_status() {
        let mut guard = guarded("exit 7");
        // Waiting for a child closes the pipe first.
        let _open = guard.stdin.take();
        assert_eq!(guard.wait().unwrap().code(), Some(7));
    }
}
