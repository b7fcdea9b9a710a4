//! Messages between the functions: ids and a trace context, never payloads.

use serde::{Deserialize, Serialize};

use crate::{ClusterId, DeploymentId, Event, ExecutionId, JobId, LookId, PlanRequestId, TenantId};

/// A queue by logical name. An adapter knows what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Queue {
    /// Consumed by `plan-dag`: [`Message::Plan`].
    PlanDag,
    /// Consumed by `execute-step`: [`Message::Steps`], [`Message::Execution`], and the looks at clusters that need no
    /// Helm: [`Message::Drift`] and [`Message::Orphans`].
    ExecuteStep,
    /// Consumed by `deploy-helm`: [`Message::Job`], and [`Message::Plan`] of previews, which are rendered with Helm.
    DeployHelm,
    /// A topic: `budpipelineEvents` is consumed by `handle-events`, `budusecasesEvents` by
    /// `track-deployments`; others belong to callers. Carries [`Message::Event`].
    Topic(String),
}

impl Queue {
    /// The name that adapters and operators see.
    pub fn name(&self) -> &str {
        match self {
            Self::PlanDag => "plan-dag",
            Self::ExecuteStep => "execute-step",
            Self::DeployHelm => "deploy-helm",
            Self::Topic(topic) => topic,
        }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Message {
    /// Plan what a deployment wants; older generations are dropped.
    Plan {
        /// Whose.
        tenant: TenantId,
        /// Which deployment.
        deployment: DeploymentId,
        /// For which of its generations.
        generation: u64,
        /// Only the preview that this request of `POST /deployments/{id}/plan` asks for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<PlanRequestId>,
    },
    /// Look at steps: they may be ready, due, or have news.
    Steps {
        /// Whose.
        tenant: TenantId,
        /// Which execution.
        execution: ExecutionId,
        /// Which nodes; several only where their actions have no effect outside, at most 64.
        ordinals: Vec<u32>,
    },
    /// Look at an execution as a whole.
    Execution {
        /// Whose.
        tenant: TenantId,
        /// Which execution.
        execution: ExecutionId,
        /// What for.
        look: ExecutionLook,
    },
    /// Go on with a job.
    Job {
        /// Whose.
        tenant: TenantId,
        /// Which job.
        job: JobId,
    },
    /// Compare what runs of a deployment with what was applied. Changes nothing on a cluster.
    Drift {
        /// Whose.
        tenant: TenantId,
        /// Which deployment.
        deployment: DeploymentId,
        /// One of its components; each gets a message of its own if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        component: Option<String>,
    },
    /// Look on a cluster for what Slipway made there and nobody owns. Changes nothing on it.
    Orphans {
        /// Whose.
        tenant: TenantId,
        /// Which cluster.
        cluster: ClusterId,
        /// Where the last invocation stopped; from the beginning if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// Which look goes on; absent at the beginning of one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        look: Option<LookId>,
    },
    /// An event on a topic: the only message with a payload.
    Event(Event),
}

/// What an execution is looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionLook {
    /// Its deadline may have passed, or it was cancelled: poke what runs.
    Control,
    /// Publish its progress.
    Progress,
    /// Send again whatever is due and may have been lost.
    Repair,
}

/// A body that no consumer can read.
#[derive(Debug, thiserror::Error)]
#[error("a message on queue '{queue}' cannot be read: expected the JSON of {expected}")]
pub struct UnreadableMessage {
    queue: String,
    expected: &'static str,
    #[source]
    source: serde_json::Error,
}

impl Message {
    /// The text that stands on the queue. Events stand on their topic bare, as other services expect them.
    pub fn to_body(&self) -> String {
        let json = match self {
            Self::Event(event) => serde_json::to_string(event),
            other => serde_json::to_string(other),
        };
        json.expect("messages hold only strings, numbers and JSON values")
    }

    /// Reads what stands on a queue.
    ///
    /// # Errors
    /// When the text is not JSON of the shape that the queue carries.
    pub fn from_body(queue: &Queue, body: &str) -> Result<Self, UnreadableMessage> {
        let refuse = |expected, source| UnreadableMessage {
            queue: queue.name().to_owned(),
            expected,
            source,
        };
        match queue {
            Queue::Topic(_) => serde_json::from_str(body)
                .map(Self::Event)
                .map_err(|source| refuse("an event", source)),
            _ => serde_json::from_str(body).map_err(|source| refuse("an internal message", source)),
        }
    }
}
