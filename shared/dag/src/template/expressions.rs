//! What a template's expressions read.

use std::collections::{BTreeMap, BTreeSet};

use slipway_expr::{Expression, Path, Read, Reference, Root, Scope, holds_expression, resolve_step};
use slipway_model::{Catalog, Chart, Component, ComponentType, JsonMap, Template};

use super::{STANDARD_OUTPUTS, candidates, may_be_skipped, names, order::ComponentReads};
use crate::{
    faults::Faults,
    reads::each_read,
    suggest::{shown, suggest},
};

/// What `deployment.…` holds.
const DEPLOYMENT_FACTS: [&str; 3] = ["id", "name", "namespace"];

/// A chart's reference and version, and names in extractors: what is known before anything runs, and is no secret.
const KNOWN: Scope = Scope::of(&[Root::Parameters, Root::Deployment]);

/// The outputs that each component can have.
#[derive(Debug)]
pub(crate) struct OutputsOf<'t> {
    by_component: BTreeMap<&'t str, BTreeSet<&'t str>>,
}

impl<'t> OutputsOf<'t> {
    /// With whatever may fill the slots.
    pub(crate) fn candidates(template: &'t Template, catalog: &'t Catalog) -> Self {
        Self::new(template, |component| candidates(component, catalog).collect())
    }

    /// With what fills the slots.
    pub(crate) fn selected(
        template: &'t Template,
        catalog: &'t Catalog,
        selections: &BTreeMap<String, String>,
    ) -> Self {
        Self::new(template, |component| {
            selections
                .get(&component.name)
                .and_then(|name| catalog.entry(name))
                .into_iter()
                .collect()
        })
    }

    fn new(
        template: &'t Template,
        entries: impl Fn(&'t Component) -> Vec<&'t slipway_model::CatalogEntry>,
    ) -> Self {
        let of = |component: &'t Component| {
            let mut outputs: BTreeSet<&str> = STANDARD_OUTPUTS.into_iter().collect();
            outputs.extend(component.outputs.keys().map(String::as_str));
            if component.component_type != ComponentType::Helm {
                for entry in entries(component) {
                    outputs.extend(entry.outputs.keys().map(String::as_str));
                }
            }
            outputs
        };
        Self {
            by_component: template
                .components
                .iter()
                .map(|component| (component.name.as_str(), of(component)))
                .collect(),
        }
    }
}

/// All expressions of the template; returns which components each component reads.
pub(super) fn check(template: &Template, outputs: &OutputsOf<'_>, faults: &mut Faults) -> ComponentReads {
    let mut reads = ComponentReads::default();
    let nothing = JsonMap::new();
    for (index, component) in template.components.iter().enumerate() {
        let place = Path::of("components").index(index);
        let values = component.chart.as_ref().map_or(&nothing, |chart| &chart.values);
        let values_place = place.clone().key("chart").key("values");
        check_component(
            template,
            outputs,
            index,
            values,
            &values_place,
            &mut reads,
            faults,
        );
        let checker = Checker { template, outputs };
        if let Some(chart) = &component.chart {
            checker.chart(chart, &place.clone().key("chart"), faults);
        }
        if let Some(when) = &component.when {
            checker.condition(when, &place.clone().key("when"), faults);
        }
        checker.extractors(component, &place.key("outputs"), faults);
    }
    reads
}

/// The expressions in `values`, which the component at `index` is deployed with; what they read is added to
/// `reads`.
pub(crate) fn check_component(
    template: &Template,
    outputs: &OutputsOf<'_>,
    index: usize,
    values: &JsonMap,
    place: &Path,
    reads: &mut ComponentReads,
    faults: &mut Faults,
) {
    let checker = Checker { template, outputs };
    for (key, value) in values {
        each_read(value, &place.clone().key(key), Scope::VALUES, faults, |read| {
            if let Reference::Output { step, .. } = &read.reference
                && let Some(before) = checker.component(step)
            {
                reads.add(before, index);
            }
            checker.exists(read)
        });
    }
}

struct Checker<'t> {
    template: &'t Template,
    outputs: &'t OutputsOf<'t>,
}

