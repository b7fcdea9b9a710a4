//! `deployment_create`: deploys the catalog component that fills a slot.

use async_trait::async_trait;
use slipway_model::{
    ActionMetadata, ComponentType, EffectClass, ExecutionMode, HelmOperation, JobType, ParameterDefinition,
};

use super::helm_deploy::OUTPUTS;
use crate::{
    Action, Answer, Context,
    helm::{JOB_SECONDS, config_of, draft, merge, parameter, refused, unrendered_values},
};

pub(crate) struct Definition;

static PARAMS: [ParameterDefinition; 17] = [
    parameter(
        "cluster_id",
        "Cluster",
        "cluster_ref",
        "Target cluster for deployment.",
        true,
    ),
    parameter(
        "component_name",
        "Component",
        "string",
        "The template's component.",
        true,
    ),
    parameter(
        "component_type",
        "Type",
        "string",
        "Slot type, such as `model` or `vector_db`.",
        true,
    ),
    parameter(
        "selected_component",
        "Selection",
        "string",
        "Catalog component, such as `qdrant`.",
        true,
    ),
    parameter(
        "deployment_id",
        "Deployment",
        "string",
        "The deployment that it belongs to.",
        false,
    ),
    parameter("user_id", "User", "string", "Who asked for it.", false),
    parameter(
        "release_name",
        "Release Name",
        "string",
        "Helm release name; derived if omitted.",
        false,
    ),
    parameter(
        "namespace",
        "Namespace",
        "string",
        "Kubernetes namespace; derived if omitted.",
        false,
    ),
    parameter(
        "values",
        "Helm Values",
        "json",
        "Values over the catalog's.",
        false,
    ),
    parameter(
        "timeout",
        "Deploy Timeout",
        "duration",
        "Until everything is ready, such as '600s' or '10m'.",
        false,
    ),
    parameter(
        "wait",
        "Wait",
        "boolean",
        "Whether readiness is waited for; true if omitted.",
        false,
    ),
    parameter(
        "create_namespace",
        "Create Namespace",
        "boolean",
        "Whether a missing namespace is created.",
        false,
    ),
    parameter(
        "delete_on_failure",
        "Delete on Failure",
        "boolean",
        "Whether a failed first install is removed.",
        false,
    ),
    parameter("crds", "CRDs", "string", "`skip`, `create` or `apply`.", false),
    parameter(
        "immutable",
        "Immutable Fields",
        "string",
        "`stop` or `recreate`.",
        false,
    ),
    parameter(
        "adopt",
        "Adopt",
        "boolean",
        "Whether someone else's release may be taken over.",
        false,
    ),
    parameter(
        "health_checks",
        "Health Checks",
        "json",
        "When custom resources without a Ready condition are ready: CEL expressions by kind.",
        false,
    ),
];

static METADATA: ActionMetadata = ActionMetadata {
    action_type: "deployment_create",
    version: "1.0.0",
    name: "Create Deployment",
    category: "Deployment",
    icon: "rocket",
    color: "#8B5CF6",
    description: "Deploys the catalog component that fills a slot of a template. Event-driven: waits for the job to \
                  report the end of the deployment.",
    execution_mode: ExecutionMode::EventDriven,
    timeout_seconds: JOB_SECONDS,
    idempotent: false,
    effect: EffectClass::Pure,
    required_services: &["jobs"],
    required_permissions: &[],
    params: &PARAMS,
    outputs: &OUTPUTS,
};

/// The job type that a slot type makes.
fn job_type(component_type: ComponentType) -> JobType {
    match component_type {
        ComponentType::Model | ComponentType::Llm | ComponentType::Embedder | ComponentType::Reranker => {
            JobType::ModelDeployment
        }
        ComponentType::VectorDb | ComponentType::MemoryStore => JobType::VectorDbDeployment,
        ComponentType::Helm => JobType::HelmDeploy,
    }
}

#[async_trait]
impl Action for Definition {
    fn metadata(&self) -> &'static ActionMetadata {
        &METADATA
    }

    async fn run(&self, mut context: Context<'_>) -> Answer {
        let slot = context.params.get("component_type").cloned().unwrap_or_default();
        let Ok(component_type) = serde_json::from_value::<ComponentType>(slot.clone()) else {
            let known: Vec<&str> = ComponentType::ALL.iter().map(|one| one.as_str()).collect();
            return refused(format!(
                "component_type {slot} is not one of {}",
                known.join(", ")
            ));
        };
        let selected = context.text("selected_component").unwrap_or_default();
        let Some(entry) = context.surroundings.catalog().entry(selected) else {
            return refused(format!(
                "the catalog has no component '{selected}'; `slipway catalog` lists what it has"
            ));
        };
        if !entry.types.contains(&component_type) {
            return refused(format!(
                "catalog component '{selected}' cannot fill a slot of type '{component_type}'"
            ));
        }
        let mut values = entry.chart.values.clone();
        merge(&mut values, &unrendered_values(&context));
        let (chart, outputs) = (entry.chart.clone(), entry.outputs.clone());
        context
            .params
            .insert("chart_ref".to_owned(), chart.reference.into());
        context
            .params
            .insert("chart_version".to_owned(), chart.version.into());
        let fields = [
            "chart_ref",
            "chart_version",
            "timeout",
            "wait",
            "create_namespace",
            "delete_on_failure",
            "crds",
            "immutable",
            "adopt",
            "health_checks",
        ];
        let config = config_of(&context, HelmOperation::Deploy, values, &fields).map(|mut config| {
            for (name, source) in outputs {
                config.outputs.entry(name).or_insert(source);
            }
            config
        });
        draft(&context, job_type(component_type), config).await
    }
}
