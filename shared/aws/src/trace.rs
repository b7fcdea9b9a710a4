//! The trace that a message belongs to, carried from the invocation that sends it to the one that receives it.

use std::future::Future;

tokio::task_local! {
    static HEADER: Option<String>;
}

/// Runs a future whose sends carry `header`: the value of `X-Amzn-Trace-Id`, such as
/// `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`. SQS hands it to the consumer as the
/// message system attribute `AWSTraceHeader`.
pub async fn scope<F: Future>(header: Option<String>, future: F) -> F::Output {
    HEADER.scope(header, future).await
}

/// The header of the scope that this task runs in.
pub fn current() -> Option<String> {
    HEADER.try_with(Clone::clone).ok().flatten()
}