impl Checker<'_> {
    fn chart(&self, chart: &Chart, place: &Path, faults: &mut Faults) {
        for (key, text) in [
            ("ref", Some(&chart.reference)),
            ("version", chart.version.as_ref()),
        ] {
            if let Some(text) = text.filter(|text| holds_expression(text)) {
                self.known_texts(&text.clone().into(), &place.clone().key(key), faults);
            }
        }
    }

    fn extractors(&self, component: &Component, place: &Path, faults: &mut Faults) {
        for (name, source) in &component.outputs {
            let place = place.clone().key(name);
            if !is_identifier(name) {
                faults.add(
                    &place,
                    format!(
                        "'{name}' is not an output name: it has letters, digits and _, and no digit first"
                    ),
                );
            }
            match serde_json::to_value(source) {
                Ok(source) => self.known_texts(&source, &place, faults),
                Err(error) => faults.add(&place, error.to_string()),
            }
        }
    }

    fn known_texts(&self, value: &serde_json::Value, place: &Path, faults: &mut Faults) {
        each_read(value, place, KNOWN, faults, |read| {
            self.exists(read).and_then(|()| self.is_no_secret(read))
        });
    }

    fn condition(&self, text: &str, place: &Path, faults: &mut Faults) {
        match Expression::parse(text, Scope::WHEN) {
            Err(error) => faults.add(place, error.to_string()),
            Ok(expression) => {
                for read in expression.references() {
                    if let Err(message) = self.exists(read).and_then(|()| self.is_no_secret(read)) {
                        faults.add(place, message);
                    }
                }
            }
        }
    }

    fn is_no_secret(&self, read: &Read) -> Result<(), String> {
        match &read.reference {
            Reference::Parameter { name }
                if self
                    .template
                    .parameters
                    .get(name)
                    .is_some_and(|parameter| parameter.secret) =>
            {
                Err(format!(
                    "'{name}' is a secret parameter, which only chart values may read"
                ))
            }
            _ => Ok(()),
        }
    }

    fn exists(&self, read: &Read) -> Result<(), String> {
        match &read.reference {
            Reference::Parameter { name } if !self.template.parameters.contains_key(name) => {
                let hint = suggest(name, self.template.parameters.keys().map(String::as_str));
                Err(format!("there is no parameter '{}'; {hint}", shown(name)))
            }
            Reference::Deployment { name } if !DEPLOYMENT_FACTS.contains(&name.as_str()) => {
                let hint = suggest(name, DEPLOYMENT_FACTS);
                Err(format!("a deployment has no '{}'; {hint}", shown(name)))
            }
            Reference::Selection { name } => self.selection(name, read.optional),
            Reference::Output { step, key } => self.output(step, key, read.optional),
            Reference::Parameter { .. } | Reference::Deployment { .. } | Reference::Secret { .. } => Ok(()),
        }
    }

    /// The component that `steps.NAME` means.
    fn component(&self, step: &str) -> Option<usize> {
        let position = |name: &str| {
            self.template
                .components
                .iter()
                .position(|component| component.name == name)
        };
        resolve_step(step, |name| position(name).is_some()).and_then(position)
    }

    fn selection(&self, name: &str, optional: bool) -> Result<(), String> {
        let slot = self.template.component(name);
        match slot {
            None => Err(names::unknown(self.template, name)),
            Some(component) if component.component_type == ComponentType::Helm => Err(format!(
                "'{name}' is a helm component, for which nothing is selected"
            )),
            Some(component) if !component.required && component.default_component.is_none() && !optional => {
                Err(format!(
                    "nothing may be selected for '{name}'; write what to take then, as in {} | default('')",
                    Reference::Selection {
                        name: name.to_owned()
                    }
                ))
            }
            Some(_) => Ok(()),
        }
    }

    fn output(&self, step: &str, key: &str, optional: bool) -> Result<(), String> {
        let Some(component) = self.component(step).map(|index| &self.template.components[index]) else {
            return Err(names::unknown(self.template, step));
        };
        if let Some(known) = self.outputs.by_component.get(component.name.as_str())
            && !known.contains(key)
        {
            let hint = suggest(key, known.iter().copied());
            return Err(format!(
                "component '{}' has no output '{}'; {hint}",
                component.name,
                shown(key)
            ));
        }
        match may_be_skipped(component) {
            Some(reason) if !optional => Err(format!(
                "component '{}' may be skipped by {reason}; write what to take then, as in {} | default('…')",
                component.name,
                Reference::Output {
                    step: step.to_owned(),
                    key: key.to_owned()
                }
            )),
            _ => Ok(()),
        }
    }
}

/// Whether `name` can be written after a dot in an expression.
pub(super) fn is_identifier(name: &str) -> bool {
    name.len() <= 63
        && name
            .bytes()
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
