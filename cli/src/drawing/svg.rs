//! DAGs as pictures.

use std::fmt::Write as _;

use slipway_model::Dag;

use super::{escaped, layout::layout};

const BOX_HEIGHT: usize = 44;
const ROW: usize = 64;
const GAP: usize = 60;
const MARGIN: usize = 20;
/// Width of a character, about.
const CHARACTER: usize = 8;

/// As a picture that needs nothing else.
pub(crate) fn svg(dag: &Dag) -> String {
    let layout = layout(dag);
    let width_of = |step: usize| {
        let step = &dag.steps[step];
        step.id.chars().count().max(step.action.chars().count()) * CHARACTER + 24
    };
    let tallest = layout.layers.iter().map(Vec::len).max().unwrap_or(0);
    let height = tallest * ROW + 2 * MARGIN;
    // Left edge, top edge and width of each step's box.
    let mut boxes = vec![(0, 0, 0); dag.steps.len()];
    let mut left = MARGIN;
    for layer in &layout.layers {
        let widest = layer.iter().map(|step| width_of(*step)).max().unwrap_or(0);
        let above = (height - layer.len() * ROW) / 2 + (ROW - BOX_HEIGHT) / 2;
        for (position, step) in layer.iter().enumerate() {
            boxes[*step] = (left, above + position * ROW, widest);
        }
        left += widest + GAP;
    }
    let width = left - GAP.min(left) + MARGIN;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"ui-monospace, monospace\" font-size=\"13\">\n<title>{}</title>\n",
        escaped(&dag.name)
    );
    text.push_str(
        "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#64748b\"/></marker></defs>\n\
         <g fill=\"none\" stroke=\"#64748b\" marker-end=\"url(#arrow)\">\n",
    );
    for (from, to) in &layout.edges {
        let (from_left, from_top, from_width) = boxes[*from];
        let (to_left, to_top, _) = boxes[*to];
        let (x1, y1) = (from_left + from_width, from_top + BOX_HEIGHT / 2);
        let (x2, y2) = (to_left, to_top + BOX_HEIGHT / 2);
        let bend = GAP * 2 / 3;
        let _ = writeln!(
            text,
            "<path d=\"M{x1} {y1}C{} {y1} {} {y2} {x2} {y2}\"/>",
            x1 + bend,
            x2 - bend.min(x2)
        );
    }
    text.push_str("</g>\n<g text-anchor=\"middle\">\n");
    for (step, (left, top, width)) in dag.steps.iter().zip(&boxes) {
        let middle = left + width / 2;
        let _ = writeln!(
            text,
            "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{BOX_HEIGHT}\" rx=\"8\" fill=\"#f1f5f9\" \
             stroke=\"#334155\"/><text x=\"{middle}\" y=\"{}\" fill=\"#0f172a\" font-weight=\"600\">{}</text>\
             <text x=\"{middle}\" y=\"{}\" fill=\"#475569\">{}</text>",
            top + 19,
            escaped(&step.id),
            top + 36,
            escaped(&step.action)
        );
    }
    text.push_str("</g>\n</svg>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_a_box_per_step_and_a_curve_per_edge() {
        let picture = svg(&super::super::tests::diamond());
        assert_eq!(picture.matches("<rect ").count(), 4);
        assert_eq!(picture.matches("<path d=\"M").count(), 1 + 4);
        assert!(picture.contains("<title>a &quot;diamond&quot;</title>"));
    }
}
