//! Rounds that end well, badly and not at all.

use std::sync::Mutex;

use lambda_runtime::Context;
use serde_json::json;
use slipway_model::{Problem, ProblemType};
use slipway_testkit::{START, TokioClock};
use tokio::time::Instant;

use super::*;

#[derive(Default)]
struct Script {
    sweep_fails: bool,
    sweep_hangs: bool,
    look_hangs: bool,
    done: Mutex<Vec<&'static str>>,
}

#[async_trait]
impl Rounds for Script {
    async fn sweep(&self) -> Result<(), AppError> {
        if self.sweep_hangs {
            std::future::pending::<()>().await;
        }
        self.done.lock().unwrap().push("sweep");
        if self.sweep_fails {
            return Err(Problem::new(ProblemType::Unavailable, "the table is away").into());
        }
        Ok(())
    }

    async fn dead_letters(&self) -> Result<(), AppError> {
        if self.look_hangs {
            std::future::pending::<()>().await;
        }
        self.done.lock().unwrap().push("dead letters");
        Ok(())
    }
}

async fn tick(rounds: Script) -> (Result<(), Box<dyn Error + Send + Sync>>, Vec<&'static str>) {
    let schedule = Schedule {
        function: Function::new("sync-deployments", Duration::from_secs(120)),
        rounds,
        clock: Arc::new(TokioClock::start()),
    };
    let event =
        json!({"version": "0", "source": "aws.scheduler", "detail-type": "Scheduled Event", "detail": "{}"});
    let mut context = Context::default();
    context.deadline = u64::try_from(START.as_millis()).unwrap() + 120_000;
    let payload = serde_json::from_value(event).unwrap();
    let ended = schedule.tick(LambdaEvent::new(payload, context)).await;
    let done = schedule.rounds.done.into_inner().unwrap();
    (ended, done)
}

#[tokio::test]
async fn a_round_looks_at_what_is_due_and_then_at_dead_letters() {
    let (ended, done) = tick(Script::default()).await;
    ended.unwrap();
    assert_eq!(done, ["sweep", "dead letters"]);
}

#[tokio::test]
async fn dead_letters_are_looked_at_though_the_sweep_failed_and_the_invocation_fails() {
    let (ended, done) = tick(Script {
        sweep_fails: true,
        ..Script::default()
    })
    .await;
    assert!(ended.unwrap_err().to_string().contains("the table is away"));
    assert_eq!(done, ["sweep", "dead letters"]);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_looked_at_though_the_sweep_does_not_end() {
    let (ended, done) = tick(Script {
        sweep_hangs: true,
        ..Script::default()
    })
    .await;
    assert!(ended.unwrap_err().to_string().contains("stopped after 82 s"));
    assert_eq!(done, ["dead letters"]);
}

#[tokio::test(start_paused = true)]
async fn a_round_that_does_not_end_is_stopped_before_the_function_is() {
    let began = Instant::now();
    let (ended, _) = tick(Script {
        sweep_hangs: true,
        look_hangs: true,
        ..Script::default()
    })
    .await;
    assert!(ended.unwrap_err().to_string().contains("110 s"));
    assert_eq!(began.elapsed(), Duration::from_secs(110));
}
