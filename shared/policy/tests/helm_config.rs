//! Values, names and the configuration of Helm jobs.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use slipway_policy::{
    ConfigCheck, Namespace, ReleaseName, check_constraint, check_values, kubernetes_name, parse_timeout,
    validate_helm_config,
};

fn blocked(values: &Value) -> Vec<String> {
    check_values(values)
        .iter()
        .map(|blocked| blocked.path.clone())
        .collect()
}

#[test]
fn blocked_keys_are_found_at_any_depth() {
    assert_eq!(blocked(&json!({"hostNetwork": true})), ["hostNetwork"]);
    assert_eq!(
        blocked(&json!({"containers": {"main": {"securityContext": {"privileged": true}}}})),
        ["containers.main.securityContext.privileged"]
    );
    assert_eq!(
        check_values(&json!({"containers": [{"securityContext": {"privileged": true}}]}))[0].to_string(),
        "Blocked security key in Helm values: containers[0].securityContext.privileged"
    );
    assert_eq!(
        blocked(
            &json!({"a": [[{"hostPID": true}], {"b": [{"hostIPC": "yes"}]}], "x.y": {"privileged": true}})
        ),
        ["a[0][0].hostPID", "a[1].b[0].hostIPC", "[\"x.y\"].privileged"]
    );
    assert_eq!(
        blocked(&json!({"privileged": {"hostNetwork": true}})),
        ["privileged.hostNetwork"]
    );
}

#[test]
fn only_what_reads_as_true_is_blocked() {
    for truth in [
        json!(true),
        json!("true"),
        json!("True"),
        json!("TRUE"),
        json!("yes"),
        json!("Yes"),
        json!("on"),
        json!("ON"),
        json!("y"),
        json!("Y"),
        json!(" true "),
        json!("true\n"),
        json!("true # comment"),
        json!("!!bool true"),
        json!("true\nx: y"),
        json!("!<tag:yaml.org,2002:bool> true"),
    ] {
        assert_eq!(blocked(&json!({"privileged": truth})), ["privileged"], "{truth}");
    }
    for other in [
        json!(false),
        json!(null),
        json!("false"),
        json!("no"),
        json!("off"),
        json!("n"),
        json!(""),
        json!("truely"),
        json!("true false"),
        json!("{{ parameters.x }}"),
        json!({}),
        json!([]),
        json!(0),
    ] {
        assert_eq!(
            blocked(&json!({"privileged": other})),
            Vec::<String>::new(),
            "{other}"
        );
    }
    assert_eq!(
        blocked(&json!({"Privileged": true, "allowPrivileged": true})),
        Vec::<String>::new()
    );
}

fn errors(config: &Value, check: ConfigCheck) -> Vec<(String, String)> {
    validate_helm_config(config, check)
        .into_iter()
        .map(|error| (error.path, error.message))
        .collect()
}

fn config(field: &str, value: Value) -> Value {
    let mut config = json!({"chart_ref": "charts/a", "release_name": "r", "namespace": "n", "values": {}});
    config[field] = value;
    config
}

#[test]
fn a_right_configuration_has_no_errors() {
    let full = json!({
        "chart_ref": "oci://registry.bud.ai/charts/langraph-agent", "chart_version": ">=1.0.0, <2.0.0",
        "release_name": "my-agent-rag-agent-runtime", "namespace": "uc-def45678", "values": {"replicas": 1},
        "timeout": "600s", "wait": true, "create_namespace": true, "delete_on_failure": false, "operation": "deploy",
        "revision": 3, "adopt": false, "crds": "create", "immutable": "stop", "outputs": {}
    });
    assert_eq!(errors(&full, ConfigCheck::Rendered), []);
    assert_eq!(
        errors(
            &json!({"chart_ref": "https://charts.example.com/qdrant"}),
            ConfigCheck::Rendered
        ),
        []
    );
    let absent = json!({"chart_ref": "charts/a", "chart_version": null, "namespace": null, "values": null});
    assert_eq!(errors(&absent, ConfigCheck::Rendered), []);
}

#[test]
fn the_chart_reference_is_required_where_a_chart_is_deployed() {
    let required = [("chart_ref".to_owned(), "chart_ref is required".to_owned())];
    for config in [
        json!({}),
        json!({"chart_ref": null}),
        json!({"chart_ref": ""}),
        json!({"operation": "deploy"}),
    ] {
        assert_eq!(errors(&config, ConfigCheck::Rendered), required, "{config}");
    }
    for operation in ["uninstall", "rollback", "test"] {
        assert_eq!(
            errors(
                &json!({"operation": operation, "chart_ref": ""}),
                ConfigCheck::Rendered
            ),
            []
        );
    }
}

#[test]
fn every_error_is_told_at_once() {
    let config = json!({
        "chart_ref": "ftp://example.com/a", "chart_version": "newest", "release_name": "Not_OK", "namespace": "-",
        "values": {"a": [{"privileged": true}], "hostNetwork": "on"}, "timeout": "soon", "wait": "yes", "revision": 0,
        "operation": "explode", "crds": "yes", "immutable": 3, "outputs": [], "atomic": true
    });
    let found = errors(&config, ConfigCheck::Rendered);
    let paths: BTreeSet<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        BTreeSet::from([
            "atomic",
            "chart_ref",
            "chart_version",
            "crds",
            "immutable",
            "namespace",
            "operation",
            "outputs",
            "release_name",
            "revision",
            "timeout",
            "values.a[0].privileged",
            "values.hostNetwork",
            "wait",
        ])
    );
    let message = |path: &str| &found.iter().find(|(found, _)| found == path).expect("an error").1;
    assert!(message("chart_ref").contains("does not match any allowed pattern"));
    assert_eq!(
        message("values.a[0].privileged"),
        "Blocked security key in Helm values: a[0].privileged"
    );
    assert!(message("atomic").contains("unknown field"));
    assert_eq!(errors(&json!([]), ConfigCheck::Rendered).len(), 1);
}

