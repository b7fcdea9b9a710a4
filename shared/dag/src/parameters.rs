//! Parameters of a deployment against their definitions.

use std::{collections::BTreeMap, fmt};

use regex::{Regex, RegexBuilder};
use serde_json::Value;
use slipway_expr::Path;
use slipway_model::{FieldError, JsonMap, Parameter, ParameterType, Template};

use crate::{faults::Faults, shape::found, suggest::suggest};

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
    let mut faults = Faults::default();
    let mut checked = Checked {
        parameters: JsonMap::new(),
        secrets: BTreeMap::new(),
    };
    for name in given.keys() {
        if !template.parameters.contains_key(name) && !faults.is_full() {
            let hint = suggest(name, template.parameters.keys().map(String::as_str));
            faults.add(place(name), format!("there is no such parameter; {hint}"));
        }
    }
    for (name, definition) in &template.parameters {
        let value = given
            .get(name)
            .filter(|value| !value.is_null())
            .or(definition.default.as_ref());
        let Some(value) = value else {
            if definition.required {
                faults.add(place(name), format!("is required; give {}", describe(definition)));
            }
            continue;
        };
        if let Some(message) = Measure::of(definition).fault(value) {
            faults.add(place(name), message);
        } else if definition.secret {
            if let Value::String(text) = value {
                checked.secrets.insert(name.clone(), text.clone());
            }
        } else {
            checked.parameters.insert(name.clone(), value.clone());
        }
    }
    faults.or(checked)
}

fn place(name: &str) -> String {
    Path::of("parameters").key(name).to_string()
}

/// A definition, ready to measure any number of values.
pub(crate) struct Measure<'d> {
    definition: &'d Parameter,
    pattern: Option<Regex>,
}

impl<'d> Measure<'d> {
    /// A pattern that cannot be read fits everything; saving the template reports it.
    pub(crate) fn of(definition: &'d Parameter) -> Self {
        let pattern = definition.pattern.as_deref().map(compile_pattern);
        Self {
            definition,
            pattern: pattern.and_then(Result::ok),
        }
    }

    /// Why `value` does not fit.
    pub(crate) fn fault(&self, value: &Value) -> Option<String> {
        let definition = self.definition;
        if self.fits(value) {
            return None;
        }
        let found = if definition.secret {
            "something else".to_owned()
        } else {
            found(value)
        };
        Some(format!("expected {}, found {found}", describe(definition)))
    }

    fn fits(&self, value: &Value) -> bool {
        let definition = self.definition;
        let size = match (definition.parameter_type, value) {
            (ParameterType::String, Value::String(text)) => {
                if self
                    .pattern
                    .as_ref()
                    .is_some_and(|pattern| !pattern.is_match(text))
                {
                    return false;
                }
                Some(text.chars().count() as f64)
            }
            (ParameterType::Integer, Value::Number(number)) if number.is_i64() || number.is_u64() => {
                number.as_f64()
            }
            (ParameterType::Number, Value::Number(number)) => number.as_f64(),
            (ParameterType::Boolean, Value::Bool(_)) => None,
            _ => return false,
        };
        let within = size.is_none_or(|size| {
            definition.min.is_none_or(|min| size >= min) && definition.max.is_none_or(|max| size <= max)
        });
        within
            && definition
                .allowed
                .as_ref()
                .is_none_or(|allowed| allowed.contains(value))
    }
}

/// More values than that help nobody.
const MOST_LISTED: usize = 20;

/// What would be right.
fn describe(definition: &Parameter) -> String {
    if let Some(allowed) = &definition.allowed {
        let mut words: Vec<String> = allowed
            .iter()
            .take(MOST_LISTED)
            .map(ToString::to_string)
            .collect();
        if allowed.len() > MOST_LISTED {
            words.push("…".to_owned());
        }
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
    let build = |text: &str| RegexBuilder::new(text).size_limit(1 << 18).build();
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
