//! Ending an execution.

use std::collections::BTreeMap;

use slipway_engine::{execution_event, final_status};
use slipway_expr::Path;
use slipway_model::{ExecutionStatus, Failure, OnFailure, StepStatus};
use slipway_ports::{Guard, Put};

use crate::{
    AppError,
    executions::{execution_item, publish},
    keys,
    steps::{RenderContext, drive::Drive},
};

impl Drive<'_> {
    /// Ends the execution: every node before the end has ended. The first guarded write wins.
    pub(super) async fn finish(&mut self) -> Result<(), AppError> {
        let key = keys::execution(&self.header.tenant, self.header.id);
        loop {
            let Some(stored) = self.session.get(&key).await? else {
                return Ok(());
            };
            self.header = stored.read()?;
            if self.header.status.is_terminal() {
                break;
            }
            self.header.status = final_status(&self.header);
            if self.header.status == ExecutionStatus::Completed
                && let Err(message) = self.render_outputs().await?
            {
                self.header.status = ExecutionStatus::Failed;
                self.header.failure = Some(Failure {
                    step_id: "outputs".to_owned(),
                    message,
                });
            }
            self.header.ended_at = Some(self.app.clock.now());
            let failed = matches!(
                self.header.status,
                ExecutionStatus::Failed | ExecutionStatus::TimedOut
            );
            if failed && self.header.settings.on_failure == OnFailure::Rollback {
                self.header.compensated_by = self.compensate().await?;
            }
            let put = self
                .session
                .put(&key, execution_item(&self.header), Guard::Version(stored.version))
                .await?;
            if let Put::Won(_) = put {
                break;
            }
        }
        self.publish_end();
        Ok(())
    }

    /// Says how the execution ended, as often as somebody asks.
    pub(super) fn publish_end(&mut self) {
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
            let outputs = self
                .record(ordinal)
                .await?
                .filter(|(record, _)| record.status == StepStatus::Completed);
            steps.insert(name, outputs.map(|(record, _)| record.outputs));
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
