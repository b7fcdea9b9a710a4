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

const FIELDS: [&str; 15] = [
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
];

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
        match self.field("values") {
            None => {}
            Some(values @ Value::Object(_)) => {
                for blocked in check_values(values) {
                    let below = if blocked.path.starts_with('[') { "" } else { "." };
                    self.error(&format!("values{below}{}", blocked.path), blocked.to_string());
                }
            }
            Some(_) => self.error("values", "values must be an object".to_owned()),
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
