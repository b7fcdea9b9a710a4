//! Limits of documents, before anything looks closer.

use serde_json::Value;

use crate::parse::MAX_DEPTH;

/// The longest key of an object, in bytes: places are printed with their keys.
const MAX_KEY: usize = 1024;

/// What is too large in `value`.
pub(crate) fn excess(value: &Value) -> Option<String> {
    find(value, MAX_DEPTH)
}

fn find(value: &Value, depth: usize) -> Option<String> {
    if depth == 0 && (value.is_array() || value.is_object()) {
        return Some(format!("lists and maps nest more than {MAX_DEPTH} deep"));
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| find(item, depth - 1)),
        Value::Object(members) => members.iter().find_map(|(key, member)| {
            if key.len() > MAX_KEY {
                let length = key.len();
                return Some(format!(
                    "a key is {length} bytes long; at most {MAX_KEY} are allowed"
                ));
            }
            find(member, depth - 1)
        }),
        _ => None,
    }
}
