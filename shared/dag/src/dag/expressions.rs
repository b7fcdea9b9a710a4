//! Whether what expressions read can exist.

use std::collections::HashMap;

use serde_json::Value;
use slipway_expr::{Expression, Path, Read, Reference, Root, Scope, resolve_step};
use slipway_model::{Dag, DagStep, RunCondition};

use super::{ActionCatalog, near};
use crate::{
    faults::Faults,
    reads::each_read,
    suggest::{shown, suggest},
};

/// What an execution gives its caller: no secrets.
const OUTPUTS: Scope = Scope::of(&[Root::Parameters, Root::Steps]);
/// Parameters in which secrets are not resolved.
const WITHOUT_SECRETS: Scope = Scope::of(&[Root::Parameters, Root::Steps, Root::Deployment]);
/// A condition of a step.
const WHEN: Scope = Scope::of(&[Root::Parameters]);
/// Names in extractors.
const EXTRACTORS: Scope = Scope::of(&[Root::Parameters, Root::Deployment]);

/// All expressions of the DAG.
pub(super) fn check(
    dag: &Dag,
    indexes: &HashMap<&str, usize>,
    actions: &(impl ActionCatalog + ?Sized),
    faults: &mut Faults,
) {
    let reader = Reader {
        dag,
        indexes,
        actions,
    };
    for (index, step) in dag.steps.iter().enumerate() {
        if faults.is_full() {
            return;
        }
        let place = Path::of("steps").index(index);
        for (key, value) in &step.params {
            let scope = if actions.resolves_secrets(&step.action, key) {
                Scope::VALUES
            } else {
                WITHOUT_SECRETS
            };
            reader.value(
                value,
                &place.clone().key("params").key(key),
                (scope, step.run),
                faults,
            );
        }
        if let Some(when) = &step.when {
            reader.condition(when, &place.clone().key("when"), faults);
        }
        if !step.outputs.is_empty() {
            match serde_json::to_value(&step.outputs) {
                Ok(outputs) => {
                    reader.value(&outputs, &place.key("outputs"), (EXTRACTORS, step.run), faults);
                }
                Err(error) => faults.add(place.key("outputs"), error.to_string()),
            }
        }
    }
    for (key, value) in &dag.outputs {
        // They are read once everything has completed.
        let scope = (OUTPUTS, RunCondition::Success);
        reader.value(value, &Path::of("outputs").key(key), scope, faults);
    }
}

struct Reader<'d, A: ?Sized> {
    dag: &'d Dag,
    indexes: &'d HashMap<&'d str, usize>,
    actions: &'d A,
}

impl<A: ActionCatalog + ?Sized> Reader<'_, A> {
    fn value(&self, value: &Value, place: &Path, (scope, run): (Scope, RunCondition), faults: &mut Faults) {
        each_read(value, place, scope, faults, |read| self.exists(read, run));
    }

    fn condition(&self, text: &str, place: &Path, faults: &mut Faults) {
        match Expression::parse(text, WHEN) {
            Err(error) => faults.add(place, error.to_string()),
            Ok(expression) => {
                for read in expression.references() {
                    // Scope keeps steps out.
                    if let Err(message) = self.exists(read, RunCondition::Success) {
                        faults.add(place, message);
                    }
                }
            }
        }
    }

    /// Whether what is read is there when a step runs that has this condition.
    fn exists(&self, read: &Read, run: RunCondition) -> Result<(), String> {
        match &read.reference {
            Reference::Parameter { name } => {
                if read.optional || self.dag.parameters.contains_key(name) {
                    return Ok(());
                }
                let hint = suggest(name, self.dag.parameters.keys().map(String::as_str));
                Err(format!("there is no parameter '{}'; {hint}", shown(name)))
            }
            Reference::Output { step, key } => self.output(step, key, read.optional, run),
            Reference::Deployment { name } if !read.optional => Err(format!(
                "'deployment.{name}' has a value only in a DAG that is planned for a deployment; write the value \
                 itself, or deployment.{name} | default(…)"
            )),
            Reference::Deployment { .. } | Reference::Secret { .. } | Reference::Selection { .. } => Ok(()),
        }
    }

    fn output(&self, name: &str, key: &str, optional: bool, run: RunCondition) -> Result<(), String> {
        let index = resolve_step(name, |name| self.indexes.contains_key(name))
            .and_then(|name| self.indexes.get(name))
            .copied();
        let Some(step) = index.map(|index| &self.dag.steps[index]) else {
            let hint = suggest(name, near(self.indexes.keys().copied(), name));
            return Err(format!("there is no step '{}'; {hint}", shown(name)));
        };
        if let Some(known) = self.outputs_of(step)
            && !known.contains(&key)
        {
            let hint = suggest(key, known);
            return Err(format!("step '{}' has no output '{key}'; {hint}", step.id));
        }
        let reason = match (&step.when, step.run, run) {
            (Some(_), _, _) => "may be skipped by its `when`",
            (None, RunCondition::Failure, _) => "may be skipped by its `run: failure`",
            (None, _, RunCondition::Failure) => {
                "may have failed where this one runs, by its own `run: failure`"
            }
            (None, _, RunCondition::Always) => {
                "may have failed where this one runs, by its own `run: always`"
            }
            _ => return Ok(()),
        };
        if optional {
            return Ok(());
        }
        Err(format!(
            "step '{}' {reason}; write what to take then, as in \
             {} | default('…')",
            step.id,
            Reference::Output {
                step: name.to_owned(),
                key: key.to_owned()
            }
        ))
    }

    /// The outputs that a step can have; `None` if its action is not known.
    fn outputs_of<'s>(&'s self, step: &'s DagStep) -> Option<Vec<&'s str>> {
        let action = self.actions.action(&step.action)?;
        let mut known: Vec<&str> = action.outputs.iter().map(|output| output.name).collect();
        if action.outputs.is_empty() && action.params.is_empty() {
            known.extend(step.params.keys().map(String::as_str));
        }
        known.extend(step.outputs.keys().map(String::as_str));
        Some(known)
    }
}
