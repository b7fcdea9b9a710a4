//! What a deployment's jobs are, decided before the first one is made.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use slipway_dag::merge_values;
use slipway_expr::{Reference, Scope, collect_references};
use slipway_model::{
    ClusterId, Component, ComponentType, Dag, DagStep, Deployment, FieldError, HelmJobConfig, JobType,
    JsonMap, Template,
};
use slipway_policy::ConfigCheck;

use crate::{
    App, AppError,
    deployments::facts,
    steps::{RenderContext, at_values},
};

/// Seconds that a job may take.
const JOB_SECONDS: u64 = 3600;

/// Seconds until everything must be ready, unless template or catalog say otherwise.
const READY_SECONDS: u64 = 600;

/// What becomes of a component: a job, or nothing because its `when` is false.
pub(super) struct Legacy {
    pub(super) component: String,
    pub(super) job: Option<LegacyJob>,
}

/// A job without its id.
pub(super) struct LegacyJob {
    pub(super) cluster_id: ClusterId,
    pub(super) job_type: JobType,
    pub(super) config: HelmJobConfig,
    pub(super) timeout_seconds: u64,
}

impl App {
    /// What each component becomes, in the order of deployment.
    pub(super) async fn legacy_plan(&self, deployment: &Deployment) -> Result<Vec<Legacy>, AppError> {
        let reference = &deployment.template;
        let template = self
            .load_template(&deployment.tenant, &reference.name, &reference.version)
            .await?
            .ok_or_else(|| AppError::not_found(format_args!("template '{}'", reference.name)))?;
        let refused =
            |errors| AppError::invalid("the deployment cannot be started without orchestration", errors);
        let mut errors = helm_components(&template);
        if !errors.is_empty() {
            return Err(refused(errors));
        }
        let components = self.components_of(deployment).await?;
        let clusters = self
            .component_clusters(&deployment.tenant, &template, &components)
            .await?;
        let dag: Dag = clusters
            .and_then(|clusters| self.plan_of(deployment, &template, &clusters))
            .map_err(refused)?;
        let mut plan = Vec::new();
        for step in &dag.steps {
            if template.component(&step.id).is_none() {
                continue;
            }
            match self.legacy_step(deployment, step) {
                Ok(job) => plan.push(Legacy {
                    component: step.id.clone(),
                    job,
                }),
                Err(message) => errors.push(FieldError::new(format!("values.{}", step.id), message)),
            }
        }
        if errors.is_empty() {
            Ok(plan)
        } else {
            Err(refused(errors))
        }
    }

    fn legacy_step(&self, deployment: &Deployment, step: &DagStep) -> Result<Option<LegacyJob>, String> {
        let context = RenderContext {
            parameters: deployment.parameters.clone(),
            secret_parameters: deployment.secret_parameters.clone(),
            steps: BTreeMap::new(),
            deployment: facts(deployment),
        };
        if let Some(when) = &step.when
            && !context.condition(when)?
        {
            return Ok(None);
        }
        let text = |name: &str| step.params.get(name).and_then(Value::as_str).unwrap_or_default();
        let selected = text("selected_component");
        let entry = self.catalog.entry(selected);
        let entry = entry.ok_or_else(|| format!("the catalog has no component '{selected}'"))?;
        let over = step
            .params
            .get("values")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let values = merge_values(&entry.chart.values, &over);
        refuse_unknown(deployment, &values)?;
        let values = context.render_without_secrets(&values, &at_values())?;
        let seconds = step.timeout_seconds;
        let mut config = JsonMap::from_iter([
            ("chart_ref".to_owned(), json!(entry.chart.reference)),
            ("chart_version".to_owned(), json!(entry.chart.version)),
            ("release_name".to_owned(), json!(text("release_name"))),
            ("namespace".to_owned(), json!(deployment.namespace)),
            ("values".to_owned(), Value::Object(values)),
            ("timeout".to_owned(), json!(seconds.unwrap_or(READY_SECONDS))),
            ("outputs".to_owned(), json!(step.outputs)),
        ]);
        for option in ["crds", "immutable", "adopt", "delete_on_failure", "health_checks"] {
            if let Some(value) = step.params.get(option) {
                config.insert(option.to_owned(), value.clone());
            }
        }
        let config = Value::Object(config);
        if let Some(message) = self.config_errors(&config, ConfigCheck::Rendered) {
            return Err(message);
        }
        let component_type = step.params.get("component_type").cloned().unwrap_or_default();
        let component_type = serde_json::from_value(component_type).unwrap_or(ComponentType::Model);
        Ok(Some(LegacyJob {
            cluster_id: text("cluster_id").parse().unwrap_or(deployment.cluster_id),
            job_type: job_type(component_type),
            config: serde_json::from_value(config).map_err(|error| error.to_string())?,
            timeout_seconds: seconds.unwrap_or(JOB_SECONDS),
        }))
    }
}

/// What only an execution can bring up.
fn helm_components(template: &Template) -> Vec<FieldError> {
    let helm = |component: &Component| component.component_type == ComponentType::Helm;
    template
        .components
        .iter()
        .enumerate()
        .filter(|(_, component)| helm(component))
        .map(|(index, component)| {
            let message = format!(
                "component '{}' is of type helm, which needs pipeline orchestration; set USE_PIPELINE_ORCHESTRATION=true",
                component.name
            );
            FieldError::new(format!("components[{index}].type"), message)
        })
        .collect()
}

/// Without an execution there are no outputs to read, and nobody who resolves secrets.
fn refuse_unknown(deployment: &Deployment, values: &JsonMap) -> Result<(), String> {
    let read = collect_references(&Value::Object(values.clone()), &at_values(), Scope::VALUES);
    for (path, read) in read.references {
        let what = match read.reference {
            Reference::Output { step, .. } => format!("the outputs of '{step}'"),
            Reference::Secret { name } => format!("secret '{name}'"),
            Reference::Parameter { name } if deployment.secret_parameters.contains_key(&name) => {
                format!("secret parameter '{name}'")
            }
            _ => continue,
        };
        return Err(format!("{path} reads {what}, which needs pipeline orchestration"));
    }
    Ok(())
}

fn job_type(component_type: ComponentType) -> JobType {
    match component_type {
        ComponentType::VectorDb | ComponentType::MemoryStore => JobType::VectorDbDeployment,
        ComponentType::Helm => JobType::HelmDeploy,
        ComponentType::Model | ComponentType::Llm | ComponentType::Embedder | ComponentType::Reranker => {
            JobType::ModelDeployment
        }
    }
}
