//! The reference template plans to the reference DAG.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;

use serde_json::{Value, json};
use slipway_dag::{compile, parameters, parse, template};
use slipway_model::{Dag, JsonMap, Template};
use support::{CLUSTER, Choices, DEPLOYMENT, checked, path, print, read};

fn plan(template: &Template) -> Value {
    let parameters = parameters::check(template, &JsonMap::new()).unwrap().parameters;
    let choices = Choices {
        parameters,
        ..Choices::default()
    };
    serde_json::to_value(
        choices
            .plan(template)
            .unwrap_or_else(|errors| panic!("{}", print(&errors))),
    )
    .unwrap()
}

/// The reference, with ids in the form that ids have here.
fn document() -> Value {
    let text = fs::read_to_string(path("tests/fixtures/agent-rag.document.json")).unwrap();
    let text = text.replace("abc-123", CLUSTER).replace("def-456", DEPLOYMENT);
    parse(&text, text.len()).unwrap()
}

/// The places at which `actual` has something that `expected` has not.
fn additions(expected: &Value, actual: &Value, place: &str, found: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            for key in expected.keys() {
                assert!(actual.contains_key(key), "{place}.{key} is missing");
            }
            for (key, value) in actual {
                match expected.get(key) {
                    Some(expected) => additions(expected, value, &format!("{place}.{key}"), found),
                    None => found.push(format!("{place}.{key}")),
                }
            }
        }
        (Value::Array(expected), Value::Array(actual)) => {
            assert_eq!(expected.len(), actual.len(), "{place}");
            for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                additions(expected, actual, &format!("{place}[{index}]"), found);
            }
        }
        _ => assert_eq!(expected, actual, "{place}"),
    }
}

#[test]
fn the_reference_template_plans_to_the_reference_dag() {
    let dag = plan(&checked(read("tests/fixtures/agent-rag.yaml")));
    let mut found = Vec::new();
    additions(&document(), &dag, "", &mut found);
    assert_eq!(
        found,
        [
            ".description",
            ".outputs",
            ".parameters",
            ".steps[0].depends_on",
            ".steps[0].params.minimum",
            ".steps[1].params.namespace",
            ".steps[1].params.release_name",
            ".steps[2].params.namespace",
            ".steps[2].params.release_name",
        ]
    );
    assert_eq!(dag["outputs"], json!({"deployment_id": DEPLOYMENT}));
    assert_eq!(
        dag["parameters"],
        json!({"chunk_size": 512, "agent_concurrency": 4})
    );
    assert_eq!(
        dag["steps"][0]["params"]["minimum"],
        json!({"cpu": "4", "memory": "16Gi", "gpu": "1"})
    );
    assert_eq!(
        dag["steps"][1]["params"]["release_name"],
        json!("my-agent-rag-vector-db")
    );
}

#[test]
fn the_generated_dag_is_the_golden_file() {
    let dag = plan(&checked(read("tests/fixtures/agent-rag.yaml")));
    let golden = path("tests/fixtures/agent-rag.dag.json");
    let text = serde_json::to_string_pretty(&dag).unwrap() + "\n";
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert!(expected == text, "{} should be:\n{text}", golden.display());
}

#[test]
fn the_published_template_differs_by_its_chart_and_by_what_the_runtime_is_told() {
    let mut literal = plan(&checked(read("tests/fixtures/agent-rag.yaml")));
    literal["steps"][3]["params"]["chart_ref"] = json!("charts/agent-runtime");
    literal["steps"][3]["params"]["values"]["extraEnv"] = json!([
        {"name": "CHUNK_SIZE", "value": "{{ parameters.chunk_size | string }}"},
        {"name": "AGENT_CONCURRENCY", "value": "{{ parameters.agent_concurrency | string }}"},
    ]);
    assert_eq!(plan(&checked(read("../../templates/agent-rag.yaml"))), literal);
}

#[test]
fn every_published_template_is_valid_and_plans() {
    let catalog = template::check_catalog(read("../../templates/catalog.yaml"))
        .unwrap_or_else(|errors| panic!("{}", print(&errors)));
    let mut planned = 0;
    for file in fs::read_dir(path("../../templates")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".yaml") || name == "catalog.yaml" {
            continue;
        }
        let template = template::check(read(&format!("../../templates/{name}")), &catalog)
            .unwrap_or_else(|errors| panic!("{name}: {}", print(&errors)));
        // What only the deployer knows is given something of the right type.
        let given: JsonMap = template
            .parameters
            .iter()
            .filter(|(_, parameter)| parameter.default.is_none())
            .map(|(name, _)| (name.clone(), json!("given")))
            .collect();
        let parameters = parameters::check(&template, &given)
            .unwrap_or_else(|errors| panic!("{name}: {}", print(&errors)));
        let choices = Choices {
            catalog: catalog.clone(),
            parameters: parameters.parameters,
            secrets: parameters.secrets.into_keys().collect(),
            ..Choices::default()
        };
        let dag: Dag = choices
            .plan(&template)
            .unwrap_or_else(|errors| panic!("{name}: {}", print(&errors)));
        compile(&dag).unwrap();
        planned += 1;
    }
    assert!(planned >= 5, "{planned} templates");
}
