//! The steps of a deployment's DAG.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use slipway_model::{
    CatalogEntry, ClusterId, Component, ComponentType, DagStep, JsonMap, Resources, RunCondition,
};

use super::{DeploymentInput, is_filled, reduction::reduce, release_name};
use crate::{
    template::{CLUSTER_HEALTH, NOTIFY_COMPLETE},
    topology::Topology,
};

/// A deployment's choices, checked.
pub(super) struct Planned<'p> {
    pub(super) input: &'p DeploymentInput<'p>,
    pub(super) selections: &'p BTreeMap<String, String>,
    pub(super) values: &'p BTreeMap<&'p str, JsonMap>,
    pub(super) conditions: &'p BTreeMap<&'p str, String>,
}

/// Nodes of the graph that steps are made of: the clusters, then two for each component of the template, its
/// deployment and its test, then the notification. Numbers follow the order in which `depends_on` lists ids.
struct Numbers {
    clusters: Vec<ClusterId>,
    components: usize,
}

impl Numbers {
    fn deploy(&self, component: usize) -> usize {
        self.clusters.len() + 2 * component
    }

    fn test(&self, component: usize) -> usize {
        self.deploy(component) + 1
    }

    fn notification(&self) -> usize {
        self.clusters.len() + 2 * self.components
    }
}

impl Planned<'_> {
    /// All steps in topological order, `components` giving that of the components and what is before each.
    pub(super) fn steps(&self, order: &[usize], components: &Topology) -> Vec<DagStep> {
        let numbers = Numbers {
            clusters: self.clusters(),
            components: order.len(),
        };
        let (graph, nodes) = self.graph(&numbers, order, components);
        let mut steps = vec![None; numbers.notification() + 1];
        for (node, step) in self.drafts(&numbers) {
            steps[node] = Some(step);
        }
        let ids: Vec<Option<String>> = steps
            .iter()
            .map(|step| step.as_ref().map(|step: &DagStep| step.id.clone()))
            .collect();
        let direct = reduce(&graph, &nodes, |node| ids[node].is_some());
        nodes
            .into_iter()
            .filter_map(|node| {
                let mut step = steps[node].take()?;
                step.depends_on = direct[node]
                    .iter()
                    .filter_map(|&before| ids[before].clone())
                    .collect();
                Some(step)
            })
            .collect()
    }

    /// The deployment's cluster, then others in template order.
    fn clusters(&self) -> Vec<ClusterId> {
        let mut clusters = vec![self.input.cluster_id];
        for component in self.filled() {
            let cluster = self.cluster_of(component);
            if !clusters.contains(&cluster) {
                clusters.push(cluster);
            }
        }
        clusters
    }

    fn filled(&self) -> impl Iterator<Item = &Component> {
        self.input
            .template
            .components
            .iter()
            .filter(|component| is_filled(component, self.selections))
    }

    fn cluster_of(&self, component: &Component) -> ClusterId {
        *self
            .input
            .component_clusters
            .get(&component.name)
            .unwrap_or(&self.input.cluster_id)
    }

    /// All edges, and a topological order.
    fn graph(&self, numbers: &Numbers, order: &[usize], components: &Topology) -> (Topology, Vec<usize>) {
        let mut graph = Topology::new(numbers.notification() + 1);
        let mut nodes: Vec<usize> = (0..numbers.clusters.len()).collect();
        for &index in order {
            let (deploy, test) = (numbers.deploy(index), numbers.test(index));
            let cluster = self.cluster_of(&self.input.template.components[index]);
            for (health, other) in numbers.clusters.iter().enumerate() {
                if health == 0 || *other == cluster {
                    graph.add(health, deploy);
                }
            }
            for &before in &components.predecessors()[index] {
                graph.add(numbers.test(before), deploy);
            }
            graph.add(deploy, test);
            graph.add(test, numbers.notification());
            nodes.extend([deploy, test]);
        }
        for health in 0..numbers.clusters.len() {
            graph.add(health, numbers.notification());
        }
        nodes.push(numbers.notification());
        (graph, nodes)
    }

    /// The steps that there are, by node, without dependencies.
    fn drafts(&self, numbers: &Numbers) -> Vec<(usize, DagStep)> {
        let mut drafts: Vec<(usize, DagStep)> = numbers
            .clusters
            .iter()
            .enumerate()
            .map(|(index, cluster)| (index, self.cluster_health(index, *cluster)))
            .collect();
        for (index, component) in self.input.template.components.iter().enumerate() {
            if !is_filled(component, self.selections) {
                continue;
            }
            drafts.push((numbers.deploy(index), self.deploy(component)));
            if component.test {
                drafts.push((numbers.test(index), self.test(component)));
            }
        }
        drafts.push((
            numbers.notification(),
            step(
                NOTIFY_COMPLETE,
                "notification",
                json!({
                    "message": literal(&format!("Use case '{}' deployed successfully", self.input.name)),
                    "user_id": literal(self.input.user_id),
                    "level": "success",
                }),
            ),
        ));
        drafts
    }

    fn cluster_health(&self, index: usize, cluster: ClusterId) -> DagStep {
        let mut params = json!({"cluster_id": cluster});
        let minimum = &self.input.template.resources.minimum;
        if index > 0 {
            return step(
                &format!("{CLUSTER_HEALTH}-{}", index + 1),
                "cluster_health",
                params,
            );
        }
        if *minimum != Resources::default() {
            params["minimum"] = json!(minimum);
        }
        step(CLUSTER_HEALTH, "cluster_health", params)
    }

    fn deploy(&self, component: &Component) -> DagStep {
        let input = self.input;
        let entry = self
            .selections
            .get(&component.name)
            .and_then(|name| input.catalog.entry(name));
        let mut params = self.release(component);
        let mut deploy = match (&component.chart, component.component_type) {
            (Some(chart), ComponentType::Helm) => {
                params["chart_ref"] = json!(chart.reference);
                params["chart_version"] = json!(chart.version);
                params["values"] = json!(self.values.get(component.name.as_str()));
                step(&component.name, "helm_deploy", params)
            }
            (_, component_type) => {
                params["component_name"] = json!(component.name);
                params["component_type"] = json!(component_type);
                params["selected_component"] = json!(self.selections.get(&component.name));
                params["deployment_id"] = json!(input.deployment_id);
                params["user_id"] = json!(literal(input.user_id));
                if let Some(values) = self.values.get(component.name.as_str()) {
                    params["values"] = json!(values);
                }
                step(&component.name, "deployment_create", params)
            }
        };
        for (name, value) in options(component, entry) {
            deploy.params.insert(name.to_owned(), value);
        }
        deploy.timeout_seconds = timeout(component, entry);
        deploy.retry.clone_from(&component.retry);
        if let Some(entry) = entry {
            deploy.outputs.clone_from(&entry.outputs);
        }
        deploy.outputs.extend(component.outputs.clone());
        deploy.when = self.conditions.get(component.name.as_str()).cloned();
        deploy
    }

    fn test(&self, component: &Component) -> DagStep {
        let mut test = step(
            &format!("{}-test", component.name),
            "helm_test",
            self.release(component),
        );
        if let Some(seconds) = component.timeout_seconds {
            test.params
                .insert("timeout".to_owned(), format!("{seconds}s").into());
        }
        test.timeout_seconds = component.timeout_seconds;
        test.when = self.conditions.get(component.name.as_str()).cloned();
        test
    }

    /// Which release it is about.
    fn release(&self, component: &Component) -> Value {
        json!({
            "cluster_id": self.cluster_of(component),
            "release_name": release_name(self.input.name, component),
            "namespace": self.input.namespace,
        })
    }
}

