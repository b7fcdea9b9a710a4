//! A job's record, its messages and its events.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use slipway_actions::JobDraft;
use slipway_expr::Path;
use slipway_model::{
    BUDPIPELINE_EVENTS, Cancellation, Event, EventType, Execution, FailureKind, Job, JobId, JobPhase,
    JobStatus, Message, Node, Outcome, OutputSource, Queue, TenantId,
};
use slipway_policy::{ChartRef, ConfigCheck, validate_helm_config};
use slipway_ports::{Guard, Item, Listing, Put, Session};

use super::{kept::MADE_BY, undone::UNDOES, work::JobWork};
use crate::{
    App, AppError, keys,
    steps::{RenderContext, at_values},
};

/// Largest item of a new job: what its phases find out has to fit beside it.
const LARGEST_NEW: usize = 200 * 1024;

/// A job that a step makes.
pub(crate) struct NewStepJob<'a> {
    pub(crate) id: JobId,
    pub(crate) draft: JobDraft,
    pub(crate) context: RenderContext,
    pub(crate) origin: JobOrigin<'a>,
}

/// The step that makes a job.
pub(crate) struct JobOrigin<'a> {
    pub(crate) header: &'a Execution,
    pub(crate) node: &'a Node,
}

/// The event of a job that ended; nothing while it is open.
pub(crate) fn job_event(job: &Job) -> Option<Event> {
    if !job.status.is_terminal() {
        return None;
    }
    let succeeded = job.status == JobStatus::Succeeded;
    let outcome = if succeeded { "COMPLETED" } else { "FAILED" };
    let mut payload = json!({
        "job_id": job.id,
        "job_type": job.job_type,
        "source": job.source,
        "source_id": job.source_id,
        "status": job.status,
        "content": { "result": job.result, "status": outcome },
    });
    if let (false, Some(payload)) = (succeeded, payload.as_object_mut()) {
        payload.insert("error".to_owned(), json!(job.error_message));
    }
    let event_type = if succeeded {
        EventType::JobCompleted
    } else {
        EventType::JobFailed
    };
    let event = Event {
        event_type: event_type.as_str().to_owned(),
        workflow_id: job.id.to_string(),
        tenant_id: (job.tenant != TenantId::local()).then(|| job.tenant.to_string()),
        payload,
    };
    Some(event.fitted(&format!("/api/v1/jobs/{}", job.id)))
}

impl App {
    /// The item of a job: due while it is open, listed, and kept for a while once it has ended.
    pub(super) fn job_item(&self, job: &Job, due_in: Duration) -> Item {
        let due = (!job.status.is_terminal()).then(|| self.clock.now().plus(due_in));
        let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
        let mut item = Item::of(job).due_at(due).listed(Listing {
            list: format!("{}/jobs", job.tenant),
            position: format!("{:015}/{}", job.created_at.as_millis(), job.id),
            attributes: BTreeMap::from([
                ("status".to_owned(), word(json!(job.status))),
                ("cluster".to_owned(), job.cluster_id.to_string()),
                ("job_type".to_owned(), job.job_type.as_str().to_owned()),
            ]),
        });
        item.expires_at = self.kept_until(job.completed_at);
        item
    }

    /// The item of a job's working record, which goes when the job does.
    pub(super) fn work_item(&self, job: &Job, work: &JobWork) -> Item {
        Item {
            expires_at: self.kept_until(job.completed_at),
            ..Item::of(work)
        }
    }

    /// A job by id.
    pub(crate) async fn load_job(&self, tenant: &TenantId, id: JobId) -> Result<Option<Job>, AppError> {
        Ok(match self.store.get(&keys::job(tenant, id)).await? {
            Some(stored) => Some(stored.read()?),
            None => None,
        })
    }

    /// Puts off the end of a job whose release still runs, and of the one that made what it kept: what was applied is
    /// told by them, for plans, for drift and for whoever need not apply it again.
    pub(crate) async fn keep_job(&self, tenant: &TenantId, id: JobId) -> Result<(), AppError> {
        let Some(retention) = self.settings.retention else {
            return Ok(());
        };
        let mut next = Some(id);
        while let Some(id) = next.take() {
            let mut session = self.store.session();
            let key = keys::job(tenant, id);
            let Some(stored) = session.get(&key).await? else {
                return Ok(());
            };
            let job: Job = stored.read()?;
            let made_by = job.metadata_.get(MADE_BY).and_then(Value::as_str);
            next = made_by.and_then(|id| id.parse().ok());
            let now = self.clock.now();
            // Only in the second half of its time, so that not every look writes.
            if job
                .completed_at
                .is_some_and(|ended| now >= ended.plus(retention / 2))
            {
                let mut item = self.job_item(&job, Duration::ZERO);
                item.expires_at = self.kept_until(Some(now));
                // Whoever wrote it meanwhile does this in an hour.
                session.put(&key, item, Guard::Version(stored.version)).await?;
                session.settle().await?;
            }
        }
        Ok(())
    }

