//! Checks of what deployments say of themselves.

use serde_json::Value;
use slipway_model::{ComponentDeployment, ComponentStatus, Deployment, DeploymentStatus, HistoryEntry};
use slipway_ports::{Key, ReleaseStatus};

use super::{
    Invariant,
    records::{read, status},
};
use crate::{cluster::target::plain, store::Row, world::World};

impl World {
    pub(super) fn check_deployment(&mut self, key: &Key, old: Option<&Row>, new: Option<&Row>) {
        let was = old.and_then(status::<DeploymentStatus>);
        let Some(new) = new else { return };
        let Some(is) = status::<DeploymentStatus>(new) else {
            return;
        };
        if let Some(deployment) = read::<Deployment>(new) {
            let since = (deployment.generation, self.now);
            let known = self
                .checks
                .generations
                .entry(key.partition.clone())
                .or_insert(since);
            if known.0 != deployment.generation {
                *known = since;
            }
        }
        if was == Some(DeploymentStatus::Deleted) && is != DeploymentStatus::Deleted {
            self.violated(
                Invariant::TerminalStatesNeverChange,
                format_args!("deployment {key} was DELETED and becomes {is:?}"),
            );
        }
        if was == Some(is) {
            return;
        }
        match (is, read::<Deployment>(new)) {
            (DeploymentStatus::Running, Some(deployment)) => self.check_running(key, &deployment),
            (DeploymentStatus::Deleted, Some(deployment)) => self.check_deleted(key, &deployment),
            _ => {}
        }
    }

    /// What a deployment that runs was brought up by leads none of its components back.
    pub(super) fn check_component(&mut self, key: &Key, new: Option<&Row>) {
        let Some(component) = new.and_then(read::<ComponentDeployment>) else {
            return;
        };
        if component.status == ComponentStatus::Running || component.removed || component.disabled {
            return;
        }
        let deployment: Option<Deployment> = self.newest(&Key::new(key.partition.clone(), "d"));
        let runs = deployment.is_some_and(|deployment| {
            deployment.status == DeploymentStatus::Running
                && deployment.generation == component.generation
                && deployment.pipeline_execution_id == component.execution_id
        });
        if runs {
            self.violated(
                Invariant::RunningMeansDeployed,
                format_args!(
                    "component {key} becomes {:?} of a RUNNING deployment",
                    component.status
                ),
            );
        }
    }

    /// A deployment that says that it runs.
    pub(super) fn check_running(&mut self, key: &Key, deployment: &Deployment) {
        let components: Vec<Value> = self
            .tables
            .partition(&key.partition, "component/")
            .filter_map(|(_, row)| read(row))
            .collect();
        for component in components {
            if component["removed"] == true {
                continue;
            }
            let name = component["release_name"].as_str().unwrap_or_default();
            let release = format!("{}/{name}", deployment.namespace);
            // The conditions of all templates of a run ask for a greater size.
            let is_small = deployment.parameters.get("size").and_then(Value::as_u64) <= Some(2);
            if is_small && self.is_conditional(deployment, &component["component_name"]) {
                self.coverage.end("component excluded".to_owned());
                if component["status"] != "STOPPED" {
                    self.violated(
                        Invariant::RunningMeansDeployed,
                        format_args!(
                            "deployment {key} is RUNNING, and what its condition excludes is {component}"
                        ),
                    );
                }
                if let Some(left) = self.what_is_left(&release) {
                    self.violated(
                        Invariant::RunningMeansDeployed,
                        format_args!("deployment {key} is RUNNING without release {release}, but {left}"),
                    );
                }
                continue;
            }
            if component["status"] != "RUNNING" {
                self.violated(
                    Invariant::RunningMeansDeployed,
                    format_args!("deployment {key} is RUNNING, and its component is {component}"),
                );
            }
            let newest = self.cloud.newest(&release);
            let owner = newest.and_then(|newest| newest.labels.get("slipway-deployment"));
            let is_deployed = newest.is_some_and(|newest| newest.status == ReleaseStatus::Deployed)
                && owner == Some(&deployment.id.to_string());
            if !is_deployed && !self.has_late_record(&release) {
                let status = newest.map(|newest| newest.status);
                self.violated(
                    Invariant::RunningMeansDeployed,
                    format_args!("deployment {key} is RUNNING while release {release} is {status:?}"),
                );
                continue;
            }
            let made = newest.map(|newest| newest.manifest.clone()).unwrap_or_default();
            if let Some(wanted) = self.wanted(deployment, &component["component_name"])
                && !made.contains(&wanted)
            {
                self.violated(
                    Invariant::RunningMeansDeployed,
                    format_args!("deployment {key} is RUNNING with {made} as {release}, and wants {wanted}"),
                );
            }
        }
    }

