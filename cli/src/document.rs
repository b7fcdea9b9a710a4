//! Files and values that people write.

use std::{collections::BTreeMap, fs, io, path::Path};

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
/// Everything else is text, as it stands: a password may begin with `#` or `&`, and a key has several lines.
pub(crate) fn scalar(text: &str) -> Value {
    match slipway_dag::parse(text, slipway_dag::MAX_TEMPLATE_BYTES) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) if !text.contains(['#', '&', '!', '\n']) => value,
        Ok(value @ Value::String(_)) if text.starts_with(['"', '\'']) => value,
        _ if matches!(text, "null" | "~") => Value::Null,
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

/// The parameters of a change: those on the command line, and those that stand in files.
pub(crate) fn changed_parameters(change: &ChangeArguments) -> Result<JsonMap, Failure> {
    let mut found = parameters(&change.set);
    if change.set_file.iter().filter(|(_, file)| file == "-").count() > 1 {
        return Err(
            Failure::misuse("--set-file: standard input can be one parameter only")
                .next("give the others as files"),
        );
    }
    for (key, file) in &change.set_file {
        let (shown, read) = match file.as_str() {
            "-" => ("standard input", io::read_to_string(io::stdin())),
            file => (file, fs::read_to_string(file)),
        };
        let text =
            read.map_err(|error| Failure::misuse(format!("{shown} cannot be read as text: {error}")))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        found.insert(key.clone(), Value::String(text.to_owned()));
    }
    Ok(found)
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
        let key = "-----BEGIN KEY-----\nabc\n-----END KEY-----";
        for text in [
            "abc #123", "#abc", "&abc", "&a bc", "---", "|", "4 # four", "!!str 4", "\"a\" b", key,
        ] {
            assert_eq!(scalar(text), json!(text));
        }
    }

    #[test]
    fn parameters_in_files_are_texts_as_they_stand() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "#4\nb\r\n").unwrap();
        let file = file.to_str().unwrap().to_owned();
        let mut change = ChangeArguments {
            set: vec![("size".to_owned(), "4".to_owned())],
            set_file: vec![("password".to_owned(), file)],
            values: None,
            select: Vec::new(),
        };
        let found = Value::Object(changed_parameters(&change).unwrap());
        assert_eq!(found, json!({"size": 4, "password": "#4\nb"}));
        for refused in [&["/nowhere"][..], &["-", "-"]] {
            let named = refused.iter().map(|file| ("a".to_owned(), (*file).to_owned()));
            change.set_file = named.collect();
            assert!(changed_parameters(&change).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn the_bundled_catalog_is_valid() {
        assert!(bundled_catalog().entry("qdrant").is_some());
    }
}
