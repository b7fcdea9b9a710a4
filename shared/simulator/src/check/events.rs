//! Checks of every message that is on its queue.

use slipway_model::{
    BUDPIPELINE_EVENTS, Event, Execution, ExecutionProgress, ExecutionStatus, Job, JobStatus, Queue,
    StepRecord,
};
use slipway_ports::Key;

use super::{
    Invariant,
    records::{plan_in, read, step_key},
};
use crate::{queue::Letter, world::World};

impl World {
    /// A message is on its queue: what it says must be durable.
    pub(crate) fn check_post(&mut self, letter: &Letter) {
        let Queue::Topic(topic) = &letter.queue else {
            return;
        };
        let Ok(event) = serde_json::from_str::<Event>(&letter.body) else {
            self.violated(
                Invariant::EventsAgreeWithTheStore,
                format_args!("an event cannot be read: {}", letter.body),
            );
            return;
        };
        let tenant = event.tenant_id.clone().unwrap_or_else(|| "local".to_owned());
        if topic == BUDPIPELINE_EVENTS {
            self.check_job_event(&tenant, &event);
        } else {
            self.check_execution_event(&tenant, &event);
        }
    }

    fn settled<T: serde::de::DeserializeOwned>(&self, key: &Key) -> Option<T> {
        self.tables.settled(key).and_then(read)
    }

    fn check_job_event(&mut self, tenant: &str, event: &Event) {
        let id = event.payload["job_id"]
            .as_str()
            .unwrap_or(&event.workflow_id)
            .to_owned();
        let job: Option<Job> = self.settled(&Key::new(format!("{tenant}/j/{id}"), "j"));
        let status = job.map(|job| job.status);
        let agrees = match event.event_type.as_str() {
            "job_completed" => status == Some(JobStatus::Succeeded),
            "job_failed" => matches!(
                status,
                Some(JobStatus::Failed | JobStatus::Cancelled | JobStatus::TimedOut)
            ),
            _ => true,
        };
        if !agrees {
            self.violated(
                Invariant::EventsAgreeWithTheStore,
                format_args!("'{}' says of job {id}, which is {status:?}", event.event_type),
            );
        }
        self.checks.told.insert((id, String::new(), "job".to_owned()));
    }

    fn check_execution_event(&mut self, tenant: &str, event: &Event) {
        let id = event.payload["execution_id"]
            .as_str()
            .unwrap_or(&event.workflow_id)
            .to_owned();
        let header: Option<Execution> = self.settled(&Key::new(format!("{tenant}/x/{id}"), "x"));
        let status = header.as_ref().map(|header| header.status);
        let plan = header.as_ref().map(plan_in).unwrap_or_default();
        let step = event.payload["step_id"].as_str().unwrap_or_default().to_owned();
        let ordinal = self
            .checks
            .plans
            .get(&plan)
            .and_then(|plan| plan.names.get(&step).copied());
        let record: Option<StepRecord> = ordinal.and_then(|ordinal| self.settled(&step_key(&plan, ordinal)));
        let said = &event.payload["status"];
        let (agrees, what) = match event.event_type.as_str() {
            "step_started" => (record.is_some(), "step"),
            kind @ ("step_completed" | "step_failed") => {
                let agrees = record.as_ref().is_some_and(|record| {
                    record.status.is_terminal()
                        && record.satisfied == (kind == "step_completed")
                        && serde_json::to_value(record.status).ok().as_ref() == Some(said)
                });
                (agrees, "step")
            }
            "workflow_completed" => (status == Some(ExecutionStatus::Completed), "execution"),
            "workflow_failed" => (
                matches!(status, Some(ExecutionStatus::Failed | ExecutionStatus::TimedOut)),
                "execution",
            ),
            "execution_cancelled" => (status == Some(ExecutionStatus::Cancelled), "execution"),
            "workflow_progress" => {
                let percent = event.payload["percent"]
                    .as_f64()
                    .or_else(|| event.payload["content"]["percent"].as_f64());
                if percent.is_some_and(|percent| !(0.0..100.0).contains(&percent)) {
                    self.violated(Invariant::ProgressIsSane, format_args!("{}", event.payload));
                }
                (true, "progress")
            }
            _ => (true, "other"),
        };
        if !agrees {
            let stored = record.map(|record| (record.status, record.satisfied));
            self.violated(
                Invariant::EventsAgreeWithTheStore,
                format_args!(
                    "'{}' ({said}) says of step '{step}' of execution {id}; the step is {stored:?}, the execution {status:?}",
                    event.event_type
                ),
            );
        }
        let topic_kind = match what {
            "step" if event.event_type != "step_started" => "step",
            "execution" => "execution",
            _ => return,
        };
        self.checks.told.insert((id, step, topic_kind.to_owned()));
    }
}

impl World {
    /// The highest percentage of an execution that callers were told so far.
    pub(crate) fn percent_of(&self, id: &str) -> f64 {
        self.checks.percent.get(id).copied().unwrap_or_default()
    }

    /// What a caller was told of an execution's progress, of which somebody had been told `before` when it asked.
    pub(crate) fn check_progress(&mut self, id: &str, before: f64, progress: &ExecutionProgress) {
        let percent = progress.percent;
        let is_wrong = !(0.0..=100.0).contains(&percent)
            || (percent < before && !progress.status.is_terminal())
            || (percent >= 100.0 && !progress.status.is_terminal())
            || progress.finished_steps > progress.total_steps
            || progress.eta_seconds.is_some_and(|eta| eta > 10 * 366 * 86_400);
        if is_wrong {
            self.violated(
                Invariant::ProgressIsSane,
                format_args!("execution {id} was at {before} % and says {progress:?}"),
            );
        }
        let highest = percent.max(self.percent_of(id));
        self.checks.percent.insert(id.to_owned(), highest);
    }
}
