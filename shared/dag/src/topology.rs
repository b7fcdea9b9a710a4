//! Orders of a graph whose nodes are numbered from 0 in document order.

use std::{cmp::Reverse, collections::BinaryHeap};

/// A graph as the predecessors of each node; parallel edges are allowed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Topology {
    predecessors: Vec<Vec<usize>>,
}

impl Topology {
    /// `nodes` nodes without edges.
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            predecessors: vec![Vec::new(); nodes],
        }
    }

    /// The nodes directly before each node.
    pub(crate) fn predecessors(&self) -> &[Vec<usize>] {
        &self.predecessors
    }

    /// `before` comes before `after`.
    pub(crate) fn add(&mut self, before: usize, after: usize) {
        self.predecessors[after].push(before);
    }

    /// The topological order in which, of all nodes that could be next, the first of the document is.
    ///
    /// # Errors
    /// A cycle, each node before the next and the last before the first, starting with its first of the document.
    pub(crate) fn order(&self) -> Result<Vec<usize>, Vec<usize>> {
        let mut missing: Vec<usize> = self.predecessors.iter().map(Vec::len).collect();
        let mut successors = vec![Vec::new(); self.predecessors.len()];
        for (node, predecessors) in self.predecessors.iter().enumerate() {
            for &before in predecessors {
                successors[before].push(node);
            }
        }
        let mut ready: BinaryHeap<Reverse<usize>> = missing
            .iter()
            .enumerate()
            .filter(|(_, missing)| **missing == 0)
            .map(|(node, _)| Reverse(node))
            .collect();
        let mut order = Vec::with_capacity(self.predecessors.len());
        while let Some(Reverse(node)) = ready.pop() {
            order.push(node);
            for &after in &successors[node] {
                missing[after] -= 1;
                if missing[after] == 0 {
                    ready.push(Reverse(after));
                }
            }
        }
        if order.len() == self.predecessors.len() {
            Ok(order)
        } else {
            Err(self.cycle(&missing))
        }
    }

    /// A cycle among the nodes that still miss predecessors: from any of them, a predecessor that is missing
    /// something too can be followed for ever.
    fn cycle(&self, missing: &[usize]) -> Vec<usize> {
        let mut walk = Vec::new();
        let mut position = vec![None; missing.len()];
        let mut node = missing.iter().position(|missing| *missing > 0);
        while let Some(current) = node {
            if let Some(start) = position[current] {
                let mut cycle: Vec<usize> = walk.split_off(start);
                cycle.reverse();
                let first = (0..cycle.len()).min_by_key(|&index| cycle[index]).unwrap_or(0);
                cycle.rotate_left(first);
                return cycle;
            }
            position[current] = Some(walk.len());
            walk.push(current);
            node = self.predecessors[current]
                .iter()
                .copied()
                .find(|&before| missing[before] > 0);
        }
        Vec::new()
    }
}

/// `a → b → a` of the cycle `[a, b]`.
pub(crate) fn print_cycle<'n>(cycle: &[usize], name: impl Fn(usize) -> &'n str) -> String {
    cycle
        .iter()
        .chain(cycle.first())
        .map(|&node| name(node))
        .collect::<Vec<_>>()
        .join(" → ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(nodes: usize, edges: &[(usize, usize)]) -> Topology {
        let mut graph = Topology::new(nodes);
        for &(before, after) in edges {
            graph.add(before, after);
        }
        graph
    }

    #[test]
    fn document_order_is_kept_where_it_can_be() {
        assert_eq!(
            graph(5, &[(3, 0), (0, 1), (3, 1)]).order().unwrap(),
            [2, 3, 0, 1, 4]
        );
    }

    #[test]
    fn a_cycle_is_found_behind_its_tail() {
        // 0 → 1 → 2 → 3 → 1, and 3 → 4
        let cycle = graph(5, &[(0, 1), (1, 2), (2, 3), (3, 1), (3, 4)])
            .order()
            .unwrap_err();
        assert_eq!(cycle, [1, 2, 3]);
        assert_eq!(
            print_cycle(&cycle, |node| ["a", "b", "c", "d", "e"][node]),
            "b → c → d → b"
        );
        assert_eq!(graph(1, &[(0, 0)]).order().unwrap_err(), [0]);
    }
}
