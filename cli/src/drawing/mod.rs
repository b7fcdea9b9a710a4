//! Drawings of DAGs.

mod layout;
mod svg;

use std::fmt::Write as _;

use slipway_model::Dag;

pub(crate) use svg::svg;

/// In the language of Graphviz.
pub(crate) fn dot(dag: &Dag) -> String {
    let mut text = format!(
        "digraph {} {{\n  rankdir=LR;\n  node [shape=box, style=rounded];\n",
        quoted(&dag.name)
    );
    for step in &dag.steps {
        let label = quoted(&format!("{}\n{}", step.id, step.action));
        let _ = writeln!(text, "  {} [label={label}];", quoted(&step.id));
        for dependency in &step.depends_on {
            let _ = writeln!(text, "  {} -> {};", quoted(dependency), quoted(&step.id));
        }
    }
    text.push_str("}\n");
    text
}

fn quoted(text: &str) -> String {
    format!(
        "\"{}\"",
        text.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    )
}

/// In the language of Mermaid. Nodes are numbered, because a step's id may be one of its keywords.
pub(crate) fn mermaid(dag: &Dag) -> String {
    let mut text = "flowchart LR\n".to_owned();
    let number = |id: &str| dag.steps.iter().position(|step| step.id == id);
    for (index, step) in dag.steps.iter().enumerate() {
        let _ = writeln!(
            text,
            "  n{index}[\"{}<br/>{}\"]",
            escaped(&step.id),
            escaped(&step.action)
        );
    }
    for (index, step) in dag.steps.iter().enumerate() {
        for from in step.depends_on.iter().filter_map(|id| number(id)) {
            let _ = writeln!(text, "  n{from} --> n{index}");
        }
    }
    text
}

/// Text that stands for itself in HTML and XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(super) fn diamond() -> Dag {
        serde_json::from_value(json!({
            "name": "a \"diamond\"",
            "steps": [
                {"id": "top", "action": "pass"},
                {"id": "end", "action": "pass", "depends_on": ["top"]},
                {"id": "right", "action": "wait", "depends_on": ["top"]},
                {"id": "bottom", "action": "pass", "depends_on": ["end", "right"]},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn every_edge_is_drawn_once() {
        let dot = dot(&diamond());
        assert!(dot.starts_with("digraph \"a \\\"diamond\\\"\" {"), "{dot}");
        assert_eq!(dot.matches(" -> ").count(), 4);
        let mermaid = mermaid(&diamond());
        assert_eq!(mermaid.matches(" --> ").count(), 4);
        assert!(mermaid.contains("n0 --> n1"), "{mermaid}");
    }
}
