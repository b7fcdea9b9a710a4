//! A receiver of webhooks on loopback.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Largest body that is read.
const LARGEST: u64 = 1 << 20;

/// Takes HTTP calls, remembers them, and answers as it was told.
#[derive(Debug)]
pub struct Receiver {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ending: AtomicBool,
    received: Mutex<Vec<Received>>,
    /// Statuses of the next answers; 200 when there is none left.
    statuses: Mutex<Vec<u16>>,
}

/// A call that came in.
#[derive(Debug, Clone)]
pub struct Received {
    /// Such as `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, lower-case names.
    pub headers: BTreeMap<String, String>,
    /// The body: JSON if it is, else text.
    pub body: Value,
}

impl Received {
    /// The `Idempotency-Key` header.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn key(&self) -> &str {
        self.headers
            .get("idempotency-key")
            .expect("every call has an idempotency key")
    }
}

impl Receiver {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When loopback has no free port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if own.ending.load(Ordering::SeqCst) {
                    return;
                }
                // A caller that was killed in the middle of its call has made none.
                let _ = stream
                    .context("no connection")
                    .and_then(|stream| own.take(&stream));
            }
        });
        Self {
            port,
            shared,
            thread: Some(thread),
        }
    }

    /// Its address with a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Host and port.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The next calls are answered with these statuses, then 200 again.
    ///
    /// # Panics
    /// Never.
    pub fn answer_with(&self, statuses: &[u16]) {
        let mut next = statuses.to_vec();
        next.reverse();
        *self.shared.statuses.lock().unwrap() = next;
    }

    /// Every call so far whose path is this one, oldest first.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn received(&self, path: &str) -> Vec<Received> {
        let received = self.shared.received.lock().unwrap();
        received
            .iter()
            .filter(|call| call.path == path)
            .cloned()
            .collect()
    }
}

impl Shared {
    fn take(&self, stream: &TcpStream) -> Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let method = words.next().context("no method")?.to_owned();
        let path = words.next().context("no path")?.to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
        let length: u64 = headers.get("content-length").map_or(Ok(0), |text| text.parse())?;
        let mut body = Vec::new();
        reader.take(length.min(LARGEST)).read_to_end(&mut body)?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let status = self.statuses.lock().unwrap().pop().unwrap_or(200);
        self.received.lock().unwrap().push(Received {
            method,
            path,
            headers,
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        });
        let answer = r#"{"heard":true,"number":7}"#;
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status} Answer\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
            answer.len()
        )?;
        Ok(())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        // Wakes the thread, which waits for a connection.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
