//! What the template does not have any more, or excludes by a condition.

use slipway_model::{
    ComponentDeployment, Danger, DangerKind, Deployment, ObjectChange, ObjectPlan, ObjectRole,
};
use slipway_ports::{ObjectReference, Release, ReleaseRecord};

use super::{ComponentChange, ComponentPlan, DeploymentPlan, PlanSummary, make::Time};
use crate::{App, AppError, clusters::ConnectError};

impl App {
    /// What trying a deletion again would do: whatever is there is uninstalled, in the order in which it happens.
    pub(super) async fn preview_deletion(&self, present: &Deployment) -> Result<DeploymentPlan, AppError> {
        let time = Time::of(self);
        let dag = self.plan_delete(present).await?;
        let known = self.components_of(present).await?;
        let mut found = Vec::new();
        for step in &dag.steps {
            let Some(component) = known.iter().find(|known| known.component_name == step.id) else {
                continue;
            };
            if self.clock.now() >= time.components {
                found.push(ComponentPlan::not_looked_at(present, component));
                continue;
            }
            let reason = "the deployment is being deleted, and its deletion is what a retry tries again";
            found.extend(self.plan_removal(present, component, reason).await?);
        }
        Ok(DeploymentPlan {
            dag: Some(dag),
            errors: Vec::new(),
            summary: PlanSummary::of(&found),
            components: found,
            generation: present.generation,
            template: present.template.clone(),
            generated_at: self.clock.now(),
            outdated: None,
            drift: None,
            request_id: None,
        })
    }

    /// What uninstalling a component's release would delete; nothing if there is no release.
    pub(super) async fn plan_removal(
        &self,
        deployment: &Deployment,
        component: &ComponentDeployment,
        reason: &str,
    ) -> Result<Option<ComponentPlan>, AppError> {
        let release = Release {
            namespace: deployment.namespace.clone(),
            name: component.release_name.clone(),
        };
        let record = match self.record_of(deployment, component, &release).await {
            Ok(Some(record)) => Ok(record),
            Ok(None) => return Ok(None),
            Err(ConnectError::App(error)) => return Err(error),
            Err(ConnectError::Target(error)) => Err(error),
        };
        let name = &component.component_name;
        let mut plan = ComponentPlan {
            component: name.clone(),
            cluster_id: component.cluster_id,
            release_name: release.name.clone(),
            namespace: release.namespace.clone(),
            change: ComponentChange::Delete,
            reason: Some(reason.to_owned()),
            revision: None,
            chart: None,
            objects: Vec::new(),
            dangers: vec![Danger::new(
                DangerKind::ComponentRemoved,
                format!("component '{name}' is removed: release {release} is uninstalled"),
            )],
            notes: Vec::new(),
            manifest_digest: None,
            manifest: None,
        };
        match record {
            Ok(record) => {
                plan.revision = Some(record.revision);
                plan.chart = Some(record.chart);
                let objects = record.objects.iter();
                plan.objects = objects
                    .map(|object| taken_away(object, record.kept.contains(object)))
                    .collect();
            }
            Err(error) => plan.notes.push(format!("its objects are not known: {error}")),
        }
        Ok(Some(plan))
    }

    async fn record_of(
        &self,
        deployment: &Deployment,
        component: &ComponentDeployment,
        release: &Release,
    ) -> Result<Option<ReleaseRecord>, ConnectError> {
        let target = self.connect(&deployment.tenant, component.cluster_id).await?;
        Ok(target.record(release).await?)
    }
}

/// An object of a release that is uninstalled. Volume claims stay, and what its manifest keeps.
fn taken_away(object: &ObjectReference, is_kept: bool) -> ObjectPlan {
    let stays = if object.kind == "PersistentVolumeClaim" {
        Some("a volume claim stays when its release is uninstalled")
    } else if is_kept {
        Some("helm.sh/resource-policy keeps it when its release is uninstalled")
    } else {
        None
    };
    let danger = match object.kind.as_str() {
        _ if stays.is_some() => None,
        "CustomResourceDefinition" => Some((
            DangerKind::Definition,
            format!("{object} is deleted: all custom resources of its kind go with it"),
        )),
        "Namespace" => Some((
            DangerKind::Namespace,
            format!("{object} is deleted with everything that lives in it"),
        )),
        "PersistentVolume" => Some((
            DangerKind::Data,
            format!("{object} is deleted: the data of its volume may be lost"),
        )),
        _ => None,
    };
    ObjectPlan {
        api_version: object.api_version.clone(),
        kind: object.kind.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        change: match stays {
            Some(_) => ObjectChange::Unchanged,
            None => ObjectChange::Delete,
        },
        role: ObjectRole::Object,
        reason: stays.map(str::to_owned),
        diff: None,
        dangers: danger
            .map(|(kind, message)| Danger::new(kind, message))
            .into_iter()
            .collect(),
    }
}
