//! What may fill a slot.

use std::collections::HashSet;

use slipway_model::{Catalog, CatalogEntry, Component, ComponentType};

use crate::{
    faults::Faults,
    suggest::{shown, suggest},
};

pub(super) fn check(index: usize, component: &Component, catalog: &Catalog, faults: &mut Faults) {
    let place = format!("components[{index}]");
    if component.component_type == ComponentType::Helm {
        let advice =
            "a helm component is deployed by its chart and takes nothing from the catalog; remove this";
        if component.default_component.is_some() {
            faults.add(format!("{place}.default_component"), advice);
        }
        if !component.compatible_components.is_empty() {
            faults.add(format!("{place}.compatible_components"), advice);
        }
        return;
    }
    let mut seen = HashSet::new();
    for (position, name) in component.compatible_components.iter().enumerate() {
        if faults.is_full() {
            return;
        }
        let place = format!("{place}.compatible_components[{position}]");
        if let Some(message) = entry_fault(name, component, catalog) {
            faults.add(&place, message);
        }
        if !seen.insert(name) {
            faults.add(&place, format!("'{}' stands twice", shown(name)));
        }
    }
    if let Some(name) = &component.default_component
        && let Some(message) = selection_fault(name, component, catalog)
    {
        faults.add(format!("{place}.default_component"), message);
    }
    if component.required
        && component.compatible_components.is_empty()
        && candidates(component, catalog).next().is_none()
    {
        faults.add(
            format!("{place}.type"),
            format!("the catalog has nothing of type '{}'", component.component_type),
        );
    }
}

/// The catalog components that may fill a slot.
pub(crate) fn candidates<'c>(
    component: &'c Component,
    catalog: &'c Catalog,
) -> impl Iterator<Item = &'c CatalogEntry> {
    catalog.components.iter().filter(|entry| {
        entry.types.contains(&component.component_type)
            && (component.compatible_components.is_empty()
                || component.compatible_components.contains(&entry.name))
    })
}

/// Why `name` cannot fill the slot.
pub(crate) fn selection_fault(name: &str, component: &Component, catalog: &Catalog) -> Option<String> {
    let compatible = &component.compatible_components;
    if !compatible.is_empty() && !compatible.iter().any(|other| other == name) {
        let hint = suggest(name, compatible.iter().map(String::as_str));
        return Some(format!(
            "'{}' is not among the compatible components; {hint}",
            shown(name)
        ));
    }
    entry_fault(name, component, catalog)
}

/// Why the catalog has no `name` for a slot of that type.
fn entry_fault(name: &str, component: &Component, catalog: &Catalog) -> Option<String> {
    let slot = component.component_type;
    match catalog.entry(name) {
        Some(entry) if entry.types.contains(&slot) => None,
        Some(entry) => {
            let types: Vec<&str> = entry.types.iter().map(|kind| kind.as_str()).collect();
            Some(format!(
                "'{name}' is for slots of type {}, not '{slot}'",
                types.join(", ")
            ))
        }
        None => {
            let known = catalog
                .components
                .iter()
                .filter(|entry| entry.types.contains(&slot))
                .map(|entry| entry.name.as_str());
            Some(format!(
                "the catalog has no component '{}'; of type '{slot}' {}",
                shown(name),
                suggest(name, known)
            ))
        }
    }
}
