//! Lambda: functions, each with sandboxes that handle one invocation at a time.

mod environment;
mod runtime_api;
mod sandbox;
mod statistics;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Bytes;
use tokio::sync::Semaphore;

use crate::template::FunctionDefinition;
use sandbox::Sandbox;
use statistics::Statistics;

/// What became of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The function answered.
    Answered(Bytes),
    /// The function failed, took too long, or could not start.
    Failed {
        /// `Function.TimedOut`, `Runtime.ExitError`, or what the function says.
        kind: String,
        message: String,
    },
}

impl Outcome {
    fn failed(kind: &str, message: String) -> Self {
        Self::Failed {
            kind: kind.to_owned(),
            message,
        }
    }
}

/// Where functions find things on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// The folder of the functions' programs.
    pub(crate) programs: PathBuf,
    /// The folder that stands for /opt.
    pub(crate) layers: PathBuf,
    /// The folder of the functions' logs.
    pub(crate) logs: PathBuf,
    /// Most processes of one function.
    pub(crate) sandboxes: usize,
    /// Variables that every function gets.
    pub(crate) environment: Vec<(String, String)>,
}

/// A function that can be invoked.
#[derive(Debug)]
pub(crate) struct Function {
    definition: FunctionDefinition,
    machine: Machine,
    /// Where its calls to AWS go.
    endpoint: String,
    permits: Semaphore,
    limit: usize,
    idle: Mutex<Vec<Sandbox>>,
    /// Process ids of the sandboxes that are in an invocation.
    busy: Mutex<Vec<u32>>,
    statistics: Mutex<Statistics>,
}

impl Function {
    pub(crate) fn new(definition: FunctionDefinition, machine: Machine, endpoint: String) -> Arc<Self> {
        let limit = definition
            .concurrency
            .unwrap_or(usize::MAX)
            .clamp(1, machine.sandboxes.max(1));
        Arc::new(Self {
            definition,
            machine,
            endpoint,
            permits: Semaphore::new(limit),
            limit,
            idle: Mutex::default(),
            busy: Mutex::default(),
            statistics: Mutex::default(),
        })
    }

    pub(crate) fn definition(&self) -> &FunctionDefinition {
        &self.definition
    }

    /// How many invocations can be in progress.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Runs one invocation, on a sandbox that is idle or on a new one; waits while all are busy.
    pub(crate) async fn invoke(&self, payload: Bytes) -> Outcome {
        let _permit = self
            .permits
            .acquire()
            .await
            .expect("the permits are never closed");
        let idle = lock(&self.idle).pop();
        let mut sandbox = match idle.and_then(|mut idle| idle.is_alive().then_some(idle)) {
            Some(sandbox) => sandbox,
            None => match Sandbox::start(&self.definition, &self.machine, &self.endpoint).await {
                Ok((sandbox, took)) => {
                    self.count(|statistics| statistics.started(took));
                    sandbox
                }
                Err(failure) => {
                    self.count(|statistics| statistics.ended(&failure));
                    return failure;
                }
            },
        };
        let process = sandbox.process();
        lock(&self.busy).push(process);
        let outcome = sandbox.handle(payload, self.definition.timeout).await;
        lock(&self.busy).retain(|busy| *busy != process);
        let memory = sandbox.peak_memory();
        self.count(|statistics| {
            statistics.ended(&outcome);
            statistics.used(memory);
        });
        if sandbox.is_alive() {
            lock(&self.idle).push(sandbox);
        }
        outcome
    }

    /// Starts processes one after the other, each ended once it asks for an event: the milliseconds that each took, and
    /// the most kilobytes of memory that one had.
    ///
    /// # Errors
    /// When one does not start.
    pub(crate) async fn cold_starts(&self, times: usize) -> Result<(Vec<f64>, u64), String> {
        let mut inits = Vec::new();
        let mut memory = 0;
        for _ in 0..times {
            match Sandbox::start(&self.definition, &self.machine, &self.endpoint).await {
                Ok((sandbox, took)) => {
                    inits.push(took.as_secs_f64() * 1000.0);
                    memory = memory.max(sandbox.peak_memory().unwrap_or(0));
                }
                Err(Outcome::Failed { kind, message }) => return Err(format!("{kind}: {message}")),
                Err(Outcome::Answered(_)) => return Err("it answered before it was asked".to_owned()),
            }
        }
        Ok((inits, memory))
    }

    /// Kills a sandbox that is in an invocation, as `kill -9` does. Returns its process id, if there was one.
    pub(crate) fn kill(&self) -> Option<u32> {
        let process = lock(&self.busy).first().copied()?;
        sandbox::kill(process);
        Some(process)
    }

    /// Ends the sandboxes that are idle, so that the next invocation starts cold.
    pub(crate) fn forget_idle(&self) {
        lock(&self.idle).clear();
    }

    /// What it has done so far.
    pub(crate) fn report(&self) -> serde_json::Value {
        lock(&self.statistics).report(
            &self.definition.program,
            lock(&self.idle).len(),
            lock(&self.busy).len(),
        )
    }

    fn count(&self, change: impl FnOnce(&mut Statistics)) {
        change(&mut lock(&self.statistics));
    }
}

