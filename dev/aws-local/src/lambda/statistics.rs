//! What a function has done so far.

use std::time::Duration;

use serde_json::{Value, json};

use super::Outcome;

#[derive(Debug, Default)]
pub(super) struct Statistics {
    invocations: u64,
    errors: u64,
    timeouts: u64,
    /// From the start of each process to its first request for an event.
    inits: Vec<Duration>,
    /// The most memory that any process of it has had at once, in kilobytes.
    peak_memory: u64,
    last_error: Option<String>,
}

impl Statistics {
    pub(super) fn started(&mut self, took: Duration) {
        self.inits.push(took);
    }

    pub(super) fn used(&mut self, kilobytes: Option<u64>) {
        self.peak_memory = self.peak_memory.max(kilobytes.unwrap_or(0));
    }

    pub(super) fn ended(&mut self, outcome: &Outcome) {
        self.invocations += 1;
        if let Outcome::Failed { kind, message } = outcome {
            self.errors += 1;
            self.timeouts += u64::from(kind == super::sandbox::TIMED_OUT);
            self.last_error = Some(format!("{kind}: {message}"));
        }
    }

    pub(super) fn report(&self, function: &str, idle: usize, busy: usize) -> Value {
        let mut inits: Vec<_> = self
            .inits
            .iter()
            .map(|took| took.as_secs_f64() * 1000.0)
            .collect();
        inits.sort_by(f64::total_cmp);
        json!({
            "function": function,
            "idle": idle,
            "busy": busy,
            "invocations": self.invocations,
            "errors": self.errors,
            "timeouts": self.timeouts,
            "inits": inits.len(),
            "init_median_ms": inits.get(inits.len() / 2),
            "init_max_ms": inits.last(),
            "peak_memory_kib": self.peak_memory,
            "last_error": self.last_error,
        })
    }
}
