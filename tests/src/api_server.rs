//! The development cluster's API server behind a proxy that can be told to fail, for whoever gets its kubeconfig.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use xtask::wait;

use crate::Kubernetes;

/// Longest head of a request that is read.
const LONGEST_HEAD: u64 = 64 << 10;

/// What happens to requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Nobody is there: connections end before an answer, those that are open too.
    Down,
    /// This status, with these seconds of `Retry-After` if there are any.
    Answers(u16, Option<u32>),
    /// The answer comes late.
    Late(Duration),
    /// The request takes effect, and the connection ends before its answer.
    Cuts,
    /// Only writes of release records get this status.
    RefusesRecords(u16),
}

/// The proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct ApiServer {
    front: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// `kubectl proxy`, which speaks TLS and knows the token.
    behind: Child,
}

#[derive(Debug)]
struct Shared {
    behind: SocketAddr,
    ending: AtomicBool,
    fault: Mutex<(Fault, u32)>,
    open: Mutex<Vec<TcpStream>>,
}

impl ApiServer {
    /// Starts one without a fault.
    ///
    /// # Panics
    /// When kubectl does not start, or loopback has no free port.
    #[must_use]
    pub fn start(kubernetes: &Kubernetes) -> Self {
        let mut behind = kubernetes
            .kubectl_command()
            .args(["proxy", "--port=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        // It says where it is, or ends.
        BufReader::new(behind.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().rsplit(' ').next().unwrap_or_default().parse();
        let Ok(address) = address else {
            let _ = behind.kill();
            let _ = behind.wait();
            panic!("kubectl proxy says '{line}' instead of where it is");
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let front = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            behind: address,
            ending: AtomicBool::new(false),
            fault: Mutex::new((Fault::None, 0)),
            open: Mutex::new(Vec::new()),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if own.ending.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let own = Arc::clone(&own);
                std::thread::spawn(move || {
                    // A caller that is gone needs no answer.
                    let _ = own.serve(&stream);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self {
            front,
            shared,
            thread: Some(thread),
            behind,
        }
    }

    /// A kubeconfig that leads here.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        let server = format!("http://{}", self.front);
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "faulty",
            "clusters": [{"name": "faulty", "cluster": {"server": server}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "faulty", "context": {"cluster": "faulty", "user": "nobody"}}],
        })
        .to_string()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        self.front.to_string()
    }

    /// From now on requests fail like that. Returns how many met the fault before.
    ///
    /// # Panics
    /// Never.
    pub fn fails(&self, fault: Fault) -> u32 {
        let before = std::mem::replace(&mut *self.shared.fault.lock().unwrap(), (fault, 0));
        if fault == Fault::Down {
            for stream in self.shared.open.lock().unwrap().drain(..) {
                // It may have ended by itself.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        before.1
    }

    /// How many requests met the fault that is set.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn met(&self) -> u32 {
        self.shared.fault.lock().unwrap().1
    }
}

impl Shared {
    /// One request of one connection.
    fn serve(&self, client: &TcpStream) -> Result<()> {
        let mut reader = BufReader::new(client);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let before = head.len();
            (&mut reader).take(LONGEST_HEAD).read_until(b'\n', &mut head)?;
            if head.len() == before || head.len() as u64 > LONGEST_HEAD {
                bail!("no whole head");
            }
        }
        let head = String::from_utf8(head).context("a head that is no text")?;
        let fault = self.meets(&head);
        match fault {
            Fault::Down => return Ok(()),
            Fault::Answers(status, retry_after) => return answer(client, status, retry_after),
            Fault::RefusesRecords(status) => return answer(client, status, None),
            Fault::Late(time) => wait::pause(time),
            Fault::None | Fault::Cuts => {}
        }
        let behind = TcpStream::connect(self.behind)?;
        (&behind).write_all(alone(&head, self.behind).as_bytes())?;
        (&behind).write_all(reader.buffer())?;
        self.open.lock().unwrap().push(client.try_clone()?);
        let (up_from, up_to) = (client.try_clone()?, behind.try_clone()?);
        std::thread::spawn(move || {
            // Ends with either side.
            let _ = std::io::copy(&mut &up_from, &mut &up_to);
        });
        if fault == Fault::Cuts {
            // One byte of an answer proves that the request took effect.
            let _ = (&behind).read(&mut [0])?;
        } else {
            let _ = copy(&behind, client);
        }
        let _ = behind.shutdown(Shutdown::Both);
        Ok(())
    }

    /// The fault for a request.
    fn meets(&self, head: &str) -> Fault {
        let mut set = self.fault.lock().unwrap();
        let is_meant = match set.0 {
            Fault::None => false,
            Fault::RefusesRecords(_) => head.starts_with("POST ") && head.contains("/secrets"),
            _ => true,
        };
        if !is_meant {
            return Fault::None;
        }
        set.1 += 1;
        set.0
    }
}

/// Passes on what comes as it comes.
fn copy(mut from: &TcpStream, mut to: &TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The head of a request that is the only one of its connection.
fn alone(head: &str, behind: SocketAddr) -> String {
    let mut lines: Vec<&str> = head
        .trim_end()
        .split("\r\n")
        .filter(|line| {
            let name = line.split(':').next().unwrap_or_default().to_lowercase();
            name != "connection" && name != "host"
        })
        .collect();
    let host = format!("Host: {behind}");
    lines.extend([host.as_str(), "Connection: close", "", ""]);
    lines.join("\r\n")
}

/// An answer as the API server gives it.
fn answer(mut client: &TcpStream, status: u16, retry_after: Option<u32>) -> Result<()> {
    let (reason, message) = match status {
        403 => ("Forbidden", "the proxy forbids this"),
        429 => ("TooManyRequests", "the proxy is busy, try again later"),
        _ => ("InternalError", "the proxy is broken"),
    };
    let mut body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status,
    });
    let mut more = String::new();
    if let Some(seconds) = retry_after {
        body["details"] = json!({"retryAfterSeconds": seconds});
        more = format!("Retry-After: {seconds}\r\n");
    }
    let body = body.to_string();
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n{body}"
    )?;
    Ok(())
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.front);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = self.behind.kill();
        let _ = self.behind.wait();
    }
}
