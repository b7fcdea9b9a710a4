//! `helm_rollback`: brings an earlier revision of a release back.

use async_trait::async_trait;
use slipway_model::{
    ActionMetadata, EffectClass, ExecutionMode, HelmOperation, JobType, JsonMap, ParameterDefinition,
};

use super::helm_deploy::OUTPUTS;
use crate::{
    Action, Answer, Context,
    definitions::{
        CLUSTER, DEPLOYMENT, HEALTH_CHECKS, IMMUTABLE, NAMESPACE, RELEASE_NAME, TIMEOUT, WAIT, parameter,
    },
    helm::{JOB_SECONDS, config_of, draft},
};

pub(crate) struct Definition;

static PARAMS: [ParameterDefinition; 9] = [
    CLUSTER,
    RELEASE_NAME,
    NAMESPACE,
    TIMEOUT,
    DEPLOYMENT,
    parameter(
        "revision",
        "Revision",
        "integer",
        "Revision to go back to; the one before if omitted.",
        false,
    ),
    WAIT,
    IMMUTABLE,
    HEALTH_CHECKS,
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
            &["timeout", "revision", "wait", "immutable", "health_checks"],
        );
        draft(&context, JobType::HelmDeploy, config).await
    }
}
