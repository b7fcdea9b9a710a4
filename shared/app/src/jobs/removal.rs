//! Taking a release away: the hooks before, its objects, the hooks after, and the rest.

use std::time::Duration;

use serde_json::json;
use slipway_model::{JobPhase, JobStatus};
use slipway_ports::{FailureClass, HookEvent, ReleaseRecord, TargetError, UninstallRequest};

use super::{
    deploy_helm::{CLEAN_UP, Next, Run},
    hooks::Hooked,
    phases::{Phase, told},
    work::Removal,
};

/// What a job's metadata say once it has taken away all that it installed.
pub(crate) const TAKEN_AWAY: &str = "taken_away";

/// How often something that is going away is looked at.
const PAUSE: Duration = Duration::from_millis(500);

impl Run<'_> {
    fn uninstall_request(&self, keep_record: bool) -> UninstallRequest {
        let mut leftovers = self.work.objects.clone();
        leftovers.extend(self.work.leftovers.iter().cloned());
        UninstallRequest {
            release: self.lease.release.clone(),
            leftovers,
            namespace_of: self.job.deployment_id,
            keep_record,
            time_limit: self.helm_time(),
        }
    }

    /// Uninstalls as an operation of its own: the objects.
    pub(super) async fn uninstall(&mut self) -> Result<Next, TargetError> {
        let has_hooks = self.has_hooks(HookEvent::PostDelete);
        if self.is_spent() {
            self.stand_back();
            return Ok(Next::Later(Duration::ZERO));
        }
        let gone = self.target.uninstall(&self.uninstall_request(has_hooks)).await?;
        if !gone.remaining.is_empty() {
            return Ok(self.wait_for_the_end(gone.remaining));
        }
        if has_hooks {
            self.job.waiting_for.clear();
            self.job.phase = JobPhase::PostHooks;
            return Ok(Next::Go);
        }
        Ok(self.uninstalled())
    }

    /// Uninstalls as an operation of its own: what its hooks still needed.
    pub(super) async fn rest_of_uninstall(&mut self) -> Phase {
        // Its hooks may have taken long.
        let record = match self.target.record(&self.lease.release).await {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(error) = record.as_ref().and_then(|record| self.foreign(record)) {
            return Ok(Err(error));
        }
        if let Some(error) = self.changed_since(record.as_ref()).await? {
            return Ok(Err(error));
        }
        if self.is_spent() {
            return Ok(Ok(Next::Later(Duration::ZERO)));
        }
        let gone = match self.target.uninstall(&self.uninstall_request(false)).await {
            Ok(gone) => gone,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(if gone.remaining.is_empty() {
            self.uninstalled()
        } else {
            self.wait_for_the_end(gone.remaining)
        }))
    }

    fn uninstalled(&mut self) -> Next {
        self.job.result = self.result("uninstalled");
        self.ended(JobStatus::Succeeded, None)
    }

    fn wait_for_the_end(&mut self, remaining: Vec<slipway_model::JobWait>) -> Next {
        self.job.waiting_for = told(remaining);
        let limit = Duration::from_secs(self.config.timeout);
        let now = self.app.clock.now();
        // Its turn and its hooks may have taken long.
        let began = *self.work.removal_began.get_or_insert(now);
        if now >= began.plus(limit) {
            let message = format!(
                "release {} is not gone after {} seconds",
                self.lease.release,
                limit.as_secs()
            );
            let message = self.with_diagnosis(message);
            return self.ended(JobStatus::TimedOut, Some(message));
        }
        Next::Later(PAUSE)
    }

    /// Takes away what this job installed, then ends it as was decided before. A hook that fails meanwhile is told and
    /// keeps nothing from going.
    pub(super) async fn clean_up(&mut self) -> Phase {
        let until = self.work.ending.as_ref().map(|ending| ending.until);
        let mut now = self.app.clock.now();
        if self.work.removal == Removal::Before {
            // The rest of the time is for what comes after these hooks.
            now = now.plus(CLEAN_UP / 2);
        }
        let is_late = until.is_none_or(|until| now >= until);
        let event = match self.work.removal {
            Removal::Wanted => return Ok(self.begin_removal().await),
            Removal::Before => HookEvent::PreDelete,
            Removal::After => HookEvent::PostDelete,
            Removal::Objects | Removal::Rest => return Ok(self.take_away(is_late).await),
        };
        if is_late {
            let list: Vec<String> = self.job.waiting_for.iter().map(ToString::to_string).collect();
            self.note(&format!("the {event} hooks did not end: {}", list.join("; ")));
            self.next_removal();
            return Ok(Ok(Next::Go));
        }
        let hooked = match self.run_hooks(event, self.work.revision).await? {
            Ok(hooked) => hooked,
            Err(error) if matches!(error.class(), FailureClass::Permanent | FailureClass::TimedOut) => {
                let why = self.masked_error(&error.0.message).await?;
                self.note(&format!("the {event} hooks could not run: {why}"));
                self.next_removal();
                return Ok(Ok(Next::Go));
            }
            Err(error) => return Ok(Err(error)),
        };
        match hooked {
            Hooked::On(next) => return Ok(Ok(next)),
            Hooked::Succeeded => {}
            Hooked::Failed(why) => self.note(&why),
        }
        self.next_removal();
        Ok(Ok(Next::Go))
    }

    async fn begin_removal(&mut self) -> Result<Next, TargetError> {
        let record = self.target.record(&self.lease.release).await?;
        if let Some(next) = self.leave_to_others(record.as_ref()) {
            return Ok(next);
        }
        self.work.leave_hooks();
        self.job.waiting_for.clear();
        match record.filter(|record| self.is_mine(record)) {
            Some(record) => {
                self.work.revision = Some(record.revision);
                self.learn_hooks(&record.hooks);
            }
            None => self.work.hook_events.clear(),
        }
        self.work.removal = if self.has_hooks(HookEvent::PreDelete) {
            Removal::Before
        } else {
            Removal::Objects
        };
        // Nothing was done that a repeat could do twice.
        Ok(Next::Go)
    }

    /// Ends a clean-up that finds somebody else's release, installed since this job began.
    fn leave_to_others(&mut self, record: Option<&ReleaseRecord>) -> Option<Next> {
        let others = record
            .filter(|record| !self.is_mine(record))
            .and_then(|record| self.foreign(record))?;
        let left = self.work.left_behind();
        // Whatever revision has that number now, it is not this job's.
        self.work.revision = None;
        Some(self.give_up(&format!("{left}; nothing was taken away: {}", others.0.message)))
    }

    fn next_removal(&mut self) {
        self.work.leave_hooks();
        self.job.waiting_for.clear();
        self.work.removal = match self.work.removal {
            Removal::Wanted | Removal::Before => Removal::Objects,
            Removal::Objects | Removal::After | Removal::Rest => Removal::Rest,
        };
    }

    async fn take_away(&mut self, is_late: bool) -> Result<Next, TargetError> {
        let keep_record =
            self.work.removal == Removal::Objects && !is_late && self.has_hooks(HookEvent::PostDelete);
        let record = self.target.record(&self.lease.release).await?;
        if let Some(next) = self.leave_to_others(record.as_ref()) {
            return Ok(next);
        }
        if self.is_spent() {
            return Ok(Next::Later(Duration::ZERO));
        }
        let gone = self
            .target
            .uninstall(&self.uninstall_request(keep_record))
            .await?;
        if gone.remaining.is_empty() {
            if keep_record {
                self.work.removal = Removal::After;
                self.job.waiting_for.clear();
                return Ok(Next::Go);
            }
            // The objects of its hooks went with the release, but for those that are elsewhere.
            self.work.leave_hooks();
            let namespace = &self.lease.release.namespace;
            self.work
                .hooks_left
                .retain(|left| left.object.namespace != *namespace);
            self.work.taken_away = true;
            // Whatever revision has that number from now on is not this job's.
            self.work.revision = None;
            self.work.tell(&mut self.job);
            return Ok(self.give_up(""));
        }
        let remaining = told(gone.remaining);
        if is_late {
            let list: Vec<String> = remaining.iter().map(ToString::to_string).collect();
            return Ok(self.give_up(&format!("; still there after cleaning up: {}", list.join("; "))));
        }
        self.job.waiting_for = remaining;
        Ok(Next::Later(PAUSE))
    }

    /// Adds to why the job ends.
    fn note(&mut self, told: &str) {
        tracing::info!(job = %self.job.id, "a hook did not succeed while a release was taken away");
        if let Some(ending) = &mut self.work.ending {
            ending.message = format!("{}; while cleaning up, {told}", ending.message);
        }
        self.job.metadata_.insert("clean_up".to_owned(), json!(told));
    }
}
