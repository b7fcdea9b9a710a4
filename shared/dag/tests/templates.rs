//! What is wrong with templates, all at once and at its place.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use serde_json::{Value, json};
use slipway_dag::template;
use slipway_model::FieldError;
use support::{catalog, checked, print, read, yaml};

/// The reference template with something changed.
fn changed(change: impl FnOnce(&mut Value)) -> Vec<FieldError> {
    let mut value = read("tests/fixtures/agent-rag.yaml");
    change(&mut value);
    template::check(value, &catalog()).err().unwrap_or_default()
}

/// Asserts that there is exactly this error, with `words` in its message.
fn only(errors: &[FieldError], path: &str, words: &[&str]) {
    assert_eq!(
        errors.len(),
        1,
        "expected one error at {path}:\n{}",
        print(errors)
    );
    assert_eq!(errors[0].path, path, "{}", errors[0]);
    for word in words {
        assert!(errors[0].message.contains(word), "'{word}' in: {}", errors[0]);
    }
}

#[test]
fn the_reference_template_is_right_as_it_is_written() {
    let template = checked(read("tests/fixtures/agent-rag.yaml"));
    assert_eq!(template.components[0].display_name, "Vector Database");
    let mut short = read("tests/fixtures/agent-rag.yaml");
    short.as_object_mut().unwrap().remove("display_name");
    short["components"][2]
        .as_object_mut()
        .unwrap()
        .remove("display_name");
    let template = checked(short);
    assert_eq!(template.display_name, "agent-rag");
    assert_eq!(template.components[2].display_name, "agent_runtime");
}

#[test]
fn all_errors_come_at_once() {
    let errors = template::check(
        yaml(
            r#"
name: Agent RAG
version: 1.0
componets: []
components:
  - {name: llm, type: modl, required: "yes"}
  - {name: cluster_health, type: helm, chart: {ref: "ftp://x/y", values: {pod: {hostNetwork: true}}}}
  - {type: helm, chart: {version: "not a version"}}
  - {name: agent, type: helm, depends_on: [lllm], timeout_seconds: 0, retry: {max_attempts: 21}}
deployment_order: [llm, agent, agent, [nobody]]
parameters:
  size: {type: integer, default: 5, min: 10, max: 1}
resources: {minimum: {cpu: lots}}
"#,
        ),
        &catalog(),
    )
    .unwrap_err();
    let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    for path in [
        "componets",
        "version",
        "name",
        "components[0].type",
        "components[0].required",
        "components[1].name",
        "components[1].chart.ref",
        "components[1].chart.values.pod.hostNetwork",
        "components[2].name",
        "components[2].chart.ref",
        "components[2].chart.version",
        "components[3].depends_on[0]",
        "components[3].timeout_seconds",
        "components[3].retry.max_attempts",
        "components[3].chart",
        "deployment_order[2]",
        "deployment_order[3][0]",
        "parameters.size.min",
        "parameters.size.default",
        "resources.minimum.cpu",
    ] {
        assert_eq!(
            paths.iter().filter(|other| **other == path).count(),
            1,
            "{path} in:\n{}",
            print(&errors)
        );
    }
    assert_eq!(errors.len(), 20, "nothing else:\n{}", print(&errors));
}

#[test]
fn not_even_an_object() {
    for value in [json!(null), json!([]), json!("x"), json!({})] {
        assert!(template::check(value, &catalog()).is_err());
    }
    let mut deep = json!(1);
    for _ in 0..70 {
        deep = json!([deep]);
    }
    only(&template::check(deep, &catalog()).unwrap_err(), "", &["64"]);
}

#[test]
fn names_must_be_right_and_differ() {
    for name in ["Llm", "1llm", "my-llm", "", &"x".repeat(64)] {
        let errors = changed(|template| {
            template["components"][0]["name"] = json!(name);
            template.as_object_mut().unwrap().remove("deployment_order");
            template["components"][2]["chart"]["values"] = json!({});
        });
        only(&errors, "components[0].name", &["component name"]);
    }
    let errors = changed(|template| {
        template["components"][2]["name"] = json!("notify_complete");
        template["deployment_order"] = json!([]);
    });
    only(&errors, "components[2].name", &["notify_complete"]);
    let errors = changed(|template| {
        template["components"][1]["name"] = json!("vector_db");
        template["deployment_order"] = json!([]);
        template["components"][2]["chart"]["values"] = json!({});
    });
    only(&errors, "components[1].name", &["already", "components[0]"]);
}

