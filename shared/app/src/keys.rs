//! Where everything stands in the store. Every key of a tenant's data begins with the tenant.

use slipway_model::{
    CHUNK_SIZE, ClusterId, DeploymentId, Execution, ExecutionId, Job, JobId, PlanRequestId, TenantId,
    Timestamp,
};
use slipway_ports::Key;
use uuid::Uuid;

/// An execution's header.
pub(crate) fn execution(tenant: &TenantId, id: ExecutionId) -> Key {
    Key::new(format!("{tenant}/x/{id}"), "x")
}

/// Under the plan's name, so that a plan that was written for the same execution and not taken is never met.
fn chunk_partition(tenant: &TenantId, id: ExecutionId, plan: &str, ordinal: u32) -> String {
    let chunk = ordinal / CHUNK_SIZE;
    match plan {
        // Written before plans had names.
        "" => format!("{tenant}/x/{id}/c{chunk:05}"),
        plan => format!("{tenant}/x/{id}/{plan}/c{chunk:05}"),
    }
}

/// The plan chunk that holds a node.
pub(crate) fn plan(header: &Execution, ordinal: u32) -> Key {
    Key::new(
        chunk_partition(&header.tenant, header.id, &header.plan, ordinal),
        "plan",
    )
}

/// A step's record, in the partition of its plan chunk.
pub(crate) fn step(header: &Execution, ordinal: u32) -> Key {
    step_of_plan(&header.tenant, header.id, &header.plan, ordinal)
}

/// The record of a job's step; nothing if it has none.
pub(crate) fn step_of_job(job: &Job) -> Option<Key> {
    let (execution, ordinal) = job.step?;
    Some(step_of_plan(&job.tenant, execution, &job.plan, ordinal))
}

fn step_of_plan(tenant: &TenantId, id: ExecutionId, plan: &str, ordinal: u32) -> Key {
    Key::new(
        chunk_partition(tenant, id, plan, ordinal),
        format!("s{ordinal:05}"),
    )
}

/// The arrivals of a node with several dependencies.
pub(crate) fn join(header: &Execution, ordinal: u32) -> Key {
    Key::new(
        chunk_partition(&header.tenant, header.id, &header.plan, ordinal),
        format!("j{ordinal:05}"),
    )
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
    Key::new(format!("{tenant}/d/{id}"), format!("{COMPONENTS}{name}"))
}

