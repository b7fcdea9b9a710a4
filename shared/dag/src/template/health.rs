//! The health checks of a component.

use slipway_cel::Expression;
use slipway_model::Component;

use crate::faults::Faults;

/// Most health checks of one component.
const MOST: usize = 32;

/// Every expression is one, and the kinds are named.
pub(super) fn check(index: usize, component: &Component, faults: &mut Faults) {
    let place = format!("components[{index}].health_checks");
    let checks = &component.health_checks;
    if checks.len() > MOST {
        faults.add(
            &place,
            format!("there are {}; at most {MOST} are allowed", checks.len()),
        );
        return;
    }
    for (index, check) in checks.iter().enumerate() {
        for (field, text, example) in [
            ("api_version", &check.api_version, "db.example.com/v1"),
            ("kind", &check.kind, "Database"),
        ] {
            if text.trim().is_empty() {
                faults.add(
                    format!("{place}[{index}].{field}"),
                    format!("must not be empty: expected such as {example}"),
                );
            }
        }
        for (field, text) in check.expressions() {
            if let Err(error) = Expression::parse(text) {
                faults.add(
                    format!("{place}[{index}].{field}"),
                    format!(
                        "not a CEL expression: {error}; right would be such as status.phase == 'Running'"
                    ),
                );
            }
        }
    }
}
