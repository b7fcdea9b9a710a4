//! The schedule: functions that run every so often.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use serde_json::json;

use crate::clock;
use crate::events::complain;
use crate::lambda::{Function, Outcome};
use crate::template::{ACCOUNT, REGION};

/// Invokes a function at a rate for as long as this program runs, first after one period. A run that takes longer than
/// a period delays the next.
pub(crate) async fn run(function: Arc<Function>, period: Duration) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if let Outcome::Failed { kind, message } = invoke(&function).await {
            complain(&format!(
                "{} failed: {kind}: {message}",
                function.definition().program
            ));
        }
    }
}

/// Invokes a function as the schedule does.
pub(crate) async fn invoke(function: &Function) -> Outcome {
    let event = json!({
        "version": "0",
        "id": clock::request_id(),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "region": REGION,
        "resources": [format!("arn:aws:events:{REGION}:{ACCOUNT}:rule/{}", function.definition().name)],
        "detail": {},
    });
    function.invoke(Bytes::from(event.to_string())).await
}
