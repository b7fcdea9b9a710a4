//! Files and values that people write.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;
use slipway_model::JsonMap;

pub(crate) use slipway_dag::bundled_catalog;

use crate::{arguments::ChangeArguments, failure::Failure};

/// Reads a file of at most `limit` bytes in JSON or YAML.
pub(crate) fn read(file: &Path, limit: usize) -> Result<Value, Failure> {
    let shown = file.display();
    let bytes =
        fs::read(file).map_err(|error| Failure::misuse(format!("{shown} cannot be read: {error}")))?;
    let text = String::from_utf8(bytes)
        .map_err(|error| Failure::misuse(format!("{shown} is not UTF-8 text: {error}")))?;
    slipway_dag::parse(&text, limit)
        .map_err(|error| Failure::misuse(format!("{shown} is not YAML or JSON: {error}")))
}

/// A value on the command line, typed as YAML types a plain scalar: `4` is a number, `true` a boolean, `"4"` text.
/// What is no scalar there is text.
pub(crate) fn scalar(text: &str) -> Value {
    match slipway_dag::parse(text, slipway_dag::MAX_TEMPLATE_BYTES) {
        Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => value,
        Ok(Value::Null) if !text.is_empty() => Value::Null,
        _ => Value::String(text.to_owned()),
    }
}

/// Parameters on the command line; a later one replaces an earlier one.
pub(crate) fn parameters(pairs: &[(String, String)]) -> JsonMap {
    pairs
        .iter()
        .map(|(key, value)| (key.clone(), scalar(value)))
        .collect()
}

/// Chart values per component, from `--values`.
pub(crate) fn values(change: &ChangeArguments) -> Result<BTreeMap<String, JsonMap>, Failure> {
    let Some(file) = &change.values else {
        return Ok(BTreeMap::new());
    };
    match read(file, slipway_dag::MAX_TEMPLATE_BYTES)? {
        Value::Null => Ok(BTreeMap::new()),
        Value::Object(components) => components
            .into_iter()
            .map(|(component, values)| match values {
                Value::Object(values) => Ok((component, values)),
                _ => Err(not_values(file, &format!("'{component}' does not hold a map"))),
            })
            .collect(),
        _ => Err(not_values(file, "it is not a map")),
    }
}

fn not_values(file: &Path, why: &str) -> Failure {
    Failure::misuse(format!(
        "{} does not hold values per component: {why}",
        file.display()
    ))
    .next("write {component: {value: …}}, such as agent_runtime: {replicas: 2}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_typed_as_yaml_types_them() {
        assert_eq!(scalar("4"), json!(4));
        assert_eq!(scalar("1.5"), json!(1.5));
        assert_eq!(scalar("true"), json!(true));
        assert_eq!(scalar("\"4\""), json!("4"));
        assert_eq!(scalar("yes"), json!("yes"));
        assert_eq!(scalar("null"), json!(null));
        assert_eq!(scalar(""), json!(""));
        assert_eq!(scalar("a: b"), json!("a: b"));
        assert_eq!(scalar("[1, 2]"), json!("[1, 2]"));
        assert_eq!(scalar("{broken"), json!("{broken"));
        assert_eq!(scalar("https://x.example/y"), json!("https://x.example/y"));
    }

    #[test]
    fn the_bundled_catalog_is_valid() {
        assert!(bundled_catalog().entry("qdrant").is_some());
    }
}
