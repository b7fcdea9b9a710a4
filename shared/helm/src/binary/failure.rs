//! What Helm's complaints mean: a sentence for people, and whether a repeat can help.

use serde_json::Value;
use slipway_model::JsonMap;
use slipway_ports::{Failure, FailureClass, Hidden, TargetError};

use super::{Finished, quoted::without_long_values};

/// Longest message that is passed on, in bytes.
const LONGEST: usize = 16 << 10;

/// What is said when something is on its way out that the release comes to, or on its way in; the API server calls it
/// forbidden.
const PASSING: &[&str] = &[
    "is being terminated",
    "object is being deleted",
    "not yet ready to handle request",
    "serviceaccount \"default\" not found",
];

/// What is said when the chart, its values or the rights were the reason, whatever else is quoted with it.
const PERMANENT: &[&str] = &[
    "values don't meet the specifications of the schema",
    "execution error at (",
    "parse error at (",
    "yaml parse error",
    "no matches for kind",
    "invalid ownership metadata",
    "apply failed with",
    "denied the request",
    "is forbidden",
    "is invalid:",
];

/// What is said when the cluster or the network, not the chart, was the reason.
const TRANSIENT: &[&str] = &[
    "connection refused",
    "connection reset",
    "broken pipe",
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
    "\": eof",
    "http2: server sent goaway",
    "request did not complete within",
    "context deadline exceeded",
    // Somebody else's SIGTERM, as when the machine goes down: ours is the time limit's, and told before.
    "context canceled",
    "timed out waiting for the condition",
    "too many requests",
    "client rate limiter",
    "the server is currently unable to handle the request",
    "service unavailable",
    "internal error occurred",
    "etcdserver:",
    "the server was unable to return a response in the time allotted",
    "operation cannot be fulfilled",
    "another operation (install/upgrade/rollback) is in progress",
    "no space left on device",
    "failed calling webhook",
    NOT_DELETED,
];

/// All that Helm says when it could not delete an object of a release, or not find out what one is: not why.
pub(crate) const NOT_DELETED: &str = "failed to delete release";

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
    texts: Hidden,
}

impl Redactor {
    /// Knows every text that stands under a key that sounds like a secret.
    pub(crate) fn of_values(values: &JsonMap) -> Self {
        let mut redactor = Self::default();
        for (key, value) in values {
            redactor.learn(value, sounds_secret(key));
        }
        redactor
    }

    fn learn(&mut self, value: &Value, secret: bool) {
        match value {
            Value::String(text) if secret && text.len() >= 4 => self.texts.learn(text),
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
        self.texts.hide(text)
    }
}

fn sounds_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SECRET_KEYS.iter().any(|word| key.contains(word))
}

/// The failure of an invocation that did not succeed. `doing` names operation and object, as in
/// `helm upgrade of ns/release`.
pub(crate) fn to_error(finished: &Finished, doing: &str, redactor: &Redactor) -> TargetError {
    let said = sentence(&redactor.clean(&finished.stderr));
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
    let class = class_of(&said);
    let hint = advice(&said)
        .map(|advice| format!("; {advice}"))
        .unwrap_or_default();
    TargetError(Failure {
        class,
        message: format!("{doing} failed: {said}{hint}"),
    })
}

/// Whether a repeat can help. Helm itself waits for nothing here, so what it calls a time-out is a request's.
fn class_of(said: &str) -> FailureClass {
    let lower = said.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    // Two writers began the same revision: this one was later.
    let is_second = lower.contains("sh.helm.release.v1.") && lower.contains("already exists");
    if is_second || is_passing(&lower) || (has(TRANSIENT) && !has(PERMANENT)) {
        FailureClass::Transient
    } else {
        FailureClass::Permanent
    }
}

/// Whether the API server says no only for now, in words that begin like a refusal for good.
pub(crate) fn is_passing(said: &str) -> bool {
    let lower = said.to_lowercase();
    PASSING.iter().any(|word| lower.contains(word))
}

/// What somebody can do about it, where Helm does not say.
fn advice(said: &str) -> Option<String> {
    if let Some((object, rest)) = said.split_once(" exists and cannot be imported into the current release") {
        let value = |key: &str| {
            let (_, rest) = rest.split_once(key)?;
            let (_, value) = rest.split_once("current value is \"")?;
            value.split_once('"').map(|(value, _)| value)
        };
        let object = object.rsplit_once(": ").map_or(object, |(_, object)| object);
        let owner = match (
            value("key \"meta.helm.sh/release-name\" must equal"),
            value("key \"meta.helm.sh/release-namespace\" must equal"),
        ) {
            (Some(name), Some(namespace)) => format!("belongs to release {namespace}/{name}"),
            (Some(name), None) => format!("belongs to release '{name}' of the same namespace"),
            (None, Some(namespace)) => format!("belongs to a release of that name in namespace {namespace}"),
            (None, None) => "was not made by Helm".to_owned(),
        };
        return Some(format!(
            "{object} {owner}: set adopt: true to take it over, or give one of the two another name"
        ));
    }
    if said.contains("Apply failed with") {
        return Some(
            "these fields were set by somebody else: set adopt: true to take them over, or leave them out"
                .to_owned(),
        );
    }
    None
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
    shorten(&without_long_values(&lines.join(" ")))
}

