//! Names, and the names that others use for them.

use std::collections::{HashMap, HashSet};

use slipway_model::{OrderEntry, Template};
use slipway_policy::kubernetes_name;

use super::{CLUSTER_HEALTH, NOTIFY_COMPLETE};
use crate::{
    faults::Faults,
    suggest::{shown, suggest},
};

pub(super) fn check(template: &Template, faults: &mut Faults) {
    if !is_template_name(&template.name) {
        faults.add(
            "name",
            format!(
                "'{}' is not a template name: it has lower-case letters, digits and -, begins and ends with a letter \
                 or digit, and has at most 63 characters",
                shown(&template.name)
            ),
        );
    }
    if template.components.is_empty() {
        faults.add("components", "there must be at least one component");
    }
    check_components(template, faults);
    check_dependencies(template, faults);
    check_order(template, faults);
    check_resources(template, faults);
}

fn check_components(template: &Template, faults: &mut Faults) {
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut in_kubernetes: HashMap<String, usize> = HashMap::new();
    for (index, component) in template.components.iter().enumerate() {
        let place = format!("components[{index}].name");
        let name = component.name.as_str();
        if faults.is_repaired(&place) {
            continue;
        }
        if !is_component_name(name) {
            faults.add(
                &place,
                format!(
                    "'{}' is not a component name: it begins with a lower-case letter, goes on with lower-case letters, \
                     digits and _, and has at most 63 characters",
                    shown(name)
                ),
            );
            continue;
        }
        if name == CLUSTER_HEALTH || name == NOTIFY_COMPLETE {
            faults.add(
                &place,
                format!("'{name}' is the name of a step that every deployment has; choose another name"),
            );
        }
        if let Some(first) = names.get(name) {
            faults.add(
                &place,
                format!("'{name}' is already the name of components[{first}]; every component needs its own"),
            );
            continue;
        }
        names.insert(name, index);
        let label = kubernetes_name(name);
        if let Some(first) = in_kubernetes.get(&label) {
            faults.add(
                &place,
                format!(
                    "'{name}' becomes '{label}' in Kubernetes, as '{}' does (components[{first}]); choose another name",
                    template.components[*first].name
                ),
            );
        }
        in_kubernetes.insert(label, index);
    }
}

fn check_dependencies(template: &Template, faults: &mut Faults) {
    for (index, component) in template.components.iter().enumerate() {
        let mut seen = HashSet::new();
        for (position, name) in component.depends_on.iter().enumerate() {
            if faults.is_full() {
                return;
            }
            let place = format!("components[{index}].depends_on[{position}]");
            if template.component(name).is_none() {
                faults.add(&place, unknown(template, name));
            }
            if !seen.insert(name) {
                faults.add(&place, format!("'{}' stands twice", shown(name)));
            }
        }
    }
}

fn check_order(template: &Template, faults: &mut Faults) {
    let mut seen: HashMap<&str, String> = HashMap::new();
    for (index, entry) in template.deployment_order.iter().flatten().enumerate() {
        if entry.names().is_empty() {
            faults.add(
                format!("deployment_order[{index}]"),
                "the list is empty; name components or remove it",
            );
        }
        for (position, name) in entry.names().iter().enumerate() {
            if faults.is_full() {
                return;
            }
            let place = match entry {
                OrderEntry::One(_) => format!("deployment_order[{index}]"),
                OrderEntry::Group(_) => format!("deployment_order[{index}][{position}]"),
            };
            if template.component(name).is_none() {
                faults.add(&place, unknown(template, name));
            }
            if let Some(first) = seen.get(name.as_str()) {
                faults.add(
                    &place,
                    format!("'{}' stands twice, first at {first}; keep one", shown(name)),
                );
            } else {
                seen.insert(name, place);
            }
        }
    }
}

fn check_resources(template: &Template, faults: &mut Faults) {
    let (minimum, recommended) = (&template.resources.minimum, &template.resources.recommended);
    for (name, least, good) in [
        ("cpu", &minimum.cpu, &recommended.cpu),
        ("memory", &minimum.memory, &recommended.memory),
        ("gpu", &minimum.gpu, &recommended.gpu),
    ] {
        if let (Some(least), Some(good)) = (least, good)
            && (least.units(), least.millis()) > (good.units(), good.millis())
        {
            faults.add(
                format!("resources.recommended.{name}"),
                format!("{good} is less than the minimum, {least}"),
            );
        }
    }
}

/// That there is no such component, and which there are.
pub(super) fn unknown(template: &Template, name: &str) -> String {
    let hint = suggest(
        name,
        template
            .components
            .iter()
            .map(|component| component.name.as_str()),
    );
    format!("there is no component '{}'; {hint}", shown(name))
}

fn is_template_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| plain(byte) || byte == b'-')
        && name.bytes().next().is_some_and(plain)
        && name.bytes().last().is_some_and(plain)
}

fn is_component_name(name: &str) -> bool {
    name.len() <= 63
        && name
            .bytes()
            .next()
            .is_some_and(|first| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
