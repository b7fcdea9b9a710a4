//! Reading executions, and the decisions of people.

use serde::{Deserialize, Serialize};
use serde_json::json;
use slipway_model::{
    Execution, ExecutionId, ExecutionStatus, NodeKind, StepProgress, StepRecord, StepStatus,
};
use slipway_ports::{Filter, Guard, Put};

use crate::{App, AppError, Caller, ListQuery, Page, Role, executions::progress::step_progress, keys};

/// A person's decision.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Approved or rejected.
    #[serde(default = "yes")]
    pub approved: bool,
    /// What the person says.
    #[serde(default)]
    pub comment: Option<String>,
}

fn yes() -> bool {
    true
}

impl App {
    /// Executions, newest first.
    ///
    /// # Errors
    /// 400 for a bad cursor, 422 for a bad limit.
    pub async fn executions(&self, caller: &Caller, query: &ListQuery) -> Result<Page<Execution>, AppError> {
        let (after, limit) = (query.position()?, query.page_size()?);
        let status = query.status_word::<ExecutionStatus>()?;
        let filters: Vec<Filter> = status
            .map(|status| ("status".to_owned(), status))
            .into_iter()
            .collect();
        let list = format!("{}/executions", caller.tenant);
        let page = self.store.list(&list, &filters, after.as_deref(), limit).await?;
        Page::read(&page)
    }

    /// One execution.
    ///
    /// # Errors
    /// 404, also for what cannot be an id.
    pub async fn execution(&self, caller: &Caller, id: &str) -> Result<Execution, AppError> {
        let missing = || AppError::not_found(format!("execution '{}'", crate::shown(id)));
        let parsed: ExecutionId = id.parse().map_err(|_| missing())?;
        self.load_execution(&caller.tenant, parsed)
            .await?
            .ok_or_else(missing)
    }

    /// Approves or rejects a step that waits for a person.
    ///
    /// # Errors
    /// 404; 409 when the step does not wait for a person, naming its state.
    pub async fn approve_step(
        &self,
        caller: &Caller,
        id: &str,
        step: &str,
        approval: Approval,
    ) -> Result<StepProgress, AppError> {
        caller.require(Role::Deployer)?;
        let header = self.execution(caller, id).await?;
        let (ordinal, action) = self.find_step(&header, step).await?;
        let key = keys::step(&header, ordinal);
        let mut session = self.store.session();
        let stored = session.get(&key).await?;
        let record: Option<StepRecord> = stored.as_ref().map(|stored| stored.read()).transpose()?;
        let status = record
            .as_ref()
            .map_or(StepStatus::Pending, |record| record.status);
        let (Some(stored), Some(mut record), "approval", StepStatus::AwaitingEvent) =
            (stored, record, action.as_str(), status)
        else {
            let status = json!(status);
            return Err(AppError::conflict(format!(
                "step '{}' (action '{action}') is {}: only an 'approval' step that is AWAITING_EVENT can be decided",
                crate::shown(step),
                status.as_str().unwrap_or_default()
            )));
        };
        if record
            .deadline
            .is_some_and(|deadline| self.clock.now() >= deadline)
        {
            return Err(AppError::conflict(format!(
                "step '{step}' has passed its deadline: it cannot be decided any more"
            )));
        }
        if record
            .approval
            .is_some_and(|decided| decided != approval.approved)
        {
            return Err(AppError::conflict(format!(
                "step '{step}' was already decided otherwise"
            )));
        }
        record.approval = Some(approval.approved);
        record.outputs.extend([
            ("approved".to_owned(), json!(approval.approved)),
            ("approved_by".to_owned(), json!(caller.user_id)),
            ("comment".to_owned(), json!(approval.comment)),
            ("decided_at".to_owned(), json!(self.clock.now())),
        ]);
        let item = self.step_item(&header, ordinal, &record).await?;
        let put = session.put(&key, item, Guard::Version(stored.version)).await?;
        if let Put::Lost(_) = put {
            return Err(AppError::conflict(format!(
                "step '{step}' has just changed: look at it and decide again"
            )));
        }
        crate::steps::send_steps(session.as_mut(), &header, vec![(ordinal, true)], Vec::new());
        session.settle().await?;
        Ok(step_progress(step, &action, Vec::new(), Some(record), None))
    }

    /// Ordinal and action of a step by its id.
    async fn find_step(&self, header: &Execution, step: &str) -> Result<(u32, String), AppError> {
        for first in (0..header.node_count).step_by(slipway_model::CHUNK_SIZE as usize) {
            let Some(chunk) = self.chunk(header, first).await? else {
                continue;
            };
            if let Some(node) = chunk
                .nodes
                .iter()
                .find(|node| node.kind == NodeKind::Step && node.id == step)
            {
                return Ok((node.ordinal, node.action.clone()));
            }
        }
        Err(AppError::not_found(format!(
            "step '{}' of execution '{}'",
            crate::shown(step),
            header.id
        )))
    }
}