#[test]
fn expressions_are_left_for_later_only_before_rendering() {
    for field in [
        "chart_ref",
        "chart_version",
        "release_name",
        "namespace",
        "timeout",
        "wait",
    ] {
        let config = config(field, json!("x-{{ parameters.x }}"));
        assert_eq!(errors(&config, ConfigCheck::Literal), [], "{field}");
        assert_eq!(errors(&config, ConfigCheck::Rendered).len(), 1, "{field}");
    }
    let whole = config("values", json!("{{ parameters.x }}"));
    let error = &errors(&whole, ConfigCheck::Literal)[0].1;
    assert!(error.contains(r#"{"key": "{{ parameters.key }}"}"#), "{error}");
}

#[test]
fn constraints_as_helm_reads_them() {
    for right in [
        "1.2.3",
        "v1.2.3",
        "1",
        "1.2",
        "^1.2",
        "~1.2.3",
        "~>1",
        "1.x",
        "1.2.X",
        "*",
        "x",
        ">=1.0.0",
        "=>1",
        ">= 1.0.0",
        ">=1.0.0 <2.0.0",
        ">=1.0.0, <2.0.0",
        ">=1,<2 || ^3",
        "1.2 - 1.4.5",
        "!=1.2.3",
        "=1.2.3",
        "1.2.3-beta.1",
        ">0.0.0-0",
        "1.2.3+build.5",
        "1.2.3-rc.1+x",
    ] {
        assert!(check_constraint(right).is_ok(), "{right}");
    }
    for wrong in [
        "",
        " ",
        "latest",
        "1.2.3.4",
        "1..2",
        "1.2.",
        ">",
        ">=",
        "> >1",
        "1 -",
        "- 1",
        "||",
        "1 ||",
        "1.2.3-",
        "1.2.3+",
        "a.b.c",
        "1.2.3 --debug",
        "--version",
        "^",
        "^^1",
        "1.2.3-ü",
        "{{ x }}",
        "1;2",
        "99999999999999999999",
    ] {
        assert!(check_constraint(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn timeouts() {
    for (value, seconds) in [
        (json!(600), 600),
        (json!("600s"), 600),
        (json!("10m"), 600),
        (json!("1h30m"), 5400),
        (json!("1h5s"), 3605),
    ] {
        assert_eq!(parse_timeout(&value), Ok(seconds), "{value}");
    }
    for value in [
        json!(0),
        json!(-1),
        json!(1.5),
        json!("600"),
        json!("10"),
        json!("s"),
        json!(""),
        json!("1m1h"),
        json!("1.5h"),
        json!("25h"),
        json!("-1s"),
        json!("1h "),
        json!(true),
        json!("99999999999999999999h"),
        json!("0s"),
        json!("5s5s"),
    ] {
        assert!(parse_timeout(&value).is_err(), "{value}");
    }
}

#[test]
fn names_that_someone_chose() {
    for name in ["a", "my-agent-rag", "0", &"a".repeat(53)] {
        assert_eq!(ReleaseName::parse(name).unwrap().as_str(), name);
    }
    for name in ["", "-a", "a-", "A", "a_b", "a.b", "a b", "ä", &"a".repeat(54)] {
        assert!(ReleaseName::parse(name).is_err(), "{name}");
    }
    assert!(Namespace::parse(&"a".repeat(63)).is_ok());
    assert!(Namespace::parse(&"a".repeat(64)).is_err());
    assert!(Namespace::parse("kube_system").is_err());
}

#[test]
fn release_names_are_readable_and_never_collide() {
    assert_eq!(
        ReleaseName::of("my-agent-rag", "agent_runtime").as_str(),
        "my-agent-rag-agent-runtime"
    );
    let long = "a".repeat(60);
    let pairs = [
        (long.as_str(), "one"),
        (long.as_str(), "two"),
        (&long[1..], "one"),
        ("Überblick", "llm"),
        ("überblick", "llm"),
        ("x y", "llm"),
        ("x.y", "llm"),
        ("---", "---"),
        ("", ""),
        ("a", "b_"),
        ("ends-with-", "dash-"),
        ("日本", "語"),
        (
            "my-deployment-with-a-name-that-is-exactly-too-long-for-it",
            "vector_db",
        ),
    ];
    let names: Vec<ReleaseName> = pairs
        .iter()
        .map(|(deployment, component)| ReleaseName::of(deployment, component))
        .collect();
    for (name, pair) in names.iter().zip(&pairs) {
        assert_eq!(
            ReleaseName::parse(name.as_str()).as_ref(),
            Ok(name),
            "{pair:?} gives a valid name"
        );
        assert_eq!(ReleaseName::of(pair.0, pair.1), *name, "the same each time");
    }
    let different: BTreeSet<&ReleaseName> = names.iter().collect();
    assert_eq!(different.len(), pairs.len(), "{names:?}");
}

#[test]
fn kubernetes_names() {
    assert_eq!(kubernetes_name("vector_db"), "vector-db");
    assert!(Namespace::parse(&kubernetes_name("ends_with_")).is_ok());
    assert_ne!(kubernetes_name("a_"), kubernetes_name("a"));
    assert!(kubernetes_name(&"a".repeat(80)).len() <= 63);
}
