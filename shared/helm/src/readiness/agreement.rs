//! Slipway and kstatus about the same objects. `kstatus/verdicts.json` is written by kstatus itself (`dev/verdicts`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use slipway_ports::ObjectReference;

use super::{Snapshot, State, judge_object, text_at};
use crate::manifest;

#[derive(Deserialize)]
struct Case {
    name: String,
    object: Value,
}

/// Where Slipway means to differ: case, what it says instead, why. `docs/decisions/0012-readiness.md` tells more.
const DELIBERATE: &[(&str, &str, &str)] = &[
    (
        "job at work",
        "InProgress",
        "what comes after it needs what it makes",
    ),
    (
        "job suspended",
        "Current",
        "a chart that suspends a Job means it to wait for somebody",
    ),
    ("job about to fail", "Failed", "its failure is decided"),
    ("deployment paused", "Current", "nothing would ever change"),
    (
        "deployment beyond its deadline",
        "InProgress",
        "it can still get ready, and the release has its own limit",
    ),
    (
        "stateful set updated by hand and not ready",
        "InProgress",
        "its pods are needed all the same",
    ),
    (
        "daemon set updated by hand",
        "Current",
        "nobody updates its pods but people",
    ),
    (
        "replication controller not ready",
        "InProgress",
        "its pods are needed",
    ),
    ("pod failed", "Failed", "it did not do what it was for"),
    (
        "pod in a crash loop",
        "InProgress",
        "what it needs may come up yet",
    ),
    ("pod without a node", "InProgress", "a node may be added"),
    ("claim lost", "Failed", "its volume does not come back"),
    (
        "service balanced and without an address",
        "InProgress",
        "its address is what it is for",
    ),
    (
        "API service not available",
        "InProgress",
        "calls to its group fail",
    ),
    ("API service just made", "InProgress", "calls to its group fail"),
    (
        "custom resource whose condition is of an older generation",
        "InProgress",
        "it says nothing about the newest",
    ),
    (
        "custom resource with a condition that is no condition",
        "InProgress",
        "it does not say that it is ready",
    ),
];

fn ours(object: &Value) -> &'static str {
    let reference = ObjectReference {
        api_version: text_at(object, "/apiVersion").to_owned(),
        kind: text_at(object, "/kind").to_owned(),
        namespace: text_at(object, "/metadata/namespace").to_owned(),
        name: text_at(object, "/metadata/name").to_owned(),
    };
    match judge_object(&reference, Some(object), &Snapshot::default()) {
        State::Ready => "Current",
        State::Failed(_) => "Failed",
        State::Waiting(wait) if wait.reason == "being deleted" => "Terminating",
        State::Waiting(_) => "InProgress",
    }
}

#[test]
fn verdicts_are_those_of_kstatus_but_for_the_named_ones() {
    let cases: Vec<Case> = manifest::read(include_str!("kstatus/objects.yaml")).unwrap();
    let verdicts: BTreeMap<String, String> =
        serde_json::from_str(include_str!("kstatus/verdicts.json")).unwrap();
    assert_eq!(
        cases.len(),
        verdicts.len(),
        "write the verdicts again: dev/README.md says how"
    );
    let mut wrong = Vec::new();
    for case in &cases {
        // kstatus has no answer for a pod whose node is lost; it is not ready, and may be again.
        let theirs = match verdicts[&case.name].as_str() {
            "Unknown" => "InProgress",
            known => known,
        };
        let meant = DELIBERATE.iter().find(|(name, ..)| *name == case.name);
        let expected = meant.map_or(theirs, |(_, instead, _)| instead);
        let said = ours(&case.object);
        if said != expected {
            wrong.push(format!("{}: {said}, and kstatus says {theirs}", case.name));
        }
        if meant.is_some() && expected == theirs {
            wrong.push(format!(
                "{}: kstatus says the same, so it is no difference",
                case.name
            ));
        }
    }
    for (name, ..) in DELIBERATE {
        assert!(
            cases.iter().any(|case| case.name == *name),
            "no case is called '{name}'"
        );
    }
    assert_eq!(wrong, Vec::<String>::new());
}
