//! What is wrong with DAGs that someone posts.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipway_dag::{
    compile,
    dag::{self, ActionCatalog},
};
use slipway_model::{
    ActionMetadata, Dag, EffectClass, ExecutionMode, FieldError, JsonMap, OutputDefinition,
    ParameterDefinition,
};
use support::{Choices, checked, print, read};

const fn parameter(name: &'static str, parameter_type: &'static str, required: bool) -> ParameterDefinition {
    ParameterDefinition {
        name,
        label: name,
        parameter_type,
        description: "what it is",
        required,
    }
}

const fn output(name: &'static str) -> OutputDefinition {
    OutputDefinition {
        name,
        output_type: "string",
        description: "what it is",
    }
}

const fn action(
    action_type: &'static str,
    params: &'static [ParameterDefinition],
    outputs: &'static [OutputDefinition],
) -> ActionMetadata {
    ActionMetadata {
        action_type,
        version: "1.0.0",
        name: action_type,
        category: "Test",
        icon: "box",
        color: "#000000",
        description: "",
        execution_mode: ExecutionMode::Sync,
        timeout_seconds: 60,
        idempotent: true,
        effect: EffectClass::Pure,
        required_services: &[],
        required_permissions: &[],
        params,
        outputs,
    }
}

const DEPLOYED: &[OutputDefinition] = &[output("job_id"), output("endpoint_url"), output("status")];

const ACTIONS: [ActionMetadata; 6] = [
    action("pass", &[], &[]),
    action(
        "cluster_health",
        &[
            parameter("cluster_id", "cluster_ref", true),
            parameter("minimum", "json", false),
        ],
        &[output("healthy")],
    ),
    ActionMetadata {
        required_services: &["jobs"],
        ..action(
            "helm_deploy",
            &[
                parameter("cluster_id", "cluster_ref", true),
                parameter("chart_ref", "string", true),
                parameter("chart_version", "string", false),
                parameter("release_name", "string", false),
                parameter("namespace", "string", false),
                parameter("values", "json", false),
                parameter("timeout", "duration", false),
                parameter("wait", "boolean", false),
            ],
            DEPLOYED,
        )
    },
    action(
        "deployment_create",
        &[
            parameter("cluster_id", "cluster_ref", true),
            parameter("component_name", "string", true),
            parameter("component_type", "string", true),
            parameter("selected_component", "string", true),
            parameter("deployment_id", "string", true),
            parameter("user_id", "string", true),
            parameter("release_name", "string", false),
            parameter("namespace", "string", false),
            parameter("values", "json", false),
        ],
        DEPLOYED,
    ),
    action(
        "notification",
        &[
            parameter("message", "string", true),
            parameter("user_id", "string", false),
            parameter("level", "string", false),
        ],
        &[output("channel")],
    ),
    action(
        "wait",
        &[parameter("seconds", "integer", true)],
        &[output("waited")],
    ),
];

fn check(value: Value) -> Result<Dag, Vec<FieldError>> {
    dag::check(value, ACTIONS.as_slice(), &["budusecasesEvents", "ops"])
}

fn check_steps(steps: impl Into<Value>) -> Vec<FieldError> {
    let steps: Value = steps.into();
    check(json!({"name": "test", "parameters": {"region": "eu"}, "steps": steps}))
        .err()
        .unwrap_or_default()
}

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

#[test]
fn a_generated_dag_can_be_posted() {
    let planned = Choices::default()
        .plan(&checked(read("tests/fixtures/agent-rag.yaml")))
        .unwrap();
    let posted =
        check(serde_json::to_value(&planned).unwrap()).unwrap_or_else(|errors| panic!("{}", print(&errors)));
    assert_eq!(posted, planned);
}

#[test]
fn the_reference_dag_is_right_as_it_is_written() {
    let dag = check(read("tests/fixtures/agent-rag.document.json"))
        .unwrap_or_else(|errors| panic!("{}", print(&errors)));
    assert_eq!(compile(&dag).unwrap().step_count(), 5);
}

#[test]
fn values_that_are_no_object_are_refused_with_a_sentence() {
    for action in ["helm_deploy", "deployment_create"] {
        for values in [
            json!("{{ parameters.all }}"),
            json!([{"a": 1}]),
            json!("a: 1"),
            json!(true),
        ] {
            let errors = check(json!({"name": "x", "parameters": {"all": {}}, "steps": [
                {"id": "a", "action": action, "params": {"cluster_id": "dev", "chart_ref": "charts/x",
                    "component": "x", "name": "x", "values": values}}]}))
            .unwrap_err();
            let printed = print(&errors);
            assert!(
                printed.contains("steps[0].params.values: values must be an object"),
                "{action} {values}: {printed}"
            );
        }
    }
}

