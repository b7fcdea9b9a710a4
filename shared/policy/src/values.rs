//! Keys in chart values that would lift a pod out of its confinement.

use std::fmt;

use serde_json::Value;

/// The keys that may not be true, at any depth.
pub const BLOCKED_KEYS: [&str; 4] = ["hostNetwork", "hostPID", "hostIPC", "privileged"];

/// A blocked key that is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedValue {
    /// Where, below the values: `containers[0].securityContext.privileged`.
    pub path: String,
    /// Which of the [`BLOCKED_KEYS`].
    pub key: String,
}

impl fmt::Display for BlockedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blocked security key in Helm values: {}", self.path)
    }
}

/// Every blocked key in `values` that is true or a text that YAML 1.1 or 1.2 reads as true, since a chart's
/// template may write the text without quotes.
///
/// A text that still holds an expression is not read as true: check again after rendering.
pub fn check_values(values: &Value) -> Vec<BlockedValue> {
    let mut found = Vec::new();
    walk(values, &mut String::new(), &mut found);
    found
}

fn walk(value: &Value, path: &mut String, found: &mut Vec<BlockedValue>) {
    let length = path.len();
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                walk(item, path, found);
                path.truncate(length);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                push_key(path, key);
                if BLOCKED_KEYS.contains(&key.as_str()) && is_true(member) {
                    found.push(BlockedValue {
                        path: path.clone(),
                        key: key.clone(),
                    });
                }
                walk(member, path, found);
                path.truncate(length);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn push_key(path: &mut String, key: &str) {
    if key.is_empty() || key.contains(['.', '[', ']', '"']) {
        path.push_str(&format!("[\"{}\"]", key.escape_debug()));
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => *truth,
        Value::String(text) => reads_as_true(text),
        _ => false,
    }
}

/// Whether YAML reads `text` as true once a template has written it: white space, a comment behind it and a tag
/// before it change nothing.
fn reads_as_true(text: &str) -> bool {
    let text = text.trim_start();
    let text = ["!!bool", "!<tag:yaml.org,2002:bool>"]
        .iter()
        .find_map(|tag| text.strip_prefix(tag))
        .unwrap_or(text)
        .trim_start();
    let word = text.split_whitespace().next().unwrap_or_default();
    let rest = text[word.len()..].trim_start();
    (rest.is_empty() || rest.starts_with('#') || text[word.len()..].starts_with(['\n', '\r']))
        && ["true", "yes", "on", "y"]
            .iter()
            .any(|truth| word.eq_ignore_ascii_case(truth))
}
