//! What callers ask beside what they have deployed: lists, records, previews, jobs by hand, what operators do, and
//! requests that must be refused.

use std::{collections::BTreeSet, future::Future};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use slipway_app::{
    App, AppError, Approval, Caller, IdempotentRequest, ListQuery, Page, Role, RollbackRequest,
};

use super::caller;
use crate::{
    check::Invariant,
    services::SECRET,
    world::{Sim, World},
};

/// Words that are no ids, no names, no cursors and no statuses.
const NONSENSE: [&str; 5] = ["x", "", "zz", "00000000-0000-4000-8000-00000000dead", "Ü/.."];

/// What a caller asks.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// A list, to its end.
    List {
        of: u32,
        limit: usize,
        filter: u32,
    },
    /// A list with a query that must be refused.
    BadList {
        of: u32,
        wrong: u32,
    },
    /// One record, by an id or by nonsense.
    Record {
        of: u32,
        id: String,
    },
    /// A preview of what a start or an upgrade would do.
    Preview {
        id: String,
        upgrade: Option<Value>,
    },
    /// The preview that was asked for last.
    Plan {
        id: String,
    },
    /// A job that is made by hand.
    Job(Value),
    ExecuteJob(String),
    CancelJob(String),
    /// A template that is published, again, otherwise, or not at all.
    Publish {
        template: Value,
        only_checked: bool,
    },
    Withdraw {
        name: String,
        version: Option<String>,
    },
    /// A cluster that is registered beside the first.
    Register(Value),
    Unregister(String),
    /// What operators do with dead letters.
    Redrive {
        queue: u32,
        nth: u32,
        nonsense: bool,
    },
    /// The same creation twice, under one key.
    Twice {
        key: String,
        dag: Value,
        other: bool,
    },
    /// A DAG that must be refused.
    BadDag(Value),
    /// A deployment with more to it, or with something wrong.
    Create(Value),
    Upgrade(String, Value),
    Rollback(String, RollbackRequest),
    /// Something that the caller's role does not cover.
    Forbidden {
        of: u32,
        id: String,
    },
    Decide(String, String, bool),
}

impl World {
    fn nonsense(&mut self) -> String {
        self.choices.one_of(&NONSENSE).to_owned()
    }

    fn some_deployment(&mut self) -> String {
        match self.some(|known| &known.deployments) {
            Some(id) if self.choices.below(8) < 7 => id,
            _ => self.nonsense(),
        }
    }

    fn some_execution(&mut self) -> String {
        match self.some(|known| &known.executions) {
            Some(id) if self.choices.below(8) < 7 => id,
            _ => self.nonsense(),
        }
    }

    fn some_job(&mut self) -> String {
        match self.some(|known| &known.jobs) {
            Some(id) if self.choices.below(8) < 7 => id,
            _ => self.nonsense(),
        }
    }

