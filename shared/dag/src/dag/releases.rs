//! Steps that would deploy to the same release because neither names one.

use std::collections::{HashMap, hash_map::Entry};

use serde_json::Value;
use slipway_model::{ClusterId, Dag, DagStep};
use slipway_policy::ReleaseName;

use crate::{faults::Faults, suggest::shown};

/// Actions whose release is named after the execution where its name is left out.
const DEPLOYING: [&str; 2] = ["helm_deploy", "deployment_create"];

/// The steps before a step whose releases have its namespace and name, by their clusters.
#[derive(Default)]
struct Earlier<'d> {
    same: HashMap<Cluster<'d>, &'d DagStep>,
    by_id: Option<&'d DagStep>,
    by_name: Option<&'d DagStep>,
}

/// A cluster as a step writes it.
#[derive(PartialEq, Eq, Hash)]
enum Cluster<'d> {
    Id(ClusterId),
    Other(Option<&'d Value>),
}

/// Refuses a step that leaves out its release's name where another one before it does: the later would upgrade what the
/// earlier installed, and Helm would delete that. Which cluster has which name is not known here, so that one may be
/// the other.
pub(super) fn check(dag: &Dag, faults: &mut Faults) {
    let mut releases: HashMap<_, Earlier> = HashMap::new();
    for (index, step) in dag.steps.iter().enumerate() {
        let given = |name: &str| step.params.get(name).filter(|value| !value.is_null());
        if !DEPLOYING.contains(&step.action.as_str()) || given("release_name").is_some() {
            continue;
        }
        // A component's is named after it, too. The execution's part of the name has no other length than this.
        let component = given("component_name").and_then(Value::as_str);
        let component = component.map(|name| ReleaseName::of("uc-00000000", name));
        let earlier = releases.entry((given("namespace"), component)).or_default();
        let cluster = given("cluster_id");
        let id = cluster.and_then(Value::as_str).and_then(|text| text.parse().ok());
        let (other, own) = match id {
            Some(_) => (earlier.by_name, &mut earlier.by_id),
            None => (earlier.by_id, &mut earlier.by_name),
        };
        own.get_or_insert(step);
        let same = match earlier
            .same
            .entry(id.map_or(Cluster::Other(cluster), Cluster::Id))
        {
            Entry::Vacant(place) => {
                place.insert(step);
                None
            }
            Entry::Occupied(other) => Some(*other.get()),
        };
        let message = if let Some(same) = same {
            format!(
                "step '{}' leaves it out too, so that both would deploy to one release, named after the execution",
                shown(&same.id)
            )
        } else if let Some(other) = other {
            format!(
                "step '{}' leaves it out too, and one of them names its cluster by id: if they mean the same, both \
                 would deploy to one release, named after the execution",
                shown(&other.id)
            )
        } else {
            continue;
        };
        faults.add(
            format!("steps[{index}].params.release_name"),
            format!("{message}; give each a release_name of its own"),
        );
    }
}
