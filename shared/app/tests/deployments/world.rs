//! A control plane in memory, with a cluster that does what a test says.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use slipway_app::{
    App, AppError, Caller, DeploymentView, NewCluster, NewDeployment, Role, Services, Settings,
};
use slipway_model::{
    BUDPIPELINE_EVENTS, BUDUSECASES_EVENTS, Catalog, Cluster, ComponentDeployment, ComponentStatus,
    Deployment, DeploymentStatus, Event, ExecutionId, Message, Problem, Queue, StepProgress, TenantId,
};
use slipway_ports::Receiver;
use slipway_testkit::{
    ManualClock, NoOutside, SequentialIds,
    memory::{SimpleBlobs, SimpleSecrets, SimpleStore},
};

use crate::{
    cluster::{AnyChart, FakeCluster},
    flaky::FlakyStore,
};

/// The catalog that is shipped.
pub(crate) fn catalog() -> Catalog {
    let text = include_str!("../../../../templates/catalog.yaml");
    let value = slipway_dag::parse(text, slipway_dag::MAX_TEMPLATE_BYTES).unwrap();
    slipway_dag::template::check_catalog(value).unwrap()
}

/// A template of that version: a vector database, a model that comes after it, and a chart that reads both.
pub(crate) fn mixed(version: &str) -> Value {
    json!({
        "name": "agent", "version": version,
        "components": [
            {"name": "vector_db", "type": "vector_db", "default_component": "qdrant",
             "compatible_components": ["qdrant", "milvus"]},
            {"name": "llm", "type": "model", "default_component": "llama-3-8b"},
            {"name": "runtime", "type": "helm", "chart": {
                "ref": "charts/agent-runtime", "version": "1.2.0",
                "values": {"llm": "{{ steps.llm.outputs.endpoint_url }}", "size": "{{ parameters.size }}",
                           "db": "{{ steps.vector_db.outputs.endpoint_url }}"}}},
        ],
        "parameters": {"size": {"type": "integer", "default": 4, "min": 1, "max": 32}},
        "deployment_order": ["vector_db", "llm", "runtime"],
    })
}

/// A template of catalog components only.
pub(crate) fn models(version: &str) -> Value {
    json!({
        "name": "models", "version": version,
        "components": [
            {"name": "vector_db", "type": "vector_db", "default_component": "qdrant"},
            {"name": "llm", "type": "model", "default_component": "llama-3-8b"},
        ],
        "deployment_order": ["vector_db", "llm"],
    })
}

pub(crate) fn caller(role: Role) -> Caller {
    Caller {
        tenant: TenantId::local(),
        user_id: "user-789".to_owned(),
        role,
    }
}

pub(crate) fn admin() -> Caller {
    caller(Role::Admin)
}

pub(crate) fn problem<T: std::fmt::Debug>(result: Result<T, AppError>) -> Problem {
    result.unwrap_err().to_problem()
}

/// The steps of an execution.
pub(crate) async fn steps(world: &World, execution: &str) -> Vec<StepProgress> {
    let progress = world
        .app
        .execution_progress(&admin(), execution, true)
        .await
        .unwrap();
    progress.steps.unwrap()
}

pub(crate) fn new_deployment(template: &str, name: &str) -> NewDeployment {
    NewDeployment {
        name: Some(name.to_owned()),
        template: template.to_owned(),
        cluster: "dev".to_owned(),
        ..NewDeployment::default()
    }
}

/// The control plane; clones share it.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) app: App,
    pub(crate) store: Arc<SimpleStore>,
    /// The same store, as the control plane sees it.
    pub(crate) flaky: Arc<FlakyStore>,
    pub(crate) secrets: Arc<SimpleSecrets>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) cluster: FakeCluster,
}