    /// What the next caller asks.
    pub(crate) fn next_ask(&mut self) -> Ask {
        let has_templates = self.known.has_templates;
        let kind = self.choices.below(32);
        match kind {
            0..4 => Ask::List {
                of: self.choices.below(8),
                limit: self.choices.one_of(&[50, 1, 2, 200]),
                filter: self.choices.below(8),
            },
            4 => Ask::BadList {
                of: self.choices.below(8),
                wrong: self.choices.below(5),
            },
            5..10 => {
                let of = self.choices.below(12);
                let id = match of {
                    0..5 => self.some_deployment(),
                    5..7 => self.some_execution(),
                    7..9 => self.some_job(),
                    _ => match self.choices.below(4) {
                        0..3 => if of == 9 { "stack" } else { "dev" }.to_owned(),
                        _ => self.nonsense(),
                    },
                };
                Ask::Record { of, id }
            }
            10 | 11 => Ask::Job(self.job_by_hand()),
            12 | 13 => Ask::ExecuteJob(self.some_job()),
            14 => Ask::CancelJob(self.some_job()),
            15 => {
                let version = self.choices.one_of(&[0_u32, 2, 3]);
                let mut template = self.template(version);
                match self.choices.below(6) {
                    0 => template["components"][0]["depends_on"] = json!(["nobody"]),
                    1 => template["components"][0]["chart"] = json!({"ref": "oci://elsewhere.example/x"}),
                    2 => template["version"] = json!("one"),
                    _ => {}
                }
                Ask::Publish {
                    template,
                    only_checked: self.choices.below(4) == 3,
                }
            }
            16 => Ask::Withdraw {
                name: self.choices.one_of(&["stack", "stack", "nobody", "Ü"]).to_owned(),
                version: match self.choices.below(4) {
                    0 => None,
                    1 => Some("1.2.0".to_owned()),
                    2 => Some("1.0.0".to_owned()),
                    _ => Some("one".to_owned()),
                },
            },
            17 => Ask::Register(self.registration()),
            18 => Ask::Unregister(self.choices.one_of(&["second", "second", "dev", "x"]).to_owned()),
            19..22 => Ask::Redrive {
                queue: self.choices.below(7),
                nth: self.choices.below(3),
                nonsense: self.choices.below(6) == 5,
            },
            22 => {
                self.known.serial += 1;
                let serial = self.known.serial;
                Ask::Twice {
                    key: match self.choices.below(8) {
                        7 => "not visible".to_owned(),
                        _ => format!("key-{}", self.choices.below(3)),
                    },
                    dag: self.dag(serial),
                    other: self.choices.below(4) == 3,
                }
            }
            23 => Ask::BadDag(self.bad_dag()),
            24 => Ask::Forbidden {
                of: self.choices.below(5),
                id: self.some_deployment(),
            },
            25 => Ask::Decide(
                self.some_execution(),
                format!("s{}", self.choices.below(4)),
                self.choices.below(2) == 0,
            ),
            _ if !has_templates => Ask::List {
                of: 0,
                limit: 1,
                filter: 0,
            },
            26 | 27 => {
                let id = self.some_deployment();
                let upgrade = match self.choices.below(5) {
                    0 => None,
                    2 => Some(json!({"template_version": "1.0.0"})),
                    3 => Some(json!({"template_version": "1.1.0", "parameters": {"size": 1}})),
                    1 => Some(json!({"parameters": {"size": 1 + self.choices.below(4)}})),
                    _ => Some(self.upgrade_in_full()),
                };
                Ask::Preview { id, upgrade }
            }
            28 => Ask::Plan {
                id: self.some_deployment(),
            },
            29 => Ask::Create(self.creation_in_full()),
            30 => {
                let id = self.some_deployment();
                Ask::Upgrade(id, self.upgrade_in_full())
            }
            _ => {
                let id = self.some_deployment();
                let request = match self.choices.below(4) {
                    0 => RollbackRequest {
                        execution_id: Some(self.nonsense()),
                        generation: None,
                    },
                    1 => RollbackRequest {
                        execution_id: Some(self.nonsense()),
                        generation: Some(1),
                    },
                    _ => RollbackRequest {
                        execution_id: None,
                        generation: Some(1 + u64::from(self.choices.below(4))),
                    },
                };
                Ask::Rollback(id, request)
            }
        }
    }

    fn job_by_hand(&mut self) -> Value {
        self.known.serial += 1;
        let serial = self.known.serial;
        let chart = self.choices.one_of(&["web", "db", "hooked"]);
        let mut job = json!({
            "name": format!("by-hand-{serial}"), "job_type": "helm_deploy", "cluster_id": "dev",
            "config": {
                "chart_ref": format!("charts/{chart}"), "release_name": format!("hand-{serial}"),
                "namespace": "by-hand", "values": {"serial": serial},
                "timeout": self.choices.one_of(&[30_u32, 10, 120]),
            },
            "timeout_seconds": 600,
        });
        match self.choices.below(12) {
            6 => job["name"] = json!(""),
            7 => job["cluster_id"] = json!("nowhere"),
            8 => job["config"]["chart_ref"] = json!("ftp://x"),
            9 => job["job_type"] = json!("model_deployment"),
            10 => job["timeout_seconds"] = json!(0),
            11 => job["priority"] = json!(101),
            _ => {}
        }
        job
    }

