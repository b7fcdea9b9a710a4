//! Asking, and what the answers must be.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use slipway_app::{App, AppError, Approval, Caller, IdempotentRequest, ListQuery, Role};
use slipway_model::ExecutionId;

use super::{
    KUBECONFIG,
    asks::Ask,
    caller,
    lists::{bad_list, list},
};
use crate::{check::Invariant, world::Sim};

fn read<T: DeserializeOwned>(value: Value) -> Result<T, AppError> {
    serde_json::from_value(value)
        .map_err(|error| AppError::conflict(format!("the body cannot be read: {error}")))
}

/// Asks.
pub(super) async fn perform(sim: &Sim, app: &App, ask: Ask) -> Result<String, AppError> {
    let me = caller();
    Ok(match ask {
        Ask::List { of, limit, filter } => {
            let mut query = ListQuery::default();
            match filter {
                4 => query.status = Some("RUNNING".to_owned()),
                5 => query.cluster = Some("dev".to_owned()),
                6 => query.cluster = Some("nowhere".to_owned()),
                7 => query.template = Some("stack".to_owned()),
                _ => {}
            }
            list(sim, app, of, limit, query).await?
        }
        Ask::BadList { of, wrong } => bad_list(sim, app, of, wrong).await?,
        Ask::Record { of, id } => record(sim, app, of, &id).await?,
        Ask::Preview { id, upgrade } => {
            let upgrade = upgrade.map(read).transpose()?;
            app.request_plan(&me, &id, upgrade).await?;
            "previewed".to_owned()
        }
        Ask::Plan { id } => {
            let plan = app.plan(&me, &id).await?;
            let text = serde_json::to_string(&plan).unwrap_or_default();
            sim.world().check_body("plan", &text);
            format!("of generation {}", plan.generation)
        }
        Ask::Job(new) => {
            let job = app.create_job(&me, read(new)?).await?;
            let id = job.id.to_string();
            sim.world().known.jobs.push(id.clone());
            id
        }
        Ask::ExecuteJob(id) => format!("{:?}", app.execute_job(&me, &id).await?.status),
        Ask::CancelJob(id) => format!("{:?}", app.cancel_job(&me, &id).await?.status),
        Ask::Publish {
            template,
            only_checked,
        } => {
            let published = if only_checked {
                app.validate_template(&me, template)?
            } else {
                app.publish_template(&me, template).await?
            };
            published.version.to_string()
        }
        Ask::Withdraw { name, version } => {
            app.delete_template(&me, &name, version.as_deref()).await?;
            "withdrawn".to_owned()
        }
        Ask::Register(new) => app.create_cluster(&me, read(new)?).await?.id.to_string(),
        Ask::Unregister(name) => {
            app.delete_cluster(&me, &name).await?;
            "unregistered".to_owned()
        }
        Ask::Credentials(name) => {
            let new = read(json!({"kubeconfig": KUBECONFIG}))?;
            let cluster = app.replace_cluster_credentials(&me, &name, new).await?;
            format!("{} is reached anew", cluster.name)
        }
        Ask::Redrive { queue, nth, nonsense } => redrive(app, queue, nth, nonsense).await?,
        Ask::Twice { key, dag, other } => twice(sim, app, &key, dag, other).await?,
        Ask::BadDag(dag) => {
            let made = app.create_execution(&me, dag.clone()).await?;
            sim.world().violated(
                Invariant::NonsenseIsRefused,
                format_args!("execution {} was made of {dag}", made.id),
            );
            made.id.to_string()
        }
        Ask::Create(new) => {
            let created = app.create_deployment(&me, read(new)?).await?;
            let id = created.deployment.id.to_string();
            sim.world().known.deployments.push(id.clone());
            id
        }
        Ask::Upgrade(id, request) => {
            app.upgrade_deployment(&me, &id, read(request)?).await?;
            "upgrading".to_owned()
        }
        Ask::Rollback(id, request) => {
            app.rollback_deployment(&me, &id, &request).await?;
            "rolling back".to_owned()
        }
        Ask::Forbidden { of, id } => {
            let me = Caller {
                role: Role::Viewer,
                ..me
            };
            let refused = match of {
                0 => app.start_deployment(&me, &id).await.is_err(),
                1 => app.delete_cluster(&me, "dev").await.is_err(),
                2 => app.dead_letters(&me, None, &ListQuery::default()).await.is_err(),
                3 => app.delete_deployment(&me, &id).await.is_err(),
                _ => app.publish_template(&me, json!({})).await.is_err(),
            };
            if !refused {
                sim.world().violated(
                    Invariant::RolesAreKept,
                    format_args!("a viewer may do what only others may ({of})"),
                );
            }
            "refused".to_owned()
        }
        Ask::Decide(id, step, approved) => {
            let approval = Approval {
                approved,
                comment: Some("so be it".to_owned()),
            };
            let step = app.approve_step(&me, &id, &step, approval).await?;
            format!("{:?}", step.status)
        }
        Ask::Look { of, id } => match of {
            0 | 1 => app.request_drift(&me, &id).await?.requested_at.to_string(),
            2 => app.request_orphans(&me, &id).await?.requested_at.to_string(),
            _ => format!("{} orphans", app.orphans(&me, &id).await?.items.len()),
        },
    })
}

