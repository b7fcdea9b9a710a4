//! `cluster_health`: the cluster answers and has free what the use case needs.

use async_trait::async_trait;
use serde_json::{Value, json};
use slipway_model::{
    ActionMetadata, Capacity, EffectClass, ExecutionMode, FailureKind, JsonMap, Outcome, OutputDefinition,
    ParameterDefinition, Resources,
};

use slipway_ports::{FailureClass, TargetError};

use crate::{Action, Answer, Context};

pub(crate) struct Definition;

static METADATA: ActionMetadata = ActionMetadata {
    action_type: "cluster_health",
    version: "1.0.0",
    name: "Cluster Health",
    category: "Cluster",
    icon: "heart-pulse",
    color: "#10B981",
    description: "Checks that the cluster answers, and that it has free what `minimum` asks for. Waits for one that is \
                  away for a while.",
    execution_mode: ExecutionMode::Sync,
    timeout_seconds: 600,
    idempotent: true,
    effect: EffectClass::Idempotent,
    required_services: &["clusters"],
    required_permissions: &[],
    params: &[
        ParameterDefinition {
            name: "cluster_id",
            label: "Cluster",
            parameter_type: "cluster_ref",
            description: "Which cluster.",
            required: true,
        },
        ParameterDefinition {
            name: "minimum",
            label: "Minimum resources",
            parameter_type: "json",
            description: "What must be free: cpu, memory, gpu.",
            required: false,
        },
    ],
    outputs: &[
        OutputDefinition {
            name: "healthy",
            output_type: "boolean",
            description: "Always true: else the step fails",
        },
        OutputDefinition {
            name: "version",
            output_type: "string",
            description: "Version of the API server",
        },
        OutputDefinition {
            name: "nodes",
            output_type: "integer",
            description: "Nodes that are ready",
        },
        OutputDefinition {
            name: "message",
            output_type: "string",
            description: "What should be known",
        },
    ],
};

/// What is short, as sentences; empty if everything fits.
fn shortages(minimum: &Resources, free: &Capacity) -> Vec<String> {
    let mut short = Vec::new();
    if let Some(cpu) = minimum
        .cpu
        .as_ref()
        .filter(|cpu| cpu.millis() > free.cpu_millicores)
    {
        short.push(format!("cpu: {cpu} needed, {}m free", free.cpu_millicores));
    }
    if let Some(memory) = minimum
        .memory
        .as_ref()
        .filter(|memory| memory.units() > free.memory_bytes)
    {
        short.push(format!(
            "memory: {memory} needed, {}Mi free",
            free.memory_bytes >> 20
        ));
    }
    if let Some(gpu) = minimum.gpu.as_ref().filter(|gpu| gpu.units() > free.gpus) {
        short.push(format!("gpu: {gpu} needed, {} free", free.gpus));
    }
    short
}

fn permanent(message: String) -> Outcome {
    let kind = FailureKind::Permanent;
    Outcome::Failed { message, kind }
}

/// What cannot be seen now may be seen soon; what cannot be seen as things are registered is said at once.
fn unseen(error: TargetError) -> Outcome {
    let message = error.0.message;
    match error.0.class {
        FailureClass::Permanent => permanent(message),
        FailureClass::Transient | FailureClass::TimedOut | FailureClass::Queued => Outcome::Blocked(message),
    }
}

async fn look(context: &Context<'_>) -> Result<JsonMap, Outcome> {
    let name = context.text("cluster_id").unwrap_or_default();
    let minimum: Resources = match context.params.get("minimum") {
        None | Some(Value::Null) => Resources::default(),
        Some(value) => {
            serde_json::from_value(value.clone()).map_err(|error| permanent(format!("minimum: {error}")))?
        }
    };
    let cluster = context.surroundings.cluster(name).await.map_err(unseen)?;
    let health = context.surroundings.health(&cluster).await.map_err(|mut error| {
        error.0.message = format!("cluster '{}' is not healthy: {}", cluster.name, error.0.message);
        unseen(error)
    })?;
    if !health.healthy {
        let message = format!("cluster '{}' is not healthy: {}", cluster.name, health.message);
        return Err(Outcome::Blocked(message));
    }
    if let Some(free) = &health.free {
        let short = shortages(&minimum, free);
        if !short.is_empty() {
            let message = format!(
                "cluster '{}' has too little free: {}",
                cluster.name,
                short.join("; ")
            );
            let kind = FailureKind::Transient;
            return Err(Outcome::Failed { message, kind });
        }
    }
    Ok(JsonMap::from_iter([
        ("healthy".to_owned(), json!(true)),
        ("version".to_owned(), json!(health.version)),
        ("nodes".to_owned(), json!(health.ready_nodes)),
        ("message".to_owned(), json!(health.message)),
    ]))
}

#[async_trait]
impl Action for Definition {
    fn metadata(&self) -> &'static ActionMetadata {
        &METADATA
    }

    async fn run(&self, context: Context<'_>) -> Answer {
        Answer::Outcome(match look(&context).await {
            Ok(outputs) => Outcome::Completed(outputs),
            Err(outcome) => outcome,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shortage_is_named_with_both_amounts() {
        let minimum: Resources =
            serde_json::from_value(json!({ "cpu": 4, "memory": "16Gi", "gpu": 1 })).unwrap();
        let free = Capacity {
            cpu_millicores: 3999,
            memory_bytes: 16 << 30,
            gpus: 0,
        };
        assert_eq!(
            shortages(&minimum, &free),
            ["cpu: 4 needed, 3999m free", "gpu: 1 needed, 0 free"]
        );
    }
}
