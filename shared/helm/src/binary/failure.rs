//! What Helm's complaints mean: a sentence for people, and whether a repeat can help.

use serde_json::Value;
use slipway_model::JsonMap;
use slipway_ports::{Failure, FailureClass, TargetError};

use super::Finished;

/// Longest message that is passed on, in bytes.
const LONGEST: usize = 3 << 10;

/// What is said when the cluster or the network, not the chart, was the reason.
const TRANSIENT: &[&str] = &[
    "connection refused",
    "connection reset",
    "connection timed out",
    "no route to host",
    "network is unreachable",
    "no such host",
    "server misbehaving",
    "temporary failure in name resolution",
    "i/o timeout",
    "tls handshake timeout",
    "client.timeout exceeded",
    "client connection lost",
    "unexpected eof",
    "too many requests",
    "client rate limiter",
    "the server is currently unable to handle the request",
    "service unavailable",
    "internal error occurred",
    "etcdserver:",
    "the server was unable to return a response in the time allotted",
    "operation cannot be fulfilled",
    "another operation (install/upgrade/rollback) is in progress",
    "is being terminated",
    "object is being deleted",
    "failed calling webhook",
];

/// What is said when Helm's own limit for a hook or a test passed.
const TIMED_OUT: &[&str] = &["context deadline exceeded", "timed out waiting for the condition"];

/// Keys of values whose texts are kept out of messages.
const SECRET_KEYS: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "credential",
    "privatekey",
    "private_key",
];

/// Texts that must not appear in messages.
#[derive(Default)]
pub(crate) struct Redactor {
    texts: Vec<String>,
}

impl Redactor {
    /// Knows every text that stands under a key that sounds like a secret.
    pub(crate) fn of_values(values: &JsonMap) -> Self {
        let mut redactor = Self::default();
        for (key, value) in values {
            redactor.learn(value, sounds_secret(key));
        }
        // Longer ones first, so that one that contains another goes as a whole.
        redactor.texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        redactor
    }

    fn learn(&mut self, value: &Value, secret: bool) {
        match value {
            Value::String(text) if secret && text.len() >= 4 => self.texts.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| self.learn(item, secret)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    self.learn(value, secret || sounds_secret(key));
                }
            }
            _ => {}
        }
    }

    /// The text without what must not appear in it.
    pub(crate) fn clean(&self, text: &str) -> String {
        self.texts.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), "(hidden)")
        })
    }
}

fn sounds_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SECRET_KEYS.iter().any(|word| key.contains(word))
}

/// The failure of an invocation that did not succeed. `doing` names operation and object, as in
/// `helm upgrade of ns/release`.
pub(crate) fn to_error(finished: &Finished, doing: &str, redactor: &Redactor) -> TargetError {
    let said = redactor.clean(&sentence(&finished.stderr));
    if finished.timed_out {
        let said = if said.is_empty() {
            said
        } else {
            format!("; it said last: {said}")
        };
        return TargetError(Failure {
            class: FailureClass::TimedOut,
            message: format!("{doing} was stopped at its time limit{said}"),
        });
    }
    if finished.overflowed {
        return TargetError::permanent(format!(
            "{doing} wrote more than 32 MiB: the chart renders too much; split it into several"
        ));
    }
    let lower = finished.stderr.to_lowercase();
    if lower.contains("out of memory") || lower.contains("cannot allocate memory") {
        return TargetError::permanent(format!(
            "{doing} ran out of memory: a template of the chart asks for more than Helm may take"
        ));
    }
    let Some(code) = finished.code else {
        return TargetError::transient(format!("{doing} was killed before it finished"));
    };
    let said = if said.is_empty() {
        format!("exit code {code} without a word")
    } else {
        said
    };
    let message = format!("{doing} failed: {said}");
    let lower = said.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let class = if has(TRANSIENT) {
        FailureClass::Transient
    } else if has(TIMED_OUT) {
        FailureClass::TimedOut
    } else {
        FailureClass::Permanent
    };
    TargetError(Failure { class, message })
}

/// What follows the last `Error:` of Helm's complaints, on one line and no longer than is of use.
pub(crate) fn sentence(stderr: &str) -> String {
    let start = stderr
        .rmatch_indices("Error: ")
        .find(|(at, _)| *at == 0 || stderr.as_bytes().get(at - 1) == Some(&b'\n'))
        .map(|(at, found)| at + found.len());
    let text = match start {
        Some(start) => stderr.get(start..).unwrap_or_default(),
        // Helm ends with a panic or a log line then: its last lines have to do.
        None => {
            let lines: Vec<&str> = stderr
                .lines()
                .filter(|line| !line.contains("level=WARN"))
                .collect();
            return shorten(&lines[lines.len().saturating_sub(3)..].join(" "));
        }
    };
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("level=") && !line.starts_with("time="))
        .collect();
    shorten(&lines.join(" "))
}

fn shorten(text: &str) -> String {
    let text = text.trim();
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut short = text[..end].to_owned();
    if end < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn failed(stderr: &str) -> Finished {
        Finished {
            code: Some(1),
            stdout: Vec::new(),
            overflowed: false,
            stderr: stderr.to_owned(),
            timed_out: false,
        }
    }

    #[test]
    fn the_sentence_is_what_follows_the_last_error() {
        let said = "level=WARN msg=\"something\"\nError: UPGRADE FAILED: values don't meet the specifications of the schema(s):\nc:\n- at '/replicas': got string, want integer\n";
        assert_eq!(
            sentence(said),
            "UPGRADE FAILED: values don't meet the specifications of the schema(s): c: - at '/replicas': got string, want integer"
        );
    }

    #[test]
    fn only_failures_outside_the_chart_are_worth_a_repeat() {
        let class =
            |stderr: &str| to_error(&failed(stderr), "helm upgrade of a/b", &Redactor::default()).class();
        assert_eq!(
            class("Error: kubernetes cluster unreachable: Get \"https://10.0.0.1\": dial tcp: i/o timeout"),
            FailureClass::Transient
        );
        assert_eq!(
            class("Error: UPGRADE FAILED: Operation cannot be fulfilled on secrets"),
            FailureClass::Transient
        );
        assert_eq!(
            class(
                "Error: INSTALLATION FAILED: failed post-install: 1 error occurred: context deadline exceeded"
            ),
            FailureClass::TimedOut
        );
        assert_eq!(class("Error: namespaces is forbidden"), FailureClass::Permanent);
    }

    #[test]
    fn what_stands_under_a_secret_key_is_not_repeated() {
        let values = json!({"db": {"adminPassword": "hunter22", "name": "orders"}, "tokens": ["abcd1234"]});
        let redactor = Redactor::of_values(values.as_object().unwrap());
        let error = to_error(
            &failed("Error: Invalid value: \"hunter22\" of orders with abcd1234"),
            "helm upgrade of a/b",
            &redactor,
        );
        assert_eq!(
            error.to_string(),
            "helm upgrade of a/b failed: Invalid value: \"(hidden)\" of orders with (hidden)"
        );
    }

    #[test]
    fn memory_and_time_have_their_own_words() {
        let memory = to_error(
            &failed("fatal error: runtime: out of memory\n"),
            "x",
            &Redactor::default(),
        );
        assert!(memory.to_string().contains("out of memory") && memory.class() == FailureClass::Permanent);
        let mut late = failed("");
        late.timed_out = true;
        assert_eq!(
            to_error(&late, "x", &Redactor::default()).class(),
            FailureClass::TimedOut
        );
    }
}
