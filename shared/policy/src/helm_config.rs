//! The configuration of a Helm job, as callers write it.

use serde_json::{Map, Value};

use crate::chart_ref::ChartRef;
use crate::constraint::check_constraint;
use crate::names::{Namespace, ReleaseName};
use crate::timeout::parse_timeout;
use crate::values::check_values;

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Where, below the configuration: `values.containers[0].privileged`; empty for the whole.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// How far the configuration is known when it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigCheck {
    /// Everything is rendered, and every field has to be right as it stands.
    Rendered,
    /// A text with an expression in it (`{{`) is left for later.
    Literal,
}

const FIELDS: [&str; 16] = [
    "chart_ref",
    "chart_version",
    "release_name",
    "namespace",
    "values",
    "timeout",
    "wait",
    "create_namespace",
    "delete_on_failure",
    "operation",
    "revision",
    "adopt",
    "crds",
    "immutable",
    "outputs",
    "health_checks",
];

/// The fields of a health check.
const HEALTH_CHECK: [&str; 5] = ["api_version", "kind", "current", "in_progress", "failed"];

/// Most health checks of one release.
const MAX_HEALTH_CHECKS: usize = 32;

/// Most bytes of an expression of a health check.
const MAX_HEALTH_EXPRESSION: usize = 2048;

/// Everything that is wrong with a Helm job's `config`, all at once; empty if nothing is. A field that is `null`
/// counts as absent. Which hosts charts may come from is for [`HostPolicy`](crate::HostPolicy) to say.
pub fn validate_helm_config(config: &Value, check: ConfigCheck) -> Vec<FieldError> {
    let Value::Object(config) = config else {
        return vec![FieldError {
            path: String::new(),
            message: "the configuration must be an object".to_owned(),
        }];
    };
    let mut checker = Checker {
        config,
        check,
        errors: Vec::new(),
    };
    checker.run();
    checker.errors
}

struct Checker<'c> {
    config: &'c Map<String, Value>,
    check: ConfigCheck,
    errors: Vec<FieldError>,
}

impl<'c> Checker<'c> {
    fn run(&mut self) {
        for key in self.config.keys().filter(|key| !FIELDS.contains(&key.as_str())) {
            self.error(key, format!("unknown field; there are {}", FIELDS.join(", ")));
        }
        self.choice("operation", &["deploy", "uninstall", "rollback", "test"]);
        self.chart();
        self.text("chart_version", |version| match version {
            "" => Ok(()),
            version => check_constraint(version).map_err(|error| error.to_string()),
        });
        self.text("release_name", |name| {
            ReleaseName::parse(name)
                .map(drop)
                .map_err(|error| error.to_string())
        });
        self.text("namespace", |name| {
            Namespace::parse(name)
                .map(drop)
                .map_err(|error| error.to_string())
        });
        self.values();
        if let Some(timeout) = self.field("timeout")
            && let Err(error) = parse_timeout(timeout)
        {
            self.error("timeout", error.to_string());
        }
        for field in ["wait", "create_namespace", "delete_on_failure", "adopt"] {
            if self.field(field).is_some_and(|value| !value.is_boolean()) {
                self.error(field, format!("{field} must be true or false"));
            }
        }
        let revision = self.field("revision");
        if revision.is_some_and(|value| {
            value
                .as_u64()
                .is_none_or(|number| number == 0 || number > u32::MAX.into())
        }) {
            self.error("revision", "revision must be a positive integer".to_owned());
        }
        self.choice("crds", &["skip", "create", "apply"]);
        self.choice("immutable", &["stop", "recreate"]);
        if self.field("outputs").is_some_and(|value| !value.is_object()) {
            self.error(
                "outputs",
                "outputs must be an object of extractors by name".to_owned(),
            );
        }
        self.health_checks();
    }

