//! `wait`: done when a time has come.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use slipway_model::{
    ActionMetadata, EffectClass, ExecutionMode, FailureKind, JsonMap, Outcome, OutputDefinition,
    ParameterDefinition, Timestamp,
};

use crate::{Action, Answer, Context};

pub(crate) struct Definition;

static METADATA: ActionMetadata = ActionMetadata {
    action_type: "wait",
    version: "1.0.0",
    name: "Wait",
    category: "Control",
    icon: "clock",
    color: "#64748B",
    description: "Waits for some seconds, or until a point in time. Nothing runs meanwhile.",
    execution_mode: ExecutionMode::EventDriven,
    timeout_seconds: 86_400,
    idempotent: true,
    effect: EffectClass::Pure,
    required_services: &[],
    required_permissions: &[],
    params: &[
        ParameterDefinition {
            name: "seconds",
            label: "Seconds",
            parameter_type: "integer",
            description: "How long to wait. Either this or `until`.",
            required: false,
        },
        ParameterDefinition {
            name: "until",
            label: "Until",
            parameter_type: "string",
            description: "RFC 3339 time, such as 2030-01-31T08:00:00Z. Either this or `seconds`.",
            required: false,
        },
    ],
    outputs: &[OutputDefinition {
        name: "until",
        output_type: "string",
        description: "The time that it waited for",
    }],
};

#[async_trait]
impl Action for Definition {
    fn metadata(&self) -> &'static ActionMetadata {
        &METADATA
    }

    async fn run(&self, context: Context<'_>) -> Answer {
        let until = match (context.params.get("seconds"), context.params.get("until")) {
            (Some(seconds), None) => seconds.as_u64().map(|s| context.now.plus(Duration::from_secs(s))),
            (None, Some(until)) => serde_json::from_value::<Timestamp>(until.clone()).ok(),
            _ => None,
        };
        Answer::Outcome(match until {
            Some(until) => {
                let outputs = JsonMap::from_iter([("until".to_owned(), json!(until))]);
                Outcome::WaitUntil(until, outputs)
            }
            None => Outcome::Failed {
                message: "give either 'seconds', a whole number of at least 0, or 'until', an RFC 3339 time"
                    .to_owned(),
                kind: FailureKind::Permanent,
            },
        })
    }
}
