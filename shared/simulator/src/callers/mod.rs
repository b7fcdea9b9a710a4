//! Callers: what they do, at which times the seed decides.

mod answers;
mod asks;
mod lists;

use serde_json::{Value, json};
use slipway_app::{App, AppError, Approval, Caller, NewCluster, NewDeployment, Role, RollbackRequest};
use slipway_model::{Deployment, DeploymentStatus, StepStatus, TenantId};
use slipway_ports::Key;

pub(crate) use asks::Ask;

use crate::{
    check::Invariant,
    services::SECRET,
    world::{Sim, World},
};

/// A cluster that nobody connects to.
pub(crate) const KUBECONFIG: &str = "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: k, user: u}}], clusters: [{name: k, cluster: {server: 'https://127.0.0.1:6443'}}], users: [{name: u, user: {token: t}}]}";

/// What callers know of.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) executions: Vec<String>,
    pub(crate) deployments: Vec<String>,
    /// Jobs that were made by hand.
    pub(crate) jobs: Vec<String>,
    pub(crate) serial: u32,
    /// Whether the run has templates.
    pub(crate) has_templates: bool,
}

pub(crate) fn caller() -> Caller {
    Caller {
        tenant: TenantId::local(),
        user_id: "user-789".to_owned(),
        role: Role::Admin,
    }
}

/// What one caller does.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Post(Value),
    Cancel(String),
    Approve(String, bool),
    Look(String),
    Create(String, Value),
    Start(String),
    Stop(String),
    Retry(String),
    Upgrade(String, Value),
    Rollback(String),
    Delete(String),
    /// Deletes a deployment and leaves its releases.
    LetGo(String),
    Sync(String),
    Ask(Ask),
}

impl World {
    pub(super) fn some(&mut self, of: impl Fn(&Known) -> &Vec<String>) -> Option<String> {
        let count = u32::try_from(of(&self.known).len()).unwrap_or(0);
        if count == 0 {
            return None;
        }
        let index = self.choices.below(count) as usize;
        of(&self.known).get(index).cloned()
    }

    /// What the next caller does.
    pub(crate) fn next_call(&mut self) -> Call {
        let kinds = if self.known.has_templates { 20 } else { 16 };
        let kind = self.choices.below(kinds);
        if self.known.has_templates {
            let call = self.deployment_call(kind);
            if let Some(call) = call {
                return call;
            }
        } else if kind >= 6
            && let Some(id) = self.some(|known| &known.executions)
        {
            return match kind {
                6..9 => Call::Approve(id, true),
                9 => Call::Approve(id, false),
                10..13 => Call::Look(id),
                13 | 14 => Call::Cancel(id),
                _ => {
                    self.known.serial += 1;
                    let serial = self.known.serial;
                    Call::Post(self.dag(serial))
                }
            };
        }
        self.known.serial += 1;
        let serial = self.known.serial;
        Call::Post(self.dag(serial))
    }

    fn deployment_call(&mut self, kind: u32) -> Option<Call> {
        let found = self.some(|known| &known.deployments);
        let Some(name) = found else {
            self.known.serial += 1;
            let name = format!("d{}", self.known.serial);
            let version = self.choices.below(2);
            return Some(Call::Create(name, json!(format!("stack@1.{version}.0"))));
        };
        Some(match kind {
            0..4 => Call::Start(name),
            4 => Call::Stop(name),
            5 | 6 => Call::Retry(name),
            7 | 8 => {
                let size = 1 + self.choices.below(4);
                let version = self.choices.below(3);
                let mut request = json!({"parameters": {"size": size}});
                if version < 2 {
                    request["template_version"] = json!(format!("1.{version}.0"));
                }
                Call::Upgrade(name, request)
            }
            9 => Call::Rollback(name),
            10 => Call::Sync(name),
            11 | 12 => match self.choices.below(6) {
                0 => Call::LetGo(name),
                _ => Call::Delete(name),
            },
            13 => {
                self.known.serial += 1;
                let name = format!("d{}", self.known.serial);
                Call::Create(name, json!("stack@1.0.0"))
            }
            14 => return None,
            16..20 => {
                let id = self.execution_of(&name)?;
                match kind {
                    16 => Call::Cancel(id),
                    17 => Call::Approve(id, true),
                    _ => Call::Look(id),
                }
            }
            _ => Call::Start(name),
        })
    }

    /// The newest execution of a deployment, as its callers know it.
    fn execution_of(&self, id: &str) -> Option<String> {
        let key = Key::new(format!("local/d/{id}"), "d");
        let (row, _) = self.tables.newest(&key);
        let deployment: Deployment = serde_json::from_str(&row?.item.body).ok()?;
        Some(deployment.pipeline_execution_id?.to_string())
    }
}

/// Does what a caller does. Refusals and outages are the caller's to bear; anything else is a fault of ours.
pub(crate) async fn call(sim: Sim, app: App, call: Call) {
    let line = format!("{call:?}");
    let outcome = perform(&sim, &app, call).await;
    let mut world = sim.world();
    match outcome {
        Ok(said) => world.say(format_args!("  caller: {line}: {said}")),
        Err(AppError::Problem(problem)) => {
            world.say(format_args!("  caller: {line} is refused: {}", problem.detail));
            if problem.status >= 500 && !world.stormy && world.cloud.away_until <= world.now {
                world.violated(
                    Invariant::NoHandlerFailsByItself,
                    format_args!("{line}: {}", problem.detail),
                );
            }
        }
        Err(other) => {
            let text = slipway_ports::chain(&other);
            world.say(format_args!("  caller: {line} fails: {text}"));
            if world.is_fine {
                let what = format!("{line}: {text}");
                world.violated(Invariant::NoHandlerFailsByItself, what);
            }
        }
    }
}

