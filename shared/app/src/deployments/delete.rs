//! Deleting a deployment: stop it, uninstall what it installed, dependants first, and free its name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use slipway_model::{
    ComponentDeployment, Dag, DagSettings, DagStep, Deployment, DeploymentId, DeploymentOperation,
    DeploymentStatus, ExecutionId, JsonMap, OnFailure, Retry, RunCondition,
};
use slipway_ports::Guard;

use super::{
    operation::{begin, send_plan, wrong_state},
    start::Started,
};
use crate::{App, AppError, Caller, Role, keys};

/// Why what works on a deployment is cancelled when that is deleted.
const DELETED: &str = "the deployment is being deleted";

impl App {
    /// Deletes a deployment. One that an execution works on is stopped first; what is installed is uninstalled. One
    /// that is being deleted stays so.
    ///
    /// # Errors
    /// 403 below `deployer`, 404, 409 when it is `DELETED` already.
    pub async fn delete_deployment(&self, caller: &Caller, id_or_name: &str) -> Result<Started, AppError> {
        caller.require(Role::Deployer)?;
        let found = self.find_deployment(&caller.tenant, id_or_name).await?;
        if found.status == DeploymentStatus::Deleted {
            // Should the call that deleted it have been interrupted.
            self.forget(&found).await?;
            return Err(wrong_state(&found, "cannot be deleted"));
        }
        let execution = ExecutionId(self.ids.uuid());
        let mut session = self.store.session();
        let deployment = self
            .update_deployment(session.as_mut(), &caller.tenant, found.id, |deployment| {
                let was_started = deployment.generation > 0;
                let is_in_flight = deployment.status.is_in_flight();
                match deployment.status {
                    DeploymentStatus::Deleted => return Err(wrong_state(deployment, "cannot be deleted")),
                    DeploymentStatus::Deleting => return Ok(false),
                    _ if !was_started => deployment.status = DeploymentStatus::Deleted,
                    _ if is_in_flight && deployment.pipeline_execution_id.is_some() => {
                        deployment.status = DeploymentStatus::Deleting;
                        deployment.delete_requested = true;
                    }
                    _ => begin(deployment, DeploymentOperation::Delete, execution),
                }
                Ok(true)
            })
            .await?
            .map_or_else(|| found.clone(), |(deployment, _)| deployment);
        let message = format!("deletion requested by {}", caller.user_id);
        self.note(session.as_mut(), &deployment, "delete_requested", message)
            .await?;
        if deployment.status == DeploymentStatus::Deleted {
            self.stop_components(session.as_mut(), &deployment, None).await?;
            session.settle().await?;
            self.forget(&deployment).await?;
            return Ok(Started::from(&deployment));
        }
        send_plan(session.as_mut(), &deployment);
        session.settle().await?;
        match deployment.pipeline_execution_id {
            Some(execution) if deployment.delete_requested => {
                self.cancel_if_there(&deployment.tenant, execution, DELETED)
                    .await?;
            }
            _ if found.pipeline_execution_id.is_none() && found.status.is_in_flight() => {
                self.cancel_legacy_jobs(&found, DELETED).await?;
            }
            _ => {}
        }
        Ok(Started::from(&deployment))
    }

    /// Frees what a deleted deployment held: its name, its secrets, its template and clusters. A repeat changes
    /// nothing.
    pub(crate) async fn forget(&self, deployment: &Deployment) -> Result<(), AppError> {
        let tenant = &deployment.tenant;
        let revisions = self.revisions(deployment).await?;
        let of_revisions = revisions.iter().map(|revision| &revision.template);
        let templates: BTreeSet<(String, String)> = of_revisions
            .chain([&deployment.template])
            .map(|template| (template.name.clone(), template.version.to_string()))
            .collect();
        let secrets = self.secrets_kept_for(deployment).await?;
        let components = self.components_of(deployment).await?;
        let clusters = components.iter().map(|component| component.cluster_id);
        let clusters: BTreeSet<_> = clusters.chain([deployment.cluster_id]).collect();
        let mut session = self.store.session();
        let name = keys::name(tenant, "deployment", &deployment.name);
        if let Some(holder) = session.get(&name).await?
            && holder.read::<DeploymentId>()? == deployment.id
        {
            session.delete(&name, Guard::Version(holder.version)).await?;
        }
        self.release_inputs(session.as_mut(), tenant, deployment.id, &templates, &clusters)
            .await?;
        session.settle().await?;
        for reference in secrets {
            self.secrets.delete(tenant, &reference).await?;
        }
        match self.plan_request(tenant, deployment.id).await? {
            Some(request) => {
                let place = keys::preview_blob(tenant, deployment.id, request.id);
                Ok(self.blobs.delete(&place).await?)
            }
            None => Ok(()),
        }
    }
}

impl App {
    /// References of every secret that is kept for a deployment: what its revisions were given, and what was brought for
    /// changes that never came to be one.
    pub(crate) async fn secrets_kept_for(
        &self,
        deployment: &Deployment,
    ) -> Result<BTreeSet<String>, AppError> {
        let mut secrets: BTreeSet<String> = deployment.secret_parameters.values().cloned().collect();
        for revision in self.revisions(deployment).await? {
            secrets.extend(revision.secret_parameters.into_values());
        }
        let brought: Vec<Vec<String>> = self.all_of(deployment, keys::SECRETS).await?;
        secrets.extend(brought.into_iter().flatten());
        Ok(secrets)
    }
}

