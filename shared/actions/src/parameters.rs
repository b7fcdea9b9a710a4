//! Parameters against what an action declares.

use serde_json::Value;
use slipway_model::{ActionMetadata, FieldError, JsonMap};

/// Whether a string holds an expression, so that its type is known only when it is rendered.
fn is_open(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("{{"))
}

fn matches(value: &Value, parameter_type: &str) -> bool {
    match parameter_type {
        "string" | "cluster_ref" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "duration" => value.is_u64() || value.is_string(),
        _ => true,
    }
}

/// Missing, mistyped and unknown parameters.
pub fn check_against(metadata: &ActionMetadata, params: &JsonMap) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for definition in metadata.params {
        match params.get(definition.name) {
            None | Some(Value::Null) if definition.required => {
                errors.push(FieldError::new(
                    definition.name,
                    format!("{} is required", definition.name),
                ));
            }
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() && definition.required => {
                errors.push(FieldError::new(
                    definition.name,
                    format!("{} is required", definition.name),
                ));
            }
            Some(value) if is_open(value) || matches(value, definition.parameter_type) => {}
            Some(_) => errors.push(FieldError::new(
                definition.name,
                format!(
                    "{} must be of type {}",
                    definition.name, definition.parameter_type
                ),
            )),
        }
    }
    for name in params.keys() {
        if !metadata.params.iter().any(|definition| definition.name == name) {
            let known: Vec<&str> = metadata.params.iter().map(|definition| definition.name).collect();
            errors.push(FieldError::new(
                name,
                format!(
                    "'{}' has no parameter '{name}'; it takes {}",
                    metadata.action_type,
                    known.join(", ")
                ),
            ));
        }
    }
    errors
}
