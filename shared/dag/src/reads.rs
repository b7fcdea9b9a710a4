//! What the expressions in a value read.

use serde_json::Value;
use slipway_expr::{Path, Read, Scope, Template, holds_expression, walk_strings};

use crate::faults::Faults;

/// Calls `judge` with everything that the strings of `value` read. What does not parse, and what `judge` has
/// against a read, is added to `faults` at its place. Places start with `at`.
pub(crate) fn each_read(
    value: &Value,
    at: &Path,
    scope: Scope,
    faults: &mut Faults,
    mut judge: impl FnMut(&Read) -> Result<(), String>,
) {
    walk_strings(value, at, |path, text| {
        if faults.is_full() || !holds_expression(text) {
            return;
        }
        match Template::parse(text, scope) {
            Ok(template) => {
                for read in template.references() {
                    if let Err(message) = judge(read) {
                        faults.add(path, message);
                    }
                    if faults.is_full() {
                        return;
                    }
                }
            }
            Err(error) => faults.add(path, error.to_string()),
        }
    });
}
