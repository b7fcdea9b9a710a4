//! Helm's operations on a release.

use slipway_model::JobWait;
use slipway_ports::{
    AppliedRelease, CompletionRequest, ObjectReference, Release, ReleaseRecord, ReleaseRequest,
    ReleaseStatus, RollbackRequest, TargetError, UninstallRequest, Uninstalled,
};

use super::{
    SimTarget,
    charts::{hook_events, objects, rendered},
};
use crate::{
    cluster::{Operation, Request, Revision, helm::Process, is_claim, name_of},
    mutants::Mutant,
    world::millis,
};

impl SimTarget {
    fn applied(revision: Revision) -> AppliedRelease {
        AppliedRelease {
            revision: revision.number,
            hooks: hook_events(&revision.manifest),
            objects: revision.objects,
            namespace_created: false,
            removed: Vec::new(),
        }
    }
    pub(super) async fn newest_record(
        &self,
        release: &Release,
    ) -> Result<Option<ReleaseRecord>, TargetError> {
        self.look("record").await?;
        let mut world = self.0.world();
        let name = name_of(release);
        world.note_record_seen(&name);
        let ever = world
            .cloud
            .releases
            .get(&name)
            .is_some_and(|all| all.iter().any(Revision::worked));
        Ok(world.cloud.newest(&name).map(|newest| ReleaseRecord {
            revision: newest.number,
            status: newest.status,
            labels: newest.labels.clone(),
            chart: newest.manifest.clone(),
            objects: newest.objects.clone(),
            kept: Vec::new(),
            hooks: hook_events(&newest.manifest),
            ever_deployed: ever,
        }))
    }

    pub(super) async fn deploy(&self, request: &ReleaseRequest) -> Result<AppliedRelease, TargetError> {
        let manifest = rendered(request);
        self.0.world().cloud.learn_secrets(&manifest, &request.values);
        let operation = Operation::Deploy {
            objects: objects(&request.release, &manifest),
            manifest,
            labels: request.labels.clone(),
            deployment: request.deployment,
            create_namespace: request.create_namespace,
        };
        let end = self.0.world().now + millis(request.time_limit);
        let name = name_of(&request.release);
        let suspects = self.suspects(&name, &request.leftovers, 0);
        self.turn()?;
        let revision = Process::start(&self.0, &name, operation, millis(request.time_limit)).await?;
        let removed = self
            .remove_orphans(&name, suspects, &revision.objects, end)
            .await?;
        Ok(AppliedRelease {
            removed,
            ..Self::applied(revision)
        })
    }

    /// What comes after Helm, of a revision whose writer may have died.
    pub(super) async fn complete_revision(
        &self,
        request: &CompletionRequest,
    ) -> Result<Vec<ObjectReference>, TargetError> {
        let end = self.0.world().now + millis(request.time_limit);
        self.look("complete").await?;
        let name = name_of(&request.release);
        let suspects = self.suspects(&name, &request.leftovers, 1);
        self.remove_orphans(&name, suspects, &request.objects, end).await
    }

    /// What revisions had that failed or were deployed, and what was left of those whose records are gone. The newest
    /// `made` revisions do not count.
    fn suspects(&self, name: &str, leftovers: &[ObjectReference], made: usize) -> Vec<ObjectReference> {
        let world = self.0.world();
        let revisions = world.cloud.releases.get(name).map_or(&[][..], Vec::as_slice);
        let mut suspects = leftovers.to_vec();
        let had = revisions.iter().rev().skip(made).filter(|one| {
            matches!(
                one.status,
                ReleaseStatus::Failed | ReleaseStatus::Deployed | ReleaseStatus::Superseded
            )
        });
        suspects.extend(had.flat_map(|one| one.objects.iter().cloned()));
        suspects
    }

    async fn remove_orphans(
        &self,
        name: &str,
        suspects: Vec<ObjectReference>,
        objects: &[ObjectReference],
        end: i64,
    ) -> Result<Vec<ObjectReference>, TargetError> {
        let mut removed = Vec::new();
        for suspect in suspects {
            if is_claim(&suspect) || objects.contains(&suspect) || removed.contains(&suspect) {
                continue;
            }
            if self.0.world().now >= end {
                return Err(TargetError::transient("what comes after Helm took too long"));
            }
            let is_own = self
                .0
                .world()
                .cloud
                .objects
                .get(&suspect)
                .is_some_and(|found| found.release == name);
            if is_own {
                let delete = Request::Delete {
                    release: name.to_owned(),
                    object: suspect.clone(),
                };
                self.change("remove an orphan", delete).await?;
                removed.push(suspect);
            }
        }
        Ok(removed)
    }

    pub(super) async fn recover_record(
        &self,
        release: &Release,
        revision: u32,
    ) -> Result<String, TargetError> {
        let name = name_of(release);
        self.look("recover").await?;
        let found = {
            let world = self.0.world();
            let all = world.cloud.releases.get(&name).cloned().unwrap_or_default();
            let ever = all.iter().any(Revision::worked);
            let status = all
                .iter()
                .find(|one| one.number == revision)
                .map(|one| one.status);
            status.map(|status| (status, ever, all))
        };
        let marks = self.0.world().has(Mutant::MarkFirstInstallFailed);
        let Some((status, ever, all)) = found else {
            return Ok("nothing was to be recovered".to_owned());
        };
        let is_open =
            status == ReleaseStatus::Failed || status.is_pending() && status != ReleaseStatus::Uninstalling;
        if !ever && is_open && !marks {
            for one in all {
                let forget = Request::Forget {
                    release: name.clone(),
                    number: one.number,
                };
                self.change("recover", forget).await?;
            }
            return Ok(format!(
                "the records of the first install up to {revision} were deleted"
            ));
        }
        if !status.is_pending() || status == ReleaseStatus::Uninstalling {
            return Ok("nothing was to be recovered".to_owned());
        }
        let mark = Request::Mark {
            release: name,
            number: revision,
            status: ReleaseStatus::Failed,
        };
        self.change("recover", mark).await?;
        Ok(format!("revision {revision} was marked failed"))
    }

