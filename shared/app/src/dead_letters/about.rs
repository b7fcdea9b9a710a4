//! What a dead letter is about.

use std::fmt;

use serde::{Deserialize, Serialize};
use slipway_model::{
    ClusterId, DeploymentId, Event, EventType, ExecutionId, ExecutionLook, JobId, Message, Queue, TenantId,
};
use utoipa::ToSchema;

use crate::dispatch::tenant_of;

/// What a dead letter is about, as far as it can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum About {
    /// Planning a generation of a deployment.
    Plan {
        /// Whose.
        tenant: TenantId,
        /// Which deployment.
        deployment_id: DeploymentId,
        /// Which of its generations.
        generation: u64,
        /// Whether only the preview of the plan was asked for.
        preview: bool,
    },
    /// Steps of an execution.
    Steps {
        /// Whose.
        tenant: TenantId,
        /// Which execution.
        execution_id: ExecutionId,
        /// Places in the execution's plan.
        ordinals: Vec<u32>,
    },
    /// A look at an execution as a whole.
    Execution {
        /// Whose.
        tenant: TenantId,
        /// Which execution.
        execution_id: ExecutionId,
        /// What it is looked at for: `control`, `progress` or `repair`.
        look: String,
    },
    /// Going on with a job.
    Job {
        /// Whose.
        tenant: TenantId,
        /// Which job.
        job_id: JobId,
    },
    /// Comparing a deployment with its cluster.
    Drift {
        /// Whose.
        tenant: TenantId,
        /// Which deployment.
        deployment_id: DeploymentId,
        /// Which of its components; all if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        component: Option<String>,
    },
    /// Looking on a cluster for what nobody owns.
    Orphans {
        /// Whose.
        tenant: TenantId,
        /// Which cluster.
        cluster_id: ClusterId,
    },
    /// An event.
    Event {
        /// Whose; absent if the event names no tenant that can be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<TenantId>,
        /// Such as `job_completed`.
        event_type: String,
        /// The job that it is about.
        #[serde(default, skip_serializing_if = "Option::is_none", rename = "job_id")]
        job: Option<JobId>,
        /// The execution that it is about.
        #[serde(default, skip_serializing_if = "Option::is_none", rename = "execution_id")]
        execution: Option<ExecutionId>,
    },
    /// Nothing that this version can read.
    Unreadable,
}

impl About {
    /// What a body on a queue is about.
    pub(super) fn body(queue: &Queue, body: &str) -> Self {
        Message::from_body(queue, body).map_or(Self::Unreadable, |message| Self::message(&message))
    }

    pub(super) fn message(message: &Message) -> Self {
        match message.clone() {
            Message::Plan {
                tenant,
                deployment,
                generation,
                request,
            } => Self::Plan {
                tenant,
                deployment_id: deployment,
                generation,
                preview: request.is_some(),
            },
            Message::Steps {
                tenant,
                execution,
                ordinals,
            } => Self::Steps {
                tenant,
                execution_id: execution,
                ordinals,
            },
            Message::Execution {
                tenant,
                execution,
                look,
            } => Self::Execution {
                tenant,
                execution_id: execution,
                look: match look {
                    ExecutionLook::Control => "control",
                    ExecutionLook::Progress => "progress",
                    ExecutionLook::Repair => "repair",
                }
                .to_owned(),
            },
            Message::Job { tenant, job } => Self::Job { tenant, job_id: job },
            Message::Drift {
                tenant,
                deployment,
                component,
            } => Self::Drift {
                tenant,
                deployment_id: deployment,
                component,
            },
            Message::Orphans { tenant, cluster, .. } => Self::Orphans {
                tenant,
                cluster_id: cluster,
            },
            Message::Event(event) => Self::event(&event),
        }
    }

    pub(super) fn event(event: &Event) -> Self {
        let is_of_job = matches!(
            event.event_type.parse(),
            Ok(EventType::JobCompleted | EventType::JobFailed)
        );
        let named = |name: &str| {
            let id = event.payload.get(name).and_then(|id| id.as_str());
            id.unwrap_or(&event.workflow_id).to_owned()
        };
        let mut event_type = event.event_type.clone();
        event_type.truncate(event_type.floor_char_boundary(80));
        Self::Event {
            tenant: tenant_of(event).ok(),
            event_type,
            job: is_of_job.then(|| named("job_id").parse().ok()).flatten(),
            execution: (!is_of_job).then(|| named("execution_id").parse().ok()).flatten(),
        }
    }

    /// Whose it is, if that can be read.
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Plan { tenant, .. }
            | Self::Steps { tenant, .. }
            | Self::Execution { tenant, .. }
            | Self::Job { tenant, .. }
            | Self::Drift { tenant, .. }
            | Self::Orphans { tenant, .. } => Some(tenant),
            Self::Event { tenant, .. } => tenant.as_ref(),
            Self::Unreadable => None,
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan {
                deployment_id,
                generation,
                preview,
                ..
            } => {
                let what = if *preview { "preview" } else { "plan" };
                write!(f, "{what} of deployment {deployment_id}, generation {generation}")
            }
            Self::Steps {
                execution_id,
                ordinals,
                ..
            } => {
                let list: Vec<String> = ordinals.iter().map(ToString::to_string).collect();
                write!(f, "steps {} of execution {execution_id}", list.join(", "))
            }
            Self::Execution {
                execution_id, look, ..
            } => write!(f, "{look} of execution {execution_id}"),
            Self::Job { job_id, .. } => write!(f, "job {job_id}"),
            Self::Drift {
                deployment_id,
                component,
                ..
            } => match component {
                Some(component) => write!(f, "drift of {component} of deployment {deployment_id}"),
                None => write!(f, "drift of deployment {deployment_id}"),
            },
            Self::Orphans { cluster_id, .. } => write!(f, "what nobody owns on cluster {cluster_id}"),
            Self::Event {
                event_type,
                job,
                execution,
                ..
            } => match (job, execution) {
                (Some(job), _) => write!(f, "event {event_type} of job {job}"),
                (None, Some(execution)) => write!(f, "event {event_type} of execution {execution}"),
                (None, None) => write!(f, "event {event_type:?}"),
            },
            Self::Unreadable => f.write_str("nothing that can be read"),
        }
    }
}