#[test]
fn all_errors_come_at_once() {
    let errors = check(json!({
        "name": "", "stpes": [], "settings": {"on_failure": "ignore", "timeout_seconds": 0},
        "steps": [
            {"id": "1st", "action": "pass"},
            {"id": "a", "action": "psas", "depends_on": ["b", "nobody", "b"], "retry": {"max_attempts": 0}},
            {"id": "a", "action": "wait", "params": {"seconds": "soon", "minutes": 1}, "run": "never"},
            {"id": "b", "action": "helm_deploy", "timeout": 5, "params": {
                "chart_ref": "ftp://x", "namespace": "Not_Right", "values": {"spec": {"hostNetwork": true}}}},
            {"action": "pass"},
        ],
        "outputs": {"url": "{{ steps.b.outputs.endpoint }}"},
        "callback_topics": ["budusecasesEvent", "ops", "ops"],
    }))
    .unwrap_err();
    let mut paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "callback_topics[0]",
            "callback_topics[2]",
            "name",
            "outputs.url",
            "settings.on_failure",
            "settings.timeout_seconds",
            "steps[0].id",
            "steps[1].action",
            "steps[1].depends_on[1]",
            "steps[1].depends_on[2]",
            "steps[1].retry.max_attempts",
            "steps[2].id",
            "steps[2].params.minutes",
            "steps[2].params.seconds",
            "steps[2].run",
            "steps[3].params.chart_ref",
            "steps[3].params.cluster_id",
            "steps[3].params.namespace",
            "steps[3].params.values.spec.hostNetwork",
            "steps[3].timeout",
            "steps[4].id",
            "stpes",
        ],
        "{}",
        print(&errors)
    );
}

#[test]
fn ids_have_their_form() {
    for right in ["a", "_x", "deploy-llm_2", &"x".repeat(128)] {
        assert_eq!(print(&check_steps(json!([{"id": right, "action": "pass"}]))), "");
    }
    for wrong in ["", "1a", "-a", "a.b", "a~b", "ä", &"x".repeat(129)] {
        only(
            &check_steps(json!([{"id": wrong, "action": "pass"}])),
            "steps[0].id",
            "step id",
        );
    }
}

#[test]
fn parameters_of_actions_are_typed_as_far_as_they_are_literal() {
    let wait =
        |seconds: Value| check_steps(json!([{"id": "a", "action": "wait", "params": {"seconds": seconds}}]));
    assert!(wait(json!(5)).is_empty());
    assert!(wait(json!("{{ parameters.region | length }}")).is_empty());
    only(&wait(json!("5")), "steps[0].params.seconds", "whole number");
    only(
        &wait(json!(null)),
        "steps[0].params.seconds",
        "required: what it is",
    );
    let version = |version: Value| {
        check_steps(json!([{"id": "a", "action": "helm_deploy", "params": {
            "cluster_id": "c", "chart_ref": "charts/x", "chart_version": version}}]))
    };
    assert!(version(json!(null)).is_empty(), "null is absent");
    only(
        &version(json!(1.2)),
        "steps[0].params.chart_version",
        "a text, found the number 1.2",
    );
    let missing = check_steps(json!([{"id": "a", "action": "helm_deploy", "params": {"cluster_id": "c"}}]));
    only(&missing, "steps[0].params.chart_ref", "chart_ref is required");
    let blocked = check_steps(json!([{"id": "a", "action": "deployment_create", "params": {
        "cluster_id": "c", "component_name": "llm", "component_type": "llm", "selected_component": "x",
        "deployment_id": "d", "user_id": "u", "values": {"pods": [{"hostPID": "true"}]}}}]));
    only(
        &blocked,
        "steps[0].params.values.pods[0].hostPID",
        "Blocked security key",
    );
}

#[test]
fn a_step_whose_limit_is_its_releases_timeout_has_at_most_a_day() {
    let deploy = |seconds: u64, timeout: Value| {
        check_steps(
            json!([{"id": "a", "action": "helm_deploy", "timeout_seconds": seconds, "params": {
            "cluster_id": "c", "chart_ref": "charts/x", "timeout": timeout}}]),
        )
    };
    only(&deploy(86_401, json!(null)), "steps[0].timeout_seconds", "86400");
    assert!(deploy(86_400, json!(null)).is_empty());
    // Its release is given no longer than that, whatever comes before and after.
    assert!(deploy(172_800, json!("10m")).is_empty());
}

