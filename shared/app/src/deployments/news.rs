//! What the steps of an execution tell of a deployment's components.

use slipway_model::{
    ComponentDeployment, ComponentStatus, Execution, ExecutionId, JobId, JsonMap, StepProgress, StepStatus,
};

use crate::{App, AppError, jobs::Left};

/// What is known of a component's step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StepNews {
    /// It started.
    Started,
    /// It ended.
    Ended {
        status: ComponentStatus,
        job_id: Option<JobId>,
        endpoint_url: Option<String>,
        error_message: Option<String>,
        /// Whether it was kept as it was.
        kept: bool,
        /// Whether it ended before anything was done, because others failed or nothing was to start any more.
        untouched: bool,
        /// What its jobs left, of one that was cancelled after it had begun.
        left: Option<Left>,
    },
}

impl StepNews {
    /// What a step that ended well means for its component: `SKIPPED` is a `when` that was false.
    pub(crate) fn completed(status: &str, outputs: &JsonMap, kept: bool) -> Self {
        let status = match status {
            "SKIPPED" => ComponentStatus::Stopped,
            _ => ComponentStatus::Running,
        };
        Self::Ended {
            status,
            job_id: job_id(outputs),
            endpoint_url: endpoint_url(outputs),
            error_message: None,
            kept,
            untouched: false,
            left: None,
        }
    }

    /// What a step that ended otherwise means for its component.
    pub(crate) fn failed(status: &str, outputs: &JsonMap, error_message: Option<String>) -> Self {
        let status = match status {
            "SKIPPED" | "CANCELLED" => ComponentStatus::Stopped,
            _ => ComponentStatus::Failed,
        };
        Self::Ended {
            status,
            job_id: job_id(outputs),
            endpoint_url: endpoint_url(outputs),
            error_message,
            kept: false,
            untouched: status == ComponentStatus::Stopped && job_id(outputs).is_none(),
            left: None,
        }
    }

    /// What a step's record says; nothing for one that has not begun.
    pub(crate) fn of_step(step: &StepProgress) -> Option<Self> {
        let (outputs, error) = (&step.outputs, step.error_message.clone());
        let mut news = match step.status {
            StepStatus::Pending => return None,
            StepStatus::Running | StepStatus::AwaitingEvent | StepStatus::Retrying => Self::Started,
            StepStatus::Completed => Self::completed("COMPLETED", outputs, step.kept),
            StepStatus::Skipped if step.satisfied => Self::completed("SKIPPED", outputs, false),
            StepStatus::Skipped => Self::failed("SKIPPED", outputs, error),
            StepStatus::Cancelled => Self::failed("CANCELLED", outputs, error),
            StepStatus::Failed | StepStatus::TimedOut => Self::failed("FAILED", outputs, error),
        };
        if let Self::Ended {
            job_id, untouched, ..
        } = &mut news
        {
            // A step that failed has no outputs, and its job is where its log is.
            *job_id = job_id.or(step.job_id);
            *untouched &= step.attempt == 0;
        }
        Some(news)
    }
}

fn job_id(outputs: &JsonMap) -> Option<JobId> {
    let text = outputs.get("job_id")?;
    let id = text.as_str().and_then(|text| text.parse().ok());
    if id.is_none() {
        tracing::warn!(job_id = %text, "a step's job_id is not a UUID; it is left out");
    }
    id
}

fn endpoint_url(outputs: &JsonMap) -> Option<String> {
    let url = outputs.get("endpoint_url")?.as_str()?;
    (!url.is_empty()).then(|| url.to_owned())
}

/// Whether what is known of a component comes from what undid that execution: nothing that the execution did is newer.
pub(crate) fn is_undone(component: &ComponentDeployment, execution: &Execution) -> bool {
    execution.compensated_by.is_some() && component.execution_id == execution.compensated_by
}

impl App {
    /// Adds to the news of a step that was cancelled what its jobs left of the component's release. Its last attempt may have
    /// been stopped before it had a job, and what an earlier one began is still there.
    pub(crate) async fn learn_what_is_left(
        &self,
        news: &mut StepNews,
        execution: &Execution,
        (step, attempts): (&str, u32),
    ) -> Result<(), AppError> {
        if let StepNews::Ended {
            status: ComponentStatus::Stopped,
            untouched,
            left,
            ..
        } = news
            && attempts > 0
        {
            *untouched = false;
            *left = Some(
                self.left_by(&execution.tenant, execution.id, step, attempts)
                    .await?,
            );
        }
        Ok(())
    }
}

