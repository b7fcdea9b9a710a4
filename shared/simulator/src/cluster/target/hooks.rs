//! Hooks, run by run.

use std::time::Duration;

use slipway_model::JobWait;
use slipway_ports::{
    Diagnosis, Hook, HookEvent, HookPolicies, HookRun, HookSet, HookSource, HookState, MadeHook,
    ObjectReference, Release, TargetError,
};

use super::{
    SimTarget,
    charts::{hook_events, rendered},
};
use crate::{
    cluster::{Request, name_of},
    world::millis,
};

fn uid_of(run: HookRun<'_>) -> String {
    format!("{} {} {}", run.job, run.event, run.number)
}

impl SimTarget {
    pub(super) async fn hooks_of(
        &self,
        release: &Release,
        event: HookEvent,
        source: HookSource<'_>,
    ) -> Result<HookSet, TargetError> {
        self.look("hooks").await?;
        let name = name_of(release);
        let manifest = match source {
            HookSource::Rendered(request) => {
                let manifest = rendered(request);
                self.0.world().cloud.learn_secrets(&manifest, &request.values);
                manifest
            }
            HookSource::Revision(number) => {
                let world = self.0.world();
                let found = world
                    .cloud
                    .releases
                    .get(&name)
                    .and_then(|all| all.iter().find(|one| one.number == number))
                    .map(|one| one.manifest.clone());
                found.ok_or_else(|| TargetError::permanent("there is no such revision"))?
            }
        };
        if !hook_events(&manifest).contains(&event) {
            return Ok(HookSet::default());
        }
        if let HookSource::Rendered(request) = source
            && request.create_namespace
        {
            let make = Request::MakeNamespace {
                name: release.namespace.clone(),
                deployment: request.deployment,
            };
            self.change("make namespace", make).await?;
        }
        let object = ObjectReference {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            namespace: release.namespace.clone(),
            name: format!("{}-{event}", release.name),
        };
        let hook = Hook {
            object,
            policies: HookPolicies {
                delete_before: true,
                delete_succeeded: true,
                ..HookPolicies::default()
            },
            manifest,
        };
        Ok(HookSet {
            hooks: vec![hook],
            note: String::new(),
        })
    }

    pub(super) async fn begin_hook(&self, run: HookRun<'_>, hook: &Hook) -> Result<MadeHook, TargetError> {
        let lost = self.reach("create hook").await?;
        let mut world = self.0.world();
        let name = name_of(run.release);
        world.check_helm_writes(&name);
        let uid = uid_of(run);
        world.make_hook(&name, hook, &uid);
        if let Some(error) = lost {
            return Err(error);
        }
        Ok(MadeHook {
            object: hook.object.clone(),
            uid,
            policies: hook.policies,
        })
    }

    pub(super) async fn hook_of_run(
        &self,
        run: HookRun<'_>,
        hook: &Hook,
    ) -> Result<Option<MadeHook>, TargetError> {
        self.look("find hook").await?;
        let world = self.0.world();
        let uid = uid_of(run);
        let found = world.cloud.hooks.get(&hook.object);
        Ok(found.filter(|found| found.uid == uid).map(|_| MadeHook {
            object: hook.object.clone(),
            uid,
            policies: hook.policies,
        }))
    }

    pub(super) async fn watch_hook(&self, hook: &MadeHook, hold: Duration) -> Result<HookState, TargetError> {
        self.look("observe hook").await?;
        let end = self.0.world().now + millis(hold);
        loop {
            let (now, found) = {
                let world = self.0.world();
                (world.now, world.cloud.hooks.get(&hook.object).cloned())
            };
            let Some(found) = found.filter(|found| found.uid == hook.uid) else {
                return Ok(HookState::Failed {
                    reason: "the hook is gone".to_owned(),
                    log: String::new(),
                });
            };
            let done = found.ends_at.is_some_and(|at| at <= now);
            if done && found.fails {
                return Ok(HookState::Failed {
                    reason: format!("the hook failed with exit code 3: {}", found.says),
                    log: found.says,
                });
            }
            if done {
                return Ok(HookState::Succeeded { log: found.says });
            }
            if now >= end {
                return Ok(HookState::Running {
                    wait: JobWait {
                        object: hook.object.to_string(),
                        reason: "running".to_owned(),
                        message: found.says.clone(),
                    },
                    diagnosis: Diagnosis::of(found.says),
                });
            }
            let until = found.ends_at.map_or(end, |at| at.min(end));
            self.0.pause(until - now).await;
        }
    }

    pub(super) async fn forget_hook(&self, hook: &MadeHook) -> Result<(), TargetError> {
        let lost = self.reach("delete hook").await?;
        let mut world = self.0.world();
        if world
            .cloud
            .hooks
            .get(&hook.object)
            .is_some_and(|found| found.uid == hook.uid)
        {
            world.cloud.hooks.remove(&hook.object);
        }
        lost.map_or(Ok(()), Err)
    }
}
