//! What the calls answer: statuses, addresses, roles, tenants, idempotency, streams.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;

use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use slipway_api::{Api, Resource, Streams};
use slipway_ports::{Guard, Item, Store};
use support::{
    Answer, Believer, app_and_store, call, call_as, deployment, router, router_with, send, template,
};

#[tokio::test]
async fn creations_answer_201_with_an_address_that_leads_to_what_was_created() {
    let router = router();
    deployment(&router, "first").await;
    let bodies = [
        ("/templates", template("other", "1.0.0")),
        ("/clusters", json!({"name": "there", "type": "render"})),
        (
            "/deployments",
            json!({"name": "second", "template": "tiny@1.0.0", "cluster": "here"}),
        ),
        (
            "/executions",
            json!({"name": "x", "steps": [{"id": "a", "action": "pass"}]}),
        ),
        (
            "/jobs",
            json!({"name": "j", "job_type": "benchmark", "cluster_id": "here"}),
        ),
    ];
    for (path, body) in bodies {
        let created = call(&router, "POST", path, Some(&body)).await;
        assert_eq!(created.status, 201, "{created:?}");
        let address = created
            .header("location")
            .strip_prefix("/api/v1")
            .unwrap()
            .to_owned();
        let found = call(&router, "GET", &address, None).await;
        assert_eq!(found.status, 200, "{address}: {found:?}");
        assert_eq!(found.json()["name"], created.json()["name"], "{address}");
    }
}

#[tokio::test]
async fn a_created_execution_says_its_id_by_the_name_that_others_refer_to_it_by() {
    let dag = json!({"name": "x", "steps": [{"id": "a", "action": "pass"}]});
    let created = call(&router(), "POST", "/executions", Some(&dag)).await;
    assert!(created.json()["execution_id"].is_string(), "{created:?}");
    assert_eq!(created.json()["execution_id"], created.json()["id"]);
}

#[tokio::test]
async fn a_deployment_is_found_by_name_and_by_id_and_starts_with_a_202() {
    let router = router();
    let id = deployment(&router, "mine").await;
    let by_name = call(&router, "GET", "/deployments/mine", None).await;
    assert_eq!(by_name.json()["id"], json!(id));
    let started = call(&router, "POST", "/deployments/mine/start", None).await;
    assert_eq!(started.status, 202);
    assert_eq!(started.json()["status"], "DEPLOYING");
    let execution = started.json()["pipeline_execution_id"].clone();
    assert!(execution.is_string());
    let again = call(&router, "POST", &format!("/deployments/{id}/start"), None).await;
    assert!(again.expect_problem(409).detail.contains("DEPLOYING"));
    let shown = call(&router, "GET", &format!("/deployments/{id}"), None).await;
    assert_eq!(shown.json()["pipeline_execution_id"], execution);
    let progress = call(&router, "GET", "/deployments/mine/progress", None).await;
    assert_eq!(progress.json()["components"][0]["component_name"], "db");
    call(&router, "GET", "/deployments/mine/plan", None)
        .await
        .expect_problem(404);
    assert_eq!(
        call(&router, "POST", "/deployments/mine/plan", None).await.status,
        202
    );
}

#[tokio::test]
async fn templates_are_published_as_yaml_too_and_deleted_with_a_204() {
    let router = router();
    let yaml = "name: tiny\nversion: 1.0.0\ncomponents:\n  - {name: db, type: vector_db}\n";
    for media in ["application/yaml", "text/yaml; charset=utf-8"] {
        let request = Request::post("/api/v1/templates/validate")
            .header("x-role", "viewer")
            .header("content-type", media)
            .body(Body::from(yaml))
            .unwrap();
        let checked = send(&router, request).await;
        assert_eq!(checked.status, 200, "{checked:?}");
    }
    call(&router, "POST", "/templates", Some(&template("tiny", "1.0.0"))).await;
    call(&router, "POST", "/templates", Some(&template("tiny", "1.1.0"))).await;
    let shown = call(&router, "GET", "/templates/tiny", None).await;
    assert_eq!(shown.json()["newest"]["version"], "1.1.0");
    let gone = call(&router, "DELETE", "/templates/tiny/versions/1.1.0", None).await;
    assert_eq!((gone.status.as_u16(), gone.text.as_str()), (204, ""));
    assert_eq!(
        call(&router, "GET", "/templates/tiny", None).await.json()["newest"]["version"],
        "1.0.0"
    );
    assert_eq!(call(&router, "DELETE", "/templates/tiny", None).await.status, 204);
    call(&router, "GET", "/templates/tiny", None)
        .await
        .expect_problem(404);
}

#[tokio::test]
async fn an_invalid_template_names_every_place() {
    let router = router();
    let body = json!({"name": "x", "version": "1", "components": [{"name": "A", "type": "nope"}]});
    let refused = call(&router, "POST", "/templates", Some(&body)).await;
    let problem = refused.expect_problem(422);
    let paths: Vec<&str> = problem.errors.iter().map(|error| error.path.as_str()).collect();
    assert!(
        paths.contains(&"version") && paths.contains(&"components[0].type"),
        "{paths:?}"
    );
}