/// A lock that a panic elsewhere does not poison: everything behind it is valid at any time.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    /// A function whose program is the example of this package.
    fn function(
        timeout: Duration,
        sandboxes: usize,
        environment: &[(&str, &str)],
    ) -> (Arc<Function>, tempfile::TempDir) {
        let test = std::env::current_exe().unwrap();
        let programs = test.ancestors().nth(2).unwrap().join("examples");
        let folder = tempfile::tempdir().unwrap();
        let definition = FunctionDefinition {
            program: "fake-function".to_owned(),
            name: "test-fake-function".to_owned(),
            environment: BTreeMap::from([("SLIPWAY_HELM".to_owned(), "/opt/helm/helm".to_owned())]),
            memory: 128,
            timeout,
            concurrency: Some(5),
            log_group: "logs".to_owned(),
            queues: Vec::new(),
            routes: Vec::new(),
            schedule: Vec::new(),
        };
        let pairs = environment.iter();
        let machine = Machine {
            programs,
            layers: PathBuf::from("/layers"),
            logs: folder.path().to_owned(),
            sandboxes,
            environment: pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        (
            Function::new(definition, machine, "http://127.0.0.1:1".to_owned()),
            folder,
        )
    }

    async fn ask(function: &Function, event: Value) -> Result<Value, String> {
        match function.invoke(Bytes::from(event.to_string())).await {
            Outcome::Answered(answer) => Ok(serde_json::from_slice(&answer).unwrap()),
            Outcome::Failed { kind, message } => Err(format!("{kind}: {message}")),
        }
    }

    #[tokio::test]
    async fn a_process_answers_one_event_after_the_other() {
        let (function, _folder) = function(Duration::from_secs(60), 8, &[]);
        let first = ask(&function, json!({"number": 1})).await.unwrap();
        let second = ask(&function, json!({"number": 2})).await.unwrap();
        assert_eq!(first["event"]["number"], 1);
        assert_eq!(second["event"]["number"], 2);
        assert_eq!(first["process"], second["process"]);
        let left = first["deadline"].as_str().unwrap().parse::<i64>().unwrap()
            - crate::clock::now().as_millisecond();
        assert!((50_000..=60_000).contains(&left), "{left}");

        let report = function.report();
        assert_eq!((&report["invocations"], &report["inits"]), (&json!(2), &json!(1)));
        assert!(report["init_median_ms"].as_f64().unwrap() > 0.0);
        assert!(report["peak_memory_kib"].as_u64().unwrap() > 0);
    }

    #[tokio::test]
    async fn a_process_gets_lambdas_variables_and_none_of_ours() {
        let (function, _folder) = function(Duration::from_secs(60), 8, &[("EXTRA", "1")]);
        let variables = ask(&function, json!({"do": "environment"})).await.unwrap();
        assert!(variables.get("CARGO_MANIFEST_DIR").is_none() && variables.get("HOME").is_none());
        assert_eq!(variables["AWS_LAMBDA_FUNCTION_NAME"], "test-fake-function");
        assert_eq!(variables["SLIPWAY_HELM"], "/layers/helm/helm");
        assert_eq!(variables["EXTRA"], "1");
    }

    #[tokio::test]
    async fn each_way_to_fail_is_told_and_the_next_event_finds_a_process() {
        let (function, _folder) = function(Duration::from_millis(300), 8, &[]);
        assert_eq!(
            ask(&function, json!({"do": "fail"})).await.unwrap_err(),
            "Sad: told to"
        );
        let ended = ask(&function, json!({"do": "exit"})).await.unwrap_err();
        assert!(ended.starts_with("Runtime.ExitError"), "{ended}");
        let late = ask(&function, json!({"do": "hang"})).await.unwrap_err();
        assert!(late.starts_with("Function.TimedOut"), "{late}");
        assert!(ask(&function, json!({})).await.is_ok());
        let report = function.report();
        assert_eq!(
            (&report["errors"], &report["timeouts"], &report["inits"]),
            (&json!(3), &json!(1), &json!(3))
        );
    }

    #[tokio::test]
    async fn cold_starts_are_measured_one_by_one() {
        let (function, _folder) = function(Duration::from_secs(60), 8, &[]);
        let (inits, memory) = function.cold_starts(3).await.unwrap();
        assert!(
            inits.len() == 3 && inits.iter().all(|took| *took > 0.0),
            "{inits:?}"
        );
        assert!(memory > 0);
    }

    #[tokio::test]
    async fn a_process_that_cannot_start_says_why() {
        let (function, _folder) = function(Duration::from_secs(60), 8, &[("FAKE_INIT", "fails")]);
        let said = ask(&function, json!({})).await.unwrap_err();
        assert_eq!(said, "Init: SLIPWAY_TABLE is not set");
    }

    #[tokio::test]
    async fn a_process_can_be_killed_in_mid_invocation() {
        let (function, _folder) = function(Duration::from_secs(600), 8, &[]);
        assert_eq!(function.kill(), None);
        let hanging = tokio::spawn({
            let function = Arc::clone(&function);
            async move { ask(&function, json!({"do": "hang"})).await }
        });
        while function.kill().is_none() {
            tokio::task::yield_now().await;
        }
        let ended = hanging.await.unwrap().unwrap_err();
        assert!(ended.starts_with("Runtime.ExitError"), "{ended}");
    }

    #[tokio::test]
    async fn events_at_once_get_processes_of_their_own_up_to_the_limit() {
        let (function, _folder) = function(Duration::from_secs(60), 2, &[]);
        let asked = (0..6).map(|number| {
            let function = Arc::clone(&function);
            tokio::spawn(async move { ask(&function, json!({"number": number})).await.unwrap() })
        });
        let mut processes = std::collections::BTreeSet::new();
        for answer in asked.collect::<Vec<_>>() {
            processes.insert(answer.await.unwrap()["process"].as_u64());
        }
        assert!((1..=2).contains(&processes.len()), "{processes:?}");
    }
}
