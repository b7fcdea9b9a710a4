//! What compiled plans are made of, on DAGs drawn by a generator that gives the same ones every time.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipway_dag::{Plan, compile};
use slipway_model::{CHUNK_SIZE, Dag, MAX_FAN_IN, MAX_FAN_OUT, NodeKind};

fn dag(steps: impl Into<Value>) -> Dag {
    let steps: Value = steps.into();
    serde_json::from_value(json!({"name": "test", "steps": steps})).unwrap()
}

fn ids(plan: &Plan) -> Vec<&str> {
    plan.nodes.iter().map(|node| node.id.as_str()).collect()
}

/// A linear congruential generator: enough to vary shapes, and the same everywhere.
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

/// A DAG of up to 200 steps in shuffled document order, and the edges that it must have.
fn random_dag(seed: u64) -> (Dag, Vec<(String, String)>) {
    let mut draw = Draw(seed);
    let count = 1 + draw.below(200);
    let density = 1 + draw.below(60);
    let mut edges = Vec::new();
    let mut steps = Vec::new();
    for index in 0..count {
        let mut depends_on = Vec::new();
        let mut params = serde_json::Map::new();
        for _ in 0..draw.below(density) {
            if index == 0 {
                break;
            }
            let before = format!("s{}", draw.below(index));
            edges.push((before.clone(), format!("s{index}")));
            if draw.below(3) == 0 {
                let key = format!("p{}", params.len());
                params.insert(
                    key,
                    json!({"deep": [format!("x {{{{ steps.{before}.outputs.y }}}}")]}),
                );
            } else if !depends_on.contains(&before) {
                depends_on.push(before);
            }
        }
        steps.push(
            json!({"id": format!("s{index}"), "action": "pass", "depends_on": depends_on, "params": params}),
        );
    }
    for index in (1..steps.len()).rev() {
        steps.swap(index, draw.below(index + 1));
    }
    (dag(Value::Array(steps)), edges)
}

fn assert_invariants(plan: &Plan, dag: &Dag, edges: &[(String, String)]) {
    let nodes = &plan.nodes;
    let mut successors_seen = 0;
    for (index, node) in nodes.iter().enumerate() {
        assert_eq!(node.ordinal as usize, index);
        assert!(node.dependencies.len() <= MAX_FAN_IN);
        assert!(node.successors.len() <= MAX_FAN_OUT);
        for (slot, &before) in node.dependencies.iter().enumerate() {
            assert!(before < node.ordinal, "{} comes before {}", node.id, before);
            assert!(
                !node.dependencies[..slot].contains(&before),
                "a dependency stands once"
            );
            let back: Vec<_> = nodes[before as usize]
                .successors
                .iter()
                .filter(|successor| successor.ordinal == node.ordinal)
                .collect();
            assert_eq!(back.len(), 1);
            assert_eq!(usize::from(back[0].slot), slot);
            assert_eq!(usize::from(back[0].of), node.dependencies.len());
        }
        successors_seen += node.successors.len();
        assert_eq!(node.kind == NodeKind::Step, !node.id.contains('~'));
        assert_eq!(node.kind == NodeKind::End, index + 1 == nodes.len());
        if node.kind == NodeKind::Join {
            assert!(
                node.dependencies.len() > 1,
                "a join of one would be a step for nothing"
            );
        }
        if node.kind == NodeKind::Fork {
            let [before] = node.dependencies[..] else {
                panic!("{} follows {:?}", node.id, node.dependencies);
            };
            let before = nodes[before as usize].kind;
            assert!(matches!(before, NodeKind::Step | NodeKind::Fork), "{before:?}");
        }
        assert!(
            node.kind == NodeKind::End || !node.successors.is_empty(),
            "{} leads to the end",
            node.id
        );
    }
    let dependencies: usize = nodes.iter().map(|node| node.dependencies.len()).sum();
    assert_eq!(successors_seen, dependencies);
    let ordinals: HashMap<&str, usize> = nodes
        .iter()
        .map(|node| (node.id.as_str(), node.ordinal as usize))
        .collect();
    assert_eq!(ordinals.len(), nodes.len(), "ids are unique");
    assert_eq!(plan.step_count(), dag.steps.len());

    // Each wanted edge is there, directly or through joins and forks only, and no step waits for more than it should.
    let mut wanted: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (before, after) in edges {
        wanted
            .entry(ordinals[after.as_str()])
            .or_default()
            .push(ordinals[before.as_str()]);
    }
    for node in nodes.iter().filter(|node| node.kind == NodeKind::Step) {
        let mut through = Vec::new();
        let mut open: Vec<usize> = node.dependencies.iter().map(|&before| before as usize).collect();
        while let Some(before) = open.pop() {
            if matches!(nodes[before].kind, NodeKind::Join | NodeKind::Fork) {
                open.extend(nodes[before].dependencies.iter().map(|&next| next as usize));
            } else {
                through.push(before);
            }
        }
        through.sort_unstable();
        let mut expected = wanted.remove(&(node.ordinal as usize)).unwrap_or_default();
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(through, expected, "{}", node.id);
    }
}

