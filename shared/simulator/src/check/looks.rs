//! What others did to the cluster, and what is told of it.

use std::collections::{BTreeMap, BTreeSet};

use slipway_app::{ClusterHealthView, DeploymentView};
use slipway_model::{
    ComponentStatus, Deployment, DeploymentStatus, DriftedObject, Execution, ExecutionId, OrphanKind,
};
use slipway_ports::Key;

use super::{Invariant, Kind, kind, records::read};
use crate::world::World;

/// What happens once all is at rest.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// How many times others changed something, or put it right.
    pub(crate) rounds: u32,
    /// Whether the schedule comes although nothing else is due.
    pub(crate) must_sweep: bool,
    /// Whether something is left that only a look can tell of.
    pub(crate) must_look: bool,
    /// Whether it was asked what was seen.
    pub(crate) was_asked: bool,
    /// Releases that somebody changed.
    pub(crate) touched: BTreeSet<String>,
    /// Control planes that nobody knows.
    pub(crate) strangers: u32,
    /// Release → what the cluster answered last.
    pub(crate) answers: BTreeMap<String, Vec<DriftedObject>>,
    /// The cluster as it was before anything was changed.
    pub(crate) saved: Option<crate::cluster::Cloud>,
    /// The cluster as it stood before it was looked at.
    pub(crate) before: String,
    /// What callers were told.
    pub(crate) told: Vec<DeploymentView>,
    pub(crate) health: Option<ClusterHealthView>,
}

impl World {
    /// Any job, by whomever it was made.
    pub(crate) fn some_stored_job(&mut self) -> Option<String> {
        let jobs = self.tables.rows().filter_map(|(key, _)| match kind(key) {
            Kind::Job(id) => Some(id.to_owned()),
            _ => None,
        });
        let jobs: Vec<String> = jobs.collect();
        let count = u32::try_from(jobs.len()).ok().filter(|count| *count > 0)?;
        let index = self.choices.below(count) as usize;
        jobs.get(index).cloned()
    }

    /// Everything on the cluster, to compare.
    pub(crate) fn snapshot(&self) -> String {
        let cloud = &self.cloud;
        // What is being deleted goes by itself.
        let objects: Vec<_> = cloud
            .objects
            .iter()
            .filter(|(_, object)| object.deleting.is_none())
            .collect();
        format!("{:?} {:?} {objects:?}", cloud.namespaces, cloud.releases)
    }

    /// Executions of a DAG of that name.
    pub(crate) fn executions_named(&self, name: &str) -> Vec<ExecutionId> {
        self.tables
            .rows()
            .filter(|(key, _)| matches!(kind(key), Kind::Header))
            .filter_map(|(_, row)| read::<Execution>(row))
            .filter(|execution| execution.name == name)
            .map(|execution| execution.id)
            .collect()
    }

    pub(crate) fn deployments(&self) -> Vec<Deployment> {
        self.tables
            .rows()
            .filter(|(key, _)| matches!(kind(key), Kind::Deployment))
            .filter_map(|(_, row)| read(row))
            .collect()
    }

    /// Compares what callers were told with what is on the cluster.
    pub(crate) fn check_looks(&mut self) {
        if self.snapshot() != self.looks.before {
            self.violated(
                Invariant::LooksChangeNothing,
                "the cluster is not as it was before it was looked at",
            );
        }
        for view in std::mem::take(&mut self.looks.told) {
            self.check_drift(&view);
        }
        if let Some(health) = self.looks.health.take() {
            self.check_orphans(&health);
        }
    }

    fn check_drift(&mut self, view: &DeploymentView) {
        if view.deployment.status != DeploymentStatus::Running {
            return;
        }
        let id = view.deployment.id;
        let told = view.drift.as_ref();
        for component in &view.components {
            if component.removed || component.status != ComponentStatus::Running {
                continue;
            }
            let release = format!("{}/{}", view.deployment.namespace, component.release_name);
            let mine: Vec<&DriftedObject> = told
                .into_iter()
                .flat_map(|drift| &drift.objects)
                .filter(|found| found.component == component.component_name)
                .map(|found| &found.object)
                .collect();
            let Some(answer) = self.looks.answers.get(&release) else {
                self.violated(
                    Invariant::DriftIsToldAsItIs,
                    format_args!("release {release} of deployment {id} was not looked at within the hour"),
                );
                continue;
            };
            let is_told = answer.iter().collect::<Vec<_>>() == mine;
            let is_silent = mine.is_empty() && self.looks.touched.contains(&release);
            if !is_told || is_silent {
                let what = format!("{release} of deployment {id}: {answer:?} is told as {mine:?}");
                self.violated(Invariant::DriftIsToldAsItIs, what);
            }
        }
        if let Some(error) = told.and_then(|drift| drift.errors.first()) {
            let what = format!("deployment {id} tells of an error while all is well: {error}");
            self.violated(Invariant::DriftIsToldAsItIs, what);
        }
    }

    fn check_orphans(&mut self, health: &ClusterHealthView) {
        let Some(orphans) = &health.orphans else { return };
        let deployments: BTreeMap<String, Deployment> = self
            .deployments()
            .into_iter()
            .map(|deployment| (deployment.id.to_string(), deployment))
            .collect();
        let is_gone = |id: &str| {
            deployments
                .get(id)
                .is_none_or(|found| found.status == DeploymentStatus::Deleted)
        };
        let has = |deployment: &Deployment, release: &str| {
            let prefix = format!("{}/d/{}", deployment.tenant, deployment.id);
            deployment.status.is_in_flight()
                || self
                    .tables
                    .rows()
                    .filter(|(key, _): &(&Key, _)| key.partition == prefix)
                    .filter_map(|(_, row)| read::<serde_json::Value>(row))
                    .any(|component| component["release_name"] == release && component["disabled"] != true)
        };
        let (releases, namespaces) = self.cloud.managed();
        let mut expected: BTreeSet<String> = releases
            .iter()
            .filter(|one| one.deployment != "none")
            .filter(|one| match deployments.get(&one.deployment) {
                Some(deployment) if !is_gone(&one.deployment) => !has(deployment, &one.release.name),
                _ => true,
            })
            .map(|one| one.release.to_string())
            .collect();
        expected.extend(
            namespaces
                .iter()
                .filter(|one| is_gone(&one.deployment))
                .map(|one| one.name.clone()),
        );
        let told: BTreeSet<String> = orphans
            .items
            .iter()
            .map(|orphan| match (orphan.kind, &orphan.release) {
                (OrphanKind::Release, Some(release)) => format!("{}/{release}", orphan.namespace),
                _ => orphan.namespace.clone(),
            })
            .collect();
        if told != expected {
            let what = format!("nobody owns {expected:?}, and {told:?} is told");
            self.violated(Invariant::DriftIsToldAsItIs, what);
        }
    }
}
