//! Parameters of a deployment against their definitions.

use std::{collections::BTreeMap, fmt};

use regex::{Regex, RegexBuilder};
use serde_json::Value;
use slipway_expr::Path;
use slipway_model::{FieldError, JsonMap, Parameter, ParameterType, Template};

use crate::{shape::found, suggest::suggest};

/// Parameters that fit their definitions.
#[derive(Clone, PartialEq)]
pub struct Checked {
    /// What is not secret, defaults filled in.
    pub parameters: JsonMap,
    /// The secret ones with their values: for the secrets store, and for nothing else.
    pub secrets: BTreeMap<String, String>,
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked")
            .field("parameters", &self.parameters)
            .field("secrets", &self.secrets.keys())
            .finish()
    }
}

/// Checks what a deployment sets against the template's definitions and fills in defaults. A parameter that is
/// `null` counts as not given.
///
/// # Errors
/// Everything that is wrong, at `parameters.NAME`: unknown names, types, limits, what is missing. No message holds
/// the value of a secret parameter.
pub fn check(template: &Template, given: &JsonMap) -> Result<Checked, Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut checked = Checked {
        parameters: JsonMap::new(),
        secrets: BTreeMap::new(),
    };
    for name in given.keys() {
        if !template.parameters.contains_key(name) {
            let hint = suggest(name, template.parameters.keys().map(String::as_str));
            errors.push(FieldError::new(
                place(name),
                format!("there is no such parameter; {hint}"),
            ));
        }
    }
    for (name, definition) in &template.parameters {
        let value = given
            .get(name)
            .filter(|value| !value.is_null())
            .or(definition.default.as_ref());
        let Some(value) = value else {
            if definition.required {
                errors.push(FieldError::new(
                    place(name),
                    format!("is required; give {}", describe(definition)),
                ));
            }
            continue;
        };
        if let Some(message) = fault(definition, value) {
            errors.push(FieldError::new(place(name), message));
        } else if definition.secret {
            if let Value::String(text) = value {
                checked.secrets.insert(name.clone(), text.clone());
            }
        } else {
            checked.parameters.insert(name.clone(), value.clone());
        }
    }
    if errors.is_empty() {
        Ok(checked)
    } else {
        Err(errors)
    }
}

fn place(name: &str) -> String {
    Path::of("parameters").key(name).to_string()
}

/// Why `value` does not fit.
pub(crate) fn fault(definition: &Parameter, value: &Value) -> Option<String> {
    let shown = || {
        if definition.secret {
            "something else".to_owned()
        } else {
            found(value)
        }
    };
    let of_type = match definition.parameter_type {
        ParameterType::String => value.is_string(),
        ParameterType::Integer => value.is_i64() || value.is_u64(),
        ParameterType::Number => value.is_number(),
        ParameterType::Boolean => value.is_boolean(),
    };
    if !of_type {
        return Some(format!("expected {}, found {}", describe(definition), shown()));
    }
    let size = match value {
        Value::String(text) => Some(text.chars().count() as f64),
        other => other.as_f64(),
    };
    if let Some(size) = size
        && (definition.min.is_some_and(|min| size < min) || definition.max.is_some_and(|max| size > max))
    {
        return Some(format!("expected {}, found {}", describe(definition), shown()));
    }
    if let (Some(pattern), Value::String(text)) = (&definition.pattern, value)
        && let Ok(pattern) = compile_pattern(pattern)
        && !pattern.is_match(text)
    {
        return Some(format!("expected {}, found {}", describe(definition), shown()));
    }
    if let Some(allowed) = &definition.allowed
        && !allowed.contains(value)
    {
        return Some(format!("expected {}, found {}", describe(definition), shown()));
    }
    None
}

/// What would be right.
fn describe(definition: &Parameter) -> String {
    if let Some(allowed) = &definition.allowed {
        let words: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        return format!("one of {}", words.join(", "));
    }
    let (what, unit) = match definition.parameter_type {
        ParameterType::String => ("a text", " characters"),
        ParameterType::Integer => ("a whole number", ""),
        ParameterType::Number => ("a number", ""),
        ParameterType::Boolean => ("true or false", ""),
    };
    let limits = match (definition.min, definition.max) {
        (Some(min), Some(max)) => format!(" from {min} to {max}{unit}"),
        (Some(min), None) => format!(" of at least {min}{unit}"),
        (None, Some(max)) => format!(" of at most {max}{unit}"),
        (None, None) => String::new(),
    };
    let pattern = definition
        .pattern
        .as_ref()
        .map(|pattern| format!(" that matches {pattern}"))
        .unwrap_or_default();
    format!("{what}{limits}{pattern}")
}

/// The pattern, which must match the whole text.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    // On its own first, so that a stray bracket cannot join with the anchors around it.
    let build = |text: &str| RegexBuilder::new(text).size_limit(1 << 20).build();
    build(pattern)
        .and_then(|_| build(&format!(r"\A(?:{pattern})\z")))
        .map_err(|error| {
            let reason = error.to_string();
            let reason = reason
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            format!("is not a regular expression: {reason}")
        })
}