async fn perform(sim: &Sim, app: &App, call: Call) -> Result<String, AppError> {
    let caller = caller();
    Ok(match call {
        Call::Post(dag) => {
            let created = app.create_execution(&caller, dag).await?;
            let id = created.id.to_string();
            sim.world().known.executions.push(id.clone());
            id
        }
        Call::Cancel(id) => {
            let header = app.cancel_execution(&caller, &id, "a caller wants it").await?;
            format!("{:?}", header.status)
        }
        Call::Approve(id, approved) => {
            let mut approvals = 0;
            let progress = app.execution_progress(&caller, &id, true).await?;
            for step in progress.steps.unwrap_or_default() {
                if step.action == "approval" && step.status == StepStatus::AwaitingEvent {
                    let approval = Approval {
                        approved,
                        comment: None,
                    };
                    app.approve_step(&caller, &id, &step.step_id, approval).await?;
                    approvals += 1;
                }
            }
            format!("{approvals} decided")
        }
        Call::Look(id) => {
            let before = sim.world().percent_of(&id);
            let progress = app.execution_progress(&caller, &id, true).await?;
            sim.world().check_progress(&id, before, &progress);
            format!("{} %", progress.percent)
        }
        Call::Create(name, template) => {
            let new: NewDeployment = serde_json::from_value(json!({
                "name": name, "template": template, "cluster": "dev",
                "parameters": {"password": SECRET},
            }))
            .unwrap_or_default();
            let created = app.create_deployment(&caller, new).await?;
            let id = created.deployment.id.to_string();
            sim.world().known.deployments.push(id.clone());
            app.start_deployment(&caller, &id).await?;
            id
        }
        Call::Start(id) => {
            app.start_deployment(&caller, &id).await?;
            "started".to_owned()
        }
        Call::Stop(id) => {
            app.stop_deployment(&caller, &id).await?;
            "stopping".to_owned()
        }
        Call::Retry(id) => {
            app.retry_deployment(&caller, &id).await?;
            "retrying".to_owned()
        }
        Call::Upgrade(id, request) => {
            let request = serde_json::from_value(request).map_err(|error| {
                AppError::conflict(format!("the simulator's request cannot be read: {error}"))
            })?;
            app.upgrade_deployment(&caller, &id, request).await?;
            "upgrading".to_owned()
        }
        Call::Rollback(id) => {
            app.rollback_deployment(&caller, &id, &RollbackRequest::default())
                .await?;
            "rolling back".to_owned()
        }
        Call::Delete(id) => {
            app.delete_deployment(&caller, &id).await?;
            "deleting".to_owned()
        }
        Call::LetGo(id) => {
            app.let_go_of_deployment(&caller, &id).await?;
            "letting go".to_owned()
        }
        Call::Ask(ask) => answers::perform(sim, app, ask).await?,
        Call::Sync(id) => {
            app.sync_deployment(&caller, &id).await?;
            "synchronised".to_owned()
        }
    })
}

/// What there is before anything happens: a cluster, and templates if the run has any.
pub(crate) async fn furnish(sim: Sim, app: App, cluster: Value, templates: Vec<Value>) {
    let new: NewCluster = match serde_json::from_value(cluster) {
        Ok(new) => new,
        Err(error) => {
            sim.world().violated(Invariant::NoHandlerFailsByItself, error);
            return;
        }
    };
    let caller = caller();
    if let Err(error) = app.create_cluster(&caller, new).await {
        sim.world().violated(Invariant::NoHandlerFailsByItself, error);
    }
    for template in templates {
        if let Err(error) = app.publish_template(&caller, template).await {
            let text = match error {
                AppError::Problem(problem) => format!("{problem:?}"),
                other => slipway_ports::chain(&other),
            };
            sim.world().violated(Invariant::NoHandlerFailsByItself, text);
        }
    }
}

/// Asks for a look at all that runs, and at the cluster, instead of waiting for the hour.
pub(crate) async fn ask_for_looks(sim: Sim, app: App) {
    let caller = caller();
    let running: Vec<String> = sim
        .world()
        .deployments()
        .iter()
        .filter(|deployment| deployment.status == DeploymentStatus::Running)
        .map(|deployment| deployment.id.to_string())
        .collect();
    for id in running {
        if let Err(error) = app.request_drift(&caller, &id).await {
            sim.world().violated(Invariant::NoHandlerFailsByItself, error);
        }
    }
    match app.request_orphans(&caller, "dev").await {
        Ok(_) => {}
        // A caller may have unregistered it, or it is a render target, on which nothing is made.
        Err(AppError::Problem(problem)) if matches!(problem.status, 404 | 409) => {}
        Err(error) => sim.world().violated(Invariant::NoHandlerFailsByItself, error),
    }
}

/// What a caller is told of clusters and of what runs there.
pub(crate) async fn tell_looks(sim: Sim, app: App) {
    let caller = caller();
    let ids: Vec<String> = sim
        .world()
        .deployments()
        .iter()
        .map(|deployment| deployment.id.to_string())
        .collect();
    for id in ids {
        match app.deployment(&caller, &id).await {
            Ok(view) => sim.world().looks.told.push(view),
            Err(error) => sim.world().violated(Invariant::NoHandlerFailsByItself, error),
        }
    }
    match app.cluster_health(&caller, "dev").await {
        Ok(health) => sim.world().looks.health = Some(health),
        // A caller may have unregistered it.
        Err(AppError::Problem(problem)) if problem.status == 404 => {}
        Err(error) => sim.world().violated(Invariant::NoHandlerFailsByItself, error),
    }
}