#[test]
fn random_dags_keep_the_invariants() {
    for seed in 0..80 {
        let (dag, edges) = random_dag(seed);
        let plan = compile(&dag).unwrap();
        assert_invariants(&plan, &dag, &edges);
        assert_eq!(plan, compile(&dag).unwrap(), "the same DAG gives the same plan");
    }
}

#[test]
fn a_read_is_an_edge_and_the_old_alias_is_understood() {
    let plan = compile(&dag(json!([
        {"id": "agent", "action": "pass", "params": {"url": "{{ steps.deploy_llm.outputs.url }}/v1"}},
        {"id": "llm", "action": "pass"},
    ])))
    .unwrap();
    assert_eq!(ids(&plan), ["llm", "agent", "~end"]);
    assert_eq!(plan.nodes[1].dependencies, [0]);
    assert_eq!(
        plan.nodes[1].reads,
        BTreeMap::from([("deploy_llm".to_owned(), 0)])
    );
}

#[test]
fn outputs_of_the_dag_name_the_steps_they_read() {
    let mut dag = dag(json!([{"id": "b", "action": "pass"}, {"id": "a", "action": "pass"}]));
    dag.outputs.insert(
        "all".to_owned(),
        json!(["{{ steps.a.outputs.x }}{{ steps.b.outputs.x }}"]),
    );
    let plan = compile(&dag).unwrap();
    assert_eq!(
        plan.output_reads,
        BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 0)])
    );
}

#[test]
fn what_cannot_be_ordered_is_refused_with_all_reasons() {
    let errors = compile(&dag(json!([
        {"id": "a", "action": "pass", "depends_on": ["nobody"]},
        {"id": "a", "action": "pass", "params": {"v": ["{{ steps.none.outputs.x }}", "{{ steps. }}"]}},
        {"id": "c", "action": "pass", "params": {"v": "{{ steps.none.outputs.x | default('') }}"}},
    ])))
    .unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "steps[1].id",
            "steps[0].depends_on[0]",
            "steps[1].params.v[0]",
            "steps[1].params.v[1]"
        ]
    );
}

#[test]
fn a_cycle_is_printed_as_a_path() {
    let errors = compile(&dag(json!([
        {"id": "a", "action": "pass", "depends_on": ["b"]},
        {"id": "b", "action": "pass", "params": {"v": "{{ steps.a.outputs.x }}"}},
    ])))
    .unwrap_err();
    assert!(errors[0].message.contains("a → b → a"), "{}", errors[0]);
}

fn timed(dag: &Dag) -> Plan {
    let start = Instant::now();
    let plan = compile(dag).unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "took {:?}",
        start.elapsed()
    );
    plan
}

