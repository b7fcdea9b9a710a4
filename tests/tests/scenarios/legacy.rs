//! `USE_PIPELINE_ORCHESTRATION=false`.

use serde_json::json;
use slipway_tests::{Options, Server, Template, component, statuses, text};

fn models() -> Template {
    Template::named("models")
        .component(&json!({"name": "llm", "type": "model", "default_component": "llama-3-8b"}))
        .component(&json!({"name": "vector_db", "type": "vector_db", "default_component": "qdrant"}))
}

/// Every `/sync` brings the status up to date, as there is no execution that would.
fn sync_until_running(server: &Server, name: &str) {
    server.wait(60, "the deployment runs", |client| {
        let synced = client
            .post(&format!("/deployments/{name}/sync"), &json!({}))
            .expect(200);
        assert_ne!(synced["status"], "FAILED", "{synced:#}");
        (synced["status"] == "RUNNING").then_some(())
    });
}

#[test]
fn deployments_make_their_jobs_themselves() {
    let legacy = Options::default().variable("USE_PIPELINE_ORCHESTRATION", "false");
    let mut server = legacy.start();
    server.add_render();
    server.publish(&models());
    let _ = server.create("models", "local");
    let started = server.post("/deployments/models/start", &json!({})).expect(202);
    assert_eq!(started["status"], "DEPLOYING");
    assert!(started["pipeline_execution_id"].is_null(), "{started}");
    sync_until_running(&server, "models");
    let deployment = server.deployment("models");
    assert!(deployment["pipeline_execution_id"].is_null(), "{deployment:#}");
    assert!(
        statuses(&deployment).values().all(|status| status == "RUNNING"),
        "{deployment:#}"
    );
    for (name, job_type) in [("llm", "model_deployment"), ("vector_db", "vector_db_deployment")] {
        let component = component(&deployment, name);
        assert!(
            text(component, "endpoint_url").starts_with("http://models-"),
            "{component:#}"
        );
        let job = server
            .get(&format!("/jobs/{}", text(component, "job_id")))
            .expect(200);
        assert_eq!(job["job_type"], job_type, "{job:#}");
        assert_eq!(job["source"], "budusecases", "{job:#}");
    }
    let executions = server.get("/executions").expect(200);
    assert_eq!(executions["items"], json!([]));

    // `helm` components need the pipeline.
    server.publish(&Template::named("charts").helm("agent", "charts/agent-runtime", &json!({})));
    let _ = server.create("charts", "local");
    let refused = server
        .post("/deployments/charts/start", &json!({}))
        .expect_problem(422);
    assert!(
        text(&refused, "detail").contains("USE_PIPELINE_ORCHESTRATION"),
        "{refused}"
    );

    // What was deployed so goes on syncing so when the pipeline is switched on; what is started then uses it.
    server.stop();
    server.restart_with(Options::default());
    let synced = server.post("/deployments/models/sync", &json!({})).expect(200);
    assert_eq!(synced["status"], "RUNNING", "{synced:#}");
    assert!(synced["pipeline_execution_id"].is_null());
    let _ = server.create_with(&json!({"name": "piped", "template": "models", "cluster": "local"}));
    assert_ne!(server.begin("piped"), "");
    let piped = server.running("piped", 60);
    let synced = server.post("/deployments/piped/sync", &json!({})).expect(200);
    assert_eq!(synced["pipeline_execution_id"], piped["pipeline_execution_id"]);
    server.stop();
}
