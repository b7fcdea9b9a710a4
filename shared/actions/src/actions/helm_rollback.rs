//! `helm_rollback`: brings an earlier revision of a release back.

use async_trait::async_trait;
use slipway_model::{
    ActionMetadata, EffectClass, ExecutionMode, HelmOperation, JobType, JsonMap, ParameterDefinition,
};

use super::helm_deploy::OUTPUTS;
use crate::{
    Action, Answer, Context,
    helm::{JOB_SECONDS, config_of, draft, parameter},
};

pub(crate) struct Definition;

static PARAMS: [ParameterDefinition; 7] = [
    parameter(
        "cluster_id",
        "Cluster",
        "cluster_ref",
        "Cluster of the release.",
        true,
    ),
    parameter("release_name", "Release Name", "string", "Helm release.", true),
    parameter("namespace", "Namespace", "string", "Kubernetes namespace.", true),
    parameter(
        "timeout",
        "Timeout",
        "duration",
        "How long it may take, such as '600s' or '10m'.",
        false,
    ),
    parameter(
        "deployment_id",
        "Deployment",
        "string",
        "The deployment that it belongs to.",
        false,
    ),
    parameter(
        "revision",
        "Revision",
        "integer",
        "Revision to go back to; the one before if omitted.",
        false,
    ),
    parameter(
        "wait",
        "Wait",
        "boolean",
        "Whether readiness is waited for; true if omitted.",
        false,
    ),
];

static METADATA: ActionMetadata = ActionMetadata {
    action_type: "helm_rollback",
    version: "1.0.0",
    name: "Roll Back Helm Release",
    category: "Deployment",
    icon: "rotate-ccw",
    color: "#F97316",
    description: "Rolls a Helm release back to an earlier revision and waits until it is ready.",
    execution_mode: ExecutionMode::EventDriven,
    timeout_seconds: JOB_SECONDS,
    idempotent: true,
    effect: EffectClass::Pure,
    required_services: &["jobs"],
    required_permissions: &[],
    params: &PARAMS,
    outputs: &OUTPUTS,
};

#[async_trait]
impl Action for Definition {
    fn metadata(&self) -> &'static ActionMetadata {
        &METADATA
    }

    async fn run(&self, context: Context<'_>) -> Answer {
        let config = config_of(
            &context,
            HelmOperation::Rollback,
            JsonMap::new(),
            &["timeout", "revision", "wait"],
        );
        draft(&context, JobType::HelmDeploy, config).await
    }
}
