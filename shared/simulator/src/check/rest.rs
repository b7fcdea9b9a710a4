//! Checks once everything is at rest.

use std::collections::{BTreeMap, BTreeSet};

use slipway_model::{
    BUDUSECASES_EVENTS, Deployment, DeploymentStatus, Execution, Job, JobStatus, StepRecord,
};
use slipway_ports::{Key, ReleaseStatus};

use super::{
    Invariant, Kind, kind,
    left::Told,
    records::{plan_in, read, step_key},
};
use crate::world::World;

/// Most messages for each thing that there was to do. Runs come to a third of that.
const MOST: u64 = 8;

impl World {
    /// Nothing happens any more: everything must have ended, and everything that is left must be somebody's.
    pub(crate) fn check_rest(&mut self) {
        // Finalizers have done their work.
        let now = self.now;
        self.cloud.settle(now);
        let keys: Vec<Key> = self.tables.rows().map(|(key, _)| key.clone()).collect();
        let mut deployments = Vec::new();
        let mut jobs = Vec::new();
        for key in &keys {
            let Some(row) = self.tables.settled(key).cloned() else {
                continue;
            };
            match kind(key) {
                Kind::Header => {
                    if let Some(header) = read::<Execution>(&row) {
                        self.check_execution_at_rest(key, &header);
                    }
                }
                Kind::Job(id) => {
                    if let Some(job) = read::<Job>(&row) {
                        self.coverage.end(format!("job {:?}", job.status));
                        let was_begun = job.step.is_some() || job.status == JobStatus::Running;
                        if !job.status.is_terminal() && was_begun {
                            self.violated(
                                Invariant::EverythingEnds,
                                format_args!("job {id} is {:?} at rest", job.status),
                            );
                        }
                        jobs.push(job);
                    }
                }
                Kind::Deployment => {
                    if let Some(deployment) = read::<Deployment>(&row) {
                        self.check_deployment_at_rest(key, &deployment);
                        deployments.push(deployment);
                    }
                }
                _ => {}
            }
        }
        self.check_bounds(&keys);
        self.check_failed_installs(&jobs);
        self.check_hooks_at_rest(&jobs);
        self.check_undone(&jobs);
        self.check_cluster_at_rest(&deployments, &Told::by(&jobs));
    }

    /// What was worked on is in proportion to what there was: plans, jobs, calls and what went wrong.
    fn check_bounds(&mut self, keys: &[Key]) {
        let plans = self.checks.plans.values().flat_map(|plan| plan.nodes.values());
        let plans: usize = plans.map(|node| 1 + node.dependencies.len()).sum();
        let jobs = keys
            .iter()
            .filter(|key| matches!(kind(key), Kind::Job(_)))
            .count();
        let was_there = 10
            + plans as u64
            + 10 * jobs as u64
            + 4 * (self.coverage.faults() + u64::from(self.checks.calls));
        let messages = self.checks.worked_on;
        if messages > MOST * was_there {
            self.violated(
                Invariant::WorkIsBounded,
                format_args!(
                    "{messages} messages for {plans} nodes and edges, {jobs} jobs and whatever else"
                ),
            );
        }
    }

    fn check_execution_at_rest(&mut self, key: &Key, header: &Execution) {
        self.coverage.end(format!("execution {:?}", header.status));
        if !header.status.is_terminal() {
            self.violated(
                Invariant::EverythingEnds,
                format_args!("execution {key} is {:?} at rest", header.status),
            );
            return;
        }
        let is_told = header
            .callback_topics
            .iter()
            .any(|topic| topic == BUDUSECASES_EVENTS);
        let id = header.id.to_string();
        let followed = plan_in(header);
        let names: Vec<(String, u32)> = self
            .checks
            .plans
            .get(&followed)
            .map(|plan| plan.names.iter().map(|(name, at)| (name.clone(), *at)).collect())
            .unwrap_or_default();
        for (name, ordinal) in names {
            let record: Option<StepRecord> =
                self.tables.settled(&step_key(&followed, ordinal)).and_then(read);
            let Some(record) = record else { continue };
            self.coverage.end(format!("step {:?}", record.status));
            let was_told = self
                .checks
                .told
                .contains(&(id.clone(), name.clone(), "step".to_owned()));
            // What an earlier execution completed was told then.
            let is_kept = record.ended_at.is_some_and(|ended| ended < header.created_at);
            if is_told && !was_told && !is_kept {
                self.violated(
                    Invariant::EveryEndIsTold,
                    format_args!(
                        "nobody was told that step '{name}' of execution {id} is {:?}",
                        record.status
                    ),
                );
            }
        }
        if is_told
            && !self
                .checks
                .told
                .contains(&(id.clone(), String::new(), "execution".to_owned()))
        {
            self.violated(
                Invariant::EveryEndIsTold,
                format_args!("nobody was told that execution {id} is {:?}", header.status),
            );
        }
    }

