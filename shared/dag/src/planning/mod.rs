//! From a template and what a deployment chose to a DAG.

mod merge;
mod reduction;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use slipway_expr::{Context, Expression, Limits, Path, Reference, Root, Scope};
use slipway_model::{
    BUDUSECASES_EVENTS, Catalog, ClusterId, Component, ComponentType, Dag, DeploymentId, FieldError, JsonMap,
    Template,
};
use slipway_policy::{ReleaseName, check_values};

pub use merge::merge_values;
pub use steps::literal_value;

use crate::{
    faults::{Faults, below},
    reads::each_read,
    selections,
    suggest::suggest,
    template::{ComponentReads, OutputsOf, check_component, in_order},
};

/// What a deployment is planned from.
#[derive(Debug, Clone)]
pub struct DeploymentInput<'a> {
    /// A checked template.
    pub template: &'a Template,
    /// What its slots were checked against.
    pub catalog: &'a Catalog,
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// The deployment's name.
    pub name: &'a str,
    /// The deployment's namespace.
    pub namespace: &'a str,
    /// The cluster of every component that is not in `component_clusters`.
    pub cluster_id: ClusterId,
    /// Component → the cluster that it names instead.
    pub component_clusters: &'a BTreeMap<String, ClusterId>,
    /// Who deploys.
    pub user_id: &'a str,
    /// Slot → catalog component; slots that are absent take their default.
    pub selections: &'a BTreeMap<String, String>,
    /// Checked parameters, without the secret ones.
    pub parameters: &'a JsonMap,
    /// Names of the secret parameters that have a value.
    pub secret_parameters: &'a BTreeSet<String>,
    /// Component → values over the template's, or over the catalog's.
    pub values: &'a BTreeMap<String, JsonMap>,
    /// Topics that get the events; `budusecasesEvents` is added if it is not among them.
    pub callback_topics: &'a [String],
}

/// The Helm release of a component.
pub fn release_name(deployment: &str, component: &Component) -> String {
    component
        .chart
        .as_ref()
        .and_then(|chart| chart.release_name.clone())
        .unwrap_or_else(|| ReleaseName::of(deployment, &component.name).to_string())
}

/// Plans a deployment: a step per component under its name, `cluster_health` before all of them and
/// `notify_complete` after. Expressions stay as they are; the executor renders them.
///
/// - Each `depends_on` is the transitive reduction of the components' own edges, what their expressions read, and
///   `deployment_order`, in template order. An optional slot that nothing fills has no step, and what it would
///   have waited for is waited for by what waits for it.
/// - `when` is kept where it reads parameters only, and is `true` or `false` where it reads selections.
/// - A component with `test` gets a step `NAME-test`, which its dependants wait for.
/// - Each further cluster gets a step `cluster_health-N`, N from 2.
///
/// # Errors
/// Everything in the deployment's choices that does not fit, at `components.SLOT`, `values.COMPONENT…`,
/// `parameters.NAME`; and at places of the template what only these choices show.
pub fn plan_deployment(input: &DeploymentInput<'_>) -> Result<Dag, Vec<FieldError>> {
    let template = input.template;
    let selections = selections::check(template, input.catalog, input.selections)?;
    let mut faults = Faults::default();
    check_value_names(input, &selections, &mut faults);
    let (values, reads) = merged_values(input, &selections, &mut faults);
    let conditions = conditions(input, &selections, &mut faults);
    check_releases(input, &selections, &mut faults);
    let (order, graph) = match in_order(template, &reads) {
        Ok(ordered) => ordered,
        Err(message) => {
            faults.add("components", message);
            return Err(faults.into_errors());
        }
    };
    let planned = steps::Planned {
        input,
        selections: &selections,
        values: &values,
        conditions: &conditions,
    };
    let dag = Dag {
        name: format!("deploy-usecase-{}", input.name),
        version: "1.0.0".to_owned(),
        description: format!("Deploy use case: {}", input.name),
        parameters: input.parameters.clone(),
        settings: template.settings.clone().unwrap_or_default(),
        steps: planned.steps(&order, &graph),
        outputs: [("deployment_id".to_owned(), json!(input.deployment_id))]
            .into_iter()
            .collect(),
        callback_topics: topics(input.callback_topics),
    };
    check_parameters(input, &dag, &mut faults);
    faults.or(dag)
}

/// Whether the component gets a step.
fn is_filled(component: &Component, selections: &BTreeMap<String, String>) -> bool {
    component.component_type == ComponentType::Helm || selections.contains_key(&component.name)
}

fn topics(given: &[String]) -> Vec<String> {
    let always = BUDUSECASES_EVENTS.to_owned();
    let first = (!given.contains(&always)).then_some(always);
    let mut topics: Vec<String> = Vec::new();
    for topic in first.iter().chain(given) {
        if !topics.contains(topic) {
            topics.push(topic.clone());
        }
    }
    topics
}