/// The step that uninstalls a component.
fn uninstall(deployment: &Deployment, component: &ComponentDeployment) -> DagStep {
    let params = [
        ("cluster_id", json!(component.cluster_id)),
        ("release_name", json!(component.release_name)),
        ("namespace", json!(deployment.namespace)),
        ("deployment_id", json!(deployment.id)),
    ];
    DagStep {
        id: component.component_name.clone(),
        action: "helm_uninstall".to_owned(),
        depends_on: Vec::new(),
        params: params
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect::<JsonMap>(),
        run: RunCondition::Success,
        when: None,
        retry: Some(Retry {
            max_attempts: 3,
            ..Retry::default()
        }),
        timeout_seconds: None,
        outputs: BTreeMap::new(),
    }
}

/// Whether another component has the release of one that was removed: it upgrades what would be uninstalled.
fn is_taken_over(removed: &ComponentDeployment, components: &[ComponentDeployment]) -> bool {
    components
        .iter()
        .any(|other| !other.removed && !other.disabled && has_release_of(other, removed))
}

/// The components without those whose release one before them has: of two jobs that uninstall it, one would supersede
/// the other. Those that were removed come last.
pub(crate) fn once_each<'c>(
    components: impl Iterator<Item = &'c ComponentDeployment>,
) -> impl DoubleEndedIterator<Item = &'c ComponentDeployment> {
    let mut once: Vec<&ComponentDeployment> = Vec::new();
    for component in components {
        if !once.iter().any(|other| has_release_of(other, component)) {
            once.push(component);
        }
    }
    once.into_iter()
}

/// Whether two components have the same release.
pub(crate) fn has_release_of(one: &ComponentDeployment, other: &ComponentDeployment) -> bool {
    one.cluster_id == other.cluster_id && one.release_name == other.release_name
}

/// Adds to a DAG that deploys the steps that uninstall what the template does not have any more, or what its conditions
/// exclude, once everything else is up.
pub(crate) fn add_uninstalls(dag: &mut Dag, deployment: &Deployment, components: &[ComponentDeployment]) {
    let Some(mut last) = dag.steps.pop() else {
        return;
    };
    // One that was excluded before has left what it had to another one.
    let removed = components.iter().filter(|component| {
        component.removed && !component.disabled && !is_taken_over(component, components)
    });
    let mut added: Vec<DagStep> = once_each(removed)
        .map(|component| uninstall(deployment, component))
        .collect();
    if !added.is_empty() {
        for step in &mut added {
            step.depends_on.clone_from(&last.depends_on);
        }
        last.depends_on = added.iter().map(|step| step.id.clone()).collect();
    }
    dag.steps.extend(added);
    dag.steps.push(last);
}

/// The DAG that uninstalls every component, those that others depend on last. `deployed` is the DAG that brings the
/// deployment up; without it the components go one after the other, the last of the template first.
pub(crate) fn delete_dag(
    deployment: &Deployment,
    components: &[ComponentDeployment],
    deployed: Option<&Dag>,
) -> Dag {
    let components: Vec<&ComponentDeployment> = once_each(components.iter()).collect();
    let names: BTreeSet<&str> = components
        .iter()
        .map(|component| component.component_name.as_str())
        .collect();
    let mut steps: Vec<DagStep> = components
        .iter()
        .rev()
        .map(|one| uninstall(deployment, one))
        .collect();
    match deployed {
        Some(deployed) => {
            let dependants = dependants(deployed, &names);
            let wanted: BTreeSet<&str> = deployed.steps.iter().map(|step| step.id.as_str()).collect();
            let removed: Vec<String> = components
                .iter()
                // One that is wanted again has its place among those that depend on it.
                .filter(|component| component.removed && !wanted.contains(component.component_name.as_str()))
                .map(|component| component.component_name.clone())
                .collect();
            for step in &mut steps {
                step.depends_on = match dependants.get(step.id.as_str()) {
                    Some(dependants) => dependants.iter().map(|name| (*name).to_owned()).collect(),
                    None if removed.contains(&step.id) => Vec::new(),
                    None => removed.clone(),
                };
            }
        }
        None => {
            for index in 1..steps.len() {
                steps[index].depends_on = vec![steps[index - 1].id.clone()];
            }
        }
    }
    Dag {
        name: format!("delete-usecase-{}", deployment.name),
        version: "1.0.0".to_owned(),
        description: format!("Delete use case: {}", deployment.name),
        parameters: JsonMap::new(),
        settings: DagSettings {
            on_failure: OnFailure::Continue,
            ..DagSettings::default()
        },
        steps,
        outputs: [("deployment_id".to_owned(), json!(deployment.id))]
            .into_iter()
            .collect(),
        callback_topics: deployment.callback_topics.clone(),
    }
}

/// Component → the components whose steps, or whose tests, come directly after its step or test.
fn dependants<'n>(deployed: &Dag, names: &BTreeSet<&'n str>) -> BTreeMap<&'n str, BTreeSet<&'n str>> {
    let component = |step: &str| -> Option<&'n str> {
        let name = step.strip_suffix("-test").unwrap_or(step);
        names.get(name).copied()
    };
    let mut dependants: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for step in &deployed.steps {
        let Some(after) = component(&step.id) else {
            continue;
        };
        for before in step.depends_on.iter().filter_map(|before| component(before)) {
            if before != after {
                dependants.entry(before).or_default().insert(after);
            }
        }
    }
    dependants
}
