//! Components of deployments: what each is, and how it stands.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use slipway_model::{
    ClusterId, ComponentDeployment, ComponentStatus, Dag, DagStep, Deployment, DeploymentOperation,
    ExecutionId, JsonMap, Template, Timestamp,
};
use slipway_ports::{Guard, Item, Put, Session};

use super::{
    inputs::facts,
    news::{StepNews, hear},
};
use crate::{App, AppError, keys, steps::RenderContext};

/// The components that a DAG brings up, and those that it would but for their conditions, as they are before anything
/// has started.
pub(crate) fn planned(
    deployment: &Deployment,
    template: &Template,
    dag: &Dag,
    now: Timestamp,
) -> Vec<ComponentDeployment> {
    let steps: BTreeMap<&str, &DagStep> = dag.steps.iter().map(|step| (step.id.as_str(), step)).collect();
    let context = RenderContext {
        parameters: deployment.parameters.clone(),
        secret_parameters: deployment.secret_parameters.clone(),
        steps: BTreeMap::new(),
        deployment: facts(deployment),
    };
    // Conditions read nothing that a step could change. One that cannot be evaluated fails its step.
    let is_off = |step: &DagStep| {
        let when = step.when.as_ref();
        when.is_some_and(|when| context.condition(when) == Ok(false))
    };
    template
        .components
        .iter()
        .enumerate()
        .filter_map(|(position, component)| {
            let step = steps.get(component.name.as_str())?;
            let text = |name: &str| step.params.get(name).and_then(Value::as_str);
            let cluster: Option<ClusterId> = text("cluster_id").and_then(|id| id.parse().ok());
            Some(ComponentDeployment {
                component_name: component.name.clone(),
                component_type: component.component_type,
                position: u32::try_from(position).unwrap_or(u32::MAX),
                selected_component: deployment.selections.get(&component.name).cloned(),
                release_name: text("release_name").unwrap_or_default().to_owned(),
                cluster_id: cluster.unwrap_or(deployment.cluster_id),
                status: ComponentStatus::Pending,
                generation: deployment.generation,
                removed: false,
                disabled: is_off(step),
                kept: false,
                ran_before: false,
                execution_id: None,
                undone_by: None,
                job_id: None,
                endpoint_url: None,
                error_message: None,
                updated_at: now,
            })
        })
        .collect()
}

/// Makes a component's record fit what the generation's execution does with it: it brings it up, leaves it out, or keeps it
/// with these outputs. What executions that are being `undone` brought up does not count as running until what undoes it
/// has said so. Whether that changes it.
fn make_fit(
    found: &mut ComponentDeployment,
    wanted: &ComponentDeployment,
    (execution, generation): (ExecutionId, u64),
    kept: Option<&JsonMap>,
    undone: &BTreeMap<ExecutionId, ExecutionId>,
) -> bool {
    let anew = ComponentDeployment {
        updated_at: found.updated_at,
        ..wanted.clone()
    };
    // What is known of another release says nothing of this one.
    let is_another = found.release_name != wanted.release_name;
    let undone_by = undoing_of(found, undone);
    let mut after = match is_another {
        true => anew.clone(),
        false => ComponentDeployment {
            status: found.status,
            execution_id: found.execution_id,
            undone_by,
            job_id: found.job_id,
            endpoint_url: found.endpoint_url.clone(),
            kept: found.kept,
            ran_before: found.ran_before,
            error_message: found.error_message.clone(),
            ..anew.clone()
        },
    };
    if found.execution_id != Some(execution) {
        if wanted.disabled {
            after = anew;
        } else if let Some(outputs) = kept {
            hear(
                &mut after,
                (execution, generation),
                &StepNews::completed("COMPLETED", outputs, true),
                false,
                true,
            );
        } else if after.status != ComponentStatus::Running || undone_by.is_some() {
            // What undoes an execution may take away at any moment what that one brought up.
            after.status = ComponentStatus::Pending;
            after.kept = false;
            after.ran_before = false;
            after.execution_id = Some(execution);
            after.error_message = None;
        }
    }
    let differs = after != *found;
    *found = after;
    differs
}

/// What undoes the execution that a component was last told of by, of those that are being `undone`, and has yet to say what
/// becomes of the component.
fn undoing_of(
    component: &ComponentDeployment,
    undone: &BTreeMap<ExecutionId, ExecutionId>,
) -> Option<ExecutionId> {
    let of_last = component.execution_id.and_then(|id| undone.get(&id)).copied();
    // One that was planned in between may not have come to it.
    let of_earlier = component
        .undone_by
        .filter(|id| undone.values().any(|open| open == id));
    of_last.filter(|_| !component.kept).or(of_earlier)
}