/// `text` as an expression renders it: what looks like an expression in it, which only a name that someone chose
/// can, is written as text.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let opens = character == '{' && matches!(characters.peek(), Some('{' | '%' | '#'));
        if opens {
            out.push_str("{{ '{' }}");
        } else {
            out.push(character);
        }
    }
    out
}

fn timeout(component: &Component, entry: Option<&CatalogEntry>) -> Option<u64> {
    component
        .timeout_seconds
        .or(entry.and_then(|entry| entry.timeout_seconds))
}

/// What is passed on only if it is set.
fn options(component: &Component, entry: Option<&CatalogEntry>) -> Vec<(&'static str, Value)> {
    [
        (
            "timeout",
            timeout(component, entry).map(|seconds| json!(format!("{seconds}s"))),
        ),
        ("crds", component.crds.map(|policy| json!(policy))),
        ("immutable", component.immutable.map(|policy| json!(policy))),
        ("adopt", component.adopt.then_some(json!(true))),
        (
            "delete_on_failure",
            component.delete_on_failure.map(|delete| json!(delete)),
        ),
        (
            "health_checks",
            (!component.health_checks.is_empty()).then(|| literal_value(&json!(component.health_checks))),
        ),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// `value` as a step's parameter that renders as `value`: what looks like an expression in its strings is text.
pub fn literal_value(value: &Value) -> Value {
    match value {
        Value::String(text) => literal(text).into(),
        Value::Array(items) => items.iter().map(literal_value).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, member)| (key.clone(), literal_value(member)))
            .collect(),
        other => other.clone(),
    }
}

fn step(id: &str, action: &str, params: Value) -> DagStep {
    let params = match params {
        Value::Object(params) => params,
        _ => JsonMap::new(),
    };
    DagStep {
        id: id.to_owned(),
        action: action.to_owned(),
        depends_on: Vec::new(),
        params,
        run: RunCondition::Success,
        when: None,
        retry: None,
        timeout_seconds: None,
        outputs: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use slipway_expr::{Context, Limits, Scope, Template};

    use super::literal;

    #[test]
    fn a_chosen_name_is_never_an_expression() {
        for text in ["plain", "{{ secrets.x }}", "{{{{%{#{ {", "a {% raw %} b {# c #}"] {
            let template = Template::parse(&literal(text), Scope::of(&[])).unwrap();
            let rendered = template.render(&Context::new(), Limits::default()).unwrap();
            assert_eq!(rendered, text);
        }
    }
}
