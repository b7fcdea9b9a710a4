//! Server-sent events, followed as a browser follows them.

use std::fmt;
use std::io::BufRead;
use std::time::Duration;

use serde_json::Value;
use xtask::wait;

use crate::Client;

/// How long the next event may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stream of events. Where an answer ends, as those of functions must, the next one goes on after the last event.
pub struct EventStream {
    client: Client,
    path: String,
    last: Option<String>,
    answer: Box<dyn BufRead>,
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("path", &self.path)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl EventStream {
    pub(crate) fn open(client: Client, path: String, last: Option<String>) -> Self {
        let answer = Box::new(client.open_stream(&path, last.as_deref()));
        Self {
            client,
            path,
            last,
            answer,
        }
    }

    /// The next event, as (id, data).
    ///
    /// # Panics
    /// When none comes in time.
    #[track_caller]
    pub fn next_event(&mut self) -> (String, Value) {
        let event = wait::until(PATIENCE, "the next event", || {
            let found = self.read();
            if found.is_none() {
                self.answer = Box::new(self.client.open_stream(&self.path, self.last.as_deref()));
            }
            Ok(found)
        });
        let (id, data) = event.unwrap();
        self.last = Some(id.clone());
        (id, data)
    }

    /// The next event of this answer; nothing when it ended.
    fn read(&mut self) -> Option<(String, Value)> {
        let (mut id, mut data) = (String::new(), Value::Null);
        loop {
            let mut line = String::new();
            if self.answer.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            let line = line.trim_end();
            if let Some(value) = line.strip_prefix("id:") {
                value.trim().clone_into(&mut id);
            } else if let Some(value) = line.strip_prefix("data:") {
                data = serde_json::from_str(value).unwrap();
            } else if line.is_empty() && !data.is_null() {
                return Some((id, data));
            }
        }
    }
}
