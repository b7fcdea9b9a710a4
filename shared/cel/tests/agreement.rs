//! Slipway and cel-go about the same expressions. `verdicts.json` is written by cel-go itself (`dev/verdicts`).

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;

use serde::Deserialize;
use slipway_cel::Expression;

#[derive(Deserialize)]
struct File {
    object: serde_json::Value,
    expressions: Vec<String>,
}

/// Where Slipway means to differ: expression, what it says instead, why.
const DELIBERATE: &[(&str, &str, &str)] = &[
    (
        "spec.big > 9007199254740992.0",
        "true",
        "whole numbers are compared exactly, not as floats",
    ),
    (
        "{'a': 1, 'a': 2}.a == 1",
        "error",
        "the language's definition calls a repeated key an error",
    ),
];

#[test]
fn expressions_are_what_cel_go_says() {
    let file: File = serde_saphyr::from_str(include_str!("expressions.yaml")).unwrap();
    let verdicts: BTreeMap<String, String> = serde_json::from_str(include_str!("verdicts.json")).unwrap();
    assert_eq!(
        file.expressions.len(),
        verdicts.len(),
        "write the verdicts again: dev/README.md says how"
    );
    let mut wrong = Vec::new();
    for expression in &file.expressions {
        let said = match Expression::parse(expression) {
            Err(_) => "refused".to_owned(),
            Ok(parsed) => parsed
                .is_true(&file.object)
                .map_or_else(|_| "error".to_owned(), |truth| truth.to_string()),
        };
        let meant = DELIBERATE.iter().find(|(differing, ..)| differing == expression);
        let expected = meant.map_or(verdicts[expression].as_str(), |(_, instead, _)| instead);
        if said != expected || meant.is_some_and(|(_, instead, _)| *instead == verdicts[expression]) {
            wrong.push(format!(
                "{expression}: {said}, and cel-go says {}",
                verdicts[expression]
            ));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