fn shorten(text: &str) -> String {
    // What no terminal shows says nothing, and is not repeated a thousand times.
    let text: String = text
        .chars()
        .filter(|c| !c.is_control() || c.is_whitespace())
        .collect();
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

    /// In the words that Helm 4.2.3 puts around those of the API server.
    #[test]
    fn what_cannot_be_shown_is_left_out() {
        let noise = "\0".repeat(100_000);
        assert_eq!(sentence(&format!("{noise}Error: it broke\n")), "Error: it broke");
    }

    #[test]
    fn only_failures_outside_the_chart_are_worth_a_repeat() {
        let class =
            |said: &str| to_error(&failed(&format!("Error: {said}")), "helm", &Redactor::default()).class();
        for said in [
            "kubernetes cluster unreachable: Get \"https://10.0.0.1\": dial tcp: i/o timeout",
            "kubernetes cluster unreachable: Get \"http://127.0.0.1:1/version\": dial tcp 127.0.0.1:1: connect: connection refused",
            "kubernetes cluster unreachable: the server has received too many requests and has asked us to try again later",
            "could not get apiVersions from Kubernetes: could not get apiVersions from Kubernetes: the server is currently unable to handle the request",
            "UPGRADE FAILED: update: failed to update: Operation cannot be fulfilled on secrets \"sh.helm.release.v1.r.v1\": the object has been modified; please apply your changes to the latest version and try again",
            "UPGRADE FAILED: conflict occurred while applying object a/web apps/v1, Kind=Deployment: Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified",
            "UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress",
            "UPGRADE FAILED: create: failed to create: secrets \"sh.helm.release.v1.app.v2\" already exists",
            "create: failed to create: secrets \"sh.helm.release.v1.app.v1\" is forbidden: unable to create new content in namespace x because it is being terminated",
            "server-side apply failed for object a/b /v1, Kind=ConfigMap: Timeout: request did not complete within requested timeout - context deadline exceeded",
            "server-side apply failed for object a/b /v1, Kind=Pod: Internal error occurred: failed calling webhook \"x\": connection refused",
            "Get \"https://10.0.0.1/api/v1/namespaces/x/secrets\": EOF",
            "UPGRADE FAILED: context canceled",
            "context canceled",
            "failed to delete release: app",
            "Get \"https://10.0.0.1/version\": write tcp 10.0.0.2:5000->10.0.0.1:443: write: broken pipe",
            "could not get information about the resource: namespaces \"x\" is forbidden: not yet ready to handle request",
            "server-side apply failed for object a/b /v1, Kind=Pod: pods \"b\" is forbidden: error looking up service account a/default: serviceaccount \"default\" not found",
        ] {
            assert_eq!(class(said), FailureClass::Transient, "{said}");
        }
        for said in [
            "server-side apply failed for object a/b /v1, Kind=Pod: pods \"b\" is forbidden: error looking up service account a/c: serviceaccount \"c\" not found",
            "namespaces is forbidden: User \"x\" cannot list resource \"namespaces\"",
            "server-side apply failed for object a/b /v1, Kind=Pod: pods \"b\" is forbidden: exceeded quota: q",
            "server-side apply failed for object a/b /v1, Kind=Pod: admission webhook \"x.example\" denied the request: connection refused is no reason",
            "values don't meet the specifications of the schema(s) in the following chart(s): c: - at '/a': got string, want integer",
            "unable to build kubernetes objects from release manifest: resource mapping not found for name: \"a\" namespace: \"\" from \"\": no matches for kind \"Nope\" in version \"nope/v1\" ensure CRDs are installed first",
            "server-side apply failed for object a/B_d /v1, Kind=Pod: Pod \"B_d\" is invalid: spec.containers[0].image: Required value",
            "UPGRADE FAILED: conflict occurred while applying object a/web apps/v1, Kind=Deployment: Apply failed with 1 conflict: conflict with \"kubectl-edit\" using apps/v1: .spec.replicas",
            "UPGRADE FAILED: execution error at (c/templates/a.yaml:1:4): the database says: connection refused",
            "kubernetes cluster unreachable: the server has asked for the client to provide credentials",
        ] {
            assert_eq!(class(said), FailureClass::Permanent, "{said}");
        }
    }

    #[test]
    fn objects_of_others_are_named_with_their_owner() {
        let told = |said: &str| {
            to_error(
                &failed(&format!("Error: {said}")),
                "helm upgrade of a/q",
                &Redactor::default(),
            )
            .to_string()
        };
        let other = told(
            "unable to continue with install: ConfigMap \"a\" in namespace \"x\" exists and cannot be imported into the current release: invalid ownership metadata; annotation validation error: key \"meta.helm.sh/release-name\" must equal \"q\": current value is \"r\"",
        );
        assert!(
            other.ends_with("; ConfigMap \"a\" in namespace \"x\" belongs to release 'r' of the same namespace: set adopt: true to take it over, or give one of the two another name"),
            "{other}"
        );
        let nobody = told(
            "unable to continue with install: ConfigMap \"a\" in namespace \"x\" exists and cannot be imported into the current release: invalid ownership metadata; label validation error: missing key \"app.kubernetes.io/managed-by\": must be set to \"Helm\"; annotation validation error: missing key \"meta.helm.sh/release-name\": must be set to \"q\"",
        );
        assert!(nobody.contains("was not made by Helm: set adopt"), "{nobody}");
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