/// Whether nothing has come of a component, and the generation of its deployment that has been planned since does without
/// it: that made every component that it has its own, and the others `removed`.
fn is_stray(component: &ComponentDeployment, deployment: &Deployment) -> bool {
    let is_older = !component.removed && component.generation < deployment.generation;
    let is_untold = component.job_id.is_none() && component.endpoint_url.is_none();
    let is_unbegun = matches!(
        component.status,
        ComponentStatus::Pending | ComponentStatus::Stopped
    );
    is_older && is_untold && is_unbegun
}

impl App {
    /// Makes the records of a deployment's components fit the DAG of a new execution: those that it brings up again
    /// are `PENDING`, those that were kept `RUNNING`, those that the template does not have any more `removed`. Those
    /// whose condition is false are as they are before anything has started, and what they had is left behind.
    /// A repeat changes nothing, nor does one that stalled until a newer generation was planned. Returns the names of those
    /// that it made.
    pub(crate) async fn prepare_components(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
        execution: ExecutionId,
        mut planned: Vec<ComponentDeployment>,
        kept: &BTreeMap<String, JsonMap>,
    ) -> Result<Vec<String>, AppError> {
        let being_undone = self.tell_undone(deployment).await?;
        let mut made = Vec::new();
        for component in &mut planned {
            component.execution_id = Some(execution);
            let wanted = &*component;
            let name = &wanted.component_name;
            let key = keys::component(&deployment.tenant, deployment.id, name);
            loop {
                match session.put(&key, Item::of(wanted), Guard::Absent).await? {
                    Put::Won(_) => made.push(name.clone()),
                    Put::Lost(Some(stored)) => {
                        let found = stored.read()?;
                        let undone_by = undoing_of(&found, &being_undone);
                        self.leave_release(session, deployment, (&found, undone_by), wanted)
                            .await?;
                    }
                    Put::Lost(None) => {}
                }
                let is_there = self
                    .update_component(session, deployment, name, |found| {
                        found.generation <= deployment.generation
                            && make_fit(
                                found,
                                wanted,
                                (execution, deployment.generation),
                                kept.get(name),
                                &being_undone,
                            )
                    })
                    .await?;
                // A planner that had stalled may have taken its own record back between the two.
                if is_there {
                    break;
                }
            }
        }
        let names: BTreeSet<&str> = planned
            .iter()
            .map(|component| component.component_name.as_str())
            .collect();
        for found in self.components_of(deployment).await? {
            let name = found.component_name;
            if !names.contains(name.as_str()) && !found.removed {
                self.update_component(session, deployment, &name, |found| {
                    let changes = !found.removed && found.generation <= deployment.generation;
                    if changes {
                        found.removed = true;
                        found.undone_by = undoing_of(found, &being_undone);
                        found.generation = deployment.generation;
                    }
                    changes
                })
                .await?;
            }
        }
        Ok(made)
    }

    /// Tells the components what has been undone of the executions that they were last told of by, or wait to be told of.
    /// Returns those of which something is being undone still, each with what undoes it.
    pub(crate) async fn tell_undone(
        &self,
        deployment: &Deployment,
    ) -> Result<BTreeMap<ExecutionId, ExecutionId>, AppError> {
        let components = self.components_of(deployment).await?;
        let mut told: BTreeSet<ExecutionId> = components
            .iter()
            .filter_map(|component| component.execution_id)
            .collect();
        let awaited: BTreeSet<ExecutionId> = components
            .iter()
            .filter_map(|component| component.undone_by)
            .collect();
        for id in awaited {
            if let Some(undoing) = self.load_execution(&deployment.tenant, id).await? {
                told.extend(undoing.compensates);
            }
        }
        let mut open = BTreeMap::new();
        for id in told {
            let Some(header) = self.load_execution(&deployment.tenant, id).await? else {
                continue;
            };
            let Some(undoing) = header.compensated_by else {
                continue;
            };
            let undoing = self.load_execution(&deployment.tenant, undoing).await?;
            if let Some(undoing) = undoing.filter(|undoing| !undoing.status.is_terminal()) {
                open.insert(id, undoing.id);
            }
            self.repair_undone(deployment, &header).await?;
        }
        Ok(open)
    }

