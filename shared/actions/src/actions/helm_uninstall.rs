//! `helm_uninstall`: takes a release away. Volume claims stay.

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
    action_type: "helm_uninstall",
    version: "1.0.0",
    name: "Uninstall Helm Release",
    category: "Deployment",
    icon: "trash",
    color: "#EF4444",
    description: "Uninstalls a Helm release and waits until its objects are gone. Volume claims stay; so does the namespace, unless it was created for the deployment and nothing else lives in it.",
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
        let config = config_of(&context, HelmOperation::Uninstall, JsonMap::new(), &["timeout"]);
        draft(&context, JobType::HelmDeploy, config).await
    }
}
