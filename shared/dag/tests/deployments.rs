//! Parameters, selections and plans of deployments.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipway_dag::{compile, parameters, selections, template};
use slipway_model::{Dag, DagStep, FieldError, Template};
use support::{CLUSTER, Choices, OTHER_CLUSTER, catalog, checked, map, print, read, yaml};

fn only(errors: &[FieldError], path: &str, words: &str) {
    assert_eq!(
        errors.len(),
        1,
        "expected one error at {path}:\n{}",
        print(errors)
    );
    assert_eq!(errors[0].path, path, "{}", errors[0]);
    assert!(errors[0].message.contains(words), "'{words}' in: {}", errors[0]);
}

fn agent_rag(change: impl FnOnce(&mut Value)) -> Template {
    let mut value = read("tests/fixtures/agent-rag.yaml");
    change(&mut value);
    checked(value)
}

fn plan(template: &Template, choices: &Choices) -> Dag {
    let dag = choices
        .plan(template)
        .unwrap_or_else(|errors| panic!("{}", print(&errors)));
    compile(&dag).unwrap();
    dag
}

fn step<'d>(dag: &'d Dag, id: &str) -> &'d DagStep {
    dag.steps.iter().find(|step| step.id == id).unwrap()
}

/// Which steps there are, and what each waits for.
fn shape(dag: &Dag) -> Vec<(&str, Vec<&str>)> {
    dag.steps
        .iter()
        .map(|step| {
            (
                step.id.as_str(),
                step.depends_on.iter().map(String::as_str).collect(),
            )
        })
        .collect()
}

fn helm(components: &str) -> Template {
    checked(yaml(&format!(
        "name: t\nversion: 1.0.0\ncomponents:\n{components}"
    )))
}

// Parameters

fn typed() -> Template {
    agent_rag(|template| {
        template["parameters"] = json!({
            "size": {"type": "integer", "default": 512, "min": 128, "max": 2048},
            "ratio": {"type": "number", "min": 0, "max": 1},
            "level": {"type": "string", "enum": ["debug", "info"], "default": "info"},
            "host": {"type": "string", "pattern": "[a-z]+(\\.[a-z]+)*", "required": true},
            "on": {"type": "boolean"},
            "token": {"type": "string", "secret": true, "min": 8, "required": true},
        });
    })
}

#[test]
fn parameters_get_defaults_and_secrets_stand_apart() {
    let given = map(&json!({"host": "a.b", "token": "top-secret", "ratio": 1, "on": null}));
    let checked = parameters::check(&typed(), &given).unwrap();
    assert_eq!(
        Value::from(checked.parameters.clone()),
        json!({"size": 512, "level": "info", "host": "a.b", "ratio": 1})
    );
    assert_eq!(
        checked.secrets,
        BTreeMap::from([("token".to_owned(), "top-secret".to_owned())])
    );
    assert!(!format!("{checked:?}").contains("top-secret"));
}

#[test]
fn parameters_are_checked_all_at_once_and_secrets_are_not_shown() {
    let given = map(&json!({
        "size": 64, "ratio": 1.5, "level": "loud", "host": "a.b\nc", "on": "true", "token": "short", "szie": 1,
    }));
    let errors = parameters::check(&typed(), &given).unwrap_err();
    let text = print(&errors);
    for (place, words) in [
        ("parameters.szie", "did you mean 'size'?"),
        ("parameters.size", "from 128 to 2048"),
        ("parameters.ratio", "from 0 to 1"),
        ("parameters.level", "one of \"debug\", \"info\""),
        ("parameters.host", "matches [a-z]+"),
        ("parameters.on", "true or false, found the text 'true'"),
        ("parameters.token", "at least 8 characters"),
    ] {
        let error = errors.iter().find(|error| error.path == place).unwrap();
        assert!(error.message.contains(words), "{error}");
    }
    assert_eq!(errors.len(), 7, "{text}");
    assert!(!text.contains("short"), "{text}");
    let errors = parameters::check(&typed(), &map(&json!({"host": 5}))).unwrap_err();
    assert_eq!(
        print(&errors),
        "parameters.host: expected a text that matches [a-z]+(\\.[a-z]+)*, found the number 5\n\
         parameters.token: is required; give a text of at least 8 characters"
    );
}

#[test]
fn numbers_are_not_rounded_into_their_type() {
    let template = agent_rag(|template| template["parameters"]["n"] = json!({"type": "integer"}));
    for right in [json!(0), json!(-1), json!(u64::MAX)] {
        assert!(parameters::check(&template, &map(&json!({"n": right}))).is_ok());
    }
    for wrong in [json!(1.5), json!("1"), json!(true), json!([1])] {
        assert!(parameters::check(&template, &map(&json!({"n": wrong}))).is_err());
    }
}

