//! DAGs as callers post them.

mod actions;
mod expressions;
mod releases;
pub(crate) mod schema;

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use slipway_model::{Dag, FieldError};

pub use actions::ActionCatalog;

use crate::{
    compile::cycle_of,
    faults::Faults,
    limits::excess,
    shape::conform,
    suggest::{shown, suggest},
};

/// The most steps that a DAG may have.
pub const MAX_STEPS: usize = 10_000;

/// Checks a DAG that someone wrote: its shape, ids, dependencies, actions and their parameters, expressions, and
/// what is deployed as far as it is literal. `topics` are the callback topics that are configured.
///
/// # Errors
/// Everything that is wrong, each with its place, such as `steps[3].params.values.hostNetwork`.
pub fn check(
    mut value: Value,
    actions: &(impl ActionCatalog + ?Sized),
    topics: &[&str],
) -> Result<Dag, Vec<FieldError>> {
    let mut faults = Faults::default();
    if let Some(message) = excess(&value) {
        faults.add("", message);
        return Err(faults.into_errors());
    }
    conform(&mut value, &schema::DAG, &mut faults);
    let dag: Dag = match serde_json::from_value(value) {
        Ok(dag) => dag,
        Err(error) => {
            faults.add("", error.to_string());
            return Err(faults.into_errors());
        }
    };
    if dag.steps.len() > MAX_STEPS {
        faults.add(
            "steps",
            format!(
                "there are {} steps; at most {MAX_STEPS} are allowed",
                dag.steps.len()
            ),
        );
        return Err(faults.into_errors());
    }
    if dag.steps.is_empty() {
        faults.add("steps", "there must be at least one step");
    }
    if dag.name.trim().is_empty() {
        faults.add("name", "must not be empty");
    }
    check_topics(&dag, topics, &mut faults);
    let indexes = check_ids(&dag, &mut faults);
    check_dependencies(&dag, &indexes, &mut faults);
    actions::check(&dag, actions, &mut faults);
    releases::check(&dag, &mut faults);
    expressions::check(&dag, &indexes, actions, &mut faults);
    if faults.is_empty()
        && let Some(cycle) = cycle_of(&dag)
    {
        return Err(vec![cycle]);
    }
    faults.or(dag)
}

fn check_topics(dag: &Dag, topics: &[&str], faults: &mut Faults) {
    let mut seen = HashSet::new();
    for (index, topic) in dag.callback_topics.iter().enumerate() {
        if faults.is_full() {
            return;
        }
        let place = format!("callback_topics[{index}]");
        if !topics.contains(&topic.as_str()) {
            let hint = suggest(topic, topics.iter().copied());
            faults.add(
                &place,
                format!("the topic '{}' is not configured; {hint}", shown(topic)),
            );
        }
        if !seen.insert(topic) {
            faults.add(&place, format!("the topic '{}' stands twice", shown(topic)));
        }
    }
}

/// Where each step stands.
fn check_ids<'d>(dag: &'d Dag, faults: &mut Faults) -> HashMap<&'d str, usize> {
    let mut indexes = HashMap::with_capacity(dag.steps.len());
    for (index, step) in dag.steps.iter().enumerate() {
        let place = format!("steps[{index}].id");
        if faults.is_repaired(&place) {
            continue;
        }
        if !is_step_id(&step.id) {
            faults.add(
                &place,
                format!(
                    "'{}' is not a step id: it begins with a letter or _, goes on with letters, digits, _ and -, and \
                     has at most 128 characters",
                    shown(&step.id)
                ),
            );
        }
        if let Some(first) = indexes.get(step.id.as_str()) {
            faults.add(
                &place,
                format!(
                    "'{}' is already the id of steps[{first}]; every step needs its own",
                    shown(&step.id)
                ),
            );
        } else {
            indexes.insert(step.id.as_str(), index);
        }
    }
    indexes
}

fn is_step_id(id: &str) -> bool {
    id.len() <= 128
        && id
            .bytes()
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn check_dependencies(dag: &Dag, indexes: &HashMap<&str, usize>, faults: &mut Faults) {
    for (index, step) in dag.steps.iter().enumerate() {
        let mut seen = HashSet::new();
        for (position, name) in step.depends_on.iter().enumerate() {
            if faults.is_full() {
                return;
            }
            let place = || format!("steps[{index}].depends_on[{position}]");
            if !indexes.contains_key(name.as_str()) {
                let hint = suggest(name, near(indexes.keys().copied(), name));
                faults.add(place(), format!("there is no step '{}'; {hint}", shown(name)));
            }
            if !seen.insert(name) {
                faults.add(place(), format!("'{}' stands twice", shown(name)));
            }
        }
    }
}

/// Names of about the length of `name`, in order: all that a suggestion can be among.
fn near<'n>(names: impl Iterator<Item = &'n str>, name: &str) -> Vec<&'n str> {
    let mut names: Vec<&str> = names
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= 8)
        .collect();
    names.sort_unstable();
    names
}
