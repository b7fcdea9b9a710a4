//! `notification`: tells somebody. Without a channel it stands in the history only.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use serde_json::json;
use slipway_model::{
    ActionMetadata, EffectClass, ExecutionMode, FailureKind, FieldError, JsonMap, Outcome, OutputDefinition,
    ParameterDefinition,
};
use slipway_ports::{HttpCall, SecretString};

use crate::{Action, Answer, Context, check_against};

pub(crate) struct Definition;

const fn parameter(
    name: &'static str,
    label: &'static str,
    description: &'static str,
    required: bool,
) -> ParameterDefinition {
    ParameterDefinition {
        name,
        label,
        parameter_type: "string",
        description,
        required,
    }
}

static METADATA: ActionMetadata = ActionMetadata {
    action_type: "notification",
    version: "1.0.0",
    name: "Notification",
    category: "Notification",
    icon: "bell",
    color: "#3B82F6",
    description: "Sends a message to a webhook, a Slack-compatible webhook or an SNS topic. Without a channel the \
                  message stands in the history. A notification that cannot be delivered fails nothing.",
    execution_mode: ExecutionMode::Sync,
    timeout_seconds: 60,
    idempotent: true,
    effect: EffectClass::Idempotent,
    required_services: &[],
    required_permissions: &[],
    params: &[
        parameter("message", "Message", "What is said.", true),
        parameter("user_id", "User", "Whom it is for.", false),
        parameter(
            "level",
            "Level",
            "`info`, `success`, `warning` or `error`.",
            false,
        ),
        parameter("channel", "Channel", "`webhook`, `slack` or `sns`.", false),
        parameter("url", "URL", "Where a webhook is; may read a secret.", false),
        parameter("topic_arn", "Topic", "ARN of the SNS topic.", false),
    ],
    outputs: &[
        OutputDefinition {
            name: "delivered",
            output_type: "boolean",
            description: "Whether the channel took it",
        },
        OutputDefinition {
            name: "error",
            output_type: "string",
            description: "Why not",
        },
        OutputDefinition {
            name: "message",
            output_type: "string",
            description: "What was said",
        },
    ],
};

async fn deliver(context: &Context<'_>, channel: &str, message: &str) -> Result<(), String> {
    let level = context.text("level").unwrap_or("info");
    if channel == "sns" {
        let topic = context
            .text("topic_arn")
            .ok_or("channel 'sns' needs 'topic_arn'")?;
        let outside = context.surroundings.outside();
        return outside
            .publish(topic, level, message)
            .await
            .map_err(|error| error.to_string());
    }
    let url = context
        .text("url")
        .ok_or_else(|| format!("channel '{channel}' needs 'url'"))?;
    let body = match channel {
        "slack" => json!({ "text": message }),
        "webhook" => json!({
            "message": message,
            "level": level,
            "user_id": context.text("user_id"),
            "execution_id": context.header.id,
            "step_id": context.node.id,
            "idempotency_key": context.idempotency_key(),
        }),
        other => {
            return Err(format!(
                "there is no channel '{other}': use webhook, slack or sns"
            ));
        }
    };
    let call = HttpCall {
        method: "POST".to_owned(),
        url: SecretString::from(url),
        headers: BTreeMap::from([
            ("content-type".to_owned(), SecretString::from("application/json")),
            (
                "idempotency-key".to_owned(),
                SecretString::from(context.idempotency_key()),
            ),
        ]),
        body: Some(SecretString::from(body.to_string())),
        timeout: Duration::from_secs(20),
    };
    let answer = context
        .surroundings
        .outside()
        .http(call)
        .await
        .map_err(|error| error.to_string())?;
    if (200..300).contains(&answer.status) {
        Ok(())
    } else {
        Err(format!("the webhook answered {}", answer.status))
    }
}

#[async_trait]
impl Action for Definition {
    fn metadata(&self) -> &'static ActionMetadata {
        &METADATA
    }

    fn effect(&self, params: &JsonMap) -> EffectClass {
        if params.contains_key("channel") {
            EffectClass::Idempotent
        } else {
            EffectClass::Pure
        }
    }

    fn resolves_secrets(&self) -> bool {
        true
    }

    fn check(&self, params: &JsonMap) -> Vec<FieldError> {
        let mut errors = check_against(&METADATA, params);
        let channel = params.get("channel").and_then(|channel| channel.as_str());
        let needed = match channel {
            Some("webhook" | "slack") => Some("url"),
            Some("sns") => Some("topic_arn"),
            Some(open) if open.contains("{{") => None,
            Some(other) => {
                let message = format!("there is no channel '{other}': use webhook, slack or sns");
                errors.push(FieldError::new("channel", message));
                None
            }
            None => None,
        };
        if let Some(needed) = needed.filter(|needed| !params.contains_key(*needed)) {
            let message = format!(
                "{needed} is required for channel '{}'",
                channel.unwrap_or_default()
            );
            errors.push(FieldError::new(needed, message));
        }
        errors
    }

    async fn run(&self, context: Context<'_>) -> Answer {
        let message = context.text("message").unwrap_or_default().to_owned();
        let result = match context.text("channel") {
            Some(channel) => deliver(&context, channel, &message).await,
            None => Ok(()),
        };
        let delivered = result.is_ok() && context.params.contains_key("channel");
        let outputs = |error: Option<&String>| {
            JsonMap::from_iter([
                ("delivered".to_owned(), json!(delivered)),
                ("error".to_owned(), json!(error)),
                ("message".to_owned(), json!(message)),
            ])
        };
        Answer::Outcome(match result {
            Ok(()) => Outcome::Completed(outputs(None)),
            Err(error) if context.attempt < context.node.retry.max_attempts => Outcome::Failed {
                message: error,
                kind: FailureKind::Transient,
            },
            // Nobody's use case is broken because a chat room is.
            Err(error) => Outcome::Completed(outputs(Some(&error))),
        })
    }
}
