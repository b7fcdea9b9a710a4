//! The actions and topics that a DAG may name.

use slipway_dag::dag::ActionCatalog;
use slipway_model::{ActionMetadata, ExecutionMode, FieldError, JsonMap};

/// Every action that this version has.
pub struct ActionRegistry;

impl ActionCatalog for ActionRegistry {
    fn action(&self, name: &str) -> Option<&ActionMetadata> {
        slipway_actions::find(name).map(|action| action.metadata())
    }

    fn names(&self) -> Vec<&str> {
        slipway_actions::all()
            .iter()
            .map(|action| action.metadata().action_type)
            .collect()
    }

    fn faults(&self, name: &str, params: &JsonMap) -> Option<Vec<FieldError>> {
        slipway_actions::find(name).map(|action| action.check(params))
    }

    fn resolves_secrets(&self, name: &str, parameter: &str) -> bool {
        slipway_actions::find(name).is_none_or(|action| {
            // A job renders its own values, where secrets are at hand.
            let is_job = action.metadata().execution_mode == ExecutionMode::EventDriven;
            action.resolves_secrets() || (is_job && parameter == "values")
        })
    }
}
