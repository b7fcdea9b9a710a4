//! `pass`: its parameters become its outputs, as the state of that name does in Step Functions.

use async_trait::async_trait;
use slipway_model::{ActionMetadata, EffectClass, ExecutionMode, FieldError, JsonMap, Outcome};

use crate::{Action, Answer, Context};

pub(crate) struct Definition;

static METADATA: ActionMetadata = ActionMetadata {
    action_type: "pass",
    version: "1.0.0",
    name: "Pass",
    category: "Control",
    icon: "arrow-right",
    color: "#64748B",
    description: "Does nothing: its parameters become its outputs.",
    execution_mode: ExecutionMode::Sync,
    timeout_seconds: 60,
    idempotent: true,
    effect: EffectClass::Pure,
    required_services: &[],
    required_permissions: &[],
    params: &[],
    outputs: &[],
};

#[async_trait]
impl Action for Definition {
    fn metadata(&self) -> &'static ActionMetadata {
        &METADATA
    }

    fn check(&self, _params: &JsonMap) -> Vec<FieldError> {
        Vec::new()
    }

    async fn run(&self, context: Context<'_>) -> Answer {
        Answer::Outcome(Outcome::Completed(context.params))
    }
}