#[test]
fn expressions_read_what_is_there() {
    let read = |text: &str| {
        check_steps(json!([
            {"id": "made", "action": "pass", "params": {"own": 1}},
            {"id": "sent", "action": "notification", "params": {"message": "m"},
             "outputs": {"extra": {"from": "ingress"}}},
            {"id": "reader", "action": "pass", "params": {"v": {"deep": [text]}}},
        ]))
    };
    for right in [
        "{{ steps.made.outputs.own }}",
        "{{ steps.deploy_made.outputs.own }}",
        "{{ steps.sent.outputs.channel }}{{ steps.sent.outputs.extra }}",
        "{{ parameters.region }} {{ parameters.other | default('x') }}",
        "{{ deployment.name | default('none') }}",
        "{{ secrets.token }}",
    ] {
        assert_eq!(print(&read(right)), "", "{right}");
    }
    for (wrong, words) in [
        ("{{ steps.maed.outputs.own }}", "did you mean 'made'?"),
        (
            "{{ steps.nothing_like_it.outputs.own | default(1) }}",
            "no step 'nothing_like_it'",
        ),
        ("{{ steps.made.outputs.other }}", "no output 'other'"),
        ("{{ steps.sent.outputs.message }}", "no output 'message'"),
        ("{{ parameters.reigon }}", "did you mean 'region'?"),
        ("{{ deployment.name }}", "planned for a deployment"),
        ("{{ selections.llm }}", "selections"),
        ("{{ steps.made", "does not end"),
    ] {
        only(&read(wrong), "steps[2].params.v.deep[0]", words);
    }
}

/// What an action says itself, and where it resolves secrets.
struct Outspoken;

impl ActionCatalog for Outspoken {
    fn action(&self, name: &str) -> Option<&ActionMetadata> {
        ACTIONS.iter().find(|action| action.action_type == name)
    }

    fn names(&self) -> Vec<&str> {
        vec!["wait"]
    }

    fn faults(&self, name: &str, _params: &JsonMap) -> Option<Vec<FieldError>> {
        (name == "wait").then(|| vec![FieldError::new("seconds", "too soon")])
    }

    fn resolves_secrets(&self, _name: &str, parameter: &str) -> bool {
        parameter == "values"
    }
}

#[test]
fn an_action_has_its_own_say() {
    let errors = dag::check(
        json!({"name": "x", "callback_topics": [], "steps": [
            {"id": "a", "action": "wait", "params": {"seconds": "never"}},
            {"id": "b", "action": "pass", "params": {"shown": "{{ secrets.x }}", "values": "{{ secrets.x }}"}},
        ]}),
        &Outspoken,
        &[],
    )
    .unwrap_err();
    assert_eq!(errors.len(), 2, "{}", print(&errors));
    assert_eq!(errors[0], FieldError::new("steps[0].params.seconds", "too soon"));
    assert_eq!(errors[1].path, "steps[1].params.shown");
}

#[test]
fn outputs_of_the_execution_hold_no_secrets() {
    let errors = check(json!({
        "name": "x", "steps": [{"id": "a", "action": "pass"}], "outputs": {"leak": ["{{ secrets.token }}"]},
    }))
    .unwrap_err();
    only(&errors, "outputs.leak[0]", "secrets");
}

#[test]
fn what_may_be_skipped_needs_a_default() {
    for condition in [
        json!({"when": "parameters.region == 'eu'"}),
        json!({"run": "failure"}),
    ] {
        let steps = |text: &str| {
            let mut steps = json!([
                {"id": "a", "action": "pass", "params": {"x": 1}},
                {"id": "b", "action": "pass", "params": {"v": text}},
            ]);
            for (key, value) in condition.as_object().unwrap() {
                steps[0][key] = value.clone();
            }
            check_steps(steps)
        };
        only(
            &steps("{{ steps.a.outputs.x }}"),
            "steps[1].params.v",
            "may be skipped",
        );
        assert_eq!(print(&steps("{{ steps.a.outputs.x | default(0) }}")), "");
    }
    let errors = check_steps(json!([{"id": "a", "action": "pass", "when": "selections.x == 'y'"}]));
    only(&errors, "steps[0].when", "selections");
}

