//! Definitions of parameters.

use std::collections::HashSet;

use slipway_model::{Parameter, ParameterType, Template};

use super::expressions::is_identifier;
use crate::{
    faults::Faults,
    parameters::{Measure, compile_pattern},
};

pub(super) fn check(template: &Template, faults: &mut Faults) {
    for (name, parameter) in &template.parameters {
        let place = slipway_expr::Path::of("parameters").key(name).to_string();
        if !is_identifier(name) {
            faults.add(
                &place,
                format!(
                    "'{name}' is not a parameter name: it has letters, digits and _, no digit first, and at most 63 \
                     characters"
                ),
            );
        }
        if !faults.is_repaired(&format!("{place}.type")) {
            check_definition(&place, parameter, faults);
        }
    }
}

fn check_definition(place: &str, parameter: &Parameter, faults: &mut Faults) {
    let kind = parameter.parameter_type;
    if let (Some(min), Some(max)) = (parameter.min, parameter.max)
        && min > max
    {
        faults.add(
            format!("{place}.min"),
            format!("{min} is greater than max, which is {max}"),
        );
    }
    if kind == ParameterType::Boolean {
        for (field, is_set) in [("min", parameter.min.is_some()), ("max", parameter.max.is_some())] {
            if is_set {
                faults.add(format!("{place}.{field}"), "a boolean has no limits; remove this");
            }
        }
    }
    if let Some(pattern) = &parameter.pattern {
        if kind != ParameterType::String {
            faults.add(
                format!("{place}.pattern"),
                "only a string can have a pattern; remove this",
            );
        } else if let Err(message) = compile_pattern(pattern) {
            faults.add(format!("{place}.pattern"), message);
        }
    }
    // Each value is measured by the other limits; what is wrong with a limit itself is reported above.
    let bare = Parameter {
        allowed: None,
        ..parameter.clone()
    };
    if let Some(allowed) = &parameter.allowed {
        if allowed.is_empty() {
            faults.add(
                format!("{place}.enum"),
                "the list is empty, so no value would be right",
            );
        }
        let measure = Measure::of(&bare);
        let mut seen = HashSet::new();
        for (index, value) in allowed.iter().enumerate() {
            if faults.is_full() {
                return;
            }
            if let Some(message) = measure.fault(value) {
                faults.add(format!("{place}.enum[{index}]"), message);
            }
            if !seen.insert(value.to_string()) {
                faults.add(format!("{place}.enum[{index}]"), format!("{value} stands twice"));
            }
        }
    }
    if parameter.secret {
        check_secret(place, parameter, faults);
    } else if let Some(default) = &parameter.default
        && let Some(message) = Measure::of(parameter).fault(default)
    {
        faults.add(format!("{place}.default"), message);
    }
}

fn check_secret(place: &str, parameter: &Parameter, faults: &mut Faults) {
    if parameter.default.is_some() {
        faults.add(
            format!("{place}.default"),
            "a secret cannot have a default, because templates are not secret; remove it and set required",
        );
    }
    if parameter.parameter_type != ParameterType::String {
        faults.add(format!("{place}.type"), "a secret is a string");
    }
}