/// Takes news of a component's step in an execution for that generation of the deployment, unless a newer one has planned
/// or told something of the component; what undoes an earlier one and has yet to tell is taken all the same. Messages come
/// late and in any order, so the end of a step is taken once and its start never after it, unless what is known is
/// `certain`. A step that `uninstalls` ends with the component stopped, and says nothing if it did not come to the release.
/// Any other that was cancelled before it did leaves the component as it ran. Whether something changed.
pub(crate) fn hear(
    component: &mut ComponentDeployment,
    (execution, generation): (ExecutionId, u64),
    news: &StepNews,
    uninstalls: bool,
    certain: bool,
) -> bool {
    let is_awaited = component.undone_by == Some(execution);
    if component.generation > generation && !is_awaited {
        return false;
    }
    let before = component.clone();
    let is_same_execution = component.execution_id == Some(execution);
    // Without one it was stopped since, and what was known before that holds.
    let is_of_earlier = component.execution_id.is_some_and(|earlier| earlier != execution);
    let ran_before = match is_of_earlier {
        true => component.status == ComponentStatus::Running,
        false => component.ran_before,
    };
    match news {
        StepNews::Started => {
            let may_start = match component.status {
                ComponentStatus::Pending => true,
                ComponentStatus::Deploying => certain,
                // The state of an earlier execution; without one it was stopped, and stays so.
                _ => certain || is_of_earlier,
            };
            if may_start && !uninstalls {
                component.status = ComponentStatus::Deploying;
                component.execution_id = Some(execution);
                component.kept = false;
                component.ran_before = ran_before;
                component.error_message = None;
            }
        }
        StepNews::Ended {
            status,
            job_id,
            endpoint_url,
            error_message,
            kept,
            untouched,
            left,
        } => {
            if *untouched && !is_same_execution && component.status == ComponentStatus::Running {
                // What an earlier execution brought up runs on.
                return false;
            }
            if is_same_execution && component.status.is_terminal() && !certain {
                return false;
            }
            let is_untouched = *left == Some(Left::Untouched);
            if uninstalls && (is_untouched || *untouched) && component.status.is_terminal() {
                // What undoes an earlier execution may still come, and is heard.
                return false;
            }
            if is_awaited && component.status == ComponentStatus::Deploying {
                // The newer one has come to it: stopped before anything is done, that leaves it as it is from now on.
                component.undone_by = None;
                let is_undone = *status == ComponentStatus::Running;
                component.ran_before = is_undone && !uninstalls;
                if is_undone && uninstalls {
                    component.endpoint_url = None;
                }
                return true;
            }
            if is_awaited || !(is_untouched || *untouched) {
                component.undone_by = None;
            }
            let runs_on = is_untouched && ran_before && !uninstalls;
            let is_halfway = matches!(left, Some(Left::Halfway(_) | Left::Removed(_)));
            component.status = match status {
                ComponentStatus::Running if uninstalls => ComponentStatus::Stopped,
                ComponentStatus::Stopped if runs_on => ComponentStatus::Running,
                // What was not uninstalled is still there, if it ever was.
                ComponentStatus::Stopped if uninstalls && !is_halfway && component.status.is_terminal() => {
                    component.status
                }
                status => *status,
            };
            component.execution_id = Some(execution);
            component.kept = *kept;
            component.ran_before = ran_before;
            component.error_message = match left {
                _ if runs_on => None,
                Some(Left::Halfway(told) | Left::Removed(told) | Left::Installed(told)) => Some(told.clone()),
                _ => error_message.clone(),
            };
            if job_id.is_some() && !runs_on {
                component.job_id = *job_id;
            }
            // Its release answers wherever it did, unless it is gone.
            let is_there =
                *untouched || matches!(left, Some(Left::Untouched | Left::Halfway(_) | Left::Unknown));
            if component.status == ComponentStatus::Stopped && !is_there {
                component.endpoint_url = None;
            } else if component.status != ComponentStatus::Stopped && endpoint_url.is_some() {
                component.endpoint_url.clone_from(endpoint_url);
            }
        }
    }
    let changed = *component != before;
    if changed {
        // A deletion plans no component anew.
        component.generation = generation.max(component.generation);
    }
    changed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failed_step_names_its_job_although_it_has_no_outputs() {
        let job = "6c079ba2-30bd-493e-b097-d56fee884a6d";
        let step: StepProgress = serde_json::from_value(json!({
            "step_id": "llm", "action": "helm_deploy", "status": "FAILED", "attempt": 1, "depends_on": [],
            "job_id": job, "error_message": "not ready",
        }))
        .unwrap();
        let Some(StepNews::Ended { job_id, .. }) = StepNews::of_step(&step) else {
            panic!("a step that failed has ended");
        };
        assert_eq!(job_id, Some(job.parse().unwrap()));
    }

    #[test]
    fn a_step_that_was_cancelled_before_it_touched_anything_leaves_what_was_undone_meanwhile() {
        use ComponentStatus::{Running, Stopped};
        let id = |last: u128| ExecutionId(uuid::Uuid::from_u128(last));
        let (undoing, newer) = (id(1), id(2));
        for (uninstalled, after) in [(false, (Running, true)), (true, (Stopped, false))] {
            let mut component: ComponentDeployment = serde_json::from_value(json!({
                "component_name": "llm", "component_type": "llm", "release_name": "llm", "cluster_id": id(3),
                "status": "DEPLOYING", "generation": 3, "execution_id": newer, "undone_by": undoing,
                "endpoint_url": "http://llm", "updated_at": "2026-01-01T00:00:00Z",
            }))
            .unwrap();
            let undone = StepNews::completed("COMPLETED", &JsonMap::new(), false);
            assert!(hear(&mut component, (undoing, 2), &undone, uninstalled, true));
            assert_eq!(component.status, ComponentStatus::Deploying);
            let mut cancelled = StepNews::failed("CANCELLED", &JsonMap::new(), None);
            if let StepNews::Ended { untouched, left, .. } = &mut cancelled {
                (*untouched, *left) = (false, Some(Left::Untouched));
            }
            assert!(hear(&mut component, (newer, 3), &cancelled, false, true));
            assert_eq!((component.status, component.endpoint_url.is_some()), after);
            assert!(!hear(&mut component, (undoing, 2), &undone, uninstalled, true));
        }
    }
}