impl World {
    /// With one cluster, `dev`, and the templates above in version 1.0.0.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let clock = Arc::new(ManualClock::default());
        let store = Arc::new(SimpleStore::new(clock.clone(), 1000));
        let flaky = Arc::new(FlakyStore::new(store.clone()));
        let secrets = Arc::new(SimpleSecrets::default());
        let cluster = FakeCluster::new(clock.clone());
        let mut settings = Settings::new("epoch");
        change(&mut settings);
        let app = App::new(Services {
            store: flaky.clone(),
            receiver: store.clone(),
            secrets: secrets.clone(),
            blobs: Arc::new(SimpleBlobs::default()),
            charts: Arc::new(AnyChart),
            connector: Arc::new(cluster.clone()),
            outside: Arc::new(NoOutside),
            clock: clock.clone(),
            ids: Arc::new(SequentialIds::new()),
            catalog: catalog(),
            settings,
        });
        let world = Self {
            app,
            store,
            flaky,
            secrets,
            clock,
            cluster,
        };
        world.add_cluster("dev").await;
        for template in [mixed("1.0.0"), models("1.0.0")] {
            world.app.publish_template(&admin(), template).await.unwrap();
        }
        world
    }

    pub(crate) async fn add_cluster(&self, name: &str) -> Cluster {
        let new: NewCluster = serde_json::from_value(json!({"name": name, "type": "render"})).unwrap();
        self.app.create_cluster(&admin(), new).await.unwrap()
    }

    /// A deployment that was created.
    pub(crate) async fn created(&self, template: &str) -> DeploymentView {
        let new = new_deployment(template, &format!("my-{template}"));
        self.app.create_deployment(&admin(), new).await.unwrap()
    }

    /// A deployment that was started and whose DAG was planned; no step has run.
    pub(crate) async fn planned(&self, template: &str) -> (String, ExecutionId) {
        let id = self.created(template).await.deployment.id.to_string();
        self.clock.advance(Duration::from_millis(1));
        let started = self.app.start_deployment(&admin(), &id).await.unwrap();
        self.deliver(&Queue::PlanDag).await;
        (id, started.pipeline_execution_id.unwrap())
    }

    /// A deployment that runs.
    pub(crate) async fn running(&self, template: &str) -> String {
        let id = self.created(template).await.deployment.id.to_string();
        self.app.start_deployment(&admin(), &id).await.unwrap();
        self.settle().await;
        assert_eq!(self.status(&id).await, DeploymentStatus::Running);
        id
    }

    pub(crate) async fn view(&self, id: &str) -> DeploymentView {
        self.app.deployment(&admin(), id).await.unwrap()
    }

    pub(crate) async fn deployment(&self, id: &str) -> Deployment {
        self.view(id).await.deployment
    }

    pub(crate) async fn status(&self, id: &str) -> DeploymentStatus {
        self.deployment(id).await.status
    }

    pub(crate) async fn component(&self, id: &str, name: &str) -> ComponentDeployment {
        let components = self.view(id).await.components;
        components
            .into_iter()
            .find(|one| one.component_name == name)
            .unwrap()
    }

    /// Name → status.
    pub(crate) async fn components(&self, id: &str) -> Vec<(String, ComponentStatus)> {
        let components = self.view(id).await.components;
        components
            .into_iter()
            .map(|one| (one.component_name, one.status))
            .collect()
    }

    /// Every message of a queue that can be received now, and those that come of them.
    pub(crate) async fn deliver(&self, queue: &Queue) -> usize {
        let mut handled = 0;
        // Some work comes back at once, and goes on as long as nobody stops it.
        while handled < 20 {
            let wait = Duration::ZERO;
            let got = self
                .store
                .receive(queue, 10, wait, Duration::from_secs(60))
                .await
                .unwrap();
            if got.is_empty() {
                break;
            }
            for delivery in got {
                let message = Message::from_body(queue, &delivery.body).unwrap();
                self.app.handle(queue, message).await.unwrap();
                self.store.acknowledge(queue, &delivery.receipt).await.unwrap();
                handled += 1;
            }
        }
        handled
    }

    /// Every queue that the control plane consumes.
    pub(crate) fn queues() -> [Queue; 5] {
        [
            Queue::PlanDag,
            Queue::ExecuteStep,
            Queue::DeployHelm,
            Queue::Topic(BUDPIPELINE_EVENTS.to_owned()),
            Queue::Topic(BUDUSECASES_EVENTS.to_owned()),
        ]
    }

    /// Everything that can be received without waiting longer than a minute for it.
    pub(crate) async fn settle(&self) {
        let queues = Self::queues();
        let mut last = String::new();
        for _ in 0..10_000 {
            let mut handled = 0;
            for queue in &queues {
                let some = self.deliver(queue).await;
                if some > 0 {
                    last = format!("{some} on {queue:?}");
                }
                handled += some;
            }
            if handled > 0 {
                continue;
            }
            use slipway_ports::Clock;
            let now = self.clock.now();
            match self.store.next_message_at() {
                Some(at) if at.since(now) <= Duration::from_secs(60) => self.clock.set(at.max(now)),
                _ => return,
            }
        }
        panic!("the messages never end: {last}");
    }

    /// Hands an event of an execution to its consumer.
    pub(crate) async fn event(&self, event_type: &str, payload: Value) {
        let event = Event {
            event_type: event_type.to_owned(),
            workflow_id: String::new(),
            tenant_id: None,
            payload,
        };
        self.app.track_event(&event).await.unwrap();
    }

    pub(crate) async fn step_event(
        &self,
        event_type: &str,
        execution: ExecutionId,
        step: &str,
        outputs: Value,
    ) {
        let status = match event_type {
            "step_completed" => "COMPLETED",
            "step_started" => "RUNNING",
            _ => "FAILED",
        };
        let payload =
            json!({"execution_id": execution, "step_id": step, "status": status, "outputs": outputs});
        self.event(event_type, payload).await;
    }
}
