//! A DAG as a picture: levels from top to bottom, boxes of a level ordered so that few edges cross.

use std::fmt::Write as _;

use slipway_model::Dag;

use super::{Vertex, vertices};

const HEIGHT: f64 = 44.0;
const GAP: f64 = 24.0;
const LEVEL: f64 = 92.0;
const MARGIN: f64 = 16.0;
/// Width of a character in the font that is asked for.
const CHARACTER: f64 = 7.3;
/// Where an edge passes a level, it gets that much room.
const PASSAGE: f64 = 8.0;
/// Sweeps over the levels that put boxes near to what they are joined with.
const SWEEPS: usize = 8;
/// Edges over several levels get room in between only as long as there are not more such places.
const MOST_PASSAGES: usize = 20_000;

/// The DAG as an SVG document. Dashed edges are those that only expressions make.
pub fn to_svg(dag: &Dag) -> String {
    let (vertices, _) = vertices(dag);
    let mut picture = Picture::new(dag, &vertices);
    picture.place();
    picture.draw(dag, &vertices)
}

/// A box, or where an edge passes a level.
struct Spot {
    level: usize,
    width: f64,
    /// The middle.
    x: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

struct Edge {
    /// Spots from the upper box to the lower one.
    spots: Vec<usize>,
    is_read: bool,
}

struct Picture {
    /// The boxes in the order of the steps, then the passages.
    spots: Vec<Spot>,
    levels: Vec<Vec<usize>>,
    edges: Vec<Edge>,
    width: f64,
}

impl Picture {
    fn new(dag: &Dag, vertices: &[Vertex]) -> Self {
        let mut spots: Vec<Spot> = vertices
            .iter()
            .zip(&dag.steps)
            .map(|(vertex, step)| {
                let characters = step.id.chars().count().max(step.action.chars().count());
                Spot {
                    level: vertex.level,
                    width: characters as f64 * CHARACTER + 24.0,
                    x: 0.0,
                    above: Vec::new(),
                    below: Vec::new(),
                }
            })
            .collect();
        let mut edges = Vec::new();
        let mut passages = 0;
        for (index, vertex) in vertices.iter().enumerate() {
            let named = vertex.depends_on.iter().map(|before| (*before, false));
            for (before, is_read) in named.chain(vertex.reads.iter().map(|before| (*before, true))) {
                let between = vertices[before].level + 1..vertex.level;
                let mut path = vec![before];
                if passages + between.len() <= MOST_PASSAGES {
                    passages += between.len();
                    for level in between {
                        path.push(spots.len());
                        spots.push(Spot {
                            level,
                            width: PASSAGE,
                            x: 0.0,
                            above: Vec::new(),
                            below: Vec::new(),
                        });
                    }
                }
                path.push(index);
                for pair in path.windows(2) {
                    spots[pair[0]].below.push(pair[1]);
                    spots[pair[1]].above.push(pair[0]);
                }
                edges.push(Edge { spots: path, is_read });
            }
        }
        let depth = spots.iter().map(|spot| spot.level + 1).max().unwrap_or(0);
        let mut levels = vec![Vec::new(); depth];
        for (index, spot) in spots.iter().enumerate() {
            levels[spot.level].push(index);
        }
        Self {
            spots,
            levels,
            edges,
            width: 0.0,
        }
    }

