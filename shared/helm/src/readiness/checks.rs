//! Kinds that say by expressions when they are ready.

use serde_json::Value;
use slipway_cel::Expression;
use slipway_model::HealthCheck;
use slipway_ports::{ObjectReference, TargetError};

use super::{State, wait, waiting};

/// A health check whose expressions were read.
#[derive(Debug)]
pub(crate) struct Check {
    about: HealthCheck,
    expressions: Vec<(&'static str, Expression)>,
}

impl Check {
    /// Reads all of them; an expression that is none is a permanent error that names its place.
    pub(crate) fn read(checks: &[HealthCheck]) -> Result<Vec<Self>, TargetError> {
        checks
            .iter()
            .enumerate()
            .map(|(index, about)| {
                let expressions = about
                    .expressions()
                    .map(|(field, text)| {
                        Expression::parse(text)
                            .map(|expression| (field, expression))
                            .map_err(|error| {
                                TargetError::permanent(format!("health_checks[{index}].{field}: {error}"))
                            })
                    })
                    .collect::<Result<_, _>>()?;
                Ok(Self {
                    about: about.clone(),
                    expressions,
                })
            })
            .collect()
    }

    /// Whether it judges that object.
    pub(super) fn is_about(&self, reference: &ObjectReference) -> bool {
        self.about.is_about(&reference.api_version, &reference.kind)
    }

    /// How the object stands by it. One that cannot be evaluated may be when its controller has written more.
    pub(super) fn judge(&self, reference: &ObjectReference, object: &Value) -> State {
        for (field, expression) in &self.expressions {
            match (*field, expression.is_true(object)) {
                (_, Ok(false)) => {}
                ("current", Ok(true)) => return State::Ready,
                ("failed", Ok(true)) => {
                    return State::Failed(wait(reference, "failed by its health check", said(object)));
                }
                (_, Ok(true)) => return waiting(reference, "in progress by its health check", said(object)),
                (field, Err(error)) => {
                    let message = format!("health check '{field}' has no answer: {error}");
                    return waiting(reference, "in progress by its health check", message);
                }
            }
        }
        waiting(reference, "not current by its health check", said(object))
    }
}

/// What the object itself says of how it stands: its conditions, or its phase.
fn said(object: &Value) -> String {
    let conditions: Vec<String> = super::conditions(object)
        .map(|condition| {
            let text = |pointer| super::text_at(condition, pointer);
            let mut told = format!("{}={}", text("/type"), text("/status"));
            for part in [text("/reason"), text("/message")] {
                if !part.is_empty() {
                    told = format!("{told} {part}");
                }
            }
            told
        })
        .collect();
    match (conditions.is_empty(), super::text_at(object, "/status/phase")) {
        (false, _) => conditions.join("; "),
        (true, "") => "its controller has said nothing yet".to_owned(),
        (true, phase) => format!("phase {phase}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::readiness::{Snapshot, judge};

    fn look(object: Value) -> State {
        let check = HealthCheck {
            api_version: "db.example.com".to_owned(),
            kind: "Database".to_owned(),
            current: "status.phase == 'Running'".to_owned(),
            in_progress: Some("status.phase == 'Creating'".to_owned()),
            failed: Some("status.phase == 'Broken'".to_owned()),
        };
        let reference = ObjectReference {
            api_version: "db.example.com/v1".to_owned(),
            kind: "Database".to_owned(),
            namespace: "ns".to_owned(),
            name: "app".to_owned(),
        };
        let mut verdict = judge(&Snapshot {
            objects: vec![(reference, Some(object))],
            checks: Check::read(&[check]).unwrap().into(),
            ..Snapshot::default()
        });
        match verdict.failed.take() {
            Some(failed) => State::Failed(failed),
            None => verdict.waiting.pop().map_or(State::Ready, State::Waiting),
        }
    }

    #[test]
    fn expressions_judge_their_kind_after_the_generation() {
        let phase = |phase: &str| look(json!({"metadata": {"generation": 1}, "status": {"phase": phase}}));
        assert_eq!(phase("Running"), State::Ready);
        assert!(matches!(phase("Broken"), State::Failed(wait) if wait.message == "phase Broken"));
        assert!(matches!(phase("Creating"), State::Waiting(wait) if wait.reason.starts_with("in progress")));
        assert!(matches!(phase("Else"), State::Waiting(wait) if wait.reason.starts_with("not current")));
        let old =
            json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 1, "phase": "Running"}});
        assert!(matches!(look(old), State::Waiting(wait) if wait.reason == "not observed"));
        // Without the check an object without a status would be ready.
        let silent = look(json!({"metadata": {"generation": 1}}));
        assert!(
            matches!(&silent, State::Waiting(wait) if wait.message.contains("the object has no 'status' yet")),
            "{silent:?}"
        );
    }

    #[test]
    fn what_is_no_expression_is_a_permanent_error_with_its_place() {
        let check = HealthCheck {
            api_version: "v1".to_owned(),
            kind: "Thing".to_owned(),
            current: "status.phase =".to_owned(),
            in_progress: None,
            failed: None,
        };
        let error = Check::read(&[check]).unwrap_err();
        assert!(
            error.to_string().starts_with("health_checks[0].current: line 1"),
            "{error}"
        );
    }
}