    /// Their form; what the expressions say is for whoever evaluates them.
    fn health_checks(&mut self) {
        let Some(checks) = self.field("health_checks") else {
            return;
        };
        let Value::Array(checks) = checks else {
            let message = "health_checks must be a list of {api_version, kind, current, in_progress, failed}";
            return self.error("health_checks", message.to_owned());
        };
        if checks.len() > MAX_HEALTH_CHECKS {
            let message = format!(
                "there are {} health_checks; at most {MAX_HEALTH_CHECKS} are allowed",
                checks.len()
            );
            return self.error("health_checks", message);
        }
        for (index, check) in checks.iter().enumerate() {
            let place = format!("health_checks[{index}]");
            let Value::Object(check) = check else {
                self.error(&place, "a health check must be an object".to_owned());
                continue;
            };
            for key in check.keys().filter(|key| !HEALTH_CHECK.contains(&key.as_str())) {
                let message = format!("unknown field; there are {}", HEALTH_CHECK.join(", "));
                self.error(&format!("{place}.{key}"), message);
            }
            for field in HEALTH_CHECK {
                let place = format!("{place}.{field}");
                match check.get(field) {
                    Some(Value::String(text)) if text.trim().is_empty() => {
                        self.error(&place, format!("{field} must not be empty"));
                    }
                    Some(Value::String(text)) if text.len() > MAX_HEALTH_EXPRESSION => {
                        let message = format!(
                            "{field} has {} bytes; at most {MAX_HEALTH_EXPRESSION} are allowed",
                            text.len()
                        );
                        self.error(&place, message);
                    }
                    Some(Value::String(_)) => {}
                    None | Some(Value::Null) if ["in_progress", "failed"].contains(&field) => {}
                    None | Some(Value::Null) => self.error(&place, format!("{field} is required")),
                    Some(_) => self.error(&place, format!("{field} must be a text")),
                }
            }
        }
    }

    fn chart(&mut self) {
        let deploys = self.config.get("operation").is_none_or(|operation| {
            operation.is_null() || operation.as_str().is_some_and(|operation| operation == "deploy")
        });
        match self.config.get("chart_ref") {
            None | Some(Value::Null) if deploys => {
                self.error("chart_ref", "chart_ref is required".to_owned());
            }
            Some(Value::String(reference)) if reference.is_empty() && deploys => {
                self.error("chart_ref", "chart_ref is required".to_owned());
            }
            Some(Value::String(reference)) if reference.is_empty() => {}
            _ => self.text("chart_ref", |reference| {
                ChartRef::parse(reference)
                    .map(drop)
                    .map_err(|error| error.to_string())
            }),
        }
    }

    fn values(&mut self) {
        // Also before expressions are evaluated: a job renders what stands in its values, each text for itself.
        match self.config.get("values") {
            None | Some(Value::Null) => {}
            Some(values @ Value::Object(_)) => {
                for blocked in check_values(values) {
                    let below = if blocked.path.starts_with('[') { "" } else { "." };
                    self.error(&format!("values{below}{}", blocked.path), blocked.to_string());
                }
            }
            Some(_) => self.error(
                "values",
                "values must be an object, in which expressions may stand: {\"key\": \"{{ parameters.key }}\"}"
                    .to_owned(),
            ),
        }
    }

    fn text(&mut self, field: &str, check: impl FnOnce(&str) -> Result<(), String>) {
        match self.field(field) {
            None => {}
            Some(Value::String(text)) => {
                if let Err(message) = check(text) {
                    self.error(field, message);
                }
            }
            Some(_) => self.error(field, format!("{field} must be a text")),
        }
    }

    fn choice(&mut self, field: &str, choices: &[&str]) {
        if self
            .field(field)
            .is_some_and(|value| !value.as_str().is_some_and(|value| choices.contains(&value)))
        {
            self.error(field, format!("{field} must be one of {}", choices.join(", ")));
        }
    }

    /// The field's value, unless it is absent or left for later.
    fn field(&self, field: &str) -> Option<&'c Value> {
        self.config.get(field).filter(|value| match value {
            Value::Null => false,
            Value::String(text) => self.check == ConfigCheck::Rendered || !text.contains("{{"),
            _ => true,
        })
    }

    fn error(&mut self, path: &str, message: String) {
        self.errors.push(FieldError {
            path: path.to_owned(),
            message,
        });
    }
}