    fn check_deployment_at_rest(&mut self, key: &Key, deployment: &Deployment) {
        self.coverage.end(format!("deployment {:?}", deployment.status));
        if deployment.status.is_in_flight() {
            self.violated(
                Invariant::EverythingEnds,
                format_args!("deployment {key} is {:?} at rest", deployment.status),
            );
        }
        match deployment.status {
            DeploymentStatus::Running => self.check_running(key, deployment),
            DeploymentStatus::Stopped => self.check_stopped(key, deployment),
            DeploymentStatus::Deleted => self.check_deleted(key, deployment),
            _ => {}
        }
    }

    /// A hook that never ends outlives its job only where that says so.
    fn check_hooks_at_rest(&mut self, jobs: &[Job]) {
        let hooks: Vec<(String, String)> = self
            .cloud
            .hooks
            .iter()
            .filter(|(_, hook)| hook.is_endless())
            .map(|(object, hook)| (object.to_string(), hook.job().to_owned()))
            .collect();
        for (object, id) in hooks {
            self.coverage.end("hook left".to_owned());
            let job = jobs.iter().find(|job| job.id.to_string() == id);
            let said = job
                .and_then(|job| job.error_message.as_deref())
                .unwrap_or_default();
            let names = ["goes on", "may go on"].map(|how| format!("hook {object} {how}"));
            if !names.iter().any(|named| said.contains(named)) {
                let status = job.map(|job| job.status);
                self.violated(
                    Invariant::TheClusterIsAccountedFor,
                    format_args!(
                        "hook {object} goes on, and job {id}, which is {status:?}, does not say so: {said}"
                    ),
                );
            }
        }
    }

    /// Every release was made by a job that is known and is not left half done; every object belongs to one.
    fn check_cluster_at_rest(&mut self, deployments: &[Deployment], told: &BTreeMap<String, Told>) {
        let releases: Vec<(String, ReleaseStatus, String)> = self
            .cloud
            .releases
            .keys()
            .filter_map(|name| {
                let newest = self.cloud.newest(name)?;
                Some((name.clone(), newest.status, newest.job().to_owned()))
            })
            .collect();
        // Releases whose newest revision is all that there should be.
        let mut whole = BTreeSet::new();
        for (release, status, job) in &releases {
            let found: Option<Job> = self
                .tables
                .settled(&Key::new(format!("local/j/{job}"), "j"))
                .and_then(read);
            if found.is_none() {
                self.violated(
                    Invariant::TheClusterIsAccountedFor,
                    format_args!("release {release} is of job {job}, which does not exist"),
                );
                continue;
            }
            if *status == ReleaseStatus::Deployed
                && found.is_some_and(|job| job.status == JobStatus::Succeeded)
            {
                whole.insert(release.as_str());
            }
            // Half done is what a job left that failed, and says so: that which made it, or had the release last.
            let last = self.last_holder(release);
            let is_told = told.get(release).is_some_and(|told| {
                let is_of = |one: &String| one == job || Some(one) == last.as_ref();
                told.unlucky.iter().any(is_of)
            });
            if status.is_pending() && !is_told && !self.has_late_record(release) {
                self.violated(
                    Invariant::TheClusterIsAccountedFor,
                    format_args!("release {release} is left {status:?}, and no job that failed is about it"),
                );
            }
        }
        let orphans: Vec<String> = self
            .cloud
            .objects
            .iter()
            .filter(|(object, _)| !crate::cluster::is_claim(object))
            .filter(|(object, found)| !self.cloud.strays.contains(object) && found.deleting.is_none())
            .filter(|(object, found)| {
                let of_release = self.cloud.releases.get(&found.release).is_some_and(|all| {
                    let newest = all.iter().map(|one| one.number).max();
                    let is_whole = whole.contains(found.release.as_str());
                    all.iter()
                        .filter(|one| !is_whole || Some(one.number) == newest)
                        .any(|one| one.objects.contains(object))
                });
                let is_told = told
                    .get(&found.release)
                    .is_some_and(|told| told.names(&object.to_string()));
                !of_release && !is_told
            })
            .map(|(object, found)| format!("{object} of {}", found.release))
            .collect();
        if let Some(orphan) = orphans.first() {
            self.violated(
                Invariant::TheClusterIsAccountedFor,
                format_args!("{orphan} belongs to no record of its release, and nothing reports it"),
            );
        }
        for (name, namespace) in &self.cloud.namespaces.clone() {
            let Some(id) = namespace.created_for else { continue };
            let owner = deployments.iter().find(|deployment| deployment.id == id);
            let is_let_go = self.checks.let_go.contains_key(&format!("local/d/{id}"));
            let is_gone = !is_let_go && owner.is_none_or(|owner| owner.status == DeploymentStatus::Deleted);
            let prefix = format!("{name}/");
            let mut all = self.cloud.objects.keys().chain(self.cloud.hooks.keys());
            let is_used = all.any(|object| object.namespace == *name)
                || self
                    .cloud
                    .releases
                    .keys()
                    .any(|release| release.starts_with(&prefix));
            // Nobody was left to see it. The schedule sees it, and tells of it.
            let is_made_late = self.checks.made_late.contains(name);
            if is_gone && is_made_late {
                self.looks.must_look = true;
            }
            if is_gone && !is_used && !is_made_late {
                self.violated(
                    Invariant::TheClusterIsAccountedFor,
                    format_args!("namespace {name} of deployment {id} is left, and the deployment is gone"),
                );
            }
        }
    }
}