async fn record(sim: &Sim, app: &App, of: u32, id: &str) -> Result<String, AppError> {
    let me = caller();
    let text = match of {
        0 | 1 => serde_json::to_string(&app.deployment(&me, id).await?),
        2 => serde_json::to_string(&app.deployment_progress(&me, id).await?),
        3 | 4 => {
            let lines = app.deployment_events(&me, id, None, 3).await?;
            let after = match of {
                3 => lines.last().map_or("not one", |line| line.id.as_str()),
                _ => "Ü",
            };
            serde_json::to_string(&app.deployment_events(&me, id, Some(after), 1000).await?)
        }
        5 => serde_json::to_string(&app.execution_progress(&me, id, false).await?),
        6 => serde_json::to_string(&app.execution(&me, id).await?),
        7 => serde_json::to_string(&app.job(&me, id).await?),
        8 => Ok(app.job_logs(&me, id).await?),
        9 => {
            let versions = app.template(&me, id).await?;
            let first = versions.versions.first().map_or("one", String::as_str);
            serde_json::to_string(&app.template_version(&me, id, first).await?)
        }
        10 => serde_json::to_string(&app.cluster(&me, id).await?),
        _ => serde_json::to_string(&app.cluster_health(&me, id).await?),
    };
    let text = text.unwrap_or_default();
    sim.world().check_body("answer", &text);
    Ok(format!("{} bytes", text.len()))
}

async fn redrive(app: &App, queue: u32, nth: u32, nonsense: bool) -> Result<String, AppError> {
    let me = caller();
    let queue = match queue {
        0 => Some("plan-dag"),
        1 => Some("execute-step"),
        2 => Some("deploy-helm"),
        _ => None,
    };
    let letters = app.dead_letters(&me, queue, &ListQuery::default()).await?;
    let Some(letter) = letters.items.get(nth as usize) else {
        return Ok("there is none".to_owned());
    };
    let id = if nonsense { "0" } else { &letter.id };
    let view = app.dead_letter(&me, &letter.queue, id).await?;
    app.redrive_dead_letter(&me, &view.summary.queue, &view.summary.id)
        .await?;
    Ok(format!("{id} is back"))
}

/// Creates the same twice under one key: at most one comes of it.
async fn twice(sim: &Sim, app: &App, key: &str, dag: Value, other: bool) -> Result<String, AppError> {
    let me = caller();
    let mut body = dag.to_string();
    let mut made = Vec::new();
    for round in 0..4 {
        if round == 3 && other {
            body.push(' ');
        }
        let request = IdempotentRequest {
            key,
            operation: "POST /executions",
            body: body.as_bytes(),
        };
        let created = app
            .create_once(&me, Some(request), |id| {
                app.create_execution_as(&me, ExecutionId(id), dag.clone())
            })
            .await;
        let created = match created {
            Ok(created) => created,
            // Nobody knows what became of it: the caller repeats it, and gives up after a while.
            Err(error) if round < 3 && !matches!(error, AppError::Problem(_)) => continue,
            Err(error) => return Err(error),
        };
        made.push(created.id);
        let id = created.id.to_string();
        let mut world = sim.world();
        if !world.known.executions.contains(&id) {
            world.known.executions.push(id);
        }
    }
    made.dedup();
    let named = sim
        .world()
        .executions_named(dag["name"].as_str().unwrap_or_default());
    made.extend(
        named
            .into_iter()
            .filter(|id| !made.contains(id))
            .collect::<Vec<_>>(),
    );
    if made.len() > 1 {
        sim.world().violated(
            Invariant::OnceMeansOnce,
            format_args!("two creations under the key {key} made {made:?}"),
        );
    }
    Ok(format!("{made:?}"))
}