    /// A deployment that was stopped: what it says of components that run is true.
    pub(super) fn check_stopped(&mut self, key: &Key, deployment: &Deployment) {
        let components: Vec<ComponentDeployment> = self
            .tables
            .partition(&key.partition, "component/")
            .filter_map(|(_, row)| read(row))
            .collect();
        for component in components {
            self.coverage
                .end(format!("component {:?} of what was stopped", component.status));
            if matches!(
                component.status,
                ComponentStatus::Pending | ComponentStatus::Deploying
            ) {
                let (name, status) = (&component.component_name, component.status);
                self.violated(
                    Invariant::EverythingEnds,
                    format_args!("component {name} of the STOPPED deployment {key} is {status:?}"),
                );
            }
            if component.status != ComponentStatus::Running || component.removed {
                continue;
            }
            let release = format!("{}/{}", deployment.namespace, component.release_name);
            let newest = self.cloud.newest(&release).map(|newest| newest.status);
            if newest != Some(ReleaseStatus::Deployed) && !self.has_late_record(&release) {
                self.violated(
                    Invariant::RunningMeansDeployed,
                    format_args!("component {key} of a STOPPED deployment is RUNNING while release {release} is {newest:?}"),
                );
            }
        }
    }

    /// What of a component of type `helm` has to stand in what is deployed of it.
    fn wanted(&self, deployment: &Deployment, name: &Value) -> Option<String> {
        let component = self.component(deployment, name)?;
        let mut values = component["chart"]["values"].as_object()?.clone();
        let own = name.as_str().and_then(|name| deployment.values.get(name));
        let own = own.map(|own| serde_json::to_value(own).unwrap_or_default());
        for (name, value) in own.as_ref().and_then(Value::as_object).into_iter().flatten() {
            values.insert(name.clone(), value.clone());
        }
        for value in values.values_mut() {
            if *value == "{{ parameters.size }}" {
                *value = deployment.parameters.get("size").cloned().unwrap_or_default();
            }
        }
        Some(plain(&values))
    }

    /// Whether a component of a deployment's template has a condition.
    fn is_conditional(&self, deployment: &Deployment, name: &Value) -> bool {
        self.component(deployment, name)
            .is_some_and(|component| component["when"].is_string())
    }

    /// A component of a deployment's template.
    fn component(&self, deployment: &Deployment, name: &Value) -> Option<Value> {
        let reference = &deployment.template;
        let key = Key::new(
            format!("{}/t/{}", deployment.tenant, reference.name),
            format!("v/{}", reference.version),
        );
        let template: Value = self.tables.settled(&key).and_then(read)?;
        let all = template["components"].as_array()?;
        all.iter().find(|one| one["name"] == *name).cloned()
    }

    /// A deployment that says that it is gone.
    pub(super) fn check_deleted(&mut self, key: &Key, deployment: &Deployment) {
        let prefix = format!("{}/", deployment.namespace);
        let releases: Vec<String> = self
            .cloud
            .releases
            .keys()
            .cloned()
            .chain(self.cloud.objects.values().map(|object| object.release.clone()))
            .filter(|release| release.starts_with(&prefix))
            .collect();
        let let_go = self
            .checks
            .let_go
            .get(&key.partition)
            .cloned()
            .unwrap_or_default();
        if !let_go.is_empty() {
            self.coverage.end("deployment let go".to_owned());
        }
        for release in releases {
            let named = format!("release {release} ");
            if let_go.contains(&named) {
                continue;
            }
            if let Some(left) = self.what_is_left(&release) {
                self.violated(
                    Invariant::DeletedMeansGone,
                    format_args!("deployment {key} is DELETED, but {left}"),
                );
                return;
            }
        }
    }

    /// Notes what a deployment's history says of the releases that it is let go with.
    pub(super) fn learn_let_go(&mut self, key: &Key, new: Option<&Row>) {
        let entry = new.and_then(read::<HistoryEntry>);
        if let Some(entry) = entry.filter(|entry| entry.entry_type == "let_go_requested") {
            self.checks.let_go.insert(key.partition.clone(), entry.message);
        }
    }
}