    pub(super) async fn remove(&self, request: &UninstallRequest) -> Result<Uninstalled, TargetError> {
        let name = name_of(&request.release);
        let end = self.0.world().now + millis(request.time_limit);
        self.look("uninstall").await?;
        let (known, is_there) = {
            let mut world = self.0.world();
            world.note_all_seen(&name);
            let mut known: Vec<ObjectReference> = world
                .cloud
                .releases
                .get(&name)
                .into_iter()
                .flatten()
                .flat_map(|revision| revision.objects.clone())
                .collect();
            known.extend(request.leftovers.iter().cloned());
            known.extend(world.cloud.objects_of(&name).map(|(object, _)| object.clone()));
            if !world.has(Mutant::DeleteClaims) {
                known.retain(|object| !is_claim(object));
            }
            known.sort();
            known.dedup();
            let newest = world.cloud.newest(&name);
            let is_there = newest.is_some_and(|newest| newest.status != ReleaseStatus::Uninstalled);
            (known, is_there)
        };
        if is_there {
            self.turn()?;
            let limit = end - self.0.world().now;
            Process::start(&self.0, &name, Operation::Uninstall, limit).await?;
        }
        for object in &known {
            if self.0.world().now >= end {
                return Err(TargetError::transient(
                    "the uninstall took too long and goes on later",
                ));
            }
            let is_there = self.0.world().cloud.objects.contains_key(object);
            if is_there {
                let delete = Request::Delete {
                    release: name.clone(),
                    object: object.clone(),
                };
                self.change("delete", delete).await?;
            }
        }
        let remaining: Vec<JobWait> = {
            let mut world = self.0.world();
            let now = world.now;
            world.cloud.settle(now);
            known
                .iter()
                .filter(|object| {
                    world
                        .cloud
                        .objects
                        .get(object)
                        .is_some_and(|found| found.release == name)
                })
                .map(|object| JobWait {
                    object: object.to_string(),
                    reason: "finalizers".to_owned(),
                    message: String::new(),
                })
                .collect()
        };
        if self.0.world().has(Mutant::UninstallLies) {
            return Ok(Uninstalled::default());
        }
        let is_done = remaining.is_empty() && !request.keep_record;
        if is_done && self.0.world().cloud.has_hooks(&name) {
            let lost = self.reach("delete hooks").await?;
            self.0.world().cloud.delete_hooks(&name);
            if let Some(error) = lost {
                return Err(error);
            }
        }
        if is_done {
            let revisions = self.0.world().cloud.releases.get(&name).cloned();
            for revision in revisions.unwrap_or_default() {
                let forget = Request::Forget {
                    release: name.clone(),
                    number: revision.number,
                };
                self.change("forget", forget).await?;
            }
        }
        if let Some(deployment) = request.namespace_of.filter(|_| is_done) {
            let request = Request::DeleteNamespace {
                name: request.release.namespace.clone(),
                deployment,
            };
            self.change("delete namespace", request).await?;
        }
        Ok(Uninstalled { remaining })
    }

    pub(super) async fn mark_newest_failed(
        &self,
        release: &Release,
        revision: u32,
    ) -> Result<(), TargetError> {
        let name = name_of(release);
        self.look("mark failed").await?;
        let is_it = self
            .0
            .world()
            .cloud
            .newest(&name)
            .is_some_and(|newest| newest.number == revision && newest.status == ReleaseStatus::Deployed);
        if is_it {
            let mark = Request::Mark {
                release: name,
                number: revision,
                status: ReleaseStatus::Failed,
            };
            self.change("mark failed", mark).await?;
        }
        Ok(())
    }

    pub(super) async fn revision_before(
        &self,
        release: &Release,
        wanted: Option<u32>,
    ) -> Result<u32, TargetError> {
        self.look("rollback target").await?;
        let world = self.0.world();
        let name = name_of(release);
        let all = world.cloud.releases.get(&name).map_or(&[][..], Vec::as_slice);
        let newest = all.iter().map(|one| one.number).max().unwrap_or_default();
        let found = match wanted {
            Some(wanted) => all.iter().map(|one| one.number).find(|number| *number == wanted),
            None => all
                .iter()
                .filter(|one| one.number < newest && one.worked())
                .map(|one| one.number)
                .max(),
        };
        found
            .ok_or_else(|| TargetError::permanent(format!("release {release} has no revision to go back to")))
    }

    pub(super) async fn go_back(&self, request: &RollbackRequest) -> Result<AppliedRelease, TargetError> {
        let end = self.0.world().now + millis(request.time_limit);
        let name = name_of(&request.release);
        let suspects = self.suspects(&name, &[], 0);
        self.turn()?;
        let operation = Operation::Rollback {
            to: request.revision,
            labels: request.labels.clone(),
        };
        let revision = Process::start(&self.0, &name, operation, millis(request.time_limit)).await?;
        let removed = self
            .remove_orphans(&name, suspects, &revision.objects, end)
            .await?;
        Ok(AppliedRelease {
            removed,
            ..Self::applied(revision)
        })
    }
}
