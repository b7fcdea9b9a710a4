//! A DAG in the languages of graph drawing programs. Dashed edges are those that only expressions make.

use std::fmt::Write as _;

use slipway_model::Dag;

use super::vertices;

/// The DAG in Graphviz's DOT language.
pub fn to_dot(dag: &Dag) -> String {
    let (vertices, _) = vertices(dag);
    let mut out = format!("digraph \"{}\" {{\n", dot(&dag.name));
    out.push_str("  rankdir=TB;\n  node [shape=box, style=rounded, fontname=\"Helvetica\"];\n");
    for (index, step) in dag.steps.iter().enumerate() {
        let _ = writeln!(
            out,
            "  n{index} [label=\"{}\\n{}\"];",
            dot(&step.id),
            dot(&step.action)
        );
    }
    for (index, vertex) in vertices.iter().enumerate() {
        for before in &vertex.depends_on {
            let _ = writeln!(out, "  n{before} -> n{index};");
        }
        for before in &vertex.reads {
            let _ = writeln!(out, "  n{before} -> n{index} [style=dashed];");
        }
    }
    out.push_str("}\n");
    out
}

/// The DAG as a Mermaid flowchart.
pub fn to_mermaid(dag: &Dag) -> String {
    let (vertices, _) = vertices(dag);
    let mut out = String::from("flowchart TD\n");
    for (index, step) in dag.steps.iter().enumerate() {
        let _ = writeln!(
            out,
            "  n{index}[\"{}<br/>{}\"]",
            mermaid(&step.id),
            mermaid(&step.action)
        );
    }
    for (index, vertex) in vertices.iter().enumerate() {
        for before in &vertex.depends_on {
            let _ = writeln!(out, "  n{before} --> n{index}");
        }
        for before in &vertex.reads {
            let _ = writeln!(out, "  n{before} -.-> n{index}");
        }
    }
    out
}

fn dot(text: &str) -> String {
    text.chars()
        .flat_map(|character| match character {
            '"' => vec!['\\', '"'],
            '\\' => vec!['\\', '\\'],
            control if control.is_control() => vec![' '],
            plain => vec![plain],
        })
        .collect()
}

/// Every character that means something to Mermaid or to HTML by its number.
fn mermaid(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, character| {
        if character.is_alphanumeric() || matches!(character, ' ' | '_' | '-' | '.') {
            out.push(character);
        } else {
            let _ = write!(out, "#{};", u32::from(character));
        }
        out
    })
}