#[tokio::test]
async fn each_role_may_do_what_its_name_says() {
    let router = router();
    let id = deployment(&router, "mine").await;
    let may = async |role: &str, method: &str, path: &str, body: Option<&Value>| {
        let answer = call_as(&router, "local", role, method, path, body).await;
        if answer.status == 403 {
            answer.expect_problem(403);
        }
        answer.status != 403
    };
    let start = format!("/deployments/{id}/start");
    let dag = json!({"name": "x", "steps": [{"id": "a", "action": "pass"}]});
    assert!(may("viewer", "GET", "/deployments/mine", None).await);
    assert!(!may("viewer", "POST", &start, None).await);
    assert!(!may("viewer", "POST", "/executions", Some(&dag)).await);
    assert!(!may("deployer", "POST", "/templates", Some(&template("b", "1.0.0"))).await);
    assert!(
        !may(
            "deployer",
            "POST",
            "/clusters",
            Some(&json!({"name": "x", "type": "render"}))
        )
        .await
    );
    assert!(!may("deployer", "DELETE", "/clusters/here", None).await);
    assert!(!may("deployer", "PUT", "/clusters/here/credentials", Some(&json!({}))).await);
    assert!(may("admin", "PUT", "/clusters/here/credentials", Some(&json!({}))).await);
    assert!(may("deployer", "POST", "/executions", Some(&dag)).await);
    assert!(may("deployer", "POST", &start, None).await);
}

#[tokio::test]
async fn a_deployment_is_let_go_only_by_an_admin_who_spells_it_right() {
    let router = router();
    let id = deployment(&router, "mine").await;
    for extent in ["keep_release=true", "keep_releases=yes", "keep_releases="] {
        let path = format!("/deployments/{id}?{extent}");
        call_as(&router, "local", "admin", "DELETE", &path, None)
            .await
            .expect_problem(400);
    }
    let path = format!("/deployments/{id}?keep_releases=true");
    call_as(&router, "local", "deployer", "DELETE", &path, None)
        .await
        .expect_problem(403);
    let shown = call(&router, "GET", &format!("/deployments/{id}"), None).await;
    assert_eq!(shown.json()["status"], "PENDING");
    let gone = call_as(&router, "local", "admin", "DELETE", &path, None).await;
    assert_eq!(
        (gone.status.as_u16(), gone.json()["status"].as_str()),
        (202, Some("DELETED"))
    );
}

#[tokio::test]
async fn another_tenants_things_do_not_exist() {
    let router = router();
    let id = deployment(&router, "mine").await;
    let execution = call(
        &router,
        "POST",
        "/executions",
        Some(&json!({"name": "x", "steps": [{"id": "a", "action": "pass"}]})),
    )
    .await
    .json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let foreign = [
        ("GET", format!("/deployments/{id}")),
        ("POST", format!("/deployments/{id}/start")),
        ("DELETE", format!("/deployments/{id}")),
        ("GET", "/deployments/mine".to_owned()),
        ("GET", format!("/executions/{execution}")),
        ("POST", format!("/executions/{execution}/cancel")),
        ("GET", "/clusters/here".to_owned()),
        ("GET", "/templates/tiny".to_owned()),
    ];
    for (method, path) in foreign {
        call_as(&router, "other", "admin", method, &path, None)
            .await
            .expect_problem(404);
    }
    let list = call_as(&router, "other", "admin", "GET", "/deployments", None).await;
    assert_eq!(list.json()["items"], json!([]));
}

async fn create_with_key(router: &axum::Router, key: &str, body: &Value) -> Answer {
    create_at_with_key(router, "executions", key, body).await
}

async fn create_at_with_key(router: &axum::Router, path: &str, key: &str, body: &Value) -> Answer {
    let request = Request::post(format!("/api/v1/{path}"))
        .header("x-role", "admin")
        .header("idempotency-key", key)
        .body(Body::from(body.to_string()))
        .unwrap();
    send(router, request).await
}

