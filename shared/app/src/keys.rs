//! Where everything stands in the store. Every key of a tenant's data begins with the tenant.

use slipway_model::{CHUNK_SIZE, ClusterId, DeploymentId, ExecutionId, JobId, TenantId};
use slipway_ports::Key;

/// An execution's header.
pub(crate) fn execution(tenant: &TenantId, id: ExecutionId) -> Key {
    Key::new(format!("{tenant}/x/{id}"), "x")
}

fn chunk_partition(tenant: &TenantId, id: ExecutionId, ordinal: u32) -> String {
    format!("{tenant}/x/{id}/c{:05}", ordinal / CHUNK_SIZE)
}

/// The plan chunk that holds a node.
pub(crate) fn plan(tenant: &TenantId, id: ExecutionId, ordinal: u32) -> Key {
    Key::new(chunk_partition(tenant, id, ordinal), "plan")
}

/// A step's record, in the partition of its plan chunk.
pub(crate) fn step(tenant: &TenantId, id: ExecutionId, ordinal: u32) -> Key {
    Key::new(chunk_partition(tenant, id, ordinal), format!("s{ordinal:05}"))
}

/// The arrivals of a node with several dependencies.
pub(crate) fn join(tenant: &TenantId, id: ExecutionId, ordinal: u32) -> Key {
    Key::new(chunk_partition(tenant, id, ordinal), format!("j{ordinal:05}"))
}

/// When progress of an execution was last published.
pub(crate) fn progress(tenant: &TenantId, id: ExecutionId) -> Key {
    Key::new(format!("{tenant}/x/{id}"), "progress")
}

/// A job.
pub(crate) fn job(tenant: &TenantId, id: JobId) -> Key {
    Key::new(format!("{tenant}/j/{id}"), "j")
}

/// What a job's phases have found so far.
pub(crate) fn job_work(tenant: &TenantId, id: JobId) -> Key {
    Key::new(format!("{tenant}/j/{id}"), "work")
}

/// A deployment.
pub(crate) fn deployment(tenant: &TenantId, id: DeploymentId) -> Key {
    Key::new(format!("{tenant}/d/{id}"), "d")
}

/// A component of a deployment; sorts after the deployment.
pub(crate) fn component(tenant: &TenantId, id: DeploymentId, name: &str) -> Key {
    Key::new(format!("{tenant}/d/{id}"), format!("component/{name}"))
}

/// A line of a deployment's history.
pub(crate) fn history(tenant: &TenantId, id: DeploymentId, entry: &str) -> Key {
    Key::new(format!("{tenant}/d/{id}"), format!("history/{entry}"))
}

/// Who has a name: `kind` is `deployment` or `cluster`.
pub(crate) fn name(tenant: &TenantId, kind: &str, name: &str) -> Key {
    Key::new(format!("{tenant}/n/{kind}/{name}"), "n")
}

/// A template's versions stand in one partition.
pub(crate) fn template(tenant: &TenantId, name: &str, version: &str) -> Key {
    Key::new(format!("{tenant}/t/{name}"), format!("v/{version}"))
}

/// The newest version of a template, for lists.
pub(crate) fn template_head(tenant: &TenantId, name: &str) -> Key {
    Key::new(format!("{tenant}/t/{name}"), "head")
}

/// A registered cluster.
pub(crate) fn cluster(tenant: &TenantId, id: ClusterId) -> Key {
    Key::new(format!("{tenant}/k/{id}"), "k")
}

/// The answer to a request with an idempotency key.
pub(crate) fn idempotency(tenant: &TenantId, key: &str) -> Key {
    Key::new(format!("{tenant}/i/{key}"), "i")
}

/// Who writes a release, outside tenants: two registrations of one cluster are one.
pub(crate) fn release_owner(cluster_uid: &str, namespace: &str, name: &str) -> Key {
    Key::new(format!("release/{cluster_uid}/{namespace}/{name}"), "owner")
}

/// The newest job that wants a release.
pub(crate) fn release_wanted(cluster_uid: &str, namespace: &str, name: &str) -> Key {
    Key::new(format!("release/{cluster_uid}/{namespace}/{name}"), "wanted")
}
