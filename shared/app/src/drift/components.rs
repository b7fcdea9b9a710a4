//! Comparing the components of a deployment with what was applied.

use std::time::Duration;

use slipway_model::{
    ComponentDeployment, Deployment, DeploymentId, DeploymentStatus, DriftKind, DriftedObject, Message,
    Queue, TenantId,
};
use slipway_ports::{AppliedState, FoundDrift, Guard, Item, Put, Release, Session, TargetError};

use super::records::{Found, is_looked_at};
use crate::{App, AppError, clusters::ConnectError, deployments::Line, keys};

/// Most objects that a line of the history names.
const MOST_NAMED: usize = 5;

impl App {
    /// A deployment whose look is due: it is sent, and the next one is put off by an hour.
    pub(crate) async fn send_drift(&self, tenant: &TenantId, id: DeploymentId) -> Result<(), AppError> {
        let mut session = self.store.session();
        if self.put_off(session.as_mut(), &keys::drift(tenant, id)).await? {
            send(session.as_mut(), tenant, id, None);
        }
        Ok(session.settle().await?)
    }

    /// Has a deployment looked at now, if it runs.
    pub(crate) async fn look_for_drift_now(&self, deployment: &Deployment) -> Result<(), AppError> {
        if deployment.status != DeploymentStatus::Running {
            return Ok(());
        }
        let mut session = self.store.session();
        self.schedule_drift(session.as_mut(), deployment).await?;
        send(session.as_mut(), &deployment.tenant, deployment.id, None);
        Ok(session.settle().await?)
    }

    /// Sends a message for each component that runs, so that no invocation looks at more than one release. A deployment
    /// that does not run any more is not looked at until it runs again.
    pub(crate) async fn look_for_drift(
        &self,
        tenant: &TenantId,
        id: DeploymentId,
        component: Option<&str>,
    ) -> Result<(), AppError> {
        let deployment = self.load_deployment(tenant, id).await?;
        let Some(deployment) = deployment.filter(|found| found.status == DeploymentStatus::Running) else {
            let mut session = self.store.session();
            session.delete(&keys::drift(tenant, id), Guard::Any).await?;
            return Ok(session.settle().await?);
        };
        let components = self.components_of(&deployment).await?;
        let mut running = components.into_iter().filter(is_looked_at);
        match component {
            None => {
                let mut session = self.store.session();
                for one in running {
                    send(session.as_mut(), tenant, id, Some(one.component_name));
                }
                Ok(session.settle().await?)
            }
            Some(name) => match running.find(|one| one.component_name == name) {
                Some(one) => self.look_at_component(&deployment, &one).await,
                None => Ok(()),
            },
        }
    }

    async fn look_at_component(
        &self,
        deployment: &Deployment,
        component: &ComponentDeployment,
    ) -> Result<(), AppError> {
        let seen = match self.drift_now(deployment, component).await {
            Ok(found) => Ok(found),
            Err(ConnectError::Target(error)) => Err(error),
            Err(ConnectError::App(error)) => return Err(error),
        };
        // What was changed meanwhile was not what was looked at.
        let now = self.load_deployment(&deployment.tenant, deployment.id).await?;
        let is_same = now.is_some_and(|now| {
            now.generation == deployment.generation && now.status == DeploymentStatus::Running
        });
        if !is_same {
            return Ok(());
        }
        if let Some(job) = component.job_id {
            self.keep_job(&deployment.tenant, job).await?;
        }
        self.keep_drift(deployment, &component.component_name, seen).await
    }

    /// Where a component's release differs now from what was applied.
    pub(crate) async fn drift_now(
        &self,
        deployment: &Deployment,
        component: &ComponentDeployment,
    ) -> Result<FoundDrift, ConnectError> {
        let tenant = &deployment.tenant;
        let reference = &deployment.template;
        let template = self
            .load_template(tenant, &reference.name, &reference.version)
            .await?;
        let settings = template
            .as_ref()
            .and_then(|template| template.component(&component.component_name))
            .and_then(|component| component.drift.clone())
            .unwrap_or_default();
        let job = match component.job_id {
            Some(job) => self.load_job(tenant, job).await?,
            None => None,
        };
        let revision = job
            .and_then(|job| job.metadata_.get("revision")?.as_u64())
            .and_then(|revision| u32::try_from(revision).ok());
        let release = Release {
            namespace: deployment.namespace.clone(),
            name: component.release_name.clone(),
        };
        let target = self.connect(tenant, component.cluster_id).await?;
        let applied = AppliedState {
            release: &release,
            revision,
            deployment: &deployment.id.to_string(),
            ignore: &settings.ignore,
        };
        Ok(target.drift(&applied).await?)
    }

