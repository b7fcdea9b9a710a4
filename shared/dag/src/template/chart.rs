//! Charts of components, as far as they are literal.

use slipway_expr::holds_expression;
use slipway_model::{Chart, Component, ComponentType};
use slipway_policy::{ChartRef, ReleaseName, check_constraint, check_values};

use crate::faults::{Faults, below};

pub(super) fn check(index: usize, component: &Component, faults: &mut Faults) {
    let place = format!("components[{index}].chart");
    let type_is_known = !faults.is_repaired(&format!("components[{index}].type"));
    match (&component.chart, component.component_type) {
        (None, ComponentType::Helm) if type_is_known => {
            faults.add(&place, "'chart' is required when type is 'helm': give it a ref");
        }
        (Some(_), other) if type_is_known && other != ComponentType::Helm => faults.add(
            &place,
            format!(
                "'chart' should only be set when type is 'helm'; what deploys a '{other}' comes from the catalog, so \
                 remove chart or make it a helm component"
            ),
        ),
        (Some(chart), _) => check_chart(&place, chart, faults),
        (None, _) => {}
    }
}

pub(super) fn check_chart(place: &str, chart: &Chart, faults: &mut Faults) {
    if !holds_expression(&chart.reference)
        && let Err(error) = ChartRef::parse(&chart.reference)
    {
        faults.add(format!("{place}.ref"), error.to_string());
    }
    if let Some(version) = &chart.version
        && !holds_expression(version)
        && let Err(error) = check_constraint(version)
    {
        faults.add(format!("{place}.version"), error.to_string());
    }
    if let Some(name) = &chart.release_name
        && let Err(error) = ReleaseName::parse(name)
    {
        faults.add(format!("{place}.release_name"), error.to_string());
    }
    for blocked in check_values(&chart.values.clone().into()) {
        faults.add(
            below(format!("{place}.values"), &blocked.path),
            blocked.to_string(),
        );
    }
}
