//! Whether steps use actions as these say they are used.

use serde_json::Value;
use slipway_expr::holds_expression;
use slipway_model::{ActionMetadata, Dag, DagStep, FieldError, JsonMap};
use slipway_policy::{ConfigCheck, parse_timeout, validate_helm_config};

use crate::{
    faults::{Faults, below},
    shape::found,
    suggest::{shown, suggest},
};

/// The actions that there are.
///
/// An action that lists no parameters takes any; if it lists no outputs either, its parameters are its outputs, as
/// `pass` does.
pub trait ActionCatalog {
    /// What the action of that name says of itself.
    fn action(&self, name: &str) -> Option<&ActionMetadata>;

    /// All names, in the order of lists.
    fn names(&self) -> Vec<&str>;

    /// What the action itself has against parameters as far as they are literal, each at the parameter's name;
    /// `None` if only what it says of its parameters is to be checked.
    fn faults(&self, _name: &str, _params: &JsonMap) -> Option<Vec<FieldError>> {
        None
    }

    /// Whether secrets are resolved in that parameter of the action; elsewhere reading one is refused.
    fn resolves_secrets(&self, _name: &str, _parameter: &str) -> bool {
        true
    }
}

impl ActionCatalog for [ActionMetadata] {
    fn action(&self, name: &str) -> Option<&ActionMetadata> {
        self.iter().find(|action| action.action_type == name)
    }

    fn names(&self) -> Vec<&str> {
        self.iter().map(|action| action.action_type).collect()
    }
}

impl ActionCatalog for [&ActionMetadata] {
    fn action(&self, name: &str) -> Option<&ActionMetadata> {
        self.iter().copied().find(|action| action.action_type == name)
    }

    fn names(&self) -> Vec<&str> {
        self.iter().map(|action| action.action_type).collect()
    }
}

/// Actions, parameters, and configurations of Helm jobs as far as they are literal.
pub(super) fn check(dag: &Dag, actions: &(impl ActionCatalog + ?Sized), faults: &mut Faults) {
    for (index, step) in dag.steps.iter().enumerate() {
        if faults.is_full() {
            return;
        }
        match actions.action(&step.action) {
            Some(action) => match actions.faults(&step.action, &step.params) {
                Some(errors) => {
                    for error in errors {
                        faults.add(
                            below(format!("steps[{index}].params"), &error.path),
                            error.message,
                        );
                    }
                }
                None => check_params(index, step, action, faults),
            },
            None => {
                let hint = suggest(&step.action, actions.names());
                faults.add(
                    format!("steps[{index}].action"),
                    format!("there is no action '{}'; {hint}", shown(&step.action)),
                );
            }
        }
        let makes_jobs = actions
            .action(&step.action)
            .is_some_and(|action| action.required_services.contains(&"jobs"));
        // Without a timeout of its own, the release is given as long as the step.
        let is_timeout = makes_jobs && step.params.get("timeout").is_none_or(Value::is_null);
        if is_timeout
            && step
                .timeout_seconds
                .is_some_and(|seconds| seconds > LONGEST_TIMEOUT)
        {
            faults.add(
                format!("steps[{index}].timeout_seconds"),
                format!(
                    "must be at most {LONGEST_TIMEOUT} for {} without a timeout, because a release may take no longer",
                    step.action
                ),
            );
        }
        for (path, message) in policy_errors(step) {
            let place = format!("steps[{index}].params.{path}");
            if !faults.has(&place) {
                faults.add(place, message);
            }
        }
    }
}

fn check_params(index: usize, step: &DagStep, action: &ActionMetadata, faults: &mut Faults) {
    for definition in action.params {
        let place = || format!("steps[{index}].params.{}", definition.name);
        match step.params.get(definition.name) {
            None | Some(Value::Null) if definition.required => faults.add(
                place(),
                format!("{} is required: {}", definition.name, definition.description),
            ),
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() && definition.required => {
                faults.add(place(), format!("{} is required and is empty", definition.name));
            }
            Some(value) => {
                if let Some(expected) = mismatch(value, definition.parameter_type) {
                    faults.add(place(), format!("expected {expected}, found {}", found(value)));
                }
            }
        }
    }
    if action.params.is_empty() {
        return;
    }
    for key in step.params.keys() {
        if !action.params.iter().any(|definition| definition.name == key) {
            let hint = suggest(key, action.params.iter().map(|definition| definition.name));
            faults.add(
                format!("steps[{index}].params.{key}"),
                format!("{} has no such parameter; {hint}", step.action),
            );
        }
    }
}

/// What would be right, if `value` cannot be of that type.
fn mismatch(value: &Value, parameter_type: &str) -> Option<&'static str> {
    let is_later = value.as_str().is_some_and(holds_expression);
    let (right, expected) = match parameter_type {
        "string" => (value.is_string(), "a text"),
        "cluster_ref" => (value.is_string(), "a cluster's name or id as text"),
        "integer" => (value.is_i64() || value.is_u64(), "a whole number"),
        "number" => (value.is_number(), "a number"),
        "duration" => (
            parse_timeout(value).is_ok(),
            "a number of seconds, or text such as 600s or 10m, of at most a day",
        ),
        "boolean" => (value.is_boolean(), "true or false"),
        "array" => (value.is_array(), "a list"),
        "object" => (value.is_object(), "an object"),
        _ => (true, "a value"),
    };
    (!right && !is_later).then_some(expected)
}

/// The longest that a release may take to become ready, in seconds.
const LONGEST_TIMEOUT: u64 = 86_400;

/// The parameters that a `helm_deploy` step hands to its job's configuration.
const CONFIG: [&str; 12] = [
    "chart_ref",
    "chart_version",
    "release_name",
    "namespace",
    "values",
    "timeout",
    "wait",
    "create_namespace",
    "delete_on_failure",
    "crds",
    "immutable",
    "adopt",
];

/// What policy has against the literal parameters of a step that deploys.
fn policy_errors(step: &DagStep) -> Vec<(String, String)> {
    let only = |names: &[&str]| -> JsonMap {
        step.params
            .iter()
            .filter(|(name, _)| names.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    match step.action.as_str() {
        "helm_deploy" => validate_helm_config(&only(&CONFIG).into(), ConfigCheck::Literal)
            .into_iter()
            // A missing reference is reported as a missing parameter.
            .filter(|error| error.path != "chart_ref" || is_given(&step.params, "chart_ref"))
            .map(|error| (error.path, error.message))
            .collect(),
        "deployment_create" => validate_helm_config(&only(&["values"]).into(), ConfigCheck::Literal)
            .into_iter()
            .filter(|error| error.path.starts_with("values"))
            .map(|error| (error.path, error.message))
            .collect(),
        _ => Vec::new(),
    }
}

fn is_given(params: &JsonMap, name: &str) -> bool {
    params
        .get(name)
        .is_some_and(|value| !value.is_null() && value.as_str() != Some(""))
}