fn check_value_names(
    input: &DeploymentInput<'_>,
    selections: &BTreeMap<String, String>,
    faults: &mut Faults,
) {
    for name in input.values.keys() {
        let place = Path::of("values").key(name);
        match input.template.component(name) {
            None => {
                let components = &input.template.components;
                let hint = suggest(name, components.iter().map(|component| component.name.as_str()));
                faults.add(place, format!("the template has no such component; {hint}"));
            }
            Some(component) if !is_filled(component, selections) => faults.add(
                place,
                "nothing is selected for this slot, so there is nothing to give values to",
            ),
            Some(_) => {}
        }
    }
}

/// The values of each filled component that are passed on, and which components they read.
fn merged_values<'i>(
    input: &DeploymentInput<'i>,
    selections: &BTreeMap<String, String>,
    faults: &mut Faults,
) -> (BTreeMap<&'i str, JsonMap>, ComponentReads) {
    let template = input.template;
    let outputs = OutputsOf::selected(template, input.catalog, selections);
    let mut reads = ComponentReads::default();
    let mut merged = BTreeMap::new();
    for (index, component) in template.components.iter().enumerate() {
        if !is_filled(component, selections) {
            continue;
        }
        let over = input.values.get(&component.name);
        let base = component.chart.as_ref().map(|chart| &chart.values);
        let values = match (base, over) {
            (Some(base), Some(over)) => merge_values(base, over),
            (Some(values), None) | (None, Some(values)) => values.clone(),
            (None, None) => continue,
        };
        let place = match over {
            Some(_) => Path::of("values").key(&component.name),
            None => Path::of("components").index(index).key("chart").key("values"),
        };
        check_component(template, &outputs, index, &values, &place, &mut reads, faults);
        let values = Value::Object(values);
        for blocked in check_values(&values) {
            faults.add(below(&place, &blocked.path), blocked.to_string());
        }
        if let Value::Object(values) = values {
            merged.insert(component.name.as_str(), values);
        }
    }
    (merged, reads)
}

/// The `when` of each step that has one.
fn conditions<'i>(
    input: &DeploymentInput<'i>,
    selections: &BTreeMap<String, String>,
    faults: &mut Faults,
) -> BTreeMap<&'i str, String> {
    let selected: JsonMap = selections
        .iter()
        .map(|(slot, component)| (slot.clone(), component.clone().into()))
        .collect();
    let context = Context::new()
        .parameters(input.parameters)
        .secret_parameters(input.secret_parameters.iter().map(String::as_str))
        .selections(&selected);
    let mut conditions = BTreeMap::new();
    for (index, component) in input.template.components.iter().enumerate() {
        let Some(when) = component
            .when
            .as_ref()
            .filter(|_| is_filled(component, selections))
        else {
            continue;
        };
        let evaluated = Expression::parse(when, Scope::WHEN)
            .map_err(|error| error.to_string())
            .and_then(|expression| {
                let holds = expression
                    .evaluate(&context, Limits::default())
                    .map_err(|error| error.to_string())?;
                let reads_selections = expression
                    .references()
                    .iter()
                    .any(|read| read.reference.root() == Root::Selections);
                Ok(if reads_selections {
                    holds.to_string()
                } else {
                    when.clone()
                })
            });
        match evaluated {
            Ok(condition) => {
                conditions.insert(component.name.as_str(), condition);
            }
            Err(message) => faults.add(Path::of("components").index(index).key("when"), message),
        }
    }
    conditions
}

/// Two components must not write the same release.
fn check_releases(input: &DeploymentInput<'_>, selections: &BTreeMap<String, String>, faults: &mut Faults) {
    let mut releases = BTreeMap::new();
    for (index, component) in input.template.components.iter().enumerate() {
        if !is_filled(component, selections) {
            continue;
        }
        let cluster = input
            .component_clusters
            .get(&component.name)
            .unwrap_or(&input.cluster_id);
        let release = release_name(input.name, component);
        if let Some(other) = releases.insert((cluster.to_string(), release.clone()), &component.name) {
            faults.add(
                format!("components[{index}].chart.release_name"),
                format!("'{release}' is also the release of component '{other}'; choose another name"),
            );
        }
    }
}

/// What expressions read must have a value.
fn check_parameters(input: &DeploymentInput<'_>, dag: &Dag, faults: &mut Faults) {
    let mut missing: BTreeMap<String, &str> = BTreeMap::new();
    for step in &dag.steps {
        for value in step.params.values() {
            // What does not parse has been reported at its place.
            each_read(
                value,
                &Path::root(),
                Scope::VALUES,
                &mut Faults::default(),
                |read| {
                    if let Reference::Parameter { name } = &read.reference
                        && !read.optional
                        && !input.parameters.contains_key(name)
                        && !input.secret_parameters.contains(name)
                    {
                        missing.entry(name.clone()).or_insert(&step.id);
                    }
                    Ok(())
                },
            );
        }
    }
    for (name, step) in missing {
        faults.add(
            Path::of("parameters").key(&name),
            format!("has no value, and component '{step}' reads it; give it one"),
        );
    }
}
