//! What tests do with executions and jobs.

use serde_json::{Value, json};

use crate::{Client, Server};

impl Client {
    /// Posts a DAG and returns the execution's id.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    #[must_use]
    pub fn execute(&self, dag: &Value) -> String {
        let execution = self.post("/executions", dag).expect(201);
        execution["id"].as_str().unwrap().to_owned()
    }

    /// An execution's progress with its steps.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    #[must_use]
    pub fn steps(&self, execution: &str) -> Value {
        self.get(&format!("/executions/{execution}/progress?detail=steps"))
            .expect(200)
    }
}

impl Server {
    /// Waits until an execution is over, and returns its progress with its steps.
    ///
    /// # Panics
    /// When that takes longer.
    #[track_caller]
    #[must_use]
    pub fn ended(&self, execution: &str, seconds: u64) -> Value {
        self.wait(seconds, &format!("the end of execution {execution}"), |client| {
            let now = client.get(&format!("/executions/{execution}")).expect(200);
            (!["PENDING", "RUNNING"].contains(&now["status"].as_str().unwrap())).then_some(())
        });
        self.steps(execution)
    }

    /// Runs a DAG of these steps to its end and returns its progress with its steps.
    ///
    /// # Panics
    /// When it is refused, or takes longer than a minute.
    #[track_caller]
    #[must_use]
    pub fn run(&self, steps: &Value) -> Value {
        let execution = self.execute(&json!({"name": "a-run", "steps": steps}));
        self.ended(&execution, 60)
    }

    /// Waits until a job is over, and returns it.
    ///
    /// # Panics
    /// When that takes longer.
    #[track_caller]
    #[must_use]
    pub fn job_ended(&self, job: &str, seconds: u64) -> Value {
        self.wait(seconds, &format!("the end of job {job}"), |client| {
            let job = client.get(&format!("/jobs/{job}")).expect(200);
            (!["PENDING", "RUNNING"].contains(&job["status"].as_str().unwrap())).then_some(job)
        })
    }
}

/// The step of this id in a progress.
///
/// # Panics
/// When there is none.
#[must_use]
#[track_caller]
pub fn step<'a>(progress: &'a Value, id: &str) -> &'a Value {
    let mut steps = progress["steps"].as_array().unwrap().iter();
    steps.find(|step| step["step_id"] == id).unwrap()
}
