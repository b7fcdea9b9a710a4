//! What fills the slots of a deployment.

use std::collections::BTreeMap;

use slipway_expr::Path;
use slipway_model::{Catalog, ComponentType, FieldError, Template};

use crate::{
    faults::Faults,
    suggest::suggest,
    template::{candidates, selection_fault},
};

/// Checks what a deployment selects and fills in defaults: slot → catalog component. A slot that is optional, has
/// no default and is not selected is not in the result; `helm` components never are.
///
/// # Errors
/// Everything that is wrong, at `components.SLOT`.
pub fn check(
    template: &Template,
    catalog: &Catalog,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Vec<FieldError>> {
    let mut faults = Faults::default();
    let place = |slot: &str| Path::of("components").key(slot).to_string();
    for slot in given.keys() {
        if faults.is_full() {
            break;
        }
        match template.component(slot) {
            None => {
                let slots = template
                    .components
                    .iter()
                    .filter(|component| component.component_type != ComponentType::Helm);
                let hint = suggest(slot, slots.map(|component| component.name.as_str()));
                faults.add(place(slot), format!("the template has no such component; {hint}"));
            }
            Some(component) if component.component_type == ComponentType::Helm => {
                faults.add(
                    place(slot),
                    "a helm component is deployed by its chart; nothing can be selected for it",
                );
            }
            Some(_) => {}
        }
    }
    let mut selected = BTreeMap::new();
    for component in &template.components {
        if component.component_type == ComponentType::Helm {
            continue;
        }
        let name = &component.name;
        match given.get(name).or(component.default_component.as_ref()) {
            Some(choice) => match selection_fault(choice, component, catalog) {
                Some(message) => faults.add(place(name), message),
                None => {
                    selected.insert(name.clone(), choice.clone());
                }
            },
            None if component.required => {
                let known: Vec<&str> = candidates(component, catalog)
                    .map(|entry| entry.name.as_str())
                    .collect();
                faults.add(
                    place(name),
                    format!(
                        "No component selected for required slot '{name}'; select one of {}",
                        known.join(", ")
                    ),
                );
            }
            None => {}
        }
    }
    faults.or(selected)
}