#[tokio::test]
async fn a_repeated_creation_gets_the_first_answer() {
    let router = router();
    let dag = json!({"name": "x", "steps": [{"id": "a", "action": "pass"}]});
    let first = create_with_key(&router, "k-1", &dag).await;
    let again = create_with_key(&router, "k-1", &dag).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201));
    assert_eq!(first.json(), again.json());
    assert_eq!(first.header("location"), again.header("location"));
    let other = create_with_key(&router, "k-2", &dag).await;
    assert_ne!(first.json()["id"], other.json()["id"]);
    let mut changed = dag.clone();
    changed["name"] = json!("y");
    create_with_key(&router, "k-1", &changed)
        .await
        .expect_problem(422);
    create_with_key(&router, &"k".repeat(256), &dag)
        .await
        .expect_problem(400);
    assert_eq!(
        call(&router, "GET", "/executions", None).await.json()["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn a_repeated_creation_finds_the_first_deployment_although_its_answer_was_not_kept() {
    let (app, store) = app_and_store();
    let api = Api::new(app, Arc::new(Believer), Streams::EndWithTheLastEvent);
    let router = slipway_api::router(&api, &Resource::ALL);
    deployment(&router, "other").await;
    for (key, name) in [("k-1", Some("mine")), ("k-2", None)] {
        let mut body = json!({"template": "tiny@1.0.0", "cluster": "here"});
        if let Some(name) = name {
            body["name"] = json!(name);
        }
        let first = create_at_with_key(&router, "deployments", key, &body).await;
        assert_eq!(first.status, 201, "{first:?}");
        for stored in store.items() {
            let mut record: Value = serde_json::from_str(&stored.body).unwrap();
            if record.get("claimed_until").is_some() {
                record.as_object_mut().unwrap().remove("answer");
                record["claimed_until"] = json!(slipway_testkit::START);
                let mut session = store.session();
                let item = Item::of(&record);
                session.put(&stored.key, item, Guard::Any).await.unwrap();
                session.settle().await.unwrap();
            }
        }
        let again = create_at_with_key(&router, "deployments", key, &body).await;
        assert_eq!((again.status.as_u16(), again.json()), (201, first.json()));
    }
}

#[tokio::test]
async fn a_creation_that_failed_leaves_its_key_free() {
    let router = router();
    create_with_key(&router, "k", &json!({"name": "x", "steps": []}))
        .await
        .expect_problem(422);
    let dag = json!({"name": "x", "steps": [{"id": "a", "action": "pass"}]});
    assert_eq!(create_with_key(&router, "k", &dag).await.status, 201);
}

#[tokio::test]
async fn pages_lead_through_the_whole_list() {
    let router = router();
    deployment(&router, "d-0").await;
    for number in 1..5 {
        let body = json!({"name": format!("d-{number}"), "template": "tiny", "cluster": "here"});
        assert_eq!(
            call(&router, "POST", "/deployments", Some(&body)).await.status,
            201
        );
    }
    let mut names = Vec::new();
    let mut path = "/deployments?limit=2".to_owned();
    loop {
        let page = call(&router, "GET", &path, None).await.json();
        names.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["name"].clone()),
        );
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/deployments?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["d-0", "d-1", "d-2", "d-3", "d-4"]);
    let running = call(
        &router,
        "GET",
        "/deployments?status=RUNNING&cluster=here&template=tiny",
        None,
    )
    .await;
    assert_eq!(running.json()["items"], json!([]));
    let pending = call(&router, "GET", "/deployments?status=pending&cluster=here", None).await;
    assert_eq!(pending.json()["items"].as_array().unwrap().len(), 5);
}

async fn stream(router: &axum::Router, after: Option<&str>) -> Answer {
    let mut request = Request::get("/api/v1/deployments/mine/events")
        .header("x-role", "viewer")
        .header("accept", "text/event-stream");
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    send(router, request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn the_history_is_a_page_or_a_stream_that_goes_on_after_the_last_event() {
    let router = router();
    deployment(&router, "mine").await;
    call(&router, "POST", "/deployments/mine/start", None).await;
    let page = call(&router, "GET", "/deployments/mine/events", None)
        .await
        .json();
    let entries = page["items"].as_array().unwrap().clone();
    assert!(entries.len() >= 2, "{page}");
    let all = stream(&router, None).await;
    assert_eq!(all.header("content-type"), "text/event-stream");
    for entry in &entries {
        assert!(
            all.text
                .contains(&format!("id: {}\n", entry["id"].as_str().unwrap())),
            "{}",
            all.text
        );
    }
    let first = entries[0]["id"].as_str().unwrap();
    let rest = stream(&router, Some(first)).await;
    assert_eq!(rest.text.matches("id: ").count(), entries.len() - 1);
    stream(&router, Some("two words")).await.expect_problem(400);
}

#[tokio::test]
async fn a_followed_stream_ends_when_the_server_closes() {
    let (close, closing) = tokio::sync::watch::channel(false);
    let router = router_with(Streams::FollowUntil(closing));
    deployment(&router, "mine").await;
    let reader = tokio::spawn({
        let router = router.clone();
        async move { stream(&router, None).await }
    });
    call(&router, "POST", "/deployments/mine/start", None).await;
    close.send_replace(true);
    assert!(reader.await.unwrap().text.contains("data: "));
}

#[tokio::test]
async fn what_everybody_may_read_needs_no_token() {
    let router = router();
    for path in ["/healthz", "/api/v1/openapi.json"] {
        let answer = send(&router, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.json().is_object());
    }
}
