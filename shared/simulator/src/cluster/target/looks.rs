//! Looking, without a change.

use std::time::Duration;

use slipway_model::JobWait;
use slipway_ports::{ObjectReference, Observation, PreviewRequest, ReleasePreview, TargetError};

use super::{SimTarget, charts::rendered};
use crate::{cluster::name_of, mutants::Mutant, world::millis};

impl SimTarget {
    pub(super) async fn preview_release(
        &self,
        request: &PreviewRequest<'_>,
    ) -> Result<ReleasePreview, TargetError> {
        self.look("preview").await?;
        let manifest = rendered(request.release);
        let name = name_of(&request.release.release);
        let world = self.0.world();
        let newest = world.cloud.newest(&name);
        Ok(ReleasePreview {
            revision: newest.map(|newest| newest.number),
            exists: newest.is_some_and(|newest| newest.was_deployed),
            manifest_digest: format!("sha256:{manifest}"),
            manifest,
            ..ReleasePreview::default()
        })
    }

    pub(super) async fn watch_objects(
        &self,
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
                let world = self.0.world();
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
                return Ok(Observation {
                    ready: waiting.is_empty(),
                    waiting: waiting.into_iter().map(|(wait, _)| wait).collect(),
                    failed,
                    diagnosis: String::new(),
                });
            }
            let until = next.map_or(end, |next| next.min(end));
            self.0.pause(until - now).await;
        }
    }
}