    /// Whether a planner's generation is not wanted any more. Then it takes back the records that it made: it stalled, and
    /// what came after it has planned, and may have ended, without them.
    pub(crate) async fn take_back_components(
        &self,
        deployment: &Deployment,
        execution: ExecutionId,
        made: &[String],
    ) -> Result<bool, AppError> {
        let now = self.load_deployment(&deployment.tenant, deployment.id).await?;
        if now.is_some_and(|now| now.generation == deployment.generation) {
            return Ok(false);
        }
        let mut session = self.store.session();
        for name in made {
            let key = keys::component(&deployment.tenant, deployment.id, name);
            let Some(stored) = session.get(&key).await? else {
                continue;
            };
            let found: ComponentDeployment = stored.read()?;
            // Whoever plans later and wants it has made it their own.
            if found.generation == deployment.generation && found.execution_id == Some(execution) {
                session.delete(&key, Guard::Version(stored.version)).await?;
            }
        }
        session.settle().await?;
        Ok(true)
    }

    /// Clears up after planners of generations that are over: they stalled, and may have died before they saw that. What
    /// they made and the generation that took their place was planned without is taken back; what they opened again of a
    /// deployment that nothing works on is stopped. While the present generation is being planned, that does both.
    pub(crate) async fn clear_up_after_planners(&self, deployment: &Deployment) -> Result<(), AppError> {
        let Some(execution) = deployment.pipeline_execution_id else {
            return Ok(());
        };
        let is_planned = self
            .load_execution(&deployment.tenant, execution)
            .await?
            .is_some();
        if is_planned && deployment.operation != Some(DeploymentOperation::Delete) {
            let components = self.components_of(deployment).await?;
            return self.take_back_strays(deployment, components.iter()).await;
        }
        if !deployment.status.is_in_flight() {
            let mut session = self.store.session();
            self.stop_components(session.as_mut(), deployment, Some(execution))
                .await?;
            session.settle().await?;
        }
        Ok(())
    }

    /// Takes back those of the `components` that planners made of generations before the deployment's own, which has been
    /// planned.
    pub(crate) async fn take_back_strays(
        &self,
        deployment: &Deployment,
        components: impl Iterator<Item = &ComponentDeployment>,
    ) -> Result<(), AppError> {
        let mut session = self.store.session();
        for component in components.filter(|component| is_stray(component, deployment)) {
            let key = keys::component(&deployment.tenant, deployment.id, &component.component_name);
            let Some(stored) = session.get(&key).await? else {
                continue;
            };
            // Whoever plans a newer generation may have made it their own.
            if is_stray(&stored.read()?, deployment) {
                session.delete(&key, Guard::Version(stored.version)).await?;
            }
        }
        Ok(session.settle().await?)
    }

    /// A component whose release gets another name, or whose condition has become false, leaves the release that it had
    /// behind, to be uninstalled. Whether it ever came to have one is for that to find out.
    async fn leave_release(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
        (found, undone_by): (&ComponentDeployment, Option<ExecutionId>),
        wanted: &ComponentDeployment,
    ) -> Result<(), AppError> {
        let goes_on = found.release_name == wanted.release_name && !wanted.disabled;
        let was_never_planned = found.generation == 0 && found.job_id.is_none();
        if goes_on || found.disabled || was_never_planned || found.generation > deployment.generation {
            return Ok(());
        }
        let left = ComponentDeployment {
            // No component has a hyphen in its name.
            component_name: format!("{}-{}", found.component_name, deployment.generation),
            removed: true,
            undone_by,
            // Whoever stalled at the end of an earlier one does not take it for uninstalled.
            generation: deployment.generation,
            ..found.clone()
        };
        let key = keys::component(&deployment.tenant, deployment.id, &left.component_name);
        session.put(&key, Item::of(&left), Guard::Absent).await?;
        Ok(())
    }

    /// Stops the components that an execution left unfinished, and those that nobody tells of any more because they are of
    /// a generation before the deployment's own. Those that a newer execution has taken over are left alone.
    pub(crate) async fn stop_components(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
        execution: Option<ExecutionId>,
    ) -> Result<(), AppError> {
        for component in self.components_of(deployment).await? {
            if component.status.is_terminal() {
                continue;
            }
            self.update_component(session, deployment, &component.component_name, |found| {
                let is_others = found.execution_id.is_some() && found.execution_id != execution;
                let is_newer = is_others && found.generation >= deployment.generation;
                if found.status.is_terminal() || is_newer {
                    return false;
                }
                found.status = ComponentStatus::Stopped;
                // The end of its step, should it still arrive, says more than the end of the execution.
                found.execution_id = None;
                true
            })
            .await?;
        }
        Ok(())
    }
}
