//! An API over ports in memory, and a way to call it.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode, request::Parts},
};
use serde_json::{Value, json};
use slipway_api::{Api, Authenticator, Resource, Streams};
use slipway_app::{App, Caller, Role, Services, Settings};
use slipway_model::{Problem, ProblemType};
use slipway_testkit::{
    ManualClock, NoCharts, NoClusters, NoOutside, SequentialIds,
    memory::{SimpleBlobs, SimpleSecrets, SimpleStore},
};
use tower::ServiceExt as _;

/// The use cases over memory.
pub(crate) fn app() -> App {
    app_and_store().0
}

/// The use cases over memory, and that memory.
pub(crate) fn app_and_store() -> (App, Arc<SimpleStore>) {
    let clock = Arc::new(ManualClock::at(slipway_testkit::START));
    let store = Arc::new(SimpleStore::new(clock.clone(), 5));
    let catalog = slipway_dag::parse(include_str!("../../../../templates/catalog.yaml"), 1 << 20).unwrap();
    let app = App::new(Services {
        store: store.clone(),
        receiver: store.clone(),
        secrets: Arc::new(SimpleSecrets::default()),
        blobs: Arc::new(SimpleBlobs::default()),
        charts: Arc::new(NoCharts),
        connector: Arc::new(NoClusters),
        outside: Arc::new(NoOutside),
        clock,
        ids: Arc::new(SequentialIds::new()),
        catalog: slipway_dag::template::check_catalog(catalog).unwrap(),
        settings: Settings::new("1"),
    });
    (app, store)
}

/// Believes the headers `x-tenant` and `x-role`; without a role nobody calls.
pub(crate) struct Believer;

impl Authenticator for Believer {
    fn authenticate(&self, request: &Parts) -> Result<Caller, Problem> {
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        let role = match header("x-role") {
            Some("viewer") => Role::Viewer,
            Some("deployer") => Role::Deployer,
            Some("admin") => Role::Admin,
            _ => return Err(Problem::new(ProblemType::Unauthenticated, "no role")),
        };
        Ok(Caller {
            tenant: header("x-tenant").unwrap_or("local").parse().unwrap(),
            user_id: "tester".to_owned(),
            role,
        })
    }
}

/// The whole API, whose event streams end with the last event.
pub(crate) fn router() -> Router {
    router_with(Streams::EndWithTheLastEvent)
}

/// The whole API.
pub(crate) fn router_with(streams: Streams) -> Router {
    slipway_api::router(&Api::new(app(), Arc::new(Believer), streams), &Resource::ALL)
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Fails unless it is a problem document of this status.
    pub(crate) fn expect_problem(&self, status: u16) -> Problem {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        let problem: Problem = serde_json::from_value(self.json()).unwrap();
        assert_eq!(problem.status, status);
        assert!(
            problem.problem_type.starts_with("https://slipway.dev/problems/"),
            "{problem:?}"
        );
        assert!(!problem.detail.is_empty());
        problem
    }
}

/// Sends a request as it is.
pub(crate) async fn send(router: &Router, request: Request<Body>) -> Answer {
    let answer = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let bytes = to_bytes(body, 16 << 20).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

/// A call of an administrator with a JSON body.
pub(crate) async fn call(router: &Router, method: &str, path: &str, body: Option<&Value>) -> Answer {
    call_as(router, "local", "admin", method, path, body).await
}

/// A call of somebody with a JSON body.
pub(crate) async fn call_as(
    router: &Router,
    tenant: &str,
    role: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/v1{path}"))
        .header("x-tenant", tenant)
        .header("x-role", role)
        .header("content-type", "application/json")
        .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
        .unwrap();
    send(router, request).await
}

/// A template with one component.
pub(crate) fn template(name: &str, version: &str) -> Value {
    json!({
        "name": name,
        "version": version,
        "components": [{"name": "db", "type": "vector_db", "default_component": "qdrant"}],
        "parameters": {"size": {"type": "integer", "default": 1}},
    })
}

/// Publishes a template, registers a cluster, creates a deployment and returns its id.
pub(crate) async fn deployment(router: &Router, name: &str) -> String {
    call(router, "POST", "/templates", Some(&template("tiny", "1.0.0"))).await;
    call(
        router,
        "POST",
        "/clusters",
        Some(&json!({"name": "here", "type": "render"})),
    )
    .await;
    let body = json!({"name": name, "template": "tiny", "cluster": "here"});
    let created = call(router, "POST", "/deployments", Some(&body)).await;
    assert_eq!(created.status, 201, "{created:?}");
    created.json()["id"].as_str().unwrap().to_owned()
}
