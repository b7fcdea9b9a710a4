//! What comparisons with the cluster leave alone.

use slipway_expr::holds_expression;
use slipway_model::{Component, DriftIgnore};

use crate::faults::Faults;

/// The most rules of a component, and the most paths of a rule.
const MOST: usize = 50;

pub(super) fn check(index: usize, component: &Component, faults: &mut Faults) {
    let Some(drift) = &component.drift else {
        return;
    };
    let place = format!("components[{index}].drift.ignore");
    if drift.ignore.len() > MOST {
        let count = drift.ignore.len();
        faults.add(
            &place,
            format!("there are {count} rules; at most {MOST} are allowed"),
        );
        return;
    }
    for (number, rule) in drift.ignore.iter().enumerate() {
        check_rule(&format!("{place}[{number}]"), rule, faults);
    }
}

fn check_rule(place: &str, rule: &DriftIgnore, faults: &mut Faults) {
    if rule.kind.is_none() && rule.name.is_none() && rule.paths.is_empty() {
        faults.add(
            place,
            "a rule without kind, name and paths would leave everything alone: name what is meant, such as \
             {kind: Deployment, paths: [/spec/replicas]}",
        );
    }
    for (field, text) in [("kind", &rule.kind), ("name", &rule.name)] {
        let Some(text) = text else {
            continue;
        };
        if text.is_empty() || text.len() > 253 || holds_expression(text) {
            faults.add(
                format!("{place}.{field}"),
                "expected the literal text of 1 to 253 characters that Kubernetes has there",
            );
        }
    }
    if rule.paths.len() > MOST {
        let count = rule.paths.len();
        faults.add(
            format!("{place}.paths"),
            format!("there are {count} paths; at most {MOST} are allowed"),
        );
        return;
    }
    for (number, path) in rule.paths.iter().enumerate() {
        if let Some(message) = pointer_fault(path) {
            faults.add(format!("{place}.paths[{number}]"), message);
        }
    }
}

/// What is wrong with a JSON pointer in which `*` stands for any one part.
fn pointer_fault(path: &str) -> Option<String> {
    if holds_expression(path) {
        return Some("expected a literal path: expressions are not evaluated here".to_owned());
    }
    if path.len() > 1024 {
        return Some(format!(
            "the path has {} bytes; at most 1024 are allowed",
            path.len()
        ));
    }
    if !path.starts_with('/') {
        let wanted = path
            .trim_start_matches(['$', '.'])
            .replace(['.', '['], "/")
            .replace(']', "");
        return Some(format!(
            "expected a JSON pointer, which begins with '/': '/{wanted}'?"
        ));
    }
    if path.split('/').skip(1).any(str::is_empty) {
        return Some("a JSON pointer has no empty parts: expected one such as /spec/replicas".to_owned());
    }
    let mut rest = path;
    while let Some(at) = rest.find('~') {
        rest = &rest[at + 1..];
        if !rest.starts_with(['0', '1']) {
            return Some("'~' is written ~0 in a JSON pointer, and '/' inside a name ~1".to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_told_from_other_ways_to_write_a_path() {
        for path in [
            "/spec/replicas",
            "/spec/template/spec/containers/*/image",
            "/metadata/annotations/a~1b~0c",
        ] {
            assert_eq!(pointer_fault(path), None, "{path}");
        }
        for (path, hint) in [
            ("spec.replicas", "'/spec/replicas'?"),
            ("$.spec.containers[0].image", "'/spec/containers/0/image'?"),
            ("/", "no empty parts"),
            ("/spec//x", "no empty parts"),
            ("/a~b", "~0"),
            ("/{{ parameters.x }}", "literal"),
        ] {
            let fault = pointer_fault(path).unwrap();
            assert!(fault.contains(hint), "{path}: {fault}");
        }
    }

    #[test]
    fn a_rule_that_means_everything_is_refused() {
        let mut faults = Faults::default();
        let rule = DriftIgnore {
            kind: None,
            name: None,
            paths: Vec::new(),
        };
        check_rule("components[0].drift.ignore[0]", &rule, &mut faults);
        let errors = faults.into_errors();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].path, "components[0].drift.ignore[0]");
    }
}