    fn registration(&mut self) -> Value {
        match self.choices.below(7) {
            0..3 => json!({"name": "second", "type": "render"}),
            6 => json!({"name": "third", "type": "eks", "eks_name": "!", "region": "!", "external_id": "!"}),
            3 => json!({"name": "second", "type": "kubeconfig", "kubeconfig": "{}", "region": "x"}),
            4 => json!({"name": "second", "type": "eks", "region": "eu-central-1", "ingress_url": "ftp://x"}),
            _ => json!({"name": "Second", "type": "kubeconfig", "context": "x"}),
        }
    }

    fn bad_dag(&mut self) -> Value {
        let step = json!({"id": "a", "action": "pass", "depends_on": [], "params": {}});
        match self.choices.below(7) {
            0 => json!({"name": "bad", "steps": []}),
            1 => json!({"name": "bad", "steps": [{"id": "a", "action": "unheard_of", "params": {}}]}),
            2 => json!({"name": "bad", "steps": [step, step]}),
            3 => {
                json!({"name": "bad", "steps": [{"id": "a", "action": "pass", "depends_on": ["a"], "params": {}}]})
            }
            4 => {
                json!({"name": "bad", "callback_topics": ["nobodys"], "steps": [step]})
            }
            5 => json!({"name": "bad", "steps": [
                {"id": "a", "action": "pass", "params": {"value": "{{ steps.nobody.outputs.x }}"}}]}),
            _ => json!({"name": "bad", "steps": [{"id": "a", "action": "helm_deploy",
                "params": {"cluster_id": "nowhere", "chart_ref": "ftp://x"}}]}),
        }
    }

    fn creation_in_full(&mut self) -> Value {
        self.known.serial += 1;
        let mut new = json!({
            "name": format!("d{}", self.known.serial), "template": "stack", "cluster": "dev",
            "parameters": {"password": SECRET, "size": 2},
            "values": {"db": {"extra": self.choices.below(3)}},
            "callback_topics": ["budusecasesEvents"],
        });
        match self.choices.below(12) {
            4 => new["cluster"] = json!("second"),
            5 => new["template"] = json!("nobody"),
            6 => new["template_version"] = json!("9.9.9"),
            7 => new["parameters"] = json!({"size": 99}),
            8 => new["components"] = json!({"db": "qdrant", "nobody": "qdrant"}),
            9 => new["values"] = json!({"nobody": {}}),
            10 => new["callback_topics"] = json!(["nobodys"]),
            11 => new["name"] = json!("Not A Name"),
            _ => {
                if self.choices.below(4) == 3 {
                    new["name"] = Value::Null;
                }
            }
        }
        new
    }

    fn upgrade_in_full(&mut self) -> Value {
        match self.choices.below(6) {
            0 => json!({"values": {"db": {"extra": 1 + self.choices.below(3)}}}),
            1 => json!({"parameters": {"password": format!("{SECRET}-2")}}),
            2 => json!({"template_version": "9.9.9"}),
            3 => json!({"parameters": {"size": "large", "nobody": 1}}),
            4 => json!({"components": {"vector": "milvus"}}),
            _ => json!({"template_version": "1.1.0", "components": {"vector": "llama-3-8b"}}),
        }
    }
}

/// Reads a list to its end; the words that name its items. A list that stands still names none twice.
async fn to_the_end<T, F>(
    sim: &Sim,
    limit: usize,
    query: ListQuery,
    name: impl Fn(&T) -> String,
    ask: impl Fn(ListQuery) -> F,
) -> Result<String, AppError>
where
    F: Future<Output = Result<Page<T>, AppError>>,
{
    let mut names = BTreeSet::new();
    let mut cursor = None;
    let mut pages = 0;
    loop {
        let page = ask(ListQuery {
            cursor: cursor.take(),
            limit: Some(limit),
            ..query.clone()
        })
        .await?;
        pages += 1;
        if page.items.len() > limit {
            sim.world().violated(
                Invariant::ListsNameOnce,
                format_args!("a page of {limit} has {} items", page.items.len()),
            );
        }
        for item in &page.items {
            let name = name(item);
            if !names.insert(name.clone()) {
                sim.world().violated(
                    Invariant::ListsNameOnce,
                    format_args!("a list names {name} on two pages"),
                );
            }
        }
        match page.next_cursor {
            Some(next) if pages < 12 => cursor = Some(next),
            _ => return Ok(format!("{} on {pages} pages", names.len())),
        }
    }
}