/// A line of a deployment's history.
pub(crate) fn history(tenant: &TenantId, id: DeploymentId, entry: &str) -> Key {
    Key::new(format!("{tenant}/d/{id}"), format!("{HISTORY}{entry}"))
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

/// A cluster that is being registered, and is to be taken away if that does not end.
pub(crate) fn registration(tenant: &TenantId, id: ClusterId) -> Key {
    Key::new(format!("{tenant}/k/{id}"), "registration")
}

/// A deployment that uses a template version; in the template's partition, so that deleting sees it at once.
pub(crate) fn template_use(tenant: &TenantId, name: &str, version: &str, user: DeploymentId) -> Key {
    Key::new(
        format!("{tenant}/t/{name}"),
        format!("{}{user}", template_uses(version)),
    )
}

/// What the sort keys of a template version's users begin with.
pub(crate) fn template_uses(version: &str) -> String {
    format!("use/{version}/")
}

/// A deployment that uses a cluster; in the cluster's partition.
pub(crate) fn cluster_use(tenant: &TenantId, id: ClusterId, user: DeploymentId) -> Key {
    Key::new(format!("{tenant}/k/{id}"), format!("{CLUSTER_USES}{user}"))
}

/// What the sort keys of a cluster's users begin with.
pub(crate) const CLUSTER_USES: &str = "use/";

/// Who has the first eight characters of a deployment's id.
pub(crate) fn short_id(tenant: &TenantId, short: &str) -> Key {
    Key::new(format!("{tenant}/n/short/{short}"), "n")
}

/// The inputs of one generation of a deployment.
pub(crate) fn revision(tenant: &TenantId, id: DeploymentId, generation: u64) -> Key {
    Key::new(format!("{tenant}/d/{id}"), format!("{REVISIONS}{generation:010}"))
}

/// What the sort keys of a deployment's revisions begin with.
pub(crate) const REVISIONS: &str = "revision/";

/// The names of the secrets that an execution of a deployment, or a request for a plan of it, brought.
pub(crate) fn secrets_of(tenant: &TenantId, id: DeploymentId, bringer: Uuid) -> Key {
    Key::new(format!("{tenant}/d/{id}"), format!("{SECRETS}{bringer}"))
}

/// What the sort keys of such names begin with.
pub(crate) const SECRETS: &str = "secrets/";

/// When a deployment that runs is compared with its cluster next.
pub(crate) fn drift(tenant: &TenantId, id: DeploymentId) -> Key {
    Key::new(format!("{tenant}/d/{id}"), "drift")
}

/// What the last comparison of a component found.
pub(crate) fn drift_of(tenant: &TenantId, id: DeploymentId, component: &str) -> Key {
    Key::new(format!("{tenant}/d/{id}"), format!("{DRIFTS}{component}"))
}

/// What the sort keys of what comparisons found begin with.
pub(crate) const DRIFTS: &str = "drifted/";

/// When a cluster is looked at next for what nobody owns, and what the last look found.
pub(crate) fn orphans(tenant: &TenantId, id: ClusterId) -> Key {
    Key::new(format!("{tenant}/k/{id}"), "orphans")
}

/// When an event of a deployment was first seen, so that a repeat of it gets the same place in the history.
pub(crate) fn seen(tenant: &TenantId, id: DeploymentId, event: &str) -> Key {
    Key::new(format!("{tenant}/d/{id}"), format!("seen/{event}"))
}

/// What the sort keys of a deployment's components begin with.
pub(crate) const COMPONENTS: &str = "component/";

/// What the sort keys of a deployment's history begin with.
pub(crate) const HISTORY: &str = "history/";

/// The list of a tenant's `what`: `deployments`, `clusters`, `templates`, `executions`, `jobs`.
pub(crate) fn list(tenant: &TenantId, what: &str) -> String {
    format!("{tenant}/{what}")
}

/// A position that lists the newest first.
pub(crate) fn position(at: Timestamp, tie: impl std::fmt::Display) -> String {
    format!("{:014}/{tie}", at.as_millis().max(0))
}

/// The newest request for a plan preview of a deployment.
pub(crate) fn plan_request(tenant: &TenantId, id: DeploymentId) -> Key {
    Key::new(format!("{tenant}/d/{id}"), "plan-request")
}

/// The blob of the plan preview that a request asked for.
pub(crate) fn preview_blob(tenant: &TenantId, id: DeploymentId, request: PlanRequestId) -> String {
    format!("{tenant}/deployments/{id}/plans/{request}.json")
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

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DueThing {
    Execution(ExecutionId),
    Step(ExecutionId, u32),
    Job(JobId),
    Deployment(DeploymentId),
    Drift(DeploymentId),
    Orphans(ClusterId),
    Registration(ClusterId),
}

/// What stands under a key of the index of due items, and whose it is; nothing for kinds that are driven otherwise.
pub(crate) fn due_thing(key: &Key) -> Option<(TenantId, DueThing)> {
    let mut parts = key.partition.split('/');
    let (tenant, kind, id) = (parts.next()?, parts.next()?, parts.next()?);
    let thing = match (kind, key.sort.as_str()) {
        ("x", "x") => DueThing::Execution(id.parse().ok()?),
        ("x", sort) => DueThing::Step(id.parse().ok()?, sort.strip_prefix('s')?.parse().ok()?),
        ("j", "j") => DueThing::Job(id.parse().ok()?),
        ("d", "d") => DueThing::Deployment(id.parse().ok()?),
        ("d", "drift") => DueThing::Drift(id.parse().ok()?),
        ("k", "orphans") => DueThing::Orphans(id.parse().ok()?),
        ("k", "registration") => DueThing::Registration(id.parse().ok()?),
        _ => return None,
    };
    Some((tenant.parse().ok()?, thing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_read_from_its_key() {
        let tenant = TenantId::local();
        let id = "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b";
        let (x, j): (ExecutionId, JobId) = (id.parse().unwrap(), id.parse().unwrap());
        let (d, k): (DeploymentId, ClusterId) = (id.parse().unwrap(), id.parse().unwrap());
        for (key, thing) in [
            (execution(&tenant, x), Some(DueThing::Execution(x))),
            (
                step_of_plan(&tenant, x, "9f86d081884c7d65", 130),
                Some(DueThing::Step(x, 130)),
            ),
            (step_of_plan(&tenant, x, "", 130), Some(DueThing::Step(x, 130))),
            (job(&tenant, j), Some(DueThing::Job(j))),
            (deployment(&tenant, d), Some(DueThing::Deployment(d))),
            (drift(&tenant, d), Some(DueThing::Drift(d))),
            (drift_of(&tenant, d, "llm"), None),
            (orphans(&tenant, k), Some(DueThing::Orphans(k))),
            (registration(&tenant, k), Some(DueThing::Registration(k))),
            (component(&tenant, d, "llm"), None),
            (release_owner(id, "uc-1", "x"), None),
        ] {
            assert_eq!(due_thing(&key).map(|(_, thing)| thing), thing, "{key}");
        }
    }
}
