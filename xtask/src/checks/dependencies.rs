//! Which crate may depend on which.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::run::{cargo, output};

/// What each package of this workspace may use; development dependencies are free. Packages are written without their
/// common prefix, and the program `slipway` as `cli`. A package that is not in the table is itself a violation, so that
/// a new crate gets its place on purpose.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("cel", &[]),
    ("expr", &["model"]),
    ("ports", &["model"]),
    ("dag", &["cel", "expr", "policy", "model"]),
    ("engine", &["expr", "model"]),
    ("policy", &["expr", "model"]),
    ("actions", &["expr", "policy", "ports", "model"]),
    (
        "app",
        &["engine", "dag", "policy", "actions", "expr", "ports", "model"],
    ),
    (
        "api",
        &[
            "app", "engine", "dag", "policy", "actions", "expr", "ports", "model",
        ],
    ),
    ("helm", &["cel", "ports", "model"]),
    ("outside", &["ports", "model"]),
    ("embedded", &["ports", "model"]),
    ("aws", &["ports", "model"]),
    (
        "lambda-shell",
        &[
            "aws", "api", "app", "dag", "helm", "outside", "policy", "ports", "model",
        ],
    ),
    ("templates-api", FUNCTION),
    ("deployments-api", FUNCTION),
    ("executions-api", FUNCTION),
    ("jobs-api", FUNCTION),
    ("clusters-api", FUNCTION),
    ("plan-dag", FUNCTION),
    ("execute-step", FUNCTION),
    ("deploy-helm", FUNCTION),
    ("handle-events", FUNCTION),
    ("track-deployments", FUNCTION),
    ("sync-deployments", FUNCTION),
    ("aws-local", &["model"]),
    (
        "cli",
        &[
            "api", "app", "engine", "dag", "policy", "actions", "helm", "embedded", "outside", "expr",
            "ports", "model",
        ],
    ),
    (
        "testkit",
        &[
            "app", "engine", "dag", "policy", "actions", "expr", "ports", "model",
        ],
    ),
    ("simulator", &["app", "dag", "ports", "model"]),
    (
        "tests",
        &[
            "xtask", "cli", "api", "app", "engine", "dag", "policy", "actions", "helm", "embedded",
            "outside", "expr", "ports", "model",
        ],
    ),
    ("xtask", &[]),
];

/// What a function may use: what it is made of comes from the shell.
const FUNCTION: &[&str] = &["lambda-shell", "aws", "api", "app", "ports", "model"];

fn short(package: &str) -> &str {
    if package == EMBEDDED_PROGRAM {
        "cli"
    } else {
        package.strip_prefix("slipway-").unwrap_or(package)
    }
}

/// The program that must stay small: nothing of AWS is in it.
const EMBEDDED_PROGRAM: &str = "slipway";

/// Names of crates that are AWS's, by how they begin.
const AWS: &[&str] = &[
    "aws-config",
    "aws-credential",
    "aws-runtime",
    "aws-sdk-",
    "aws-sigv4",
    "aws-smithy-",
    "aws-types",
    "aws_lambda",
    "lambda_",
];

/// The parts of `cargo metadata` that the rules look at.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// Nothing for a normal dependency, else `dev` or `build`.
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Debug, Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

/// Every breach of the rules in this workspace, as sentences.
///
/// # Errors
/// When `cargo metadata` fails or writes something else than expected.
pub fn violations() -> Result<Vec<String>> {
    violations_in(&output(cargo().args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
    ]))?)
}

fn violations_in(metadata: &str) -> Result<Vec<String>> {
    let metadata: Metadata =
        serde_json::from_str(metadata).context("cargo metadata wrote something else than expected")?;
    let mut found = edges_against(&metadata, &ALLOWED.iter().copied().collect());
    found.extend(aws_in(&metadata, EMBEDDED_PROGRAM));
    Ok(found)
}

fn edges_against(metadata: &Metadata, allowed: &BTreeMap<&str, &[&str]>) -> Vec<String> {
    let members: Vec<_> = metadata
        .packages
        .iter()
        .filter(|package| metadata.workspace_members.contains(&package.id))
        .collect();
    let names: BTreeSet<_> = members.iter().map(|package| package.name.as_str()).collect();
    let mut found = Vec::new();
    for package in members {
        let Some(uses) = allowed.get(short(&package.name)) else {
            found.push(format!(
                "{} has no place in the table of allowed dependencies (xtask/src/checks/dependencies.rs)",
                package.name
            ));
            continue;
        };
        let depends = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.as_deref() != Some("dev"));
        for dependency in depends.filter(|dependency| names.contains(dependency.name.as_str())) {
            if !uses.contains(&short(&dependency.name)) {
                let may = if uses.is_empty() {
                    "nothing of this workspace".to_owned()
                } else {
                    uses.join(", ")
                };
                found.push(format!(
                    "{} depends on {}, but may depend on {may} only",
                    package.name, dependency.name
                ));
            }
        }
    }
    found
}