    /// Has a job gone on with.
    pub(crate) fn send_job(&self, session: &mut dyn Session, tenant: &TenantId, id: JobId, delay: Duration) {
        session.send(
            Queue::DeployHelm,
            Message::Job {
                tenant: tenant.clone(),
                job: id,
            },
            delay,
        );
    }

    /// Writes a job if it is not there and has it begun. One that has begun goes on by messages of its own.
    pub(crate) async fn write_job(&self, session: &mut dyn Session, job: &Job) -> Result<(), AppError> {
        let item = self.job_item(job, Duration::from_secs(60));
        let put = session
            .put(&keys::job(&job.tenant, job.id), item, Guard::Absent)
            .await?;
        let has_begun = match put {
            Put::Lost(Some(stored)) => stored.read::<Job>()?.status != JobStatus::Pending,
            Put::Lost(None) | Put::Won(_) => false,
        };
        if !has_begun {
            self.send_job(session, &job.tenant, job.id, Duration::ZERO);
        }
        Ok(())
    }

    /// Publishes the event of a job that ended.
    pub(super) fn publish_job_end(&self, session: &mut dyn Session, job: &Job) {
        if let Some(event) = job_event(job) {
            session.send(
                Queue::Topic(BUDPIPELINE_EVENTS.to_owned()),
                Message::Event(event),
                Duration::ZERO,
            );
        }
    }

    /// Writes the job that a step wants, unless its configuration is refused: then nothing was done. A repeat of
    /// the attempt finds the job there. The job is begun by the message that follows the step's own record.
    pub(crate) async fn write_step_job(
        &self,
        session: &mut dyn Session,
        new: NewStepJob<'_>,
    ) -> Result<Outcome, AppError> {
        let NewStepJob {
            id,
            draft,
            context,
            origin,
        } = new;
        let refuse = |message: String| {
            Ok(Outcome::Failed {
                message,
                kind: FailureKind::Permanent,
            })
        };
        // What secrets stand for is not looked at here; the job looks again when it has resolved them.
        let mut checked = draft.config.clone();
        checked.values = match context.render_without_secrets(&draft.config.values, &at_values()) {
            Ok(values) => values,
            Err(message) => return refuse(message),
        };
        checked.outputs = match rendered_outputs(&context, &draft.config.outputs) {
            Ok(outputs) => outputs,
            Err(message) => return refuse(message),
        };
        if let Some(message) = self.config_errors(&json!(checked), ConfigCheck::Rendered) {
            return refuse(message);
        }
        let now = self.clock.now();
        let mut metadata = draft.metadata;
        metadata.insert("step_id".to_owned(), json!(origin.node.id));
        let undoes = origin.header.compensates.is_some();
        if let Some(undone) = origin.node.params.get(UNDOES).filter(|_| undoes) {
            metadata.insert(UNDOES.to_owned(), undone.clone());
        }
        let mut config = draft.config;
        config.outputs = checked.outputs;
        let outputs = slipway_model::JsonMap::from_iter([
            ("job_id".to_owned(), json!(id)),
            ("status".to_owned(), json!("deploying")),
            ("namespace".to_owned(), json!(config.namespace)),
            ("release_name".to_owned(), json!(config.release_name)),
        ]);
        let job = Job {
            id,
            tenant: origin.header.tenant.clone(),
            name: draft.name,
            job_type: draft.job_type,
            status: JobStatus::Pending,
            source: "budpipeline".to_owned(),
            source_id: Some(origin.header.id.to_string()),
            cluster_id: draft.cluster,
            namespace: Some(config.namespace.clone()),
            priority: 0,
            config: json!(config),
            metadata_: metadata,
            error_message: None,
            replaces_revision: None,
            kept: false,
            failure_kind: None,
            retry_count: 0,
            timeout_seconds: draft.timeout_seconds,
            created_at: now,
            started_at: None,
            completed_at: None,
            phase: JobPhase::Check,
            waiting_for: Vec::new(),
            result: slipway_model::JsonMap::new(),
            deployment_id: origin.header.deployment_id,
            generation: origin.header.generation,
            undoes,
            step: Some((origin.header.id, origin.node.ordinal)),
            plan: origin.header.plan.clone(),
            cancel: None,
        };
        let work = JobWork {
            context: Some(context),
            secrets_read: origin.header.secrets_read.clone(),
            ..JobWork::default()
        };
        let work = Item::of(&work);
        let item = self.job_item(&job, Duration::from_secs(120));
        let largest = work.body.len().max(item.body.len());
        if largest > LARGEST_NEW {
            return refuse(format!(
                "its values and what they read are {} KiB, more than the {} KiB that a job can hold: pass large \
                 data by reference",
                largest / 1024,
                LARGEST_NEW / 1024
            ));
        }
        session
            .put(&keys::job_work(&job.tenant, id), work, Guard::Absent)
            .await?;
        session
            .put(&keys::job(&job.tenant, id), item, Guard::Absent)
            .await?;
        Ok(Outcome::AwaitJob(id, outputs))
    }

