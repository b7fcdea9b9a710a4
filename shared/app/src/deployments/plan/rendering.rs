//! What Helm would be given for a component, as far as that can be known now.

use std::collections::BTreeMap;

use serde_json::Value;
use slipway_dag::merge_values;
use slipway_expr::{Path, Reference, Scope, collect_references, resolve_step};
use slipway_model::{CrdPolicy, DagStep, Deployment, ImmutablePolicy, JsonMap, OutputSource};

use super::super::inputs::facts;
use super::ComponentChange;
use crate::{
    App, AppError,
    jobs::rendered_outputs,
    steps::{RenderContext, Resolved, at_values},
};

/// What Helm is to render. Values hold secrets.
pub(super) struct Rendering {
    pub(super) chart_ref: String,
    pub(super) chart_version: Option<String>,
    pub(super) values: JsonMap,
    pub(super) resolved: Resolved,
    /// JSON pointers to the texts in `values` that come from secrets.
    pub(super) secret_values: Vec<String>,
    pub(super) policies: Policies,
    /// Where outputs are read; absent where that depends on what is not known.
    pub(super) outputs: Option<OutputSources>,
}

/// Where outputs are read, by name.
pub(super) type OutputSources = BTreeMap<String, OutputSource>;

/// What a step says about its release.
pub(super) struct Policies {
    pub(super) create_namespace: bool,
    pub(super) crds: CrdPolicy,
    pub(super) immutable: ImmutablePolicy,
    pub(super) adopt: bool,
}

impl Policies {
    fn of(params: &JsonMap) -> Self {
        let read = |name: &str| params.get(name).cloned().unwrap_or_default();
        Self {
            create_namespace: read("create_namespace").as_bool().unwrap_or(true),
            crds: serde_json::from_value(read("crds")).unwrap_or_default(),
            immutable: serde_json::from_value(read("immutable")).unwrap_or_default(),
            adopt: read("adopt").as_bool().unwrap_or_default(),
        }
    }
}

/// Why nothing can be rendered: deferred or refused, and the reason.
pub(super) type NotRendered = (ComponentChange, String);

impl App {
    /// Renders what a step says, with its secrets and with the outputs that are known already; nothing stands for those
    /// of a step that is skipped.
    pub(super) async fn rendering(
        &self,
        deployment: &Deployment,
        step: &DagStep,
        outputs: &BTreeMap<String, Option<JsonMap>>,
    ) -> Result<Result<Rendering, NotRendered>, AppError> {
        let refused = |message: String| Ok(Err((ComponentChange::Refused, message)));
        let text = |name: &str| step.params.get(name).and_then(Value::as_str).map(str::to_owned);
        let over = step
            .params
            .get("values")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let (chart_ref, chart_version, values) = match text("selected_component") {
            None => (text("chart_ref").unwrap_or_default(), text("chart_version"), over),
            Some(selected) => {
                let Some(entry) = self.catalog.entry(&selected) else {
                    return refused(format!("the catalog has no component '{selected}'"));
                };
                let chart = &entry.chart;
                let values = merge_values(&chart.values, &over);
                (chart.reference.clone(), chart.version.clone(), values)
            }
        };
        let chart = JsonMap::from_iter([
            ("chart_ref".to_owned(), chart_ref.into()),
            ("chart_version".to_owned(), chart_version.into()),
        ]);
        let mut context = RenderContext {
            parameters: deployment.parameters.clone(),
            secret_parameters: deployment.secret_parameters.clone(),
            steps: BTreeMap::new(),
            deployment: facts(deployment),
        };
        let both = [
            (Value::Object(chart.clone()), Path::root()),
            (Value::Object(values.clone()), at_values()),
        ];
        for (params, at) in &both {
            for (path, read) in collect_references(params, at, Scope::VALUES).references {
                let Reference::Output { step: name, key } = read.reference else {
                    continue;
                };
                let known = resolve_step(&name, |step| outputs.contains_key(step));
                let known = known.and_then(|step| outputs.get(step));
                match known {
                    Some(known) => {
                        context.steps.insert(name, known.clone());
                    }
                    None => {
                        let why =
                            format!("{path} reads output '{key}' of step '{name}', which is not known yet");
                        return Ok(Err((ComponentChange::Deferred, why)));
                    }
                }
            }
        }
        let chart = match context.render_without_secrets(&chart, &Path::root()) {
            Ok(chart) => chart,
            Err(message) => return refused(message),
        };
        let secret_values = secret_pointers(&Value::Object(values.clone()), &deployment.secret_parameters);
        let rendered = self
            .render_with_secrets(&deployment.tenant, &context, &values, &at_values())
            .await?;
        let rendered = match rendered {
            Ok(rendered) => rendered,
            Err(message) => return refused(message),
        };
        let text = |name: &str| chart.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Ok(Rendering {
            chart_ref: text("chart_ref").unwrap_or_default(),
            chart_version: text("chart_version"),
            values: rendered.params,
            resolved: rendered.resolved,
            secret_values,
            policies: Policies::of(&step.params),
            outputs: rendered_outputs(&context, &step.outputs).ok(),
        }))
    }
}

/// JSON pointers to the texts in unrendered values that read a secret.
pub(super) fn secret_pointers(values: &Value, secret_parameters: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    collect(values, "", secret_parameters, &mut found);
    found
}

fn collect(value: &Value, at: &str, secret_parameters: &BTreeMap<String, String>, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                collect(value, &format!("{at}/{key}"), secret_parameters, found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                collect(value, &format!("{at}/{index}"), secret_parameters, found);
            }
        }
        Value::String(_) => {
            let read = collect_references(value, &Path::root(), Scope::VALUES).references;
            let is_secret = read.iter().any(|(_, read)| match &read.reference {
                Reference::Secret { .. } => true,
                Reference::Parameter { name } => secret_parameters.contains_key(name),
                _ => false,
            });
            if is_secret {
                found.push(at.to_owned());
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_that_read_secrets_are_found_wherever_they_stand() {
        let values = json!({
            "a/b": {"password": "x-{{ secrets.db }}"},
            "list": [{"v": "{{ parameters.token }}"}, {"v": "{{ parameters.size }}"}],
            "plain": "secrets.db", "n": 3,
        });
        let secret = BTreeMap::from([("token".to_owned(), "somewhere".to_owned())]);
        assert_eq!(secret_pointers(&values, &secret), ["/a~1b/password", "/list/0/v"]);
    }
}
