//! What the actions that make Helm jobs share.

use serde_json::Value;
use slipway_model::{ClusterId, FailureKind, HelmJobConfig, HelmOperation, JobType, JsonMap, Outcome};
use slipway_policy::ReleaseName;
use slipway_ports::FailureClass;

use crate::{Answer, Context, JobDraft};

/// Seconds that a job and its step may take where nothing else is said.
pub(crate) const JOB_SECONDS: u64 = 3600;

/// The step fails for good with that message.
pub(crate) fn refused(message: impl Into<String>) -> Answer {
    Answer::Outcome(Outcome::Failed {
        message: message.into(),
        kind: FailureKind::Permanent,
    })
}

/// Release and namespace: as given, else as the documents name them for DAGs that name none. Several components of such
/// a DAG each have a release of their own.
pub(crate) fn release_and_namespace(context: &Context<'_>) -> (String, String) {
    let short = context.header.id.short();
    let derived = || match context.text("component_name") {
        Some(component) => ReleaseName::of(&format!("uc-{short}"), component).to_string(),
        None => format!("uc-{short}"),
    };
    let release = context.text("release_name").map_or_else(derived, str::to_owned);
    let namespace = context
        .text("namespace")
        .map_or_else(|| format!("usecase-{short}"), str::to_owned);
    (release, namespace)
}

/// The parameters that are fields of a job's configuration, as they were given.
pub(crate) fn config_of(
    context: &Context<'_>,
    operation: HelmOperation,
    values: JsonMap,
    fields: &[&str],
) -> Result<HelmJobConfig, String> {
    let (release, namespace) = release_and_namespace(context);
    let mut config = JsonMap::new();
    for field in fields {
        if let Some(value) = context.params.get(*field).filter(|value| !value.is_null()) {
            config.insert((*field).to_owned(), value.clone());
        }
    }
    if let (Some(seconds), false) = (context.node.timeout_seconds, config.contains_key("timeout")) {
        config.insert("timeout".to_owned(), seconds.into());
    }
    config.insert("release_name".to_owned(), release.into());
    config.insert("namespace".to_owned(), namespace.into());
    let mut config: HelmJobConfig =
        serde_json::from_value(Value::Object(config)).map_err(|error| error.to_string())?;
    config.operation = operation;
    config.values = values;
    config.outputs.extend(context.node.outputs.clone());
    Ok(config)
}

/// A job on the cluster that `cluster_id` names.
pub(crate) async fn draft(
    context: &Context<'_>,
    job_type: JobType,
    config: Result<HelmJobConfig, String>,
) -> Answer {
    let config = match config {
        Ok(config) => config,
        Err(message) => return refused(format!("Invalid Helm config: {message}")),
    };
    let cluster: ClusterId = match context
        .surroundings
        .cluster(context.text("cluster_id").unwrap_or_default())
        .await
    {
        Ok(cluster) => cluster.id,
        Err(error) if error.class() == FailureClass::Permanent => return refused(error.0.message),
        Err(error) => return Answer::Outcome(Outcome::Blocked(error.0.message)),
    };
    let mut metadata = JsonMap::new();
    if !config.chart_ref.is_empty() {
        metadata.insert("chart_ref".to_owned(), config.chart_ref.clone().into());
    }
    Answer::Job(Box::new(JobDraft {
        name: format!("helm-{}", config.release_name),
        job_type,
        cluster,
        timeout_seconds: context.node.timeout_seconds.unwrap_or(JOB_SECONDS),
        config,
        metadata,
    }))
}

/// A step's `values` as they were written: the job renders them once, with everything that the step could read.
pub(crate) fn unrendered_values(context: &Context<'_>) -> JsonMap {
    context
        .node
        .params
        .get("values")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

/// Lays `over` on `values` as Helm merges values: objects member by member, the rest replaces. `null` stays, because
/// it tells Helm to drop the chart's own default.
pub(crate) fn merge(values: &mut JsonMap, over: &JsonMap) {
    for (key, value) in over {
        match (values.get_mut(key), value) {
            (Some(Value::Object(below)), Value::Object(above)) => merge(below, above),
            _ => {
                values.insert(key.clone(), value.clone());
            }
        }
    }
}
