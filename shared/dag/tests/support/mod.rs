//! What several tests build on.
#![allow(dead_code, reason = "each test uses some of it")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use slipway_dag::{DeploymentInput, MAX_TEMPLATE_BYTES, parse, plan_deployment, template};
use slipway_model::{Catalog, ClusterId, Dag, FieldError, JsonMap, Template};

pub(crate) const DEPLOYMENT: &str = "def45678-0000-4000-8000-000000000456";
pub(crate) const CLUSTER: &str = "abc00000-0000-4000-8000-000000000123";
pub(crate) const OTHER_CLUSTER: &str = "abc00000-0000-4000-8000-000000000124";

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

pub(crate) fn read(name: &str) -> Value {
    let path = path(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(&text, MAX_TEMPLATE_BYTES).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn yaml(text: &str) -> Value {
    parse(text, MAX_TEMPLATE_BYTES).unwrap()
}

pub(crate) fn catalog() -> Catalog {
    template::check_catalog(read("tests/fixtures/catalog.yaml")).unwrap()
}

pub(crate) fn checked(value: Value) -> Template {
    template::check(value, &catalog()).unwrap_or_else(|errors| panic!("{}", print(&errors)))
}

pub(crate) fn print(errors: &[FieldError]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

pub(crate) fn map(value: &Value) -> JsonMap {
    value.as_object().unwrap().clone()
}

/// A deployment's choices that tests change one by one.
pub(crate) struct Choices {
    pub(crate) catalog: Catalog,
    pub(crate) clusters: BTreeMap<String, ClusterId>,
    pub(crate) selections: BTreeMap<String, String>,
    pub(crate) parameters: JsonMap,
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) values: BTreeMap<String, JsonMap>,
    pub(crate) topics: Vec<String>,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            catalog: catalog(),
            clusters: BTreeMap::new(),
            selections: BTreeMap::new(),
            parameters: JsonMap::new(),
            secrets: BTreeSet::new(),
            values: BTreeMap::new(),
            topics: Vec::new(),
        }
    }
}

impl Choices {
    pub(crate) fn plan(&self, template: &Template) -> Result<Dag, Vec<FieldError>> {
        plan_deployment(&DeploymentInput {
            template,
            catalog: &self.catalog,
            deployment_id: DEPLOYMENT.parse().unwrap(),
            name: "my-agent-rag",
            namespace: "uc-def45678",
            cluster_id: CLUSTER.parse().unwrap(),
            component_clusters: &self.clusters,
            user_id: "user-789",
            selections: &self.selections,
            parameters: &self.parameters,
            secret_parameters: &self.secrets,
            values: &self.values,
            callback_topics: &self.topics,
        })
    }
}
