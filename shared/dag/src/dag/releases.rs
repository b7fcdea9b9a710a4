//! Steps that would deploy to the same release because neither names one.

use std::collections::{HashMap, hash_map::Entry};

use serde_json::Value;
use slipway_model::{Dag, DagStep};

use crate::{faults::Faults, suggest::shown};

/// Actions whose release is named after the execution where its name is left out.
const DEPLOYING: [&str; 2] = ["helm_deploy", "deployment_create"];

/// Refuses a step that leaves out its release's name where another one before it does: the later would upgrade what the
/// earlier installed, and Helm would delete that.
pub(super) fn check(dag: &Dag, faults: &mut Faults) {
    let mut first: HashMap<_, &DagStep> = HashMap::new();
    for (index, step) in dag.steps.iter().enumerate() {
        let given = |name: &str| step.params.get(name).filter(|value| !value.is_null());
        if !DEPLOYING.contains(&step.action.as_str()) || given("release_name").is_some() {
            continue;
        }
        // A component's is named after it, too.
        let component = given("component_name").and_then(Value::as_str);
        let component = component.map(|name| name.replace('_', "-"));
        match first.entry((given("cluster_id"), given("namespace"), component)) {
            Entry::Vacant(place) => {
                place.insert(step);
            }
            Entry::Occupied(other) => faults.add(
                format!("steps[{index}].params.release_name"),
                format!(
                    "step '{}' leaves it out too, so that both would deploy to one release, named after the execution; \
                     give each a release_name of its own",
                    shown(&other.get().id)
                ),
            ),
        }
    }
}
