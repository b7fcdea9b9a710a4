//! What steps do. Each action is one file in `src/actions`; a build script lists them.
//!
//! **For authors.** An action gets rendered parameters and answers with an [`Answer`]. Its
//! [`EffectClass`](slipway_model::EffectClass) is a promise that the engine relies on:
//! - `Pure`: nothing outside changes, so it runs without a claim and may run any number of times.
//! - `Idempotent`: it runs under a claim, and after a crash it runs again with the same
//!   [`Context::idempotency_key`]; running twice must have the effect of running once.
//! - `Once`: it runs under a claim and never again; after a crash the step fails with «outcome unknown».
//!
//! Messages in answers reach events and the API: they never hold a secret.

mod context;
mod definitions;
mod helm;
mod parameters;

mod registry {
    #![allow(clippy::wildcard_imports, missing_docs, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/registry.rs"));
}

use async_trait::async_trait;
use slipway_model::{
    ActionMetadata, ClusterId, EffectClass, FieldError, HelmJobConfig, JobType, JsonMap, Outcome,
};

pub use context::{Context, Surroundings};
pub use parameters::check_against;

/// What a step does.
#[async_trait]
pub trait Action: Send + Sync {
    /// What it says of itself.
    fn metadata(&self) -> &'static ActionMetadata;

    /// What a claim that expires means, for these parameters.
    fn effect(&self, _params: &JsonMap) -> EffectClass {
        self.metadata().effect
    }

    /// Whether `secrets.NAME` and secret parameters are resolved in its parameters. Only for actions that hand them
    /// to the outside themselves.
    fn resolves_secrets(&self) -> bool {
        false
    }

    /// What is wrong with parameters, as far as they are literal. Strings with expressions are not judged.
    fn check(&self, params: &JsonMap) -> Vec<FieldError> {
        check_against(self.metadata(), params)
    }

    /// Runs one attempt.
    async fn run(&self, context: Context<'_>) -> Answer;
}

/// What an action answered.
#[derive(Debug)]
pub enum Answer {
    /// It is done, failed or waits.
    Outcome(Outcome),
    /// This job is to be made; its end decides. The executor derives its id from execution, step and attempt.
    Job(Box<JobDraft>),
}

/// A job that an action wants.
#[derive(Debug)]
pub struct JobDraft {
    /// For people.
    pub name: String,
    /// What kind of work it is.
    pub job_type: JobType,
    /// Where.
    pub cluster: ClusterId,
    /// What to do. Values stay unrendered; the job renders them once, with what the step could read.
    pub config: HelmJobConfig,
    /// Free data; the executor adds `step_id`.
    pub metadata: JsonMap,
    /// Seconds that the job may take.
    pub timeout_seconds: u64,
}

/// Every action, by name.
pub fn all() -> &'static [&'static dyn Action] {
    registry::ALL
}

/// The action of that name.
pub fn find(name: &str) -> Option<&'static dyn Action> {
    registry::ALL
        .iter()
        .copied()
        .find(|action| action.metadata().action_type == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_an_action_under_its_own_name() {
        let listed: Vec<&str> = all().iter().map(|action| action.metadata().action_type).collect();
        let mut files: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/actions"))
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        files.sort();
        assert_eq!(listed, files);
    }

    #[test]
    fn missing_unknown_and_mistyped_parameters_are_named_at_once() {
        let params = serde_json::json!({ "cluster_id": 7, "chart": "charts/x" });
        let errors = find("helm_deploy").unwrap().check(params.as_object().unwrap());
        let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["cluster_id", "chart_ref", "chart"]);
        assert!(errors[1].message.contains("chart_ref is required"), "{errors:?}");
    }
}
