//! Whatever is accepted can be planned and compiled, and whatever is not gets reasons: over documents that a
//! generator spoils in the same way every time.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use serde_json::{Value, json};
use slipway_dag::{compile, dag, parameters, template};
use slipway_model::{ActionMetadata, JsonMap};
use support::{Choices, catalog, print, read};

struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// What is put somewhere: of every type, and words that mean something.
fn foreign(draw: &mut Draw) -> Value {
    let words = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!([]),
        json!({}),
        json!([[]]),
        json!(""),
        json!("llm"),
        json!("vector_db"),
        json!("agent_runtime"),
        json!("qdrant"),
        json!("helm"),
        json!("model"),
        json!("1.0.0"),
        json!("charts/x"),
        json!("{{ steps.llm.outputs.endpoint_url }}"),
        json!("{{ steps.agent_runtime.outputs.status | default('x') }}"),
        json!("{{ parameters.chunk_size }}"),
        json!("{{ broken"),
        json!(["llm"]),
        json!(["agent_runtime", "vector_db"]),
        json!({"ref": "charts/x"}),
        json!({"type": "integer", "default": 3}),
        json!("parameters.chunk_size > 1"),
        json!("selections.llm == 'mistral-7b'"),
    ];
    words[draw.below(words.len())].clone()
}

/// Keys that may be added to an object.
const KEYS: [&str; 14] = [
    "when",
    "depends_on",
    "test",
    "required",
    "outputs",
    "chart",
    "cluster",
    "timeout_seconds",
    "retry",
    "name",
    "default_component",
    "compatible_components",
    "settings",
    "run",
];

/// Changes one place of `value`: replaces, removes, adds or doubles something.
fn spoil(value: &mut Value, draw: &mut Draw) {
    let deeper = draw.below(4) > 0;
    match value {
        Value::Object(members) if deeper && !members.is_empty() => {
            let key = members.keys().nth(draw.below(members.len())).unwrap().clone();
            match draw.below(12) {
                0 => {
                    members.remove(&key);
                }
                1 => {
                    members.insert(KEYS[draw.below(KEYS.len())].to_owned(), foreign(draw));
                }
                _ => spoil(members.get_mut(&key).unwrap(), draw),
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let index = draw.below(items.len());
            match draw.below(12) {
                0 => {
                    items.remove(index);
                }
                1 => {
                    let item = items[index].clone();
                    items.push(item);
                }
                2 => {
                    let other = draw.below(items.len());
                    items.swap(index, other);
                }
                _ => spoil(&mut items[index], draw),
            }
        }
        _ => *value = foreign(draw),
    }
}

#[test]
fn a_template_that_is_accepted_can_be_deployed() {
    let original = read("tests/fixtures/agent-rag.yaml");
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..2500 {
        let mut draw = Draw(seed);
        let mut value = original.clone();
        for _ in 0..=draw.below(3) {
            spoil(&mut value, &mut draw);
        }
        match template::check(value.clone(), &catalog()) {
            Err(errors) => {
                assert!(!errors.is_empty(), "{value}");
                assert!(errors.iter().all(|error| !error.message.is_empty()), "{value}");
                refused += 1;
            }
            Ok(template) => {
                accepted += 1;
                let again = serde_json::to_value(&template).unwrap();
                assert_eq!(
                    template::check(again, &catalog()).unwrap(),
                    template,
                    "what is kept stays right"
                );
                let Ok(checked) = parameters::check(&template, &JsonMap::new()) else {
                    continue;
                };
                let choices = Choices {
                    parameters: checked.parameters,
                    ..Choices::default()
                };
                match choices.plan(&template) {
                    Ok(dag) => assert!(compile(&dag).is_ok(), "{value}"),
                    // What only the choices decide: a slot to fill, a value to give.
                    Err(errors) => assert!(
                        errors.iter().all(|error| error.path.starts_with("parameters.")
                            || error.message.starts_with("No component selected")),
                        "{}\n{value}",
                        print(&errors)
                    ),
                }
            }
        }
    }
    assert!(
        accepted > 100 && refused > 100,
        "{accepted} accepted, {refused} refused"
    );
}

/// Knows every action, and nothing of them.
struct AnyAction(ActionMetadata);

impl dag::ActionCatalog for AnyAction {
    fn action(&self, _name: &str) -> Option<&ActionMetadata> {
        Some(&self.0)
    }

    fn names(&self) -> Vec<&str> {
        Vec::new()
    }
}

#[test]
fn a_dag_that_is_accepted_can_be_compiled() {
    let original = read("tests/fixtures/agent-rag.document.json");
    let action = AnyAction(ActionMetadata {
        action_type: "any",
        version: "1.0.0",
        name: "Any",
        category: "Test",
        icon: "box",
        color: "#000000",
        description: "",
        execution_mode: slipway_model::ExecutionMode::Sync,
        timeout_seconds: 60,
        idempotent: true,
        effect: slipway_model::EffectClass::Pure,
        required_services: &[],
        required_permissions: &[],
        params: &[],
        outputs: &[],
    });
    let mut original = original;
    original["steps"][1]["params"]["endpoint_url"] = json!("x");
    original["steps"][2]["params"]["endpoint_url"] = json!("y");
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..2500 {
        let mut draw = Draw(seed);
        let mut value = original.clone();
        for _ in 0..=draw.below(3) {
            spoil(&mut value, &mut draw);
        }
        match dag::check(value.clone(), &action, &["budusecasesEvents"]) {
            Err(errors) => {
                assert!(!errors.is_empty(), "{value}");
                refused += 1;
            }
            Ok(dag) => {
                let plan = compile(&dag).unwrap_or_else(|errors| panic!("{}\n{value}", print(&errors)));
                assert_eq!(plan.step_count(), dag.steps.len());
                accepted += 1;
            }
        }
    }
    assert!(
        accepted > 100 && refused > 100,
        "{accepted} accepted, {refused} refused"
    );
}
