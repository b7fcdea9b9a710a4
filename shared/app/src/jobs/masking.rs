//! Pods print what they were given, and clusters repeat it in events and errors: no secret of the release gets from
//! there into a job's records, which callers read. Texts are whole until their secrets are out, and are cut here: of a
//! secret that lies across a cut, the rest would not be found.

use serde_json::json;
use slipway_model::{HelmOperation, Job, JobWait, JsonMap};
use slipway_ports::{HookState, Observation, last_lines, shortened};

use super::{deploy_helm::Run, work::JobWork};
use crate::{App, AppError, deployments::facts, steps::Resolved};

/// Most bytes of a hook's log that are told, and of why it failed.
const LONGEST_HOOK_LOG: usize = 4 << 10;
const LONGEST_REASON: usize = 1 << 10;

/// Most bytes of an error of the cluster's or of Helm's that are told.
const LONGEST_ERROR: usize = 4 << 10;

/// What a look saw, without secrets and no longer than it is told.
pub(super) struct Seen {
    pub(super) ready: bool,
    pub(super) waiting: Vec<JobWait>,
    pub(super) failed: Option<JobWait>,
    pub(super) diagnosis: String,
}

/// How a hook stands, without secrets and no longer than it is told.
pub(super) enum HookSeen {
    Succeeded { log: String },
    Failed { reason: String, log: String },
    Running { wait: JobWait, diagnosis: String },
}

impl Resolved {
    /// What went wrong, without secrets and no longer than it is told.
    pub(crate) fn hide_in_error(&self, message: &str) -> String {
        shortened(&self.hide(message), LONGEST_ERROR)
    }
}

impl App {
    /// The secrets that the pods of a job's release may know: those of its own values, those that its execution reads, and
    /// whatever its deployment was ever given, because pods of earlier revisions run on for a while, and come back.
    pub(super) async fn secrets_of_job(
        &self,
        job: &Job,
        work: &JobWork,
        values: &JsonMap,
    ) -> Result<Resolved, AppError> {
        let mut context = work.context.clone().unwrap_or_default();
        let deployment = match job.deployment_id {
            Some(id) => self.load_deployment(&job.tenant, id).await?,
            None => None,
        };
        let Some(deployment) = deployment else {
            return self
                .secrets_of(&job.tenant, &context, &work.secrets_read, values)
                .await;
        };
        // What its expressions read of the registry; a job that tests or rolls back has no values of its own.
        let reference = &deployment.template;
        let template = self
            .load_template(&job.tenant, &reference.name, &reference.version)
            .await?;
        let mut all = values.clone();
        all.insert(
            "components".to_owned(),
            json!(template.map(|template| template.components)),
        );
        all.insert("values".to_owned(), json!(deployment.values));
        // A job that undoes was given no parameters.
        for (name, value) in &deployment.parameters {
            context.parameters.entry(name).or_insert_with(|| value.clone());
        }
        for (name, place) in &deployment.secret_parameters {
            context
                .secret_parameters
                .entry(name.clone())
                .or_insert_with(|| place.clone());
        }
        if context.deployment.is_empty() {
            context.deployment = facts(&deployment);
        }
        let mut resolved = self
            .secrets_of(&job.tenant, &context, &work.secrets_read, &all)
            .await?;
        for reference in self.secrets_kept_for(&deployment).await? {
            if let Some(secret) = self.secrets.get(&job.tenant, &reference).await? {
                resolved.learn(&secret);
            }
        }
        Ok(resolved)
    }
}

impl Run<'_> {
    /// The secrets that must not be told; resolved once an invocation, and only where there is something to tell.
    async fn secrets(&mut self) -> Result<&Resolved, AppError> {
        let resolved = match self.secrets.take() {
            Some(resolved) => resolved,
            // An install without expressions was given no secret, and nor was anything before it.
            None if self.work.context.is_none()
                && self.config.operation == HelmOperation::Deploy
                && self.job.deployment_id.is_none() =>
            {
                Resolved::default()
            }
            None => {
                self.app
                    .secrets_of_job(&self.job, &self.work, &self.config.values)
                    .await?
            }
        };
        Ok(self.secrets.insert(resolved))
    }

    /// What went wrong, without secrets.
    pub(super) async fn masked_error(&mut self, message: &str) -> Result<String, AppError> {
        if message.is_empty() {
            return Ok(String::new());
        }
        Ok(self.secrets().await?.hide_in_error(message))
    }

    /// What was seen, without secrets.
    pub(super) async fn mask_observation(&mut self, seen: Observation) -> Result<Seen, AppError> {
        let Observation {
            ready,
            mut waiting,
            mut failed,
            diagnosis,
        } = seen;
        let mut told = String::new();
        if !waiting.is_empty() || failed.is_some() || !diagnosis.is_empty() {
            let secrets = self.secrets().await?;
            told = diagnosis.told(secrets.hidden());
            for wait in waiting.iter_mut().chain(&mut failed) {
                secrets.hide_in_wait(wait);
            }
        }
        Ok(Seen {
            ready,
            waiting,
            failed,
            diagnosis: told,
        })
    }

    /// How a hook stands, without secrets.
    pub(super) async fn mask_hook(&mut self, state: HookState) -> Result<HookSeen, AppError> {
        let secrets = self.secrets().await?;
        let masked_log = |log: String| last_lines(&secrets.hide(&log), LONGEST_HOOK_LOG).to_owned();
        Ok(match state {
            HookState::Succeeded { log } => HookSeen::Succeeded { log: masked_log(log) },
            HookState::Failed { reason, log } => HookSeen::Failed {
                reason: shortened(&secrets.hide(&reason), LONGEST_REASON),
                log: masked_log(log),
            },
            HookState::Running { mut wait, diagnosis } => {
                secrets.hide_in_wait(&mut wait);
                HookSeen::Running {
                    wait,
                    diagnosis: diagnosis.told(secrets.hidden()),
                }
            }
        })
    }

    /// What was read from the cluster, without secrets.
    pub(super) async fn mask_outputs(&mut self, outputs: &mut JsonMap) -> Result<(), AppError> {
        if !outputs.is_empty() {
            self.secrets().await?.hide_in(outputs);
        }
        Ok(())
    }
}
