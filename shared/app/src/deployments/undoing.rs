//! What an execution that undoes another one means for a deployment and its components.

use serde_json::Value;
use slipway_engine::execution_event;
use slipway_model::{Deployment, Execution, ExecutionStatus, StepProgress, StepStatus};

use super::{
    ending::Ending,
    news::{StepNews, hear},
};
use crate::{App, AppError};

/// What the id of a step that undoes begins with; the rest is the component.
pub(crate) const UNDO: &str = "undo-";

/// The output of an execution that undoes another one that names the components which it leaves.
pub(crate) const KEPT: &str = "kept";

/// The output of an execution that undoes another one that names the releases which that one uninstalled.
pub(crate) const UNINSTALLED: &str = "uninstalled";

impl App {
    /// Why an execution failed, and what became of what it had changed.
    pub(crate) async fn failure_of(&self, execution: &Execution) -> Result<Option<String>, AppError> {
        let message = execution_event(execution)
            .and_then(|event| event.payload["error_message"].as_str().map(str::to_owned));
        let Some(id) = execution.compensated_by else {
            return Ok(message);
        };
        let Some(undoing) = self.load_execution(&execution.tenant, id).await? else {
            return Ok(message);
        };
        let undone = if !undoing.status.is_terminal() {
            format!("what it had changed is being undone by execution {id}")
        } else if undoing.status == ExecutionStatus::Completed {
            match left(&undoing) {
                Some(left) => format!("what it had changed was undone, but for {left}"),
                None => "what it had changed was undone".to_owned(),
            }
        } else {
            let progress = self.progress_of(&execution.tenant, id, true).await?;
            let not_undone = progress.steps.iter().flatten().filter_map(not_undone);
            let all: Vec<String> = not_undone.chain(left(&undoing)).collect();
            format!(
                "not everything that it had changed could be undone: {}",
                all.join("; ")
            )
        };
        Ok(Some(match message {
            Some(message) => format!("{message}; {undone}"),
            None => undone,
        }))
    }

    /// Takes the end of an execution that undid `undone`. Components that nothing newer has come to since are told, whatever
    /// came after it; the deployment only if that is its newest one.
    pub(crate) async fn hear_undone(
        &self,
        deployment: &Deployment,
        undone: &Execution,
    ) -> Result<(), AppError> {
        self.repair_undone(deployment, undone).await?;
        if deployment.pipeline_execution_id != Some(undone.id) {
            return Ok(());
        }
        let ending = Ending {
            execution: undone.id,
            generation: undone.generation,
            status: undone.status,
            error_message: self.failure_of(undone).await?,
            certain: true,
        };
        let mut session = self.store.session();
        self.end_deployment(session.as_mut(), &deployment.tenant, deployment.id, &ending)
            .await?;
        Ok(session.settle().await?)
    }

    /// Gives every component that was undone the status that this means.
    pub(crate) async fn repair_undone(
        &self,
        deployment: &Deployment,
        undone: &Execution,
    ) -> Result<(), AppError> {
        let Some(id) = undone.compensated_by else {
            return Ok(());
        };
        let Some(undoing) = self.load_execution(&deployment.tenant, id).await? else {
            return Ok(());
        };
        let progress = self.progress_of_header(&undoing, true).await?;
        let components = self.components_of(deployment).await?;
        let mut session = self.store.session();
        for step in progress.steps.iter().flatten() {
            let news = StepNews::of_step(step).filter(|news| *news != StepNews::Started);
            let (Some(mut news), Some(component)) = (news, step.step_id.strip_prefix(UNDO)) else {
                continue;
            };
            self.learn_what_is_left(&mut news, &undoing, (&step.step_id, step.attempt))
                .await?;
            let uninstalled = step
                .outputs
                .get("status")
                .is_some_and(|status| status == "uninstalled");
            // Its release may have been left behind since, to be uninstalled.
            let is_left = |name: &&str| name.split_once('-').is_some_and(|(of, _)| of == component);
            let left = components
                .iter()
                .filter(|one| one.undone_by == Some(id))
                .map(|one| one.component_name.as_str())
                .filter(is_left);
            for name in std::iter::once(component).chain(left) {
                self.update_component(session.as_mut(), deployment, name, |component| {
                    hear(component, (id, undone.generation), &news, uninstalled, true)
                })
                .await?;
            }
        }
        Ok(session.settle().await?)
    }
}

/// What an execution that undoes another one leaves as that one made it, and why.
fn left(undoing: &Execution) -> Option<String> {
    let named = |output: &str, why: &str| {
        let names = undoing.outputs.get(output)?.as_array()?;
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        Some(format!("{}, which {why}", names.join(", ")))
    };
    let all = [
        named(KEPT, "adopted what was there"),
        named(UNINSTALLED, "stays uninstalled"),
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join(", and "))
}

/// A step that was to undo something and did not, and why.
fn not_undone(step: &StepProgress) -> Option<String> {
    if step.status == StepStatus::Completed {
        return None;
    }
    let component = step.step_id.strip_prefix(UNDO).unwrap_or(&step.step_id);
    let why = step.error_message.as_deref().unwrap_or("it did not end");
    Some(format!("{component} ({why})"))
}
