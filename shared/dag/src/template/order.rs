//! What comes before what.

use std::collections::{BTreeSet, HashMap};

use slipway_model::Template;

use crate::{
    faults::Faults,
    topology::{Topology, print_cycle},
};

/// Which components each component reads, as positions in the template.
#[derive(Debug, Default)]
pub(crate) struct ComponentReads(BTreeSet<(usize, usize)>);

impl ComponentReads {
    /// `after` reads an output of `before`.
    pub(crate) fn add(&mut self, before: usize, after: usize) {
        self.0.insert((before, after));
    }

    /// All pairs (before, after).
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        self.0.iter().copied()
    }
}

pub(super) fn check(template: &Template, reads: &ComponentReads, faults: &mut Faults) {
    if let Err(message) = in_order(template, reads) {
        faults.add("components", message);
    }
}

/// The edges that the template names: `depends_on`, and each entry of `deployment_order` after the one before.
/// Names that do not exist, and all but the first place of one that stands twice, are left out.
fn explicit_edges(template: &Template) -> Vec<(usize, usize)> {
    let positions: HashMap<&str, usize> = template
        .components
        .iter()
        .enumerate()
        .map(|(index, component)| (component.name.as_str(), index))
        .collect();
    let mut edges = Vec::new();
    for (after, component) in template.components.iter().enumerate() {
        edges.extend(
            component
                .depends_on
                .iter()
                .filter_map(|name| positions.get(name.as_str()))
                .map(|&before| (before, after)),
        );
    }
    let mut last: Vec<usize> = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in template.deployment_order.iter().flatten() {
        let next: Vec<usize> = entry
            .names()
            .iter()
            .filter_map(|name| positions.get(name.as_str()).copied())
            .filter(|&position| seen.insert(position))
            .collect();
        if next.is_empty() {
            continue;
        }
        for &before in &last {
            edges.extend(next.iter().map(|&after| (before, after)));
        }
        last = next;
    }
    edges
}

/// The components in topological order, those of the template first where there is a choice, with all edges.
///
/// # Errors
/// What to say of a cycle.
pub(crate) fn in_order(
    template: &Template,
    reads: &ComponentReads,
) -> Result<(Vec<usize>, Topology), String> {
    let mut graph = Topology::new(template.components.len());
    for (before, after) in explicit_edges(template).into_iter().chain(reads.pairs()) {
        graph.add(before, after);
    }
    match graph.order() {
        Ok(order) => Ok((order, graph)),
        Err(cycle) => Err(format!(
            "the components wait for each other: {}; remove one of these, from depends_on, deployment_order or the \
             expressions",
            print_cycle(&cycle, |index| template.components[index].name.as_str())
        )),
    }
}