#[test]
fn what_runs_after_a_failure_says_what_to_take_for_outputs_that_there_may_not_be() {
    for run in ["failure", "always"] {
        let steps = |text: &str| {
            check_steps(json!([
                {"id": "a", "action": "pass", "params": {"x": 1}},
                {"id": "b", "action": "pass", "run": run, "params": {"v": text}},
            ]))
        };
        only(
            &steps("{{ steps.a.outputs.x }}"),
            "steps[1].params.v",
            &format!("may have failed where this one runs, by its own `run: {run}`"),
        );
        assert_eq!(print(&steps("{{ steps.a.outputs.x | default(0) }}")), "");
    }
}

#[test]
fn a_cycle_is_found_over_dependencies_and_reads() {
    let errors = check_steps(json!([
        {"id": "a", "action": "pass", "depends_on": ["c"], "params": {"x": 1}},
        {"id": "b", "action": "pass", "params": {"x": "{{ steps.a.outputs.x }}"}},
        {"id": "c", "action": "pass", "depends_on": ["b"]},
    ]));
    only(&errors, "steps", "a → b → c → a");
    let errors = check_steps(json!([{"id": "a", "action": "pass", "depends_on": ["a"]}]));
    only(&errors, "steps", "a → a");
}

#[test]
fn size_is_limited_and_large_dags_are_quick() {
    let steps = |count: usize| -> Value {
        (0..count)
            .map(|index| match index {
                0 => json!({"id": "s0", "action": "pass", "params": {"x": 1}}),
                _ => json!({"id": format!("s{index}"), "action": "pass", "depends_on": [format!("s{}", index / 2)],
                            "params": {"x": format!("{{{{ steps.s{}.outputs.x }}}}", index - 1)}}),
            })
            .collect()
    };
    let start = Instant::now();
    assert_eq!(print(&check_steps(steps(10_000))), "");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "took {:?}",
        start.elapsed()
    );
    only(&check_steps(steps(10_001)), "steps", "10001");
    only(&check_steps(json!([])), "steps", "at least one");
}

#[test]
fn whatever_the_shape_there_is_an_answer() {
    for value in [
        json!(null),
        json!([1, 2]),
        json!("text"),
        json!({"steps": {"a": 1}}),
        json!({"name": 1, "steps": [1, null, [], "x", {"id": null, "action": {}, "params": [], "depends_on": "x"}]}),
        json!({"name": "x", "steps": [{"id": "a", "action": "pass"}], "outputs": null, "callback_topics": null}),
    ] {
        if let Err(errors) = check(value) {
            assert!(errors.iter().all(|error| !error.message.is_empty()));
        }
    }
}

#[test]
fn hostile_sizes_are_answered_in_time() {
    let timed = |what: &str, value: Value| {
        let start = Instant::now();
        let errors = check(value).unwrap_err();
        assert!(errors.len() <= 201, "{what}: {} errors", errors.len());
        let size: usize = errors
            .iter()
            .map(|error| error.path.len() + error.message.len())
            .sum();
        assert!(size < 1 << 20, "{what}: {size} bytes of errors");
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{what} took {:?}",
            start.elapsed()
        );
        errors
    };
    let steps: Vec<Value> = (0..10_000)
        .map(|index| {
            json!({"id": format!("a_rather_long_step_name_{index}"), "action": "pass",
                            "depends_on": [format!("a_rather_lung_step_nome_{index}")]})
        })
        .collect();
    let errors = timed("wrong names", json!({"name": "x", "steps": steps}));
    assert!(errors.last().unwrap().message.contains("first 200"));
    let fields: Vec<Value> = vec![json!({"idd": 1, "actoin": 2}); 30_000];
    timed("wrong fields", json!({"name": "x", "steps": fields}));
    timed(
        "a long name",
        json!({"name": "x", "steps": [{"id": "a", "action": "p".repeat(1 << 20)}]}),
    );
    let key = "k".repeat(1 << 20);
    timed(
        "a long key",
        json!({"name": "x", "steps": [{"id": "a", "action": "pass", "params": {key: 1}}]}),
    );
    let mut nested = json!(vec!["{{ steps.nobody.outputs.x }}"; 20_000]);
    for _ in 0..58 {
        nested = json!({"k".repeat(1000): nested});
    }
    timed(
        "long places",
        json!({"name": "x", "steps": [{"id": "a", "action": "pass", "params": {"v": nested}}]}),
    );
    let again = vec!["a"; 200_000];
    timed(
        "one dependency very often",
        json!({"name": "x", "steps": [{"id": "b", "action": "pass", "depends_on": again}]}),
    );
}
