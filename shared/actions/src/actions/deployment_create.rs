//! `deployment_create`: deploys the catalog component that fills a slot.

use async_trait::async_trait;
use slipway_model::{
    ActionMetadata, ComponentType, EffectClass, ExecutionMode, HelmOperation, JobType, ParameterDefinition,
};

use super::helm_deploy::OUTPUTS;
use crate::{
    Action, Answer, Context,
    definitions::{
        ADOPT, CRDS, CREATE_NAMESPACE, DELETE_ON_FAILURE, DEPLOYMENT, DERIVED_NAMESPACE,
        DERIVED_RELEASE_NAME, HEALTH_CHECKS, IMMUTABLE, READINESS_TIMEOUT, TARGET_CLUSTER, WAIT, parameter,
    },
    helm::{JOB_SECONDS, config_of, draft, merge, refused, unrendered_values},
};

pub(crate) struct Definition;

static PARAMS: [ParameterDefinition; 17] = [
    TARGET_CLUSTER,
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
    DEPLOYMENT,
    parameter("user_id", "User", "string", "Who asked for it.", false),
    DERIVED_RELEASE_NAME,
    DERIVED_NAMESPACE,
    parameter(
        "values",
        "Helm Values",
        "json",
        "Values over the catalog's.",
        false,
    ),
    READINESS_TIMEOUT,
    WAIT,
    CREATE_NAMESPACE,
    DELETE_ON_FAILURE,
    CRDS,
    IMMUTABLE,
    ADOPT,
    HEALTH_CHECKS,
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