#[test]
fn a_chart_is_for_helm_only_and_for_helm_always() {
    let errors = changed(|template| template["components"][0]["chart"] = json!({"ref": "charts/x"}));
    only(
        &errors,
        "components[0].chart",
        &["should only be set when type is 'helm'"],
    );
    let errors = changed(|template| {
        template["components"][2].as_object_mut().unwrap().remove("chart");
    });
    only(
        &errors,
        "components[2].chart",
        &["is required when type is 'helm'"],
    );
}

#[test]
fn what_is_literal_in_a_chart_is_checked() {
    let chart = |key: &'static str, value: Value| {
        changed(move |template| template["components"][2]["chart"][key] = value)
    };
    only(
        &chart("ref", json!("https://user:secret@host/chart")),
        "components[2].chart.ref",
        &["does not match any allowed pattern"],
    );
    only(
        &chart("version", json!("newest")),
        "components[2].chart.version",
        &["constraint"],
    );
    only(
        &chart("release_name", json!("My_Release")),
        "components[2].chart.release_name",
        &["release name"],
    );
    only(
        &chart(
            "values",
            json!({"containers": [{"securityContext": {"privileged": "yes"}}]}),
        ),
        "components[2].chart.values.containers[0].securityContext.privileged",
        &["Blocked security key in Helm values"],
    );
    assert!(chart("version", json!("^1.2")).is_empty());
    assert!(chart("values", json!({"hostNetwork": false})).is_empty());
    assert!(chart("ref", json!("charts/{{ deployment.name }}")).is_empty());
    only(
        &chart("ref", json!("charts/{{ steps.llm.outputs.status }}")),
        "components[2].chart.ref",
        &["steps"],
    );
}

#[test]
fn selections_must_be_in_the_catalog_and_fit() {
    let slot =
        |key: &'static str, value: Value| changed(move |template| template["components"][0][key] = value);
    only(
        &slot("default_component", json!("qdrnat")),
        "components[0].default_component",
        &["did you mean 'qdrant'"],
    );
    only(
        &slot("compatible_components", json!(["qdrant", "pinecone"])),
        "components[0].compatible_components[1]",
        &["no component 'pinecone'", "qdrant, milvus"],
    );
    only(
        &slot("compatible_components", json!(["qdrant", "mistral-7b"])),
        "components[0].compatible_components[1]",
        &["model, llm", "vector_db"],
    );
    only(
        &slot("compatible_components", json!(["milvus"])),
        "components[0].default_component",
        &["compatible", "milvus"],
    );
    let errors = changed(|template| template["components"][2]["default_component"] = json!("qdrant"));
    only(&errors, "components[2].default_component", &["helm"]);
    let errors = changed(|template| {
        template["components"][0] = json!({"name": "vector_db", "type": "reranker"});
    });
    only(&errors, "components[0].type", &["nothing of type 'reranker'"]);
}

#[test]
fn cycles_are_printed_over_all_kinds_of_edges() {
    let errors = changed(|template| {
        template["components"][0]["depends_on"] = json!(["agent_runtime"]);
    });
    only(
        &errors,
        "components",
        &["vector_db → llm → agent_runtime → vector_db"],
    );
    // The expression of agent_runtime says the opposite of the order.
    let errors = changed(|template| {
        template["deployment_order"] = json!(["agent_runtime", "llm"]);
    });
    only(&errors, "components", &["llm → agent_runtime → llm"]);
    let errors = changed(|template| {
        template["components"][2]["chart"]["values"]["self"] =
            json!("{{ steps.agent_runtime.outputs.status }}");
    });
    only(&errors, "components", &["agent_runtime → agent_runtime"]);
}

fn with_value(text: &str) -> Vec<FieldError> {
    let text = text.to_owned();
    changed(move |template| template["components"][2]["chart"]["values"]["deep"] = json!([{"x": text}]))
}

const DEEP: &str = "components[2].chart.values.deep[0].x";

#[test]
fn references_that_cannot_exist_are_refused() {
    for right in [
        "{{ parameters.chunk_size }}",
        "pre {{ steps.llm.outputs.endpoint_url }}/v1",
        "{{ steps.deploy_llm.outputs.endpoint_url }}",
        "{{ steps.llm.outputs.services[0].name }}",
        "{{ deployment.name }}-{{ deployment.id }}-{{ deployment.namespace }}",
        "{{ secrets.token }}",
        "{% raw %}{{ not ours }}{% endraw %}",
    ] {
        assert_eq!(print(&with_value(right)), "", "{right}");
    }
    for (wrong, words) in [
        ("{{ parameters.chunk_sise }}", "did you mean 'chunk_size'?"),
        ("{{ steps.lmm.outputs.endpoint_url }}", "did you mean 'llm'?"),
        ("{{ steps.llm.outputs.endpoint }}", "has no output 'endpoint'"),
        (
            "{{ steps.cluster_health.outputs.status }}",
            "no component 'cluster_health'",
        ),
        ("{{ deployment.nmae }}", "did you mean 'name'?"),
        ("{{ selections.llm }}", "selections"),
        ("{{ steps.llm.status }}", "steps.NAME.outputs.KEY"),
        ("{{ open('/etc/passwd') }}", "functions"),
        ("{% for x in y %}{% endfor %}", "statements"),
        ("{{ parameters.chunk_size", "does not end"),
    ] {
        only(&with_value(wrong), DEEP, &[words]);
    }
}

