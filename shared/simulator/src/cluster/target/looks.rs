//! Looking, without a change.

use std::time::Duration;

use slipway_model::{DriftedObject, JobWait, ObjectChange, ObjectPlan};
use slipway_ports::{
    AppliedState, Diagnosis, Managed, ManagedRelease, ObjectReference, Observation, PreviewRequest, Release,
    ReleasePreview, TargetError,
};

use super::{
    SimTarget,
    charts::{objects, rendered},
};
use crate::{
    cluster::{Request, name_of},
    mutants::Mutant,
    world::millis,
};

/// Releases on one page.
const PAGE: usize = 2;

impl SimTarget {
    /// Where the cluster differs from what was applied; what was answered is kept, to compare it with what is told.
    pub(super) async fn differences(
        &self,
        applied: &AppliedState<'_>,
    ) -> Result<Vec<DriftedObject>, TargetError> {
        self.look("drift").await?;
        let name = name_of(applied.release);
        let mut world = self.0.world();
        if world.has(Mutant::LooksTouch) {
            let request = Request::Forget {
                release: name.clone(),
                number: 0,
            };
            let _ = world.perform(&request);
        }
        let found = world.cloud.differences(&name, applied);
        world.looks.answers.insert(name, found.clone());
        Ok(found)
    }

    /// What is labelled, two releases a page.
    pub(super) async fn page_of_managed(&self, after: Option<&str>) -> Result<Managed, TargetError> {
        self.look("managed").await?;
        let world = self.0.world();
        let (releases, mut namespaces) = world.cloud.managed();
        let mut rest = releases
            .into_iter()
            .filter(|release| after.is_none_or(|after| name_of(&release.release).as_str() > after));
        let releases: Vec<ManagedRelease> = rest.by_ref().take(PAGE).collect();
        let next = rest
            .next()
            .and(releases.last().map(|last| name_of(&last.release)));
        if after.is_some() {
            namespaces.clear();
        }
        Ok(Managed {
            releases,
            namespaces,
            next,
        })
    }

    pub(super) async fn preview_release(
        &self,
        request: &PreviewRequest<'_>,
    ) -> Result<ReleasePreview, TargetError> {
        self.look("preview").await?;
        let manifest = rendered(request.release);
        let name = name_of(&request.release.release);
        let world = self.0.world();
        let newest = world.cloud.newest(&name);
        let old = newest.map(|newest| newest.objects.clone()).unwrap_or_default();
        let new = objects(&request.release.release, &manifest);
        let gone = old.iter().filter(|object| !new.contains(object));
        let plan = |object: &ObjectReference, change| ObjectPlan {
            api_version: object.api_version.clone(),
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            change,
            role: slipway_model::ObjectRole::default(),
            reason: None,
            diff: None,
            dangers: Vec::new(),
        };
        let planned = new
            .iter()
            .map(|object| {
                let change = match old.contains(object) {
                    true => ObjectChange::Change,
                    false => ObjectChange::Create,
                };
                plan(object, change)
            })
            .chain(gone.map(|object| plan(object, ObjectChange::Delete)))
            .collect();
        Ok(ReleasePreview {
            revision: newest.map(|newest| newest.number),
            exists: newest.is_some_and(|newest| newest.was_deployed),
            objects: planned,
            manifest_digest: format!("sha256:{manifest}"),
            manifest,
            ..ReleasePreview::default()
        })
    }

    pub(super) async fn watch_objects(
        &self,
        release: &Release,
        objects: &[ObjectReference],
        hold: Duration,
    ) -> Result<Observation, TargetError> {
        self.look("observe").await?;
        if self.0.world().has(Mutant::ReadyTooEarly) {
            return Ok(Observation {
                ready: true,
                ..Observation::default()
            });
        }
        let end = self.0.world().now + millis(hold);
        loop {
            let (waiting, next) = {
                let mut world = self.0.world();
                world.note_objects_seen(&name_of(release));
                let now = world.now;
                let waiting: Vec<(JobWait, bool)> = objects
                    .iter()
                    .filter_map(|object| world.cloud.wait(object, now))
                    .collect();
                let next = objects
                    .iter()
                    .filter_map(|object| world.cloud.objects.get(object)?.ready_at)
                    .filter(|at| *at > now)
                    .max();
                (waiting, next)
            };
            let now = self.0.world().now;
            let failed = waiting
                .iter()
                .find(|(_, failed)| *failed)
                .map(|(wait, _)| wait.clone());
            if waiting.is_empty() || failed.is_some() || now >= end {
                let said = waiting.iter().map(|(wait, _)| &wait.message);
                let mut said = said.filter(|said| !said.is_empty());
                let diagnosis = said.next().cloned().map(Diagnosis::of).unwrap_or_default();
                return Ok(Observation {
                    ready: waiting.is_empty(),
                    waiting: waiting.into_iter().map(|(wait, _)| wait).collect(),
                    failed,
                    diagnosis,
                });
            }
            let until = next.map_or(end, |next| next.min(end));
            self.0.pause(until - now).await;
        }
    }
}