// Selections

fn select(template: &Template, given: &[(&str, &str)]) -> Result<BTreeMap<String, String>, Vec<FieldError>> {
    let given = given
        .iter()
        .map(|(slot, name)| ((*slot).to_owned(), (*name).to_owned()))
        .collect();
    selections::check(template, &catalog(), &given)
}

#[test]
fn slots_take_what_is_selected_or_their_default() {
    let template = agent_rag(|_| {});
    let selected = select(&template, &[("vector_db", "milvus")]).unwrap();
    let expected = [("llm", "llama-3-8b"), ("vector_db", "milvus")];
    assert_eq!(
        selected,
        expected
            .map(|(slot, name)| (slot.to_owned(), name.to_owned()))
            .into()
    );
}

#[test]
fn what_cannot_be_selected_is_refused() {
    let template = agent_rag(|_| {});
    only(
        &select(&template, &[("vector_db", "pinecone")]).unwrap_err(),
        "components.vector_db",
        "qdrant, milvus",
    );
    only(
        &select(&template, &[("vectordb", "qdrant")]).unwrap_err(),
        "components.vectordb",
        "did you mean 'vector_db'?",
    );
    only(
        &select(&template, &[("agent_runtime", "x")]).unwrap_err(),
        "components.agent_runtime",
        "helm",
    );
    let unset = agent_rag(|template| {
        template["components"][1]
            .as_object_mut()
            .unwrap()
            .remove("default_component");
    });
    only(
        &select(&unset, &[]).unwrap_err(),
        "components.llm",
        "No component selected for required slot 'llm'; select one of llama-3-8b, llama-3-70b, mistral-7b",
    );
}

// Plans

#[test]
fn order_comes_from_dependencies_reads_and_groups_reduced() {
    let template = helm(
        "  - {name: d, type: helm, chart: {ref: charts/x, values: {v: '{{ steps.b.outputs.status }}'}}, depends_on: [a, c]}
  - {name: a, type: helm, chart: {ref: charts/x}}
  - {name: b, type: helm, chart: {ref: charts/x}, depends_on: [a]}
  - {name: c, type: helm, chart: {ref: charts/x}, depends_on: [a]}
  - {name: free, type: helm, chart: {ref: charts/x}}
",
    );
    let dag = plan(&template, &Choices::default());
    assert_eq!(
        shape(&dag),
        [
            ("cluster_health", vec![]),
            ("a", vec!["cluster_health"]),
            ("b", vec!["a"]),
            ("c", vec!["a"]),
            ("d", vec!["b", "c"]),
            ("free", vec!["cluster_health"]),
            ("notify_complete", vec!["d", "free"]),
        ]
    );
    let grouped = helm(
        "  - {name: a, type: helm, chart: {ref: charts/x}}
  - {name: b, type: helm, chart: {ref: charts/x}}
  - {name: c, type: helm, chart: {ref: charts/x}}
  - {name: free, type: helm, chart: {ref: charts/x}}
deployment_order: [[c, b], a]
",
    );
    assert_eq!(
        shape(&plan(&grouped, &Choices::default())),
        [
            ("cluster_health", vec![]),
            ("b", vec!["cluster_health"]),
            ("c", vec!["cluster_health"]),
            ("a", vec!["b", "c"]),
            ("free", vec!["cluster_health"]),
            ("notify_complete", vec!["a", "free"]),
        ]
    );
}

#[test]
fn an_empty_slot_has_no_step_and_passes_order_on() {
    let template = agent_rag(|template| {
        let llm = &mut template["components"][1];
        llm["required"] = json!(false);
        llm.as_object_mut().unwrap().remove("default_component");
        template["components"][2]["chart"]["values"] =
            json!({"url": "{{ steps.llm.outputs.endpoint_url | default('') }}"});
    });
    let dag = plan(&template, &Choices::default());
    assert_eq!(
        shape(&dag),
        [
            ("cluster_health", vec![]),
            ("vector_db", vec!["cluster_health"]),
            ("agent_runtime", vec!["vector_db"]),
            ("notify_complete", vec!["agent_runtime"]),
        ]
    );
    let chosen = Choices {
        selections: [("llm".to_owned(), "mistral-7b".to_owned())].into(),
        ..Choices::default()
    };
    assert_eq!(plan(&template, &chosen).steps.len(), 5);
}