#[test]
fn outputs_are_known_by_what_may_fill_the_slot() {
    let mut catalog = catalog();
    let source = json!({"from": "service", "port": "grpc"});
    catalog.components[1].outputs.insert(
        "grpc_url".to_owned(),
        serde_json::from_value(source.clone()).unwrap(),
    );
    let mut value = read("tests/fixtures/agent-rag.yaml");
    value["components"][2]["chart"]["values"]["a"] = json!("{{ steps.vector_db.outputs.grpc_url }}");
    value["components"][1]["outputs"] = json!({"model_url": source});
    value["components"][2]["chart"]["values"]["b"] = json!("{{ steps.llm.outputs.model_url }}");
    assert!(template::check(value.clone(), &catalog).is_ok(), "milvus has it");
    value["components"][0]["compatible_components"] = json!(["qdrant"]);
    only(
        &template::check(value, &catalog).unwrap_err(),
        "components[2].chart.values.a",
        &["no output 'grpc_url'"],
    );
}

#[test]
fn what_may_be_skipped_needs_a_default() {
    let skipped = |text: &'static str, change: fn(&mut Value)| {
        changed(move |template| {
            change(&mut template["components"][1]);
            template["components"][2]["chart"]["values"] = json!({"url": text});
        })
    };
    let conditional: fn(&mut Value) = |llm| llm["when"] = json!("parameters.chunk_size > 100");
    let unselected: fn(&mut Value) = |llm| {
        llm["required"] = json!(false);
        llm.as_object_mut().unwrap().remove("default_component");
    };
    for change in [conditional, unselected] {
        only(
            &skipped("{{ steps.llm.outputs.endpoint_url }}", change),
            "components[2].chart.values.url",
            &["may be skipped", "default("],
        );
        assert!(skipped("{{ steps.llm.outputs.endpoint_url | default('') }}", change).is_empty());
        assert!(
            !skipped("{{ steps.llm.outputs.nothing | default('') }}", change).is_empty(),
            "a default does not make an output"
        );
    }
    let optional_with_default: fn(&mut Value) = |llm| llm["required"] = json!(false);
    assert!(skipped("{{ steps.llm.outputs.endpoint_url }}", optional_with_default).is_empty());
}

#[test]
fn conditions_read_parameters_and_selections() {
    let when = |text: &'static str| {
        changed(move |template| {
            template["components"][2]["when"] = json!(text);
        })
    };
    for right in [
        "parameters.chunk_size > 100 and selections.vector_db == 'qdrant'",
        "true",
    ] {
        assert_eq!(print(&when(right)), "", "{right}");
    }
    for (wrong, words) in [
        ("{{ parameters.chunk_size }}", "bare"),
        ("parameters.nothing", "no parameter 'nothing'"),
        ("selections.nothing == 'x'", "no component 'nothing'"),
        ("selections.agent_runtime == 'x'", "nothing is selected"),
        ("steps.llm.outputs.status == 'x'", "steps"),
        ("secrets.x == 'x'", "secrets"),
        ("", "empty"),
    ] {
        only(&when(wrong), "components[2].when", &[words]);
    }
    let errors = changed(|template| {
        template["parameters"]["token"] = json!({"type": "string", "secret": true});
        template["components"][2]["when"] = json!("parameters.token == 'x'");
    });
    only(&errors, "components[2].when", &["secret"]);
}

