//! Where the steps of a DAG stand: in layers, each after everything that it depends on.

use std::collections::HashMap;

use slipway_model::Dag;

/// The steps, as indexes into the DAG's list, layer by layer, top to bottom in each.
pub(super) struct Layout {
    pub(super) layers: Vec<Vec<usize>>,
    /// From, to.
    pub(super) edges: Vec<(usize, usize)>,
}

/// Times that each layer is ordered again by where its neighbours stand.
const SWEEPS: usize = 4;

pub(super) fn layout(dag: &Dag) -> Layout {
    let index: HashMap<&str, usize> = dag
        .steps
        .iter()
        .enumerate()
        .map(|(index, step)| (step.id.as_str(), index))
        .collect();
    let edges: Vec<(usize, usize)> = dag
        .steps
        .iter()
        .enumerate()
        .flat_map(|(to, step)| step.depends_on.iter().map(move |id| (id, to)))
        .filter_map(|(id, to)| Some((*index.get(id.as_str())?, to)))
        .collect();
    let layer = layers_of(dag.steps.len(), &edges);
    let mut layers = vec![Vec::new(); layer.iter().max().map_or(0, |last| last + 1)];
    for (step, layer) in layer.iter().enumerate() {
        layers[*layer].push(step);
    }
    order(&mut layers, &edges, dag.steps.len());
    Layout { layers, edges }
}

/// The length of the longest path to each step (Kahn's order).
fn layers_of(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut after = vec![Vec::new(); count];
    let mut open = vec![0_usize; count];
    for &(from, to) in edges {
        after[from].push(to);
        open[to] += 1;
    }
    let mut ready: Vec<usize> = (0..count).filter(|step| open[*step] == 0).collect();
    let mut layer = vec![0; count];
    while let Some(step) = ready.pop() {
        for &next in &after[step] {
            layer[next] = layer[next].max(layer[step] + 1);
            open[next] -= 1;
            if open[next] == 0 {
                ready.push(next);
            }
        }
    }
    layer
}

/// Puts each step near the middle of its neighbours in the layers beside it, so that few edges cross.
fn order(layers: &mut [Vec<usize>], edges: &[(usize, usize)], count: usize) {
    let mut before = vec![Vec::new(); count];
    let mut after = vec![Vec::new(); count];
    for &(from, to) in edges {
        before[to].push(from);
        after[from].push(to);
    }
    let mut place = vec![0.0_f64; count];
    let settle = |layer: &mut Vec<usize>, neighbours: &[Vec<usize>], place: &mut [f64]| {
        let middle = |step: usize| {
            let near = &neighbours[step];
            if near.is_empty() {
                return place[step];
            }
            let sum: f64 = near.iter().map(|step| place[*step]).sum();
            sum / f64::from(u32::try_from(near.len()).unwrap_or(u32::MAX))
        };
        let mut wanted: Vec<(f64, usize)> = layer.iter().map(|step| (middle(*step), *step)).collect();
        wanted.sort_by(|a, b| a.0.total_cmp(&b.0));
        *layer = wanted.into_iter().map(|(_, step)| step).collect();
        spread(layer, place);
    };
    for layer in layers.iter() {
        spread(layer, &mut place);
    }
    for _ in 0..SWEEPS {
        for layer in layers.iter_mut() {
            settle(layer, &before, &mut place);
        }
        for layer in layers.iter_mut().rev() {
            settle(layer, &after, &mut place);
        }
    }
}

/// The places of a layer's steps, around 0.
fn spread(layer: &[usize], place: &mut [f64]) {
    let half = f64::from(u32::try_from(layer.len()).unwrap_or(u32::MAX) - 1) / 2.0;
    for (position, step) in layer.iter().enumerate() {
        place[*step] = f64::from(u32::try_from(position).unwrap_or(u32::MAX)) - half;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edge_leads_to_a_later_layer() {
        let layout = layout(&super::super::tests::diamond());
        let layer_of = |step: usize| {
            layout
                .layers
                .iter()
                .position(|layer| layer.contains(&step))
                .unwrap()
        };
        assert_eq!(layout.edges.len(), 4);
        for (from, to) in &layout.edges {
            assert!(layer_of(*from) < layer_of(*to));
        }
        assert_eq!(layout.layers.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 1]);
    }
}
