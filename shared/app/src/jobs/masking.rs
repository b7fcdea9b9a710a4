//! Pods print what they were given, and clusters repeat it in events and errors: no secret of the release gets from
//! there into a job's records, which callers read.

use std::collections::BTreeMap;

use serde_json::json;
use slipway_model::{HelmOperation, Job, JsonMap};
use slipway_ports::{HookState, Observation};

use super::deploy_helm::Run;
use crate::{
    App, AppError,
    steps::{RenderContext, Resolved},
};

impl App {
    /// The secrets that the pods of a job's release may know. `context` is what the job's values read, if they read
    /// anything.
    pub(super) async fn secrets_of_job(
        &self,
        job: &Job,
        context: Option<&RenderContext>,
        values: &JsonMap,
    ) -> Result<Resolved, AppError> {
        if let Some(context) = context.filter(|_| !values.is_empty()) {
            return self
                .secrets_of(&job.tenant, &context.secret_parameters, values)
                .await;
        }
        let deployment = match job.deployment_id {
            Some(id) => self.load_deployment(&job.tenant, id).await?,
            None => None,
        };
        let Some(deployment) = deployment else {
            return self.secrets_of(&job.tenant, &BTreeMap::new(), values).await;
        };
        // A job that tests or rolls back has no values of its own: what it may meet was given by others of the deployment.
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
        self.secrets_of(&job.tenant, &deployment.secret_parameters, &all)
            .await
    }
}

impl Run<'_> {
    /// The secrets that must not be told; resolved once an invocation, and only where there is something to tell.
    async fn secrets(&mut self) -> Result<&Resolved, AppError> {
        let resolved = match self.secrets.take() {
            Some(resolved) => resolved,
            // An install without expressions was given no secret.
            None if self.work.context.is_none() && self.config.operation == HelmOperation::Deploy => {
                Resolved::default()
            }
            None => {
                self.app
                    .secrets_of_job(&self.job, self.work.context.as_ref(), &self.config.values)
                    .await?
            }
        };
        Ok(self.secrets.insert(resolved))
    }

    /// A text without secrets.
    pub(super) async fn masked(&mut self, text: &str) -> Result<String, AppError> {
        if text.is_empty() {
            return Ok(String::new());
        }
        Ok(self.secrets().await?.hide(text))
    }

    /// What was seen, without secrets.
    pub(super) async fn mask_observation(&mut self, mut seen: Observation) -> Result<Observation, AppError> {
        if seen.waiting.is_empty() && seen.failed.is_none() && seen.diagnosis.is_empty() {
            return Ok(seen);
        }
        let secrets = self.secrets().await?;
        seen.diagnosis = secrets.hide(&seen.diagnosis);
        for wait in seen.waiting.iter_mut().chain(&mut seen.failed) {
            secrets.hide_in_wait(wait);
        }
        Ok(seen)
    }

    /// How a hook stands, without secrets.
    pub(super) async fn mask_hook(&mut self, state: HookState) -> Result<HookState, AppError> {
        let secrets = self.secrets().await?;
        Ok(match state {
            HookState::Succeeded { log } => HookState::Succeeded {
                log: secrets.hide(&log),
            },
            HookState::Failed { reason, log } => HookState::Failed {
                reason: secrets.hide(&reason),
                log: secrets.hide(&log),
            },
            HookState::Running { mut wait, diagnosis } => {
                secrets.hide_in_wait(&mut wait);
                HookState::Running {
                    wait,
                    diagnosis: secrets.hide(&diagnosis),
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