#[test]
fn definitions_of_parameters_must_make_sense() {
    let parameter = |definition: Value| changed(move |template| template["parameters"]["p"] = definition);
    for right in [
        json!({"type": "string", "pattern": "[a-z]+", "default": "abc", "enum": ["abc", "def"]}),
        json!({"type": "number", "default": 1, "min": 0.5}),
        json!({"type": "boolean", "default": false}),
        json!({"type": "string", "secret": true, "required": true, "min": 8}),
    ] {
        assert_eq!(print(&parameter(right)), "");
    }
    for (wrong, path, words) in [
        (
            json!({"type": "integer", "default": "5"}),
            "default",
            "whole number",
        ),
        (
            json!({"type": "integer", "default": 1.5}),
            "default",
            "whole number",
        ),
        (
            json!({"type": "integer", "default": 9, "max": 8}),
            "default",
            "at most 8",
        ),
        (
            json!({"type": "string", "default": "ab", "pattern": "a"}),
            "default",
            "matches a",
        ),
        (
            json!({"type": "string", "pattern": "("}),
            "pattern",
            "regular expression",
        ),
        (
            json!({"type": "string", "pattern": "a)|(b"}),
            "pattern",
            "regular expression",
        ),
        (
            json!({"type": "string", "pattern": "(a{1000}){1000}"}),
            "pattern",
            "regular expression",
        ),
        (json!({"type": "integer", "pattern": "a"}), "pattern", "string"),
        (json!({"type": "integer", "min": 2, "max": 1}), "min", "greater"),
        (json!({"type": "boolean", "max": 1}), "max", "boolean"),
        (json!({"type": "string", "enum": ["a", 1]}), "enum[1]", "text"),
        (json!({"type": "string", "enum": []}), "enum", "empty"),
        (json!({"type": "string", "enum": ["a", "a"]}), "enum[1]", "twice"),
        (
            json!({"type": "string", "secret": true, "default": "x"}),
            "default",
            "secret",
        ),
        (json!({"type": "integer", "secret": true}), "type", "string"),
        (
            json!({"type": "text"}),
            "type",
            "string, integer, number, boolean",
        ),
        (
            json!({"type": "string", "maximum": 1}),
            "maximum",
            "unknown field",
        ),
    ] {
        only(&parameter(wrong), &format!("parameters.p.{path}"), &[words]);
    }
    let errors = changed(|template| template["parameters"]["a-b"] = json!({"type": "string"}));
    only(&errors, "parameters.a-b", &["parameter name"]);
}

#[test]
fn extractors_are_checked() {
    let outputs = |outputs: Value| changed(move |template| template["components"][2]["outputs"] = outputs);
    assert!(
        outputs(json!({
            "version": {"from": "config_map", "name": "{{ deployment.name }}-info", "key": "version"},
            "ready": {"from": "status", "api_version": "apps/v1", "kind": "Deployment", "name": "x",
                      "field": "readyReplicas", "type": "integer"},
        }))
        .is_empty()
    );
    let place = "components[2].outputs";
    only(
        &outputs(json!({"x": {"from": "secret"}})),
        &format!("{place}.x.from"),
        &["config_map"],
    );
    only(
        &outputs(json!({"x": {"from": "config_map", "name": "n"}})),
        &format!("{place}.x.key"),
        &["missing"],
    );
    only(
        &outputs(json!({"a b": {"from": "ingress"}})),
        &format!("{place}.a b"),
        &["output name"],
    );
    only(
        &outputs(json!({"x": {"from": "ingress", "name": "{{ secrets.x }}"}})),
        &format!("{place}.x.name"),
        &["secrets"],
    );
}

#[test]
fn limits_hold() {
    let errors = changed(|template| {
        template["components"] = (0..501)
            .map(|index| json!({"name": format!("c{index}"), "type": "helm", "chart": {"ref": "charts/x"}}))
            .collect();
    });
    only(&errors, "components", &["501", "500"]);
    let errors = changed(|template| {
        template["components"] = json!([]);
        template["deployment_order"] = json!([]);
    });
    only(&errors, "components", &["at least one"]);
}

#[test]
fn health_checks_are_read_when_the_template_is_checked() {
    let with = |check: Value| changed(|value| value["components"][2]["health_checks"] = json!([check]));
    let right = json!({"api_version": "db.example.com/v1", "kind": "Database",
        "current": "status.conditions.exists(c, c.type == 'Up' && c.status == 'True')"});
    assert_eq!(print(&with(right.clone())), "");
    let place = "components[2].health_checks[0].";
    let mut broken = right.clone();
    broken["failed"] = "status.phase ==".into();
    only(
        &with(broken),
        &format!("{place}failed"),
        &["not a CEL expression", "line 1, column"],
    );
    let mut unknown = right.clone();
    unknown["current"] = "status.since < now()".into();
    only(&with(unknown), &format!("{place}current"), &["no function now()"]);
    let mut deep = right.clone();
    deep["current"] = "(".repeat(2000).into();
    only(&with(deep), &format!("{place}current"), &["not a CEL expression"]);
    let mut nameless = right;
    nameless["kind"] = "".into();
    only(&with(nameless), &format!("{place}kind"), &["must not be empty"]);
}