async fn list(sim: &Sim, app: &App, of: u32, limit: usize, query: ListQuery) -> Result<String, AppError> {
    let me = caller();
    let me = &me;
    match of {
        0 => {
            to_the_end(
                sim,
                limit,
                query,
                |one: &slipway_model::Execution| one.id.to_string(),
                |query| async move { app.executions(me, &query).await },
            )
            .await
        }
        1 => {
            to_the_end(
                sim,
                limit,
                query,
                |one: &slipway_model::Job| one.id.to_string(),
                |query| async move { app.jobs(me, &query).await },
            )
            .await
        }
        2 => {
            to_the_end(
                sim,
                limit,
                query,
                |one: &slipway_model::Deployment| one.id.to_string(),
                |query| async move { app.deployments(me, &query).await },
            )
            .await
        }
        3 => {
            to_the_end(
                sim,
                limit,
                query,
                |one: &slipway_model::Template| one.name.clone(),
                |query| async move { app.templates(me, &query).await },
            )
            .await
        }
        4 => {
            to_the_end(
                sim,
                limit,
                query,
                |one: &slipway_model::Cluster| one.id.to_string(),
                |query| async move { app.clusters(me, &query).await },
            )
            .await
        }
        _ => {
            let queue = match of {
                5 => None,
                6 => Some("execute-step"),
                _ => Some("nobodys"),
            };
            let name = |one: &slipway_app::DeadLetterSummary| format!("{}/{}", one.queue, one.id);
            to_the_end(sim, limit, query, name, |query| async move {
                app.dead_letters(me, queue, &query).await
            })
            .await
        }
    }
}

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
        Ask::BadList { of, wrong } => {
            let mut query = ListQuery::default();
            let mut limit = 50;
            match wrong {
                0 => query.status = Some("no-status".to_owned()),
                1 => limit = 0,
                2 => limit = 1000,
                _ => {
                    query.cursor = Some("zz".to_owned());
                    query.limit = Some(50);
                    let me = &me;
                    let refused = match of {
                        0 => app.executions(me, &query).await.is_err(),
                        1 => app.jobs(me, &query).await.is_err(),
                        2 => app.deployments(me, &query).await.is_err(),
                        3 => app.templates(me, &query).await.is_err(),
                        _ => app.clusters(me, &query).await.is_err(),
                    };
                    return Ok(format!("refused: {refused}"));
                }
            }
            list(sim, app, of, limit, query).await?
        }
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
        Ask::Redrive { queue, nth, nonsense } => redrive(app, queue, nth, nonsense).await?,
        Ask::Twice { key, dag, other } => twice(sim, app, &key, dag, other).await?,
        Ask::BadDag(dag) => app.create_execution(&me, dag).await?.id.to_string(),
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
    for round in 0..2 {
        if round == 1 && other {
            body.push(' ');
        }
        let request = IdempotentRequest {
            key,
            operation: "POST /executions",
            body: body.as_bytes(),
        };
        let created = app
            .create_once(&me, Some(request), app.create_execution(&me, dag.clone()))
            .await?;
        made.push(created.id);
        let id = created.id.to_string();
        let mut world = sim.world();
        if !world.known.executions.contains(&id) {
            world.known.executions.push(id);
        }
    }
    made.dedup();
    if made.len() > 1 {
        sim.world().violated(
            Invariant::OnceMeansOnce,
            format_args!("two creations under the key {key} made {made:?}"),
        );
    }
    Ok(format!("{made:?}"))
}