    /// Gives every spot its `x`.
    fn place(&mut self) {
        for level in 0..self.levels.len() {
            self.line_up(level);
        }
        for sweep in 0..SWEEPS {
            let downward = sweep % 2 == 0;
            for step in 0..self.levels.len() {
                let level = if downward {
                    step
                } else {
                    self.levels.len() - 1 - step
                };
                let spots = &self.spots;
                let wanted = |index: usize| {
                    let near = if downward {
                        &spots[index].above
                    } else {
                        &spots[index].below
                    };
                    if near.is_empty() {
                        spots[index].x
                    } else {
                        near.iter().map(|&other| spots[other].x).sum::<f64>() / near.len() as f64
                    }
                };
                let mut sorted = std::mem::take(&mut self.levels[level]);
                sorted.sort_by(|&a, &b| wanted(a).total_cmp(&wanted(b)));
                self.levels[level] = sorted;
                self.line_up(level);
            }
        }
        let left = self.extent(|spot| -(spot.x - spot.width / 2.0));
        for spot in &mut self.spots {
            spot.x += left + MARGIN;
        }
        self.width = self.extent(|spot| spot.x + spot.width / 2.0) + MARGIN;
    }

    fn extent(&self, side: impl Fn(&Spot) -> f64) -> f64 {
        self.spots.iter().map(side).fold(f64::MIN, f64::max).max(0.0)
    }

    /// Puts the spots of a level side by side, centred on 0.
    fn line_up(&mut self, level: usize) {
        let total: f64 = self.levels[level]
            .iter()
            .map(|&index| self.spots[index].width + GAP)
            .sum();
        let mut x = -total / 2.0;
        for &index in &self.levels[level] {
            let width = self.spots[index].width + GAP;
            self.spots[index].x = x + width / 2.0;
            x += width;
        }
    }

    fn top(&self, spot: usize) -> f64 {
        MARGIN + self.spots[spot].level as f64 * LEVEL
    }

    fn draw(&self, dag: &Dag, vertices: &[Vertex]) -> String {
        let height = MARGIN * 2.0 + HEIGHT + self.levels.len().saturating_sub(1) as f64 * LEVEL;
        let width = self.width.max(2.0 * MARGIN);
        let name = escape(&dag.name);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{name}\">\n<title>{name}</title>\n{STYLE}"
        );
        for edge in &self.edges {
            let class = if edge.is_read { "edge read" } else { "edge" };
            let _ = writeln!(out, "<path class=\"{class}\" d=\"{}\"/>", self.curve(&edge.spots));
        }
        for (index, step) in dag.steps.iter().enumerate().take(vertices.len()) {
            let (spot, top) = (&self.spots[index], self.top(index));
            let _ = writeln!(
                out,
                "<g><rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{HEIGHT}\" rx=\"6\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>\
                 <text class=\"action\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
                spot.x - spot.width / 2.0,
                spot.width,
                spot.x,
                top + 18.0,
                escape(&step.id),
                spot.x,
                top + 35.0,
                escape(&step.action),
            );
        }
        out.push_str("</svg>\n");
        out
    }

    /// Down from the first spot, straight through passages, to the last.
    fn curve(&self, path: &[usize]) -> String {
        let mut out = String::new();
        for pair in path.windows(2) {
            let (from, to) = (&self.spots[pair[0]], &self.spots[pair[1]]);
            let start = self.top(pair[0]) + HEIGHT;
            let end = self.top(pair[1]);
            let middle = (start + end) / 2.0;
            if out.is_empty() {
                let _ = write!(out, "M{:.1} {start:.1}", from.x);
            } else {
                let _ = write!(out, "L{:.1} {start:.1}", from.x);
            }
            let _ = write!(
                out,
                "C{:.1} {middle:.1} {:.1} {middle:.1} {:.1} {end:.1}",
                from.x, to.x, to.x
            );
        }
        out
    }
}

const STYLE: &str = "<style>\
text{font:12px ui-monospace,Menlo,Consolas,monospace;text-anchor:middle;fill:#0f172a}\
.action{fill:#64748b}\
rect{fill:#f8fafc;stroke:#475569}\
.edge{fill:none;stroke:#475569;stroke-width:1.5;marker-end:url(#arrow)}\
.read{stroke-dasharray:5 4}\
</style>\n\
<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#475569\"/></marker></defs>\n";

fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, character| {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            control if control.is_control() => out.push(' '),
            plain => out.push(plain),
        }
        out
    })
}