#[test]
fn a_test_runs_before_the_dependants() {
    let template = agent_rag(|template| {
        template["components"][1]["test"] = json!(true);
        template["components"][1]["when"] = json!("parameters.chunk_size > 1");
        template["components"][1]["timeout_seconds"] = json!(900);
        template["components"][2]["chart"]["values"] =
            json!({"url": "{{ steps.llm.outputs.endpoint_url | default('') }}"});
    });
    let choices = Choices {
        parameters: map(&json!({"chunk_size": 5})),
        ..Choices::default()
    };
    let dag = plan(&template, &choices);
    assert_eq!(step(&dag, "llm-test").depends_on, ["llm"]);
    assert_eq!(step(&dag, "agent_runtime").depends_on, ["llm-test"]);
    let test = step(&dag, "llm-test");
    assert_eq!(test.action, "helm_test");
    assert_eq!(
        Value::from(test.params.clone()),
        json!({"cluster_id": CLUSTER, "namespace": "uc-def45678", "release_name": "my-agent-rag-llm", "timeout": "900s"})
    );
    assert_eq!(
        test.when.as_deref(),
        Some("parameters.chunk_size > 1"),
        "no test of what was skipped"
    );
}

#[test]
fn conditions_on_selections_are_settled_by_the_plan() {
    let template = agent_rag(|template| {
        template["components"][2]["when"] = json!("selections.vector_db == 'milvus'");
    });
    let when = |name: &str| {
        let choices = Choices {
            selections: [("vector_db".to_owned(), name.to_owned())].into(),
            ..Choices::default()
        };
        step(&plan(&template, &choices), "agent_runtime")
            .when
            .clone()
            .unwrap()
    };
    assert_eq!(when("milvus"), "true");
    assert_eq!(when("qdrant"), "false");
    let template = agent_rag(|template| template["components"][2]["when"] = json!("parameters.chunk_size"));
    let choices = Choices {
        parameters: map(&json!({"chunk_size": 5})),
        ..Choices::default()
    };
    only(
        &choices.plan(&template).unwrap_err(),
        "components[2].when",
        "true or false",
    );
}

#[test]
fn values_are_merged_and_checked() {
    let template = agent_rag(|_| {});
    let with = |component: &str, values: Value| Choices {
        values: [(component.to_owned(), map(&values))].into(),
        ..Choices::default()
    };
    let dag = plan(
        &template,
        &with(
            "agent_runtime",
            json!({"replicas": 3, "log_level": null, "extra": {"a": 1}}),
        ),
    );
    let values = &step(&dag, "agent_runtime").params["values"];
    assert_eq!(values["replicas"], json!(3));
    assert_eq!(values["log_level"], Value::Null);
    assert_eq!(values["port"], json!(8080));
    assert!(!step(&dag, "llm").params.contains_key("values"));
    let dag = plan(&template, &with("llm", json!({"gpu": 2})));
    assert_eq!(step(&dag, "llm").params["values"], json!({"gpu": 2}));

    for (choices, path, words) in [
        (
            with("agnet_runtime", json!({})),
            "values.agnet_runtime",
            "did you mean 'agent_runtime'?",
        ),
        (
            with("llm", json!({"pod": {"hostIPC": true}})),
            "values.llm.pod.hostIPC",
            "Blocked security key",
        ),
        (
            with("agent_runtime", json!({"x": "{{ steps.nobody.outputs.status }}"})),
            "values.agent_runtime.x",
            "no component 'nobody'",
        ),
        (
            with(
                "vector_db",
                json!({"x": "{{ steps.agent_runtime.outputs.status }}"}),
            ),
            "components",
            "vector_db → llm → agent_runtime → vector_db",
        ),
    ] {
        only(&choices.plan(&template).unwrap_err(), path, words);
    }
}

#[test]
fn what_is_set_is_passed_on() {
    let template = agent_rag(|template| {
        let agent = &mut template["components"][2];
        for (key, value) in [
            ("timeout_seconds", json!(1800)),
            ("retry", json!({"max_attempts": 3, "backoff_seconds": 5})),
            ("crds", json!("apply")),
            ("immutable", json!("recreate")),
            ("adopt", json!(true)),
            ("delete_on_failure", json!(false)),
            ("outputs", json!({"url": {"from": "ingress"}})),
        ] {
            agent[key] = value;
        }
        agent["chart"]["release_name"] = json!("the-agent");
        agent["chart"].as_object_mut().unwrap().remove("version");
        template["settings"] = json!({"on_failure": "rollback", "timeout_seconds": 60});
    });
    let dag = plan(&template, &Choices::default());
    let agent = step(&dag, "agent_runtime");
    let mut params = agent.params.clone();
    params.remove("values");
    assert_eq!(
        Value::from(params),
        json!({
            "cluster_id": CLUSTER, "chart_ref": "oci://registry.bud.ai/charts/langraph-agent", "chart_version": null,
            "release_name": "the-agent", "namespace": "uc-def45678", "timeout": "1800s", "crds": "apply",
            "immutable": "recreate", "adopt": true, "delete_on_failure": false,
        })
    );
    assert_eq!(agent.timeout_seconds, Some(1800));
    assert_eq!(agent.retry.as_ref().unwrap().max_attempts, 3);
    assert!(agent.outputs.contains_key("url"));
    assert_eq!(
        json!(dag.settings),
        json!({"on_failure": "rollback", "timeout_seconds": 60})
    );
}

