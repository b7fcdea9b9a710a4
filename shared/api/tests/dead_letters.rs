//! Dead letters over HTTP: lists, one with its text, putting back; for administrators of the tenant.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{sync::Arc, time::Duration};

use axum::Router;
use serde_json::json;
use slipway_api::{Api, Resource, Streams};
use slipway_model::{JobId, Message, Queue};
use slipway_ports::{Receiver, Store};
use slipway_testkit::memory::SimpleStore;
use support::{Believer, app_and_store, call, call_as};

const JOB: &str = "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b";

/// The whole API, with a dead letter on `deploy-helm` for each tenant.
async fn with_letters(tenants: &[&str]) -> (Router, Arc<SimpleStore>) {
    let (app, store) = app_and_store();
    let queue = Queue::DeployHelm;
    for tenant in tenants {
        let message = Message::Job {
            tenant: tenant.parse().unwrap(),
            job: JOB.parse::<JobId>().unwrap(),
        };
        let mut session = store.session();
        session.send(queue.clone(), message, Duration::ZERO);
        session.settle().await.unwrap();
        let minute = Duration::from_secs(60);
        for delivery in store.receive(&queue, 10, Duration::ZERO, minute).await.unwrap() {
            let reason = format!("the job of {tenant} cannot be read");
            store.bury(&queue, &delivery.receipt, &reason).await.unwrap();
        }
    }
    let api = Api::new(app, Arc::new(Believer), Streams::EndWithTheLastEvent);
    (slipway_api::router(&api, &Resource::ALL), store)
}

#[tokio::test]
async fn a_letter_is_listed_shown_and_put_back() {
    let (router, store) = with_letters(&["local"]).await;
    let listed = call(&router, "GET", "/dead-letters?queue=deploy-helm", None).await;
    assert_eq!(listed.status, 200, "{listed:?}");
    let items = listed.json()["items"].clone();
    let letter = &items[0];
    assert_eq!(items.as_array().unwrap().len(), 1);
    assert_eq!(letter["queue"], "deploy-helm");
    assert_eq!(letter["reason"], "the job of local cannot be read");
    assert_eq!(
        letter["about"],
        json!({"kind": "job", "tenant": "local", "job_id": JOB})
    );
    assert!(letter["at"].is_string() && letter["body"].is_null(), "{letter}");

    let path = format!("/dead-letters/deploy-helm/{}", letter["id"].as_str().unwrap());
    let shown = call(&router, "GET", &path, None).await.json();
    assert_eq!(shown["about"], letter["about"]);
    let body: serde_json::Value = serde_json::from_str(shown["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["job"], JOB);

    let back = call(&router, "POST", &format!("{path}/redrive"), None).await;
    assert_eq!(back.status, 202, "{back:?}");
    assert_eq!(back.json(), *letter);
    assert_eq!(store.queue_length(&Queue::DeployHelm), 1);
    call(&router, "POST", &format!("{path}/redrive"), None)
        .await
        .expect_problem(404);
    call(&router, "GET", &path, None).await.expect_problem(404);
    let listed = call(&router, "GET", "/dead-letters", None).await;
    assert_eq!(listed.json()["items"], json!([]));
}

#[tokio::test]
async fn only_administrators_see_letters_and_only_their_own() {
    let (router, store) = with_letters(&["local", "acme"]).await;
    for role in ["viewer", "deployer"] {
        let refused = call_as(&router, "acme", role, "GET", "/dead-letters", None).await;
        assert!(refused.expect_problem(403).detail.contains("admin"));
    }
    let mine = call_as(&router, "acme", "admin", "GET", "/dead-letters", None).await;
    let mine = mine.json()["items"].clone();
    assert_eq!(mine.as_array().unwrap().len(), 1);
    assert_eq!(mine[0]["about"]["tenant"], "acme");
    let path = format!("/dead-letters/deploy-helm/{}", mine[0]["id"].as_str().unwrap());
    for (method, path) in [("GET", path.clone()), ("POST", format!("{path}/redrive"))] {
        call_as(&router, "local", "admin", method, &path, None)
            .await
            .expect_problem(404);
    }
    assert_eq!(store.queue_length(&Queue::DeployHelm), 0);
}

#[tokio::test]
async fn whatever_is_asked_gets_an_answer() {
    let (router, _) = with_letters(&["local"]).await;
    for (path, status) in [
        ("/dead-letters?queue=nope", 404),
        ("/dead-letters?queue=", 404),
        ("/dead-letters?limit=0", 400),
        ("/dead-letters?cursor=zz", 400),
        ("/dead-letters/nope/1", 404),
        ("/dead-letters/deploy-helm/999", 404),
        ("/dead-letters/deploy-helm/%2e%2e%2f%00%0a", 404),
        ("/dead-letters/deploy-helm/%ff", 400),
    ] {
        let refused = call(&router, "GET", path, None).await.expect_problem(status);
        if status == 404 && path.contains("nope") {
            assert!(refused.detail.contains("deploy-helm"), "{refused:?}");
        }
    }
    let long = format!("/dead-letters/deploy-helm/{}", "x".repeat(5000));
    let refused = call(&router, "GET", &long, None).await.expect_problem(404);
    assert!(refused.detail.len() < 300, "{refused:?}");
}

#[tokio::test]
async fn a_function_serves_its_own_resources_only() {
    let (app, _) = app_and_store();
    let api = Api::new(app, Arc::new(Believer), Streams::EndWithTheLastEvent);
    let executions = slipway_api::router(
        &api,
        &[Resource::Executions, Resource::Actions, Resource::DeadLetters],
    );
    let templates = slipway_api::router(&api, &[Resource::Templates, Resource::Catalog]);
    for (path, by_executions) in [("/actions", true), ("/dead-letters", true), ("/catalog", false)] {
        for (router, expected) in [(&executions, by_executions), (&templates, !by_executions)] {
            let status = call(router, "GET", path, None).await.status;
            assert_eq!(status == 200, expected, "{path}: {status}");
            assert!(expected || status == 404, "{path}: {status}");
        }
    }
}
