//! The words of Slipway: identifiers, states, records, events and wire messages.
//!
//! Everything here is plain data with `serde` shapes; nothing does I/O, reads a clock or draws a random
//! number. What the HTTP API returns is, field for field, what stands here.

mod action;
mod catalog;
mod cluster;
mod dag;
mod deployment;
mod drift;
mod event;
mod execution;
mod health;
mod ids;
mod job;
mod message;
mod outcome;
mod outputs;
mod plan;
mod preview;
mod problem;
mod template;
mod time;

pub use action::{ActionMetadata, EffectClass, ExecutionMode, OutputDefinition, ParameterDefinition};
pub use catalog::{Catalog, CatalogEntry};
pub use cluster::{Capacity, Cluster, ClusterHealth, ClusterTarget, Quantity};
pub use dag::{Dag, DagSettings, DagStep, OnFailure, Retry, RunCondition};
pub use deployment::{
    ComponentDeployment, ComponentStatus, Deployment, DeploymentOperation, DeploymentStatus, HistoryEntry,
    TemplateReference,
};
pub use drift::{
    DriftIgnore, DriftKind, DriftSettings, DriftedField, DriftedObject, Orphan, OrphanKind, Orphans,
};
pub use event::{BUDPIPELINE_EVENTS, BUDUSECASES_EVENTS, Event, EventType, LARGEST_EVENT};
pub use execution::{
    AttemptRecord, Cancellation, Execution, ExecutionProgress, ExecutionStatus, Failure, StepProgress,
    StepRecord, StepStatus,
};
pub use health::HealthCheck;
pub use ids::{ClusterId, DeploymentId, ExecutionId, InvalidId, JobId, LookId, PlanRequestId, TenantId};
pub use job::{HelmJobConfig, HelmOperation, Job, JobPhase, JobStatus, JobType, JobWait};
pub use message::{ExecutionLook, Message, Queue, UnreadableMessage};
pub use outcome::{FailureKind, JobEnd, Outcome};
pub use outputs::{OutputSource, OutputType};
pub use plan::{CHUNK_SIZE, MAX_FAN_IN, MAX_FAN_OUT, Node, NodeKind, PlanChunk, Successor};
pub use preview::{Danger, DangerKind, ObjectChange, ObjectPlan, ObjectRole};
pub use problem::{FieldError, Problem, ProblemType};
pub use template::{
    Chart, Component, ComponentType, CrdPolicy, ImmutablePolicy, OrderEntry, Parameter, ParameterType,
    Resources, ResourcesPair, Template,
};
pub use time::Timestamp;

/// A JSON object, the shape of parameters, values and outputs.
pub type JsonMap = serde_json::Map<String, serde_json::Value>;

/// Bytes of a value's JSON, counted without keeping it.
pub fn json_size<T: serde::Serialize + ?Sized>(value: &T) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // What cannot be written as JSON is not written anywhere, whatever its size.
    drop(serde_json::to_writer(&mut count, value));
    count.0
}
