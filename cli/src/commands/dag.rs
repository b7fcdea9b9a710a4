//! `slipway dag …`, which needs no control plane.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value, json};
use slipway_app::ActionRegistry;
use slipway_dag::{DeploymentInput, graph, plan_deployment};
use slipway_model::{BUDUSECASES_EVENTS, ClusterId, Dag, DeploymentId, FieldError, JsonMap, Template};

use crate::{
    arguments::{DagCommand, GraphFormat},
    document,
    failure::{Exit, Failure},
    output::{self, Format},
};

pub(super) fn run(command: &DagCommand, format: Format) -> Result<Exit, Failure> {
    match command {
        DagCommand::Check { file } => check(file, format),
        DagCommand::Graph {
            file,
            format: language,
        } => {
            let dag = load(file)?
                .map_err(|errors| Failure::misuse(format!("{} is invalid", file.display())).at(errors))?;
            let drawing = match language {
                GraphFormat::Dot => graph::to_dot(&dag),
                GraphFormat::Mermaid => graph::to_mermaid(&dag),
                GraphFormat::Svg => graph::to_svg(&dag),
            };
            match format {
                Format::Text => output::say(&drawing),
                Format::Json => {
                    output::say_json(&json!({"format": output::word_of(language), "graph": drawing}));
                }
            }
            Ok(Exit::Done)
        }
    }
}

fn check(file: &Path, format: Format) -> Result<Exit, Failure> {
    let shown = file.display().to_string();
    let (result, exit) = match load(file)? {
        Ok(dag) => (Ok(dag), Exit::Done),
        Err(errors) => (Err(errors), Exit::Failed),
    };
    match (format, result) {
        (Format::Text, Ok(dag)) => {
            let edges: usize = dag.steps.iter().map(|step| step.depends_on.len()).sum();
            output::say(&format!(
                "{shown}: ok ({} steps, {edges} dependencies)",
                dag.steps.len()
            ));
        }
        (Format::Text, Err(errors)) => {
            let lines: String = errors.iter().map(|error| format!("\n  {error}")).collect();
            output::say(&format!("{shown}: invalid{lines}"));
        }
        (Format::Json, Ok(dag)) => {
            output::say_json(&json!({"file": shown, "valid": true, "steps": dag.steps.len(), "errors": []}));
        }
        (Format::Json, Err(errors)) => {
            output::say_json(&json!({"file": shown, "valid": false, "errors": errors}));
        }
    }
    Ok(exit)
}

/// The DAG in a file, or the one that the template in a file makes with its defaults.
fn load(file: &Path) -> Result<Result<Dag, Vec<FieldError>>, Failure> {
    let value = document::read(file, slipway_dag::MAX_DAG_BYTES)?;
    if value.get("components").is_some() && value.get("steps").is_none() {
        let catalog = document::bundled_catalog();
        let checked = slipway_dag::template::check(value, &catalog);
        return Ok(checked.and_then(|template| with_defaults(&template, &catalog)));
    }
    // Which topics there are is a control plane's configuration: here those count that the DAG names.
    let mut topics: Vec<String> = value
        .get("callback_topics")
        .and_then(Value::as_array)
        .map(|topics| {
            topics
                .iter()
                .filter_map(|topic| topic.as_str().map(str::to_owned))
                .collect()
        })
        .unwrap_or_default();
    topics.push(BUDUSECASES_EVENTS.to_owned());
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    Ok(slipway_dag::dag::check(value, &ActionRegistry, &topics))
}

fn with_defaults(template: &Template, catalog: &slipway_model::Catalog) -> Result<Dag, Vec<FieldError>> {
    let defaults = template
        .parameters
        .iter()
        .filter(|(_, parameter)| !parameter.secret)
        .map(|(name, parameter)| (name.clone(), parameter.default.clone().unwrap_or(Value::Null)));
    let parameters: JsonMap = defaults.collect();
    let secret_parameters: BTreeSet<String> = template
        .parameters
        .iter()
        .filter(|(_, parameter)| parameter.secret)
        .map(|(name, _)| name.clone())
        .collect();
    let id = DeploymentId(uuid::Uuid::nil());
    plan_deployment(&DeploymentInput {
        template,
        catalog,
        deployment_id: id,
        name: &template.name,
        namespace: &format!("uc-{}", id.short()),
        cluster_id: ClusterId(uuid::Uuid::nil()),
        component_clusters: &BTreeMap::new(),
        user_id: "local",
        selections: &BTreeMap::new(),
        parameters: &parameters,
        secret_parameters: &secret_parameters,
        values: &BTreeMap::new(),
        callback_topics: &[],
    })
}
