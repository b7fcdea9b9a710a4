//! The actions and topics that a DAG may name.

use slipway_dag::dag::ActionCatalog;
use slipway_model::ActionMetadata;

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
}
