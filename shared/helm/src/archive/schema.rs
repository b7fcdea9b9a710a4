//! References in values schemas: Helm would fetch those that lead elsewhere.

use serde_json::Value;

use super::ArchiveError;

/// Keywords whose value is a reference.
const REFERENCES: &[&str] = &["$ref", "$dynamicRef", "$recursiveRef", "$schema"];

/// The meta schemas that Helm's validator has built in.
const META_SCHEMAS: &[&str] = &["http://json-schema.org/", "https://json-schema.org/"];

/// Refuses a schema with a reference that does not begin with `#`, wherever it stands.
pub(super) fn refuse_remote_references(path: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
    let schema: Value = serde_json::from_slice(bytes)
        .map_err(|error| ArchiveError::NotAChart(format!("its {path} is not valid JSON: {error}")))?;
    match remote_reference(&schema) {
        Some(reference) => Err(ArchiveError::RemoteSchema {
            path: path.to_owned(),
            reference: reference.chars().take(200).collect(),
        }),
        None => Ok(()),
    }
}

fn remote_reference(schema: &Value) -> Option<&str> {
    match schema {
        Value::Array(items) => items.iter().find_map(remote_reference),
        Value::Object(fields) => fields.iter().find_map(|(key, value)| match value {
            Value::String(text) if REFERENCES.contains(&key.as_str()) => {
                let local = text.starts_with('#')
                    || (key == "$schema" && META_SCHEMAS.iter().any(|known| text.starts_with(known)));
                (!local).then_some(text.as_str())
            }
            value => remote_reference(value),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &str) -> Result<(), ArchiveError> {
        refuse_remote_references("values.schema.json", schema.as_bytes())
    }

    #[test]
    fn only_references_into_the_schema_itself_pass() {
        let local = r##"{"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": {"a": {}},
            "properties": {"$ref": {"type": "string"}, "b": {"$ref": "#/$defs/a"}}}"##;
        check(local).unwrap();
        for remote in [
            r#"{"allOf": [{"$ref": "https://example.com/a.json"}]}"#,
            r#"{"items": {"$ref": "file:///etc/passwd"}}"#,
            r#"{"$ref": "other.json#/a"}"#,
            r#"{"$schema": "https://example.com/meta.json"}"#,
            r#"{"$dynamicRef": "https://example.com/a"}"#,
        ] {
            assert!(
                matches!(check(remote), Err(ArchiveError::RemoteSchema { .. })),
                "{remote}"
            );
        }
    }
}
