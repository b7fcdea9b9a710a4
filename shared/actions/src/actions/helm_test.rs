//! `helm_test`: runs the tests of a release.

use async_trait::async_trait;
use slipway_model::{
    ActionMetadata, EffectClass, ExecutionMode, HelmOperation, JobType, JsonMap, ParameterDefinition,
};

use super::helm_deploy::OUTPUTS;
use crate::{
    Action, Answer, Context,
    definitions::{CLUSTER, DEPLOYMENT, NAMESPACE, RELEASE_NAME, TIMEOUT},
    helm::{JOB_SECONDS, config_of, draft},
};

pub(crate) struct Definition;

static PARAMS: [ParameterDefinition; 5] = [CLUSTER, RELEASE_NAME, NAMESPACE, TIMEOUT, DEPLOYMENT];

static METADATA: ActionMetadata = ActionMetadata {
    action_type: "helm_test",
    version: "1.0.0",
    name: "Test Helm Release",
    category: "Deployment",
    icon: "flask",
    color: "#14B8A6",
    description: "Runs the tests that the chart of a release brings, and fails with their log if one fails.",
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
        let config = config_of(&context, HelmOperation::Test, JsonMap::new(), &["timeout"]);
        draft(&context, JobType::HelmDeploy, config).await
    }
}
