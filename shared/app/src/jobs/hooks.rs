//! Hooks: one after another, each until it has ended, however many invocations that takes. Every step is recorded
//! before the next one, so that a repeat creates nothing twice.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use slipway_model::{HelmOperation, JobPhase, JobStatus, JobWait};
use slipway_ports::{FailureClass, Hook, HookEvent, HookRun, HookSet, HookSource, MadeHook, TargetError};

use super::{
    deploy_helm::{Next, Run},
    masking::HookSeen,
    phases::Phase,
    work::{HookLeft, HookWork, NextHook, Removal},
};
use crate::AppError;

/// Most bytes of hooks' logs that a job keeps.
const LOGS: usize = 16 << 10;

/// How the hooks of an event stand.
pub(super) enum Hooked {
    /// They go on.
    On(Next),
    /// All have succeeded.
    Succeeded,
    /// One has failed; why.
    Failed(String),
}

type Step = Result<Result<Hooked, TargetError>, AppError>;

impl Run<'_> {
    /// Whether anything runs at an event.
    pub(super) fn has_hooks(&self, event: HookEvent) -> bool {
        self.work.hook_events.contains(&event)
    }

    /// What runs before a change of this kind.
    pub(super) fn event_before(&self, first_install: bool) -> HookEvent {
        match self.config.operation {
            HelmOperation::Deploy if first_install => HookEvent::PreInstall,
            HelmOperation::Deploy => HookEvent::PreUpgrade,
            HelmOperation::Rollback => HookEvent::PreRollback,
            HelmOperation::Uninstall => HookEvent::PreDelete,
            HelmOperation::Test => HookEvent::Test,
        }
    }

    /// What runs after the change that this job made.
    pub(super) fn event_after(&self) -> HookEvent {
        match self.config.operation {
            HelmOperation::Deploy if self.work.first_install == Some(true) => HookEvent::PostInstall,
            HelmOperation::Deploy => HookEvent::PostUpgrade,
            HelmOperation::Rollback => HookEvent::PostRollback,
            HelmOperation::Uninstall => HookEvent::PostDelete,
            HelmOperation::Test => HookEvent::Test,
        }
    }

    /// The phase before the change.
    pub(super) async fn pre_hooks(&mut self) -> Phase {
        if self.work.hooks.is_none() {
            match self.begin().await? {
                Ok(Some(next)) => return Ok(Ok(next)),
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        let event = self.event_before(self.work.first_install == Some(true));
        let revision = match self.config.operation {
            HelmOperation::Deploy => None,
            HelmOperation::Rollback => self.work.rollback_to,
            HelmOperation::Uninstall | HelmOperation::Test => self.work.revision,
        };
        let hooked = match self.run_hooks(event, revision).await? {
            Ok(hooked) => hooked,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(match hooked {
            Hooked::On(next) => next,
            Hooked::Succeeded => {
                // How far they are stays: it is recorded before the phase is, and a crash may come in between.
                self.job.waiting_for.clear();
                self.job.phase = JobPhase::Apply;
                Next::Go
            }
            Hooked::Failed(why) => self.stop(JobStatus::Failed, why, self.config.delete_on_failure),
        }))
    }

    /// The phase after the change; for an uninstall also what is left to be done when its hooks have ended.
    pub(super) async fn post_hooks(&mut self) -> Phase {
        if self.work.removal == Removal::Rest {
            return self.rest_of_uninstall().await;
        }
        let event = self.event_after();
        let hooked = match self.run_hooks(event, self.work.revision).await? {
            Ok(hooked) => hooked,
            Err(error) => return Ok(Err(error)),
        };
        match hooked {
            Hooked::On(next) => Ok(Ok(next)),
            Hooked::Failed(why) => Ok(Ok(self.stop(
                JobStatus::Failed,
                why,
                self.config.delete_on_failure,
            ))),
            Hooked::Succeeded => {
                let log = self.work.hooks.as_ref().map(|hooks| hooks.log.clone());
                self.job.waiting_for.clear();
                Ok(Ok(match self.config.operation {
                    HelmOperation::Test => {
                        self.job.result = self.result("tested");
                        self.job.result.insert("log".to_owned(), json!(log));
                        self.ended(JobStatus::Succeeded, None)
                    }
                    HelmOperation::Uninstall => {
                        self.work.removal = Removal::Rest;
                        Next::Go
                    }
                    HelmOperation::Deploy | HelmOperation::Rollback => {
                        self.job.phase = JobPhase::Collect;
                        Next::Go
                    }
                }))
            }
        }
    }

    /// Does one thing for the hooks of an event: creates the next one, looks at the one that runs, or deletes what is
    /// to be deleted when they have ended. They are those of `revision`, or of what is about to be applied.
    pub(super) async fn run_hooks(&mut self, event: HookEvent, revision: Option<u32>) -> Step {
        let mut hooks = match self.work.hooks.take_if(|hooks| hooks.event == event) {
            Some(hooks) => hooks,
            None => {
                self.work.leave_hooks();
                self.hook_set = None;
                HookWork::of(event)
            }
        };
        let outcome = self.hook_step(&mut hooks, revision).await;
        let is_queued = matches!(&outcome, Ok(Err(error)) if error.class() == FailureClass::Queued);
        if !(is_queued && self.only_noted && hooks.is_untouched()) {
            self.work.hooks = Some(hooks);
        }
        outcome
    }

    async fn hook_step(&mut self, hooks: &mut HookWork, revision: Option<u32>) -> Step {
        if let Some(failure) = hooks.failure.clone() {
            return Ok(self
                .delete_after_failure(hooks)
                .await
                .map(|()| Hooked::Failed(failure)));
        }
        if hooks.running.is_some() {
            return self.look_at_hook(hooks).await;
        }
        if self.hook_set.is_none() {
            self.hook_set = match self.find_hooks(hooks.event, revision).await? {
                Ok(set) => Some(set),
                Err(error) => return Ok(Err(error)),
            };
        }
        let number = hooks.done.len();
        let set = self
            .hook_set
            .as_ref()
            .map(|set| (set.hooks.get(number).cloned(), &set.note));
        Ok(match set {
            Some((Some(hook), _)) => {
                let next = NextHook {
                    object: hook.object.clone(),
                    policies: hook.policies,
                };
                if hooks.next.as_ref() != Some(&next) {
                    // Recorded before it is created: whoever ends the job must know of it, whatever becomes of this
                    // invocation.
                    hooks.next = Some(next);
                    return Ok(Ok(Hooked::On(Next::Go)));
                }
                self.target
                    .create_hook(self.hook_run(hooks), &hook)
                    .await
                    .map(|made| {
                        hooks.next = None;
                        hooks.running = Some(made);
                        Hooked::On(Next::Go)
                    })
            }
            Some((None, note)) => {
                if hooks.log.is_empty() {
                    hooks.log.clone_from(note);
                }
                self.delete_after_success(hooks).await.map(|()| Hooked::Succeeded)
            }
            None => Ok(Hooked::Succeeded),
        })
    }

    /// The run of the hook that comes after those that have succeeded.
    fn hook_run(&self, hooks: &HookWork) -> HookRun<'_> {
        HookRun {
            release: &self.lease.release,
            job: self.job.id,
            fence: self.lease.fence,
            deployment: self.job.deployment_id,
            event: hooks.event,
            number: hooks.done.len(),
        }
    }

    async fn find_hooks(
        &self,
        event: HookEvent,
        revision: Option<u32>,
    ) -> Result<Result<HookSet, TargetError>, AppError> {
        let release = &self.lease.release;
        if let Some(revision) = revision {
            let source = HookSource::Revision(revision);
            return Ok(self.target.hooks(release, event, source).await);
        }
        let (request, resolved) = match self.request().await? {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        let source = HookSource::Rendered(&request);
        let found = self.target.hooks(release, event, source).await;
        Ok(found.map_err(|error| super::phases::without_secrets(error, &resolved)))
    }

    async fn look_at_hook(&mut self, hooks: &mut HookWork) -> Step {
        let Some(running) = hooks.running.clone() else {
            return Ok(Ok(Hooked::On(Next::Go)));
        };
        let now = self.app.clock.now();
        let deadline = match &self.work.ending {
            Some(ending) => ending.until,
            None => self.deadline().unwrap_or(now),
        };
        let hold = self.app.settings.watch_hold.min(deadline.since(now));
        let seen = self
            .target
            .observe_hook(&self.lease.release, &running, hold)
            .await;
        let seen = match seen {
            Ok(seen) => self.mask_hook(seen).await?,
            Err(error) => return Ok(Err(error)),
        };
        let event = hooks.event;
        Ok(Ok(match seen {
            HookSeen::Succeeded { log } => {
                if running.policies.log_succeeded {
                    keep(&mut hooks.log, &format!("{}: Succeeded\n{log}", running.object));
                }
                hooks.done.push(running);
                hooks.running = None;
                self.job.waiting_for.clear();
                self.work.diagnosis.clear();
                Hooked::On(match self.newer_wish().await? {
                    // It waited for the hook to end, and is told of by the next message.
                    Some(_) => Next::Later(Duration::ZERO),
                    None => Next::Go,
                })
            }
            HookSeen::Failed { reason, log } => {
                let mut told = format!("the {event} hook {} failed: {reason}", running.object);
                if !log.is_empty() {
                    told = format!("{told}\n{log}");
                }
                hooks.failure = Some(told);
                self.job.waiting_for.clear();
                self.work.diagnosis.clear();
                Hooked::On(Next::Go)
            }
            HookSeen::Running { wait, diagnosis } => {
                self.job.waiting_for = vec![JobWait {
                    message: match wait.message.as_str() {
                        "" => format!("{event} hook"),
                        told => format!("{event} hook; {told}"),
                    },
                    ..wait
                }];
                self.work.diagnosis = diagnosis;
                Hooked::On(Next::Later(Duration::ZERO))
            }
        }))
    }

    /// As Helm does, from the last to the first.
    async fn delete_after_success(&self, hooks: &HookWork) -> Result<(), TargetError> {
        for hook in hooks
            .done
            .iter()
            .rev()
            .filter(|hook| hook.policies.delete_succeeded)
        {
            self.target.delete_hook(hook).await?;
        }
        Ok(())
    }

    /// As Helm does: the one that failed, then those that had succeeded.
    async fn delete_after_failure(&self, hooks: &HookWork) -> Result<(), TargetError> {
        if let Some(failed) = hooks.running.as_ref().filter(|hook| hook.policies.delete_failed) {
            self.target.delete_hook(failed).await?;
        }
        for hook in hooks.done.iter().filter(|hook| hook.policies.delete_succeeded) {
            self.target.delete_hook(hook).await?;
        }
        Ok(())
    }

    /// Has no hook go on after its job, which ends in the middle: as if it had failed, and if it is `unwanted` whatever
    /// its policy says. What may go on all the same is told when the job ends.
    pub(super) async fn end_hooks(&mut self, unwanted: bool) -> Result<(), AppError> {
        let Some(mut hooks) = self.work.hooks.take() else {
            return Ok(());
        };
        let left = match self.end_hooks_of(&mut hooks, unwanted).await {
            Ok(left) => left,
            Err(error) => {
                let why = self.masked_error(&error.0.message).await?;
                hooks.left().map(|left| HookLeft {
                    told: format!("{}: {why}", left.told),
                    ..left
                })
            }
        };
        self.work.hooks_left.extend(left);
        Ok(())
    }

    /// Returns a hook that its policy leaves.
    async fn end_hooks_of(
        &self,
        hooks: &mut HookWork,
        unwanted: bool,
    ) -> Result<Option<HookLeft>, TargetError> {
        if hooks.running.is_none()
            && let Some(next) = hooks.next.clone()
        {
            hooks.running = self.find_hook(hooks, next).await?;
            hooks.next = None;
        }
        if unwanted && let Some(running) = &hooks.running {
            self.target.delete_hook(running).await?;
            hooks.running = None;
        }
        self.delete_after_failure(hooks).await?;
        let goes_on = |hook: &&MadeHook| !hook.policies.delete_failed && hooks.failure.is_none();
        let stays = hooks.running.as_ref().filter(goes_on);
        Ok(stays.map(|hook| HookLeft::of(hooks.event, &hook.object, "goes on")))
    }

    /// A hook that may have been created by an invocation that did not live to say so.
    async fn find_hook(&self, hooks: &HookWork, next: NextHook) -> Result<Option<MadeHook>, TargetError> {
        let hook = Hook {
            object: next.object,
            policies: next.policies,
            manifest: String::new(),
        };
        self.target.find_hook(self.hook_run(hooks), &hook).await
    }

    /// The phase that comes when the change is done and ready.
    pub(super) fn after_ready(&mut self) {
        self.job.phase = if self.has_hooks(self.event_after()) {
            JobPhase::PostHooks
        } else {
            JobPhase::Collect
        };
    }

    /// Takes over what is known of an event's hooks.
    pub(super) fn learn_hooks(&mut self, events: &BTreeSet<HookEvent>) {
        self.work.hook_events.clone_from(events);
    }
}

/// Adds to what is kept of logs; of too much, the end.
fn keep(log: &mut String, more: &str) {
    if !log.is_empty() {
        log.push('\n');
    }
    log.push_str(more.trim_end());
    let mut start = log.len().saturating_sub(LOGS);
    while !log.is_char_boundary(start) {
        start += 1;
    }
    log.drain(..start);
}