fn aws_in(metadata: &Metadata, program: &str) -> Vec<String> {
    let names: BTreeMap<_, _> = metadata
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package.name.as_str()))
        .collect();
    let nodes: BTreeMap<_, _> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();
    let mut paths: Vec<Vec<&str>> = metadata
        .workspace_members
        .iter()
        .map(String::as_str)
        .filter(|id| names.get(id) == Some(&program))
        .map(|id| vec![id])
        .collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    while let Some(path) = paths.pop() {
        let id = path[path.len() - 1];
        if !seen.insert(id) {
            continue;
        }
        let name = names.get(id).copied().unwrap_or(id);
        if AWS.iter().any(|prefix| name.starts_with(prefix)) {
            let way: Vec<_> = path
                .iter()
                .map(|id| names.get(id).copied().unwrap_or(id))
                .collect();
            found.push(format!(
                "{program} must not contain {name}, but does: {}",
                way.join(" → ")
            ));
            continue;
        }
        for edge in nodes.get(id).map(|node| node.deps.as_slice()).unwrap_or_default() {
            if edge
                .dep_kinds
                .iter()
                .any(|kind| kind.kind.as_deref() != Some("dev"))
            {
                paths.push(path.iter().copied().chain([edge.pkg.as_str()]).collect());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Metadata of packages with edges `(from, to, kind)`, all of them members.
    fn metadata(edges: &[(&str, &str, Option<&str>)], members: &[&str]) -> Metadata {
        let names: BTreeSet<_> = edges
            .iter()
            .flat_map(|edge| [edge.0, edge.1])
            .chain(members.iter().copied())
            .collect();
        let of = |name: &str| {
            edges
                .iter()
                .filter(|edge| edge.0 == name)
                .copied()
                .collect::<Vec<_>>()
        };
        let packages: Vec<Value> = names
            .iter()
            .map(|name| {
                let dependencies: Vec<_> = of(name)
                    .iter()
                    .map(|(_, to, kind)| json!({"name": to, "kind": kind}))
                    .collect();
                json!({"id": name, "name": name, "dependencies": dependencies})
            })
            .collect();
        let nodes: Vec<Value> = names
            .iter()
            .map(|name| {
                let deps: Vec<_> = of(name)
                    .iter()
                    .map(|(_, to, kind)| json!({"pkg": to, "dep_kinds": [{"kind": kind}]}))
                    .collect();
                json!({"id": name, "deps": deps})
            })
            .collect();
        serde_json::from_value(
            json!({"packages": packages, "workspace_members": members, "resolve": {"nodes": nodes}}),
        )
        .unwrap()
    }

    #[test]
    fn this_workspace_keeps_the_rules() {
        assert_eq!(violations().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn an_edge_against_the_direction_is_found_unless_only_tests_use_it() {
        let allowed = BTreeMap::from([("low", [].as_slice()), ("high", ["low"].as_slice())]);
        let members = ["low", "high"];
        let edges = |kind| {
            edges_against(
                &metadata(&[("high", "low", None), ("low", "high", kind)], &members),
                &allowed,
            )
        };
        assert_eq!(
            edges(None),
            ["low depends on high, but may depend on nothing of this workspace only"]
        );
        assert_eq!(edges(Some("build")).len(), 1);
        assert_eq!(edges(Some("dev")), Vec::<String>::new());
    }

    #[test]
    fn a_package_without_a_place_is_found() {
        let found = edges_against(&metadata(&[], &["new"]), &BTreeMap::new());
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("new has no place"), "{found:?}");
    }

    #[test]
    fn the_test_kit_is_nobodys_ordinary_dependency() {
        assert!(ALLOWED.iter().all(|(_, uses)| !uses.contains(&"testkit")));
    }

    #[test]
    fn aws_is_found_at_any_depth_with_the_way_to_it() {
        let edges = [
            ("slipway", "http", None),
            ("http", "aws-sdk-s3", None),
            ("slipway", "aws-config", Some("dev")),
        ];
        assert_eq!(
            aws_in(&metadata(&edges, &["slipway"]), "slipway"),
            ["slipway must not contain aws-sdk-s3, but does: slipway → http → aws-sdk-s3"]
        );
    }
}