    /// What is wrong with a Helm configuration, as one sentence.
    pub(crate) fn config_errors(&self, config: &Value, check: ConfigCheck) -> Option<String> {
        let errors = self.config_error_list(config, check);
        if errors.is_empty() {
            return None;
        }
        let list: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
        Some(format!("Invalid Helm config: {}", list.join("; ")))
    }

    /// What is wrong with a Helm configuration, place by place.
    pub(crate) fn config_error_list(
        &self,
        config: &Value,
        check: ConfigCheck,
    ) -> Vec<slipway_model::FieldError> {
        let deploys = config
            .get("operation")
            .is_none_or(|operation| operation == "deploy");
        let mut errors: Vec<slipway_model::FieldError> = validate_helm_config(config, check)
            .into_iter()
            .filter(|error| deploys || error.path != "chart_ref")
            .map(|error| slipway_model::FieldError::new(error.path, error.message))
            .collect();
        let reference = config.get("chart_ref").and_then(Value::as_str);
        if let Some(refused) = reference.and_then(|reference| self.refused_host(reference)) {
            errors.push(slipway_model::FieldError::new("chart_ref", refused));
        }
        errors
    }

    /// Why charts may not come from where a reference leads. A text that is no reference is judged elsewhere.
    pub(crate) fn refused_host(&self, reference: &str) -> Option<String> {
        let chart = ChartRef::parse(reference).ok()?;
        let refused = self.settings.chart_hosts.check(&chart).err()?;
        Some(refused.to_string())
    }

    /// Flags a job as cancelled and has it looked at. One that has ended stays as it is.
    pub(crate) async fn request_job_cancel(
        &self,
        session: &mut dyn Session,
        tenant: &TenantId,
        id: JobId,
        cancellation: Cancellation,
    ) -> Result<(), AppError> {
        let key = keys::job(tenant, id);
        loop {
            let Some(stored) = session.get(&key).await? else {
                return Ok(());
            };
            let mut job: Job = stored.read()?;
            if job.status.is_terminal() {
                // Its event may have been lost.
                self.publish_job_end(session, &job);
                return Ok(());
            }
            let before = job.cancel.clone();
            let first = job.cancel.get_or_insert_with(|| cancellation.clone());
            first.uninstall |= cancellation.uninstall;
            if job.cancel != before {
                let item = self.job_item(&job, Duration::from_secs(60));
                if let Put::Lost(_) = session.put(&key, item, Guard::Version(stored.version)).await? {
                    continue;
                }
            }
            self.send_job(session, tenant, id, Duration::ZERO);
            return Ok(());
        }
    }
}

/// Where outputs are read, with the expressions in the names of objects evaluated. Nothing in them is secret.
pub(crate) fn rendered_outputs(
    context: &RenderContext,
    outputs: &BTreeMap<String, OutputSource>,
) -> Result<BTreeMap<String, OutputSource>, String> {
    let Value::Object(sources) = json!(outputs) else {
        return Ok(BTreeMap::new());
    };
    let rendered = context.render_without_secrets(&sources, &Path::of("outputs"))?;
    serde_json::from_value(Value::Object(rendered)).map_err(|error| format!("outputs: {error}"))
}
