//! The transitive reduction of a graph, of which some nodes are left out.

use crate::topology::Topology;

/// A set of node numbers.
#[derive(Debug, Clone)]
struct NodeSet(Vec<u64>);

impl NodeSet {
    fn new(nodes: usize) -> Self {
        Self(vec![0; nodes.div_ceil(64)])
    }

    fn insert(&mut self, node: usize) {
        self.0[node / 64] |= 1 << (node % 64);
    }

    fn contains(&self, node: usize) -> bool {
        self.0[node / 64] >> (node % 64) & 1 == 1
    }

    fn union(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }
}

/// For each node that is `kept`, the kept nodes that come directly before it: those before it that are not before
/// another one of them. What comes before a node that is left out still comes before what comes after it. `order`
/// is topological.
pub(super) fn reduce(graph: &Topology, order: &[usize], kept: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
    let count = order.len();
    let mut before = vec![NodeSet::new(count); count];
    let mut direct = vec![Vec::new(); count];
    for (position, &node) in order.iter().enumerate() {
        let mut ancestors = NodeSet::new(count);
        for &predecessor in &graph.predecessors()[node] {
            ancestors.insert(predecessor);
            ancestors.union(&before[predecessor]);
        }
        if kept(node) {
            // From the latest back: whatever an earlier ancestor is before of has been seen by then.
            let mut covered = NodeSet::new(count);
            for &ancestor in order[..position].iter().rev() {
                if ancestors.contains(ancestor) && kept(ancestor) && !covered.contains(ancestor) {
                    direct[node].push(ancestor);
                    covered.union(&before[ancestor]);
                }
            }
            direct[node].sort_unstable();
        }
        before[node] = ancestors;
    }
    direct
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn implied_edges_go_and_left_out_nodes_pass_on() {
        let mut graph = Topology::new(5);
        for (before, after) in [(0, 1), (1, 2), (0, 2), (2, 3), (1, 4), (0, 4)] {
            graph.add(before, after);
        }
        let order = graph.order().unwrap();
        let all = reduce(&graph, &order, |_| true);
        assert_eq!(all, [vec![], vec![0], vec![1], vec![2], vec![1]]);
        let some = reduce(&graph, &order, |node| node != 1 && node != 2);
        assert_eq!(some, [vec![], vec![], vec![], vec![0], vec![0]]);
    }
}
