//! Pictures of DAGs, and the longest way through them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipway_dag::graph::{critical_path, levels, to_dot, to_mermaid, to_svg};
use slipway_model::Dag;
use support::read;

fn dag(steps: impl Into<Value>) -> Dag {
    let steps: Value = steps.into();
    serde_json::from_value(json!({"name": "a \"quoted\" <name>", "steps": steps})).unwrap()
}

fn agent_rag() -> Dag {
    serde_json::from_value(read("tests/fixtures/agent-rag.document.json")).unwrap()
}

#[test]
fn steps_stand_in_levels() {
    assert_eq!(
        levels(&agent_rag()),
        [
            ["cluster_health"],
            ["vector_db"],
            ["llm"],
            ["agent_runtime"],
            ["notify_complete"]
        ]
    );
    let side_by_side = dag(json!([
        {"id": "d", "action": "x", "depends_on": ["b", "c"]}, {"id": "a", "action": "x"},
        {"id": "b", "action": "x", "depends_on": ["a"]}, {"id": "c", "action": "x", "depends_on": ["a"]},
    ]));
    assert_eq!(levels(&side_by_side), [vec!["a"], vec!["b", "c"], vec!["d"]]);
    let cycle = dag(json!([{"id": "a", "action": "x", "depends_on": ["a"]}]));
    assert!(levels(&cycle).is_empty());
}

#[test]
fn the_critical_path_is_the_longest() {
    let dag = dag(json!([
        {"id": "a", "action": "1"}, {"id": "long", "action": "9", "depends_on": ["a"]},
        {"id": "b", "action": "2", "depends_on": ["a"]},
        {"id": "c", "action": "3", "params": {"x": "{{ steps.b.outputs.y }}"}},
        {"id": "end", "action": "1", "depends_on": ["long", "c"]},
    ]));
    let (path, length) = critical_path(&dag, |step| step.action.parse().unwrap());
    assert_eq!((path, length), (vec!["a", "long", "end"], 11));
}

#[test]
fn pictures_show_every_step_and_edge() {
    let dag = agent_rag();
    let dot = to_dot(&dag);
    assert!(
        dot.contains("n3 [label=\"agent_runtime\\nhelm_deploy\"];"),
        "{dot}"
    );
    assert_eq!(dot.matches(" -> ").count(), 5);
    assert!(
        dot.contains("n1 -> n3 [style=dashed];"),
        "what only an expression reads: {dot}"
    );
    let mermaid = to_mermaid(&dag);
    assert!(mermaid.starts_with("flowchart TD\n"));
    assert_eq!(
        (mermaid.matches("-->").count(), mermaid.matches("-.->").count()),
        (4, 1)
    );
    let svg = to_svg(&dag);
    assert_eq!(svg.matches("<rect ").count(), 5);
    assert_eq!(svg.matches("<path class=\"edge").count(), 5);
    assert_eq!(svg.matches("<path class=\"edge read\"").count(), 1);
}

#[test]
fn hostile_names_stay_text() {
    let dag = dag(json!([{"id": "a\"]; x --> y", "action": "<script>alert('x')</script>\n\\"}]));
    let svg = to_svg(&dag);
    assert!(
        !svg.contains("<script>") && svg.contains("&lt;script&gt;"),
        "{svg}"
    );
    assert!(
        svg.contains("aria-label=\"a &quot;quoted&quot; &lt;name&gt;\""),
        "{svg}"
    );
    let mermaid = to_mermaid(&dag);
    assert!(
        !mermaid.contains("-->") && !mermaid.contains("<script"),
        "{mermaid}"
    );
    let dot = to_dot(&dag);
    assert!(
        dot.contains(r#"label="a\"]; x --> y\n<script>alert('x')</script> \\""#),
        "{dot}"
    );
}

#[test]
fn boxes_do_not_overlap_and_arrows_go_down() {
    let steps: Vec<Value> = (0..60)
        .map(|index: usize| {
            let before: Vec<String> = [index / 2, index / 3]
                .iter()
                .filter(|before| **before < index)
                .map(|before| format!("step_{before}"))
                .collect();
            json!({"id": format!("step_{index}"), "action": "pass", "depends_on": before})
        })
        .collect();
    let svg = to_svg(&dag(steps));
    let mut boxes: Vec<(f64, f64, f64)> = Vec::new();
    for rect in svg.split("<rect ").skip(1) {
        let number = |name: &str| -> f64 {
            let start = rect.find(&format!("{name}=\"")).unwrap() + name.len() + 2;
            rect[start..start + rect[start..].find('"').unwrap()]
                .parse()
                .unwrap()
        };
        boxes.push((number("y"), number("x"), number("width")));
    }
    assert_eq!(boxes.len(), 60);
    for (index, (y, x, width)) in boxes.iter().enumerate() {
        for (other_y, other_x, other_width) in &boxes[..index] {
            assert!(y != other_y || x + width <= *other_x || other_x + other_width <= *x);
        }
    }
}

#[test]
fn a_large_dag_is_drawn_in_time_and_a_wrong_one_too() {
    let steps: Vec<Value> = (0..10_000)
        .map(|index: usize| match index {
            0 => json!({"id": "s0", "action": "pass"}),
            _ => json!({"id": format!("s{index}"), "action": "pass", "depends_on": [format!("s{}", index - 1), "s0"]}),
        })
        .collect();
    let start = Instant::now();
    let svg = to_svg(&dag(steps));
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "took {:?}",
        start.elapsed()
    );
    assert_eq!(svg.matches("<rect ").count(), 10_000);
    let wrong = dag(
        json!([{"id": "a", "action": "x", "depends_on": ["b"]}, {"id": "b", "action": "x", "depends_on": ["a", "z"]}]),
    );
    assert_eq!(to_svg(&wrong).matches("<rect ").count(), 2);
    assert!(to_svg(&dag(json!([]))).ends_with("</svg>\n"));
}
