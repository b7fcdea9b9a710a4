//! The schedule: what is due or was lost is looked at again, and so are the dead letters.

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use lambda_runtime::LambdaEvent;
use serde::de::IgnoredAny;
use slipway_app::{App, AppError};
use slipway_aws::trace;
use slipway_ports::{Clock, chain};
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::{
    budget::budget,
    function::Function,
    logging::{SHELL, trace_id},
};

/// What is done every minute.
#[async_trait]
pub(crate) trait Rounds: Send + Sync {
    /// Looks at what is due.
    async fn sweep(&self) -> Result<(), AppError>;

    /// Looks at dead letters.
    async fn dead_letters(&self) -> Result<(), AppError>;
}

#[async_trait]
impl Rounds for App {
    async fn sweep(&self) -> Result<(), AppError> {
        self.sync_deployments().await
    }

    async fn dead_letters(&self) -> Result<(), AppError> {
        self.look_at_dead_letters().await
    }
}

/// A round that was not finished. The next one goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnfinishedRound {
    /// It was stopped before the function's end.
    #[error("the round was not finished after {} s; the next one goes on", .0.as_secs())]
    TimedOut(Duration),
    /// Parts do not answer.
    #[error("the round could not look at everything; the next one goes on: {0}")]
    Failed(String),
}

/// Answers events of the schedule, whatever they say.
pub(crate) struct Schedule<R> {
    pub(crate) function: Function,
    pub(crate) rounds: R,
    pub(crate) clock: Arc<dyn Clock>,
}

impl<R: Rounds> Schedule<R> {
    /// Makes a round. One that fails fails the invocation, so that its alarm rings.
    pub(crate) async fn tick(
        &self,
        event: LambdaEvent<IgnoredAny>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let context = event.context;
        let budget = budget(&*self.clock, context.deadline, self.function.time_out);
        let span = tracing::error_span!(
            target: SHELL,
            "invocation",
            request_id = context.request_id,
            trace_id = context.xray_trace_id.as_deref().map(trace_id),
        );
        let round = timeout(budget, trace::scope(context.xray_trace_id, self.round(budget)));
        async {
            let ended = round.await.unwrap_or(Err(UnfinishedRound::TimedOut(budget)));
            if let Err(error) = &ended {
                tracing::error!(error = chain(error), "a round of the schedule was not finished");
            }
            Ok(ended?)
        }
        .instrument(span)
        .await
    }

    /// Both parts, whatever comes of the first: a quarter of the time is kept for the second.
    async fn round(&self, budget: Duration) -> Result<(), UnfinishedRound> {
        let longest = budget * 3 / 4;
        let swept = match timeout(longest, self.rounds.sweep()).await {
            Ok(swept) => swept.map_err(|error| chain(&error)),
            Err(_) => Err(format!("the sweep was stopped after {} s", longest.as_secs())),
        };
        let looked = self.rounds.dead_letters().await.map_err(|error| chain(&error));
        let failed: Vec<String> = [swept, looked].into_iter().filter_map(Result::err).collect();
        if failed.is_empty() {
            Ok(())
        } else {
            Err(UnfinishedRound::Failed(failed.join("; ")))
        }
    }
}

#[cfg(test)]
mod tests;