#[test]
fn the_catalog_gives_time_and_outputs_where_the_template_does_not() {
    let mut catalog = catalog();
    catalog.components[0].timeout_seconds = Some(1200);
    catalog.components[0].outputs.insert(
        "grpc".to_owned(),
        serde_json::from_value(json!({"from": "service"})).unwrap(),
    );
    let template = template::check(read("tests/fixtures/agent-rag.yaml"), &catalog).unwrap();
    let choices = Choices {
        catalog,
        ..Choices::default()
    };
    let dag = plan(&template, &choices);
    let step = step(&dag, "vector_db");
    assert_eq!(
        (step.timeout_seconds, &step.params["timeout"]),
        (Some(1200), &json!("1200s"))
    );
    assert!(step.outputs.contains_key("grpc"));
}

#[test]
fn each_cluster_is_looked_at_once() {
    let template = agent_rag(|template| template["components"][1]["cluster"] = json!("gpu"));
    let choices = Choices {
        clusters: [("llm".to_owned(), OTHER_CLUSTER.parse().unwrap())].into(),
        ..Choices::default()
    };
    let dag = plan(&template, &choices);
    assert_eq!(
        shape(&dag)[..4],
        [
            ("cluster_health", vec![]),
            ("cluster_health-2", vec![]),
            ("vector_db", vec!["cluster_health"]),
            ("llm", vec!["cluster_health-2", "vector_db"]),
        ]
    );
    assert_eq!(
        Value::from(step(&dag, "cluster_health-2").params.clone()),
        json!({"cluster_id": OTHER_CLUSTER})
    );
    assert_eq!(step(&dag, "llm").params["cluster_id"], json!(OTHER_CLUSTER));
}

#[test]
fn two_components_never_share_a_release() {
    let template = agent_rag(|template| {
        template["components"][2]["chart"]["release_name"] = json!("my-agent-rag-llm");
    });
    let errors = Choices::default().plan(&template).unwrap_err();
    only(
        &errors,
        "components[2].chart.release_name",
        "also the release of component 'llm'",
    );
}

#[test]
fn a_parameter_that_is_read_needs_a_value() {
    let template = agent_rag(|template| {
        template["parameters"]["token"] = json!({"type": "string", "secret": true});
        template["components"][2]["chart"]["values"] = json!({"t": "{{ parameters.token }}"});
    });
    only(
        &Choices::default().plan(&template).unwrap_err(),
        "parameters.token",
        "agent_runtime",
    );
    let given = Choices {
        secrets: ["token".to_owned()].into(),
        ..Choices::default()
    };
    let dag = plan(&template, &given);
    assert!(!dag.parameters.contains_key("token"));
}

#[test]
fn topics_always_hold_the_one_that_deployments_follow() {
    let template = agent_rag(|_| {});
    let topics = |given: &[&str]| {
        let choices = Choices {
            topics: given.iter().map(|topic| (*topic).to_owned()).collect(),
            ..Choices::default()
        };
        plan(&template, &choices).callback_topics
    };
    assert_eq!(topics(&[]), ["budusecasesEvents"]);
    assert_eq!(topics(&["ops", "ops"]), ["budusecasesEvents", "ops"]);
    assert_eq!(
        topics(&["ops", "budusecasesEvents"]),
        ["ops", "budusecasesEvents"]
    );
}

#[test]
fn the_largest_template_plans_quickly() {
    let names: Vec<String> = (0..500).map(|index| format!("c{index}")).collect();
    let components: Vec<Value> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let before: Vec<&String> = (1..=8).filter_map(|back| names.get(index.checked_sub(back * back)?)).collect();
            json!({"name": name, "type": "helm", "chart": {"ref": "charts/x"}, "depends_on": before, "test": true})
        })
        .collect();
    let template = checked(json!({"name": "t", "version": "1.0.0", "components": components}));
    let start = Instant::now();
    let dag = plan(&template, &Choices::default());
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "took {:?}",
        start.elapsed()
    );
    assert_eq!(dag.steps.len(), 1002);
    assert!(
        dag.steps[3..].iter().all(|step| step.depends_on.len() == 1),
        "each waits for the one before, which waits for all others"
    );
}
