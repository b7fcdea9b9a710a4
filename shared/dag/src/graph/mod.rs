//! Questions about a DAG's graph, and pictures of it.

mod svg;
mod text;

use std::collections::HashSet;

use slipway_model::{Dag, DagStep};

pub use svg::to_svg;
pub use text::{to_dot, to_mermaid};

use crate::compile::edges_of;

/// A step's place among the others, and what leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Vertex {
    /// The longest way from a step without dependencies, in edges.
    level: usize,
    /// Steps in `depends_on`.
    depends_on: Vec<usize>,
    /// Steps that only its expressions name.
    reads: Vec<usize>,
}

/// One vertex per step, and a topological order. What does not exist is left out, and steps that wait for each
/// other stand side by side, so that a DAG which is wrong can be looked at too.
fn vertices(dag: &Dag) -> (Vec<Vertex>, Vec<usize>) {
    let graph = edges_of(dag);
    let mut vertices: Vec<Vertex> = dag
        .steps
        .iter()
        .enumerate()
        .map(|(index, step)| {
            let named: HashSet<&str> = step.depends_on.iter().map(String::as_str).collect();
            let (depends_on, reads) = graph.predecessors()[index]
                .iter()
                .partition(|&&before| named.contains(dag.steps[before].id.as_str()));
            Vertex {
                level: 0,
                depends_on,
                reads,
            }
        })
        .collect();
    let order = graph.order().unwrap_or_default();
    for &index in &order {
        vertices[index].level = graph.predecessors()[index]
            .iter()
            .map(|&before| vertices[before].level + 1)
            .max()
            .unwrap_or(0);
    }
    (vertices, order)
}

/// The steps by level: each step stands in the first level in which everything before it is in earlier ones. Empty
/// if steps wait for each other.
pub fn levels(dag: &Dag) -> Vec<Vec<&str>> {
    let (vertices, order) = vertices(dag);
    let mut levels: Vec<Vec<&str>> = Vec::new();
    for index in order {
        let level = vertices[index].level;
        if levels.len() <= level {
            levels.resize(level + 1, Vec::new());
        }
        levels[level].push(&dag.steps[index].id);
    }
    levels
}

/// The longest way through the DAG when each step takes `duration` of it, first step first, and its length: no
/// execution can be faster, however many steps run side by side. Empty if steps wait for each other.
pub fn critical_path(dag: &Dag, duration: impl Fn(&DagStep) -> u64) -> (Vec<&str>, u64) {
    let (vertices, order) = vertices(dag);
    // For each step: when it ends at the earliest, and what it waited for last.
    let mut ends: Vec<(u64, Option<usize>)> = vec![(0, None); dag.steps.len()];
    for &index in &order {
        let vertex = &vertices[index];
        let last = vertex
            .depends_on
            .iter()
            .chain(&vertex.reads)
            .copied()
            .max_by_key(|&before| (ends[before].0, std::cmp::Reverse(before)));
        let start = last.map_or(0, |before| ends[before].0);
        ends[index] = (start.saturating_add(duration(&dag.steps[index])), last);
    }
    let mut path = Vec::new();
    let mut at = order
        .iter()
        .copied()
        .max_by_key(|&index| (ends[index].0, std::cmp::Reverse(index)));
    let length = at.map_or(0, |index| ends[index].0);
    while let Some(index) = at {
        path.push(dag.steps[index].id.as_str());
        at = ends[index].1;
    }
    path.reverse();
    (path, length)
}
