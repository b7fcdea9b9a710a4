//! A machine whose clock is set while the control plane runs, and while it does not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use slipway_app::{Caller, Role};
use slipway_model::{ExecutionStatus, TenantId, Timestamp};
use slipway_ports::Clock;
use tokio::{sync::watch, time::timeout};

use super::{ControlPlane, consumers, wire};

const DAY: i64 = 24 * 3600 * 1000;

/// The machine's clock, in milliseconds, which somebody sets.
struct Wall(AtomicI64);

impl Wall {
    fn jump(&self, by: i64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// A control plane that runs as `serve` runs it.
struct Running {
    plane: ControlPlane,
    stop: watch::Sender<bool>,
    tasks: tokio::task::JoinSet<()>,
}

impl Running {
    async fn start(data: &std::path::Path, wall: &Arc<Wall>) -> Self {
        // The folder is free when the last task of the one before is gone, which nobody waits for.
        let opened = async {
            loop {
                match wire(data, wall.clone()) {
                    Err(failure) if failure.to_string().contains("in use") => tokio::task::yield_now().await,
                    opened => return opened,
                }
            }
        };
        let opened = timeout(Duration::from_secs(30), opened).await;
        let plane = opened.expect("the folder stays in use").unwrap();
        let (stop, stopped) = watch::channel(false);
        let tasks = consumers::start(&plane.app, &plane.embedded, &plane.receiver, &stopped);
        Self { plane, stop, tasks }
    }

    /// As `kill -9`, but for what is only in memory: tasks end where they are.
    async fn kill(self) {
        drop(self.stop);
        let mut tasks = self.tasks;
        tasks.shutdown().await;
        drop(self.plane);
    }

    async fn execute(&self, dag: Value) -> String {
        let execution = self.plane.app.create_execution(&caller(), dag).await.unwrap();
        execution.id.to_string()
    }

    /// Waits for the end of an execution, for a time that has nothing to do with anybody's clock.
    async fn ended(&self, execution: &str) -> ExecutionStatus {
        let end = async {
            loop {
                let found = self.plane.app.execution(&caller(), execution).await.unwrap();
                if found.status.is_terminal() {
                    return found.status;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), end).await.expect("it hangs")
    }
}

fn caller() -> Caller {
    Caller {
        tenant: TenantId::local(),
        user_id: "somebody".to_owned(),
        role: Role::Admin,
    }
}

/// Waits some seconds, with a deadline that is far away as long as nobody believes the machine's clock.
fn waiting(seconds: u64) -> Value {
    json!({"name": "waiting", "steps": [
        {"id": "hold", "action": "wait", "params": {"seconds": seconds}, "timeout_seconds": 600},
        {"id": "after", "action": "pass", "depends_on": ["hold"]},
    ]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_while_it_runs_moves_nothing() {
    let data = tempfile::tempdir().unwrap();
    for jumps in [[DAY, 0], [-DAY, 0], [DAY, -DAY], [-DAY, DAY]] {
        let wall = Arc::new(Wall(AtomicI64::new(1_800_000_000_000)));
        let running = Running::start(data.path(), &wall).await;
        let execution = running.execute(waiting(1)).await;
        for jump in jumps {
            wall.jump(jump);
            let rest = running.plane.app.sync_deployments().await;
            rest.unwrap();
        }
        assert_eq!(
            running.ended(&execution).await,
            ExecutionStatus::Completed,
            "{jumps:?}"
        );
        running.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_went_back_while_it_was_down_holds_nothing_up() {
    let data = tempfile::tempdir().unwrap();
    let wall = Arc::new(Wall(AtomicI64::new(1_800_000_000_000)));
    let running = Running::start(data.path(), &wall).await;
    let execution = running.execute(waiting(2)).await;
    let before = running.plane.embedded.clock().now();
    // The schedule records the time every minute.
    running.plane.embedded.sweep().await.unwrap();
    running.kill().await;

    wall.jump(-DAY);
    let running = Running::start(data.path(), &wall).await;
    assert!(running.plane.embedded.clock().now() >= before, "time went back");
    assert_eq!(running.ended(&execution).await, ExecutionStatus::Completed);
    running.kill().await;

    // And forward again: what ended stays so, and new work has all its time.
    wall.jump(2 * DAY);
    let running = Running::start(data.path(), &wall).await;
    assert_eq!(running.ended(&execution).await, ExecutionStatus::Completed);
    let another = running.execute(waiting(1)).await;
    assert_eq!(running.ended(&another).await, ExecutionStatus::Completed);
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_that_passed_while_it_was_down_ends_what_was_due() {
    let data = tempfile::tempdir().unwrap();
    let wall = Arc::new(Wall(AtomicI64::new(1_800_000_000_000)));
    let running = Running::start(data.path(), &wall).await;
    // Longer than its step has: what would have come in time counts as come in time.
    let late = running.execute(waiting(700)).await;
    running.plane.embedded.flush().await.unwrap();
    running.kill().await;
    wall.jump(DAY);
    let running = Running::start(data.path(), &wall).await;
    // The step's time was over before the execution's; which of the two is seen first is a matter of chance.
    let ended = running.ended(&late).await;
    assert!(
        matches!(ended, ExecutionStatus::Failed | ExecutionStatus::TimedOut),
        "{ended:?}"
    );
    running.kill().await;
}
