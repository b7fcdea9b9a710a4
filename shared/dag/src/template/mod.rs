//! Templates and the catalog as authors write them.

mod chart;
mod definitions;
mod drift;
mod expressions;
mod health;
mod names;
mod order;
mod schema;
mod slots;

use std::collections::HashMap;

use serde_json::Value;
use slipway_model::{Catalog, Component, ComponentType, FieldError, Template};

pub(crate) use expressions::{OutputsOf, check_component};
pub(crate) use order::{ComponentReads, in_order};
pub(crate) use slots::{candidates, selection_fault};

use crate::{faults::Faults, limits::excess, shape::conform, suggest::shown};

/// The most components that a template may have.
pub const MAX_COMPONENTS: usize = 500;

/// The most parameters that a template may have.
pub const MAX_PARAMETERS: usize = 500;

/// Step ids that planning needs for itself.
pub(crate) const CLUSTER_HEALTH: &str = "cluster_health";
/// The last step of a deployment's DAG.
pub(crate) const NOTIFY_COMPLETE: &str = "notify_complete";

/// Outputs of every component, whatever deploys it.
pub(crate) const STANDARD_OUTPUTS: [&str; 6] = [
    "job_id",
    "namespace",
    "release_name",
    "endpoint_url",
    "services",
    "status",
];

/// Checks a template that someone wrote: its shape, names, slots against `catalog`, charts as far as they are
/// literal, parameter definitions, expressions and order. Display names that are absent become the names.
///
/// # Errors
/// Everything that is wrong, each with its place, such as `components[2].chart.values.llm_endpoint`.
pub fn check(mut value: Value, catalog: &Catalog) -> Result<Template, Vec<FieldError>> {
    let mut faults = Faults::default();
    if let Some(message) = excess(&value) {
        faults.add("", message);
        return Err(faults.into_errors());
    }
    conform(&mut value, &schema::TEMPLATE, &mut faults);
    let mut template: Template = match serde_json::from_value(value) {
        Ok(template) => template,
        Err(error) => {
            faults.add("", error.to_string());
            return Err(faults.into_errors());
        }
    };
    for (place, count, most) in [
        ("components", template.components.len(), MAX_COMPONENTS),
        ("parameters", template.parameters.len(), MAX_PARAMETERS),
    ] {
        if count > most {
            faults.add(
                place,
                format!("there are {count} {place}; at most {most} are allowed"),
            );
            return Err(faults.into_errors());
        }
    }
    names::check(&template, &mut faults);
    definitions::check(&template, &mut faults);
    for (index, component) in template.components.iter().enumerate() {
        if !faults.is_repaired(&format!("components[{index}].type")) {
            slots::check(index, component, catalog, &mut faults);
        }
        chart::check(index, component, &mut faults);
        drift::check(index, component, &mut faults);
        health::check(index, component, &mut faults);
    }
    let outputs = OutputsOf::candidates(&template, catalog);
    let reads = expressions::check(&template, &outputs, &mut faults);
    order::check(&template, &reads, &mut faults);
    fill_display_names(&mut template);
    faults.or(template)
}

/// Checks a catalog: names, types and charts.
///
/// # Errors
/// Everything that is wrong, each with its place, such as `components[2].chart.ref`.
pub fn check_catalog(mut value: Value) -> Result<Catalog, Vec<FieldError>> {
    let mut faults = Faults::default();
    if let Some(message) = excess(&value) {
        faults.add("", message);
        return Err(faults.into_errors());
    }
    conform(&mut value, &schema::CATALOG, &mut faults);
    let mut catalog: Catalog = match serde_json::from_value(value) {
        Ok(catalog) => catalog,
        Err(error) => {
            faults.add("", error.to_string());
            return Err(faults.into_errors());
        }
    };
    let mut names = HashMap::new();
    for (index, entry) in catalog.components.iter().enumerate() {
        let place = format!("components[{index}]");
        if entry.name.trim().is_empty() {
            faults.add(
                format!("{place}.name"),
                "must not be empty: it is the word that selects it",
            );
        }
        if let Some(first) = names.insert(&entry.name, index) {
            faults.add(
                format!("{place}.name"),
                format!(
                    "'{}' is already the name of components[{first}]",
                    shown(&entry.name)
                ),
            );
        }
        if entry.types.is_empty() {
            faults.add(
                format!("{place}.types"),
                "must name at least one slot type, such as model",
            );
        }
        chart::check_chart(&format!("{place}.chart"), &entry.chart, &mut faults);
    }
    for entry in &mut catalog.components {
        if entry.display_name.is_empty() {
            entry.display_name.clone_from(&entry.name);
        }
    }
    faults.or(catalog)
}

fn fill_display_names(template: &mut Template) {
    if template.display_name.is_empty() {
        template.display_name.clone_from(&template.name);
    }
    for component in &mut template.components {
        if component.display_name.is_empty() {
            component.display_name.clone_from(&component.name);
        }
    }
}

/// Whether the component's step may end without outputs, or not be there at all.
pub(crate) fn may_be_skipped(component: &Component) -> Option<&'static str> {
    if component.when.is_some() {
        Some("its `when`")
    } else if component.component_type != ComponentType::Helm
        && !component.required
        && component.default_component.is_none()
    {
        Some("not being selected")
    } else {
        None
    }
}
