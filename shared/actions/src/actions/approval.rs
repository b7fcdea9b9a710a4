//! `approval`: a person decides.

use async_trait::async_trait;
use slipway_model::{
    ActionMetadata, EffectClass, ExecutionMode, Outcome, OutputDefinition, ParameterDefinition,
};

use crate::{Action, Answer, Context};

pub(crate) struct Definition;

static METADATA: ActionMetadata = ActionMetadata {
    action_type: "approval",
    version: "1.0.0",
    name: "Approval",
    category: "Control",
    icon: "user-check",
    color: "#F59E0B",
    description: "Waits until a person approves or rejects the step.",
    execution_mode: ExecutionMode::EventDriven,
    timeout_seconds: 86_400,
    idempotent: true,
    effect: EffectClass::Pure,
    required_services: &[],
    required_permissions: &[],
    params: &[ParameterDefinition {
        name: "message",
        label: "Message",
        parameter_type: "string",
        description: "What the person is asked.",
        required: false,
    }],
    outputs: &[
        OutputDefinition {
            name: "message",
            output_type: "string",
            description: "What the person was asked",
        },
        OutputDefinition {
            name: "approved",
            output_type: "boolean",
            description: "Whether it was approved",
        },
        OutputDefinition {
            name: "decided_at",
            output_type: "string",
            description: "When",
        },
        OutputDefinition {
            name: "approved_by",
            output_type: "string",
            description: "Who decided",
        },
        OutputDefinition {
            name: "comment",
            output_type: "string",
            description: "What the person said",
        },
    ],
};

#[async_trait]
impl Action for Definition {
    fn metadata(&self) -> &'static ActionMetadata {
        &METADATA
    }

    async fn run(&self, context: Context<'_>) -> Answer {
        Answer::Outcome(Outcome::AwaitApproval(context.params))
    }
}
