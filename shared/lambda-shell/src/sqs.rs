//! SQS as an event source: its events, and what it wants to hear.

use std::{error::Error, sync::Arc};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use lambda_runtime::LambdaEvent;
use slipway_ports::Clock;
use tracing::Instrument as _;

use crate::{
    batch::{Batches, Handler, Record},
    budget::budget,
    function::Function,
    logging::{SHELL, trace_id},
};

/// An event that is none of SQS's.
#[derive(Debug, thiserror::Error)]
#[error(
    "a record of the event has no {0}: this function is for events of an SQS event source mapping with ReportBatchItemFailures"
)]
pub(crate) struct NoSqsRecord(&'static str);

/// Answers events of SQS.
pub(crate) struct Consumer<H> {
    pub(crate) function: Function,
    pub(crate) batches: Batches<H>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl<H: Handler + 'static> Consumer<H> {
    /// Works on a batch.
    pub(crate) async fn consume(
        &self,
        event: LambdaEvent<SqsEvent>,
    ) -> Result<SqsBatchResponse, Box<dyn Error + Send + Sync>> {
        let LambdaEvent { payload, context } = event;
        let header = context.xray_trace_id.as_deref();
        let span = tracing::error_span!(
            target: SHELL,
            "invocation",
            request_id = context.request_id,
            trace_id = header.map(trace_id),
        );
        let records = payload
            .records
            .into_iter()
            .map(|message| record(message, header))
            .collect::<Result<Vec<_>, _>>()?;
        let count = records.len();
        let budget = budget(&*self.clock, context.deadline, self.function.time_out);
        let work = async {
            let failed = self.batches.run(records, budget).await;
            tracing::debug!(records = count, failed = failed.len(), "a batch was worked on");
            failed
        };
        let mut response = SqsBatchResponse::default();
        response.batch_item_failures = work
            .instrument(span)
            .await
            .into_iter()
            .map(|id| {
                let mut failure = BatchItemFailure::default();
                failure.item_identifier = id;
                failure
            })
            .collect();
        Ok(response)
    }
}

/// A record, with the trace of whoever sent it, or else that of the invocation.
fn record(message: SqsMessage, invocation: Option<&str>) -> Result<Record, NoSqsRecord> {
    let receive_count = message
        .attributes
        .get("ApproximateReceiveCount")
        .and_then(|count| count.parse().ok())
        .unwrap_or(1);
    let trace = message
        .attributes
        .get("AWSTraceHeader")
        .map(String::as_str)
        .or(invocation)
        .map(str::to_owned);
    Ok(Record {
        id: message.message_id.ok_or(NoSqsRecord("messageId"))?,
        receipt: message.receipt_handle.ok_or(NoSqsRecord("receiptHandle"))?,
        body: message.body.unwrap_or_default(),
        receive_count,
        trace,
    })
}

#[cfg(test)]
mod tests;