#[test]
fn ten_thousand_steps_in_a_chain_and_side_by_side() {
    let chain: Vec<Value> = (0..10_000)
        .map(|index| match index {
            0 => json!({"id": "s0", "action": "pass"}),
            _ => json!({"id": format!("s{index}"), "action": "pass", "depends_on": [format!("s{}", index - 1)]}),
        })
        .collect();
    let plan = timed(&dag(chain));
    assert_eq!(plan.nodes.len(), 10_001);
    let chunks = plan.clone().into_chunks();
    assert_eq!(chunks.len(), 157);
    assert!(chunks.iter().flat_map(|chunk| &chunk.nodes).eq(&plan.nodes));
    assert_eq!(
        chunks[3].nodes[5].ordinal,
        3 * CHUNK_SIZE + 5,
        "a node's chunk follows from its ordinal"
    );

    let mut fan: Vec<Value> = vec![json!({"id": "start", "action": "pass"})];
    fan.extend((0..9_998).map(|index| {
        json!({"id": format!("s{index}"), "action": "pass", "params": {"v": "{{ steps.start.outputs.v }}"}})
    }));
    let all: Vec<String> = (0..9_998).map(|index| format!("s{index}")).collect();
    fan.push(json!({"id": "stop", "action": "pass", "depends_on": all}));
    let plan = timed(&dag(Value::Array(fan)));
    // 9,998 successors: 3 forks, under them 157. 9,998 dependencies: 313 joins, over them 10, over them the step.
    assert_eq!(plan.nodes.len(), 10_000 + 3 + 157 + 313 + 10 + 1);
    let start = &plan.nodes[0];
    assert_eq!((start.id.as_str(), start.successors.len()), ("start", 3));
    let stop = &plan.nodes[plan.nodes.len() - 2];
    assert_eq!((stop.id.as_str(), stop.dependencies.len()), ("stop", 10));
}

#[test]
fn steps_that_lead_to_many_and_wait_for_many_keep_the_invariants() {
    for (starts, ends) in [(1, 64), (1, 65), (3, 200), (70, 70), (2, 4097)] {
        let mut steps: Vec<Value> = (0..starts)
            .map(|index| json!({"id": format!("a{index}"), "action": "pass"}))
            .collect();
        let all: Vec<String> = (0..starts).map(|index| format!("a{index}")).collect();
        let mut edges = Vec::new();
        for index in 0..ends {
            let id = format!("b{index}");
            edges.extend(all.iter().map(|before| (before.clone(), id.clone())));
            steps.push(json!({"id": id, "action": "pass", "depends_on": all}));
        }
        let dag = dag(Value::Array(steps));
        assert_invariants(&compile(&dag).unwrap(), &dag, &edges);
    }
}

#[test]
fn no_shape_makes_a_chunk_too_large_for_an_item() {
    // Every step of one layer leads to every step of the next, with the longest ids: more edges in one chunk than any
    // other DAG of 4 MiB has.
    let id = |layer: usize, index: usize| format!("s{layer:0>63}{index:0>64}");
    let mut steps = Vec::new();
    for layer in 0..3 {
        for index in 0..64 {
            let before: Vec<String> = match layer {
                0 => Vec::new(),
                _ => (0..64).map(|index| id(layer - 1, index)).collect(),
            };
            steps.push(json!({"id": id(layer, index), "action": "pass", "depends_on": before}));
        }
    }
    let mut wide = vec![json!({"id": "start", "action": "pass"})];
    wide.extend(
        (1..10_000)
            .map(|index| json!({"id": format!("s{index}"), "action": "pass", "depends_on": ["start"]})),
    );
    for dag in [dag(Value::Array(steps)), dag(Value::Array(wide))] {
        let mut plan = compile(&dag).unwrap();
        for node in &mut plan.nodes {
            for successor in &mut node.successors {
                successor.effect = true;
            }
        }
        let largest = plan.into_chunks().iter().map(slipway_model::json_size).max();
        assert!(largest.unwrap() < 300 * 1024, "{largest:?} bytes");
    }
}

#[test]
fn a_limit_is_taken_from_a_timeout_where_a_step_names_none() {
    let limit = |action: &str, timeout: Value, seconds: Value| {
        let step =
            json!({"id": "a", "action": action, "timeout_seconds": seconds, "params": {"timeout": timeout}});
        compile(&dag(json!([step]))).unwrap().nodes[0].timeout_seconds
    };
    for (timeout, test, deploy) in [
        (json!("5m"), Some(300), None),
        (json!("1h"), Some(3600), Some(7200)),
        (json!("2h"), Some(7200), Some(10_800)),
        (json!("{{ parameters.timeout }}"), None, None),
        (json!(null), None, None),
    ] {
        assert_eq!(
            limit("helm_test", timeout.clone(), json!(null)),
            test,
            "{timeout}"
        );
        assert_eq!(
            limit("helm_deploy", timeout.clone(), json!(null)),
            deploy,
            "{timeout}"
        );
        assert_eq!(limit("helm_test", timeout, json!(60)), Some(60));
    }
    assert_eq!(limit("pass", json!("2h"), json!(null)), None);
}
