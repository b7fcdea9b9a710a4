//! Ending an execution.

use std::collections::BTreeMap;

use slipway_engine::{execution_event, final_status};
use slipway_expr::Path;
use slipway_model::{Cancellation, ExecutionId, ExecutionStatus, Failure, JsonMap, OnFailure};
use slipway_ports::{Guard, Put};

use crate::{
    AppError,
    executions::{larger_than, publish},
    keys,
    steps::{RenderContext, drive::Drive},
};

/// Largest outputs of an execution, as JSON: they stand in its header, beside its parameters.
const LARGEST_OUTPUTS: usize = 128 * 1024;

/// Most bytes that are told of why nothing can be undone.
const LONGEST_REASON: usize = 1024;

impl Drive<'_> {
    /// Ends the execution: every node before the end has ended. The first guarded write wins.
    pub(super) async fn finish(&mut self) -> Result<(), AppError> {
        let key = keys::execution(&self.header.tenant, self.header.id);
        let mut undoing = None;
        loop {
            let Some(stored) = self.session.get(&key).await? else {
                return Ok(());
            };
            self.header = stored.read()?;
            if self.header.status.is_terminal() {
                self.leave_undone(undoing).await?;
                break;
            }
            self.header.status = final_status(&self.header);
            if self.header.status == ExecutionStatus::Completed
                && let Err(message) = self.render_outputs().await?
            {
                self.fail_outputs(message);
            }
            if self.header.status == ExecutionStatus::Completed
                && larger_than(&self.header.outputs, LARGEST_OUTPUTS)
            {
                self.header.outputs = JsonMap::new();
                let limit = LARGEST_OUTPUTS / 1024;
                self.fail_outputs(format!("the outputs are larger than {limit} KiB"));
            }
            self.header.ended_at = Some(self.app.clock.now());
            let failed = matches!(
                self.header.status,
                ExecutionStatus::Failed | ExecutionStatus::TimedOut
            );
            if self.header.settings.on_failure == OnFailure::Rollback {
                if failed {
                    // What this invocation completed itself is to be undone, too, and is read as everything else is.
                    self.settle().await?;
                    match self.compensate().await {
                        Ok(written) => undoing = written,
                        // It would be refused whenever it is tried, and the execution must end.
                        Err(AppError::Problem(refused)) => {
                            self.header.not_undone = Some(shortened(refused.detail));
                        }
                        Err(error) => return Err(error),
                    }
                } else if self.header.status == ExecutionStatus::Cancelled {
                    // It was to be undone already when it was cancelled.
                    undoing = self.compensation().await?;
                }
                self.header.compensated_by = undoing;
            }
            let put = self
                .session
                .put(
                    &key,
                    self.app.execution_item(&self.header),
                    Guard::Version(stored.version),
                )
                .await?;
            if let Put::Won(_) = put {
                break;
            }
        }
        self.publish_end();
        Ok(())
    }

    /// Somebody else ended the execution otherwise: what this invocation wrote to undo it is not to happen.
    async fn leave_undone(&mut self, undoing: Option<ExecutionId>) -> Result<(), AppError> {
        let Some(undoing) = undoing.filter(|id| self.header.compensated_by != Some(*id)) else {
            return Ok(());
        };
        let cancellation = Cancellation {
            at: self.app.clock.now(),
            reason: "the execution that it undoes ended otherwise".to_owned(),
            uninstall: false,
        };
        // In the session that sends its first messages, and before they go out.
        self.app
            .update_header(self.session.as_mut(), &self.header.tenant, undoing, |header| {
                header.cancel.get_or_insert_with(|| cancellation.clone());
                true
            })
            .await?;
        Ok(())
    }

    fn fail_outputs(&mut self, message: String) {
        self.header.status = ExecutionStatus::Failed;
        self.header.failure = Some(Failure {
            step_id: "outputs".to_owned(),
            message,
        });
    }

    /// Says how the execution ended, once in each invocation that comes to its end.
    pub(super) fn publish_end(&mut self) {
        if std::mem::replace(&mut self.said_end, true) {
            return;
        }
        if let Some(event) = execution_event(&self.header) {
            publish(self.session.as_mut(), &self.header, &event);
        }
    }

    async fn render_outputs(&mut self) -> Result<Result<(), String>, AppError> {
        if self.header.outputs.is_empty() {
            return Ok(Ok(()));
        }
        let mut steps = BTreeMap::new();
        for (name, ordinal) in self.header.output_reads.clone() {
            steps.insert(name, self.outputs_of(ordinal).await?);
        }
        let context = RenderContext::new(&self.header, steps);
        Ok(
            match context.render_without_secrets(&self.header.outputs, &Path::of("outputs")) {
                Ok(outputs) => {
                    self.header.outputs = outputs;
                    Ok(())
                }
                Err(message) => Err(message),
            },
        )
    }
}

fn shortened(mut reason: String) -> String {
    if reason.len() > LONGEST_REASON {
        reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
        reason.push('…');
    }
    reason
}