    /// Writes down what a look found, and into the history what appeared or went.
    async fn keep_drift(
        &self,
        deployment: &Deployment,
        name: &str,
        seen: Result<FoundDrift, TargetError>,
    ) -> Result<(), AppError> {
        let key = keys::drift_of(&deployment.tenant, deployment.id, name);
        let mut session = self.store.session();
        loop {
            let stored = session.get(&key).await?;
            let before = match &stored {
                Some(stored) => {
                    Some(stored.read::<Found>()?).filter(|found| found.generation == deployment.generation)
                }
                None => None,
            };
            let known = before.map(|found| found.objects).unwrap_or_default();
            let found = match &seen {
                Ok(seen) => {
                    let mut objects = seen.objects.clone();
                    // Whether it is still so cannot be told.
                    objects.extend(known.iter().filter(|object| is_untold(object, seen)).cloned());
                    Found {
                        error: not_compared(seen),
                        ..Found::new(name, deployment.generation, self.clock.now(), objects)
                    }
                }
                Err(error) => Found {
                    error: Some(error.to_string()),
                    ..Found::new(name, deployment.generation, self.clock.now(), known.clone())
                },
            };
            let version = stored.as_ref().map_or(0, |stored| stored.version);
            // First, so that a crash between the two repeats both; the line is the same then.
            self.tell_drift(session.as_mut(), deployment, (name, version), (&known, &found))
                .await?;
            let guard = match version {
                0 => Guard::Absent,
                version => Guard::Version(version),
            };
            if let Put::Won(_) = session.put(&key, Item::of(&found), guard).await? {
                return Ok(session.settle().await?);
            }
        }
    }

    async fn tell_drift(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
        (name, version): (&str, u64),
        (known, found): (&[DriftedObject], &Found),
    ) -> Result<(), AppError> {
        let is_new = |object: &&DriftedObject| !known.iter().any(|other| is_same(other, object));
        let new: Vec<&DriftedObject> = found.objects.iter().filter(is_new).collect();
        let (entry_type, message) = if new.is_empty() {
            if known.is_empty() || !found.objects.is_empty() {
                return Ok(());
            }
            let limit = found
                .error
                .as_ref()
                .map_or("", |_| ", as far as it can be compared");
            ("drift_gone", format!("{name} is as it was applied again{limit}"))
        } else {
            let named: Vec<String> = new.iter().take(MOST_NAMED).map(ToString::to_string).collect();
            let more = match new.len().saturating_sub(MOST_NAMED) {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            (
                "drift_found",
                format!("{name} differs from what was applied: {}{more}", named.join("; ")),
            )
        };
        let identity = format!("{}/{name}/{version}", deployment.generation);
        let line = Line {
            entry_type,
            identity: &identity,
            at: None,
            execution_id: None,
            step_id: Some(name.to_owned()),
            message,
        };
        self.write_history(session, deployment, line).await
    }
}

/// Whether an object had been changed, and a look could not tell whether it still is.
fn is_untold(object: &DriftedObject, seen: &FoundDrift) -> bool {
    object.drift == DriftKind::Changed
        && seen.uncompared.iter().any(|one| {
            let other = &one.object;
            (&other.kind, &other.namespace, &other.name) == (&object.kind, &object.namespace, &object.name)
        })
}

/// What a look could not tell, and why.
pub(crate) fn not_compared(seen: &FoundDrift) -> Option<String> {
    let told: Vec<String> = seen
        .uncompared
        .iter()
        .take(MOST_NAMED)
        .map(|one| format!("{} cannot be compared: {}", one.object, one.reason))
        .collect();
    let more = match seen.uncompared.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    (!told.is_empty()).then(|| format!("{}{more}", told.join("; ")))
}

/// Whether it is the same news of the same object.
fn is_same(one: &DriftedObject, other: &DriftedObject) -> bool {
    let what = |object: &DriftedObject| {
        let fields: Vec<String> = object.fields.iter().map(|field| field.path.clone()).collect();
        (
            object.drift,
            object.kind.clone(),
            object.namespace.clone(),
            object.name.clone(),
            fields,
        )
    };
    what(one) == what(other)
}

fn send(session: &mut dyn Session, tenant: &TenantId, deployment: DeploymentId, component: Option<String>) {
    let message = Message::Drift {
        tenant: tenant.clone(),
        deployment,
        component,
    };
    session.send(Queue::ExecuteStep, message, Duration::ZERO);
}
