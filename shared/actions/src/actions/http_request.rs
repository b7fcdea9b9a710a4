//! `http_request`: one HTTP call.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};
use slipway_model::{
    ActionMetadata, EffectClass, ExecutionMode, FailureKind, FieldError, JsonMap, Outcome, OutputDefinition,
    ParameterDefinition,
};
use slipway_ports::{HttpCall, OutsideError, SecretString};

use crate::{Action, Answer, Context, check_against};

pub(crate) struct Definition;

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

static METADATA: ActionMetadata = ActionMetadata {
    action_type: "http_request",
    version: "1.0.0",
    name: "HTTP Request",
    category: "Integration",
    icon: "globe",
    color: "#0EA5E9",
    description: "Makes one HTTP call. POST and PATCH are made at most once unless `idempotent` says that the \
                  receiver drops repeats by the Idempotency-Key header.",
    execution_mode: ExecutionMode::Sync,
    timeout_seconds: 60,
    idempotent: false,
    effect: EffectClass::Once,
    required_services: &[],
    required_permissions: &[],
    params: &[
        ParameterDefinition {
            name: "url",
            label: "URL",
            parameter_type: "string",
            description: "Absolute http or https URL; may read a secret.",
            required: true,
        },
        ParameterDefinition {
            name: "method",
            label: "Method",
            parameter_type: "string",
            description: "GET (default), HEAD, POST, PUT, PATCH or DELETE.",
            required: false,
        },
        ParameterDefinition {
            name: "headers",
            label: "Headers",
            parameter_type: "json",
            description: "Header values by name; may read secrets.",
            required: false,
        },
        ParameterDefinition {
            name: "body",
            label: "Body",
            parameter_type: "json",
            description: "Text, or a value that is sent as JSON.",
            required: false,
        },
        ParameterDefinition {
            name: "expected_status",
            label: "Expected status",
            parameter_type: "json",
            description: "A status or a list of them; any 2xx if absent.",
            required: false,
        },
        ParameterDefinition {
            name: "timeout_seconds",
            label: "Time-out",
            parameter_type: "integer",
            description: "Seconds to wait for the answer; 30 if absent, at most 120.",
            required: false,
        },
        ParameterDefinition {
            name: "idempotent",
            label: "Idempotent",
            parameter_type: "boolean",
            description: "Whether the call may be repeated after a crash.",
            required: false,
        },
    ],
    outputs: &[
        OutputDefinition {
            name: "status_code",
            output_type: "integer",
            description: "HTTP status",
        },
        OutputDefinition {
            name: "headers",
            output_type: "object",
            description: "Headers of the answer",
        },
        OutputDefinition {
            name: "body",
            output_type: "object",
            description: "The answer: JSON if it is, else text",
        },
    ],
};

fn method(params: &JsonMap) -> String {
    params
        .get("method")
        .and_then(Value::as_str)
        .unwrap_or("GET")
        .to_ascii_uppercase()
}

fn call(context: &Context<'_>) -> Result<HttpCall, String> {
    let mut headers = BTreeMap::from([(
        "idempotency-key".to_owned(),
        SecretString::from(context.idempotency_key()),
    )]);
    match context.params.get("headers") {
        None | Some(Value::Null) => {}
        Some(Value::Object(given)) => {
            for (name, value) in given {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                headers.insert(name.to_ascii_lowercase(), SecretString::from(value));
            }
        }
        Some(_) => return Err("headers must be an object of names and values".to_owned()),
    }
    let body = match context.params.get("body") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(SecretString::from(text.as_str())),
        Some(value) => {
            headers
                .entry("content-type".to_owned())
                .or_insert_with(|| SecretString::from("application/json"));
            Some(SecretString::from(value.to_string()))
        }
    };
    let seconds = context
        .params
        .get("timeout_seconds")
        .and_then(Value::as_u64)
        .unwrap_or(30)
        .clamp(1, 120);
    Ok(HttpCall {
        method: method(&context.params),
        url: SecretString::from(context.text("url").unwrap_or_default()),
        headers,
        body,
        timeout: Duration::from_secs(seconds),
    })
}

fn expected(params: &JsonMap, status: u16) -> bool {
    match params.get("expected_status") {
        Some(Value::Number(number)) => number.as_u64() == Some(u64::from(status)),
        Some(Value::Array(list)) => list.iter().any(|item| item.as_u64() == Some(u64::from(status))),
        _ => (200..300).contains(&status),
    }
}

#[async_trait]
impl Action for Definition {
    fn metadata(&self) -> &'static ActionMetadata {
        &METADATA
    }

    fn effect(&self, params: &JsonMap) -> EffectClass {
        let repeatable = params.get("idempotent").and_then(Value::as_bool).unwrap_or(false);
        let method = method(params);
        // A method that is not known before it is rendered may be any.
        if repeatable || !(method.contains("{{") || matches!(method.as_str(), "POST" | "PATCH")) {
            EffectClass::Idempotent
        } else {
            EffectClass::Once
        }
    }

    fn resolves_secrets(&self) -> bool {
        true
    }

    fn check(&self, params: &JsonMap) -> Vec<FieldError> {
        let mut errors = check_against(&METADATA, params);
        let method = method(params);
        if !method.contains("{{") && !METHODS.contains(&method.as_str()) {
            errors.push(FieldError::new(
                "method",
                format!("'{method}' is not one of {}", METHODS.join(", ")),
            ));
        }
        if let Some(url) = params.get("url").and_then(Value::as_str)
            && !url.contains("{{")
            && !url.starts_with("http://")
            && !url.starts_with("https://")
        {
            errors.push(FieldError::new("url", "must be an absolute http or https URL"));
        }
        errors
    }

    async fn run(&self, context: Context<'_>) -> Answer {
        let failed = |message, kind| Answer::Outcome(Outcome::Failed { message, kind });
        let call = match call(&context) {
            Ok(call) => call,
            Err(message) => return failed(message, FailureKind::Permanent),
        };
        match context.surroundings.outside().http(call).await {
            Err(OutsideError::Refused(message)) => failed(message, FailureKind::Permanent),
            Err(error) if self.effect(&context.params) == EffectClass::Once => failed(
                format!("outcome unknown: {error}, and the call must not be repeated"),
                FailureKind::Permanent,
            ),
            Err(error) => failed(error.to_string(), FailureKind::Transient),
            Ok(answer) if !expected(&context.params, answer.status) => {
                let said = format!("the answer has status {}", answer.status);
                match (answer.status, self.effect(&context.params)) {
                    // Nothing was done.
                    (425 | 429, _) => failed(said, FailureKind::Transient),
                    // A gateway says the same of what was done and of what was not.
                    (408 | 500..=599, EffectClass::Once) => failed(
                        format!("outcome unknown: {said}, and the call must not be repeated"),
                        FailureKind::Permanent,
                    ),
                    (408 | 500..=599, _) => failed(said, FailureKind::Transient),
                    _ => failed(said, FailureKind::Permanent),
                }
            }
            Ok(answer) => {
                let body = serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body));
                Answer::Outcome(Outcome::Completed(JsonMap::from_iter([
                    ("status_code".to_owned(), json!(answer.status)),
                    ("headers".to_owned(), json!(answer.headers)),
                    ("body".to_owned(), body),
                ])))
            }
        }
    }
}
