//! Jobs, made and executed by hand.

use serde_json::{Value, json};
use slipway_tests::{Chart, Kubernetes, Options, Registry, Server, text};

fn helm_job(cluster: &str, config: &Value) -> Value {
    json!({"name": "by hand", "job_type": "helm_deploy", "cluster_id": cluster, "config": config})
}

fn make(server: &Server, job: &Value) -> String {
    text(&server.post("/jobs", job).expect(201), "id")
}

fn execute(server: &Server, id: &str) {
    let begun = server
        .post(&format!("/jobs/{id}/execute"), &json!({}))
        .expect(202);
    assert_eq!(begun["status"], "RUNNING", "{begun:#}");
}

#[test]
fn a_helm_job_installs_its_release() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    let namespace = format!("jobs-{}", server.tag());
    kubernetes.remove_later(&namespace);
    let config = json!({"chart_ref": chart, "chart_version": "1.0.0", "release_name": "mine", "namespace": namespace,
                        "values": {"color": "red"}});
    let id = make(&server, &helm_job("dev", &config));
    assert_eq!(
        server.get(&format!("/jobs/{id}")).expect(200)["status"],
        "PENDING"
    );
    assert!(
        !kubernetes.has_namespace(&namespace),
        "nothing happens until it is executed"
    );
    execute(&server, &id);
    let job = server.job_ended(&id, 60);
    assert_eq!(job["status"], "SUCCEEDED", "{job:#}");
    let services = job["result"]["services"].as_array().unwrap();
    assert_eq!(services.len(), 1, "{job:#}");
    assert_eq!(services[0], "mine");
    assert_eq!(job["result"]["release_name"], "mine");
    assert_eq!(job["result"]["namespace"], json!(namespace));
    assert!(
        text(&job["result"], "endpoint_url").starts_with("http://mine."),
        "{job:#}"
    );
    assert!(
        job["started_at"].is_string() && job["completed_at"].is_string(),
        "{job:#}"
    );
    assert_eq!(kubernetes.revisions(&namespace, "mine"), ["deployed"]);
    assert!(!server.get(&format!("/jobs/{id}/logs")).expect(200).is_string());

    let again = server
        .post(&format!("/jobs/{id}/execute"), &json!({}))
        .expect_problem(409);
    assert!(text(&again, "detail").contains("SUCCEEDED"), "{again}");
    let _ = server
        .post(&format!("/jobs/{id}/cancel"), &json!({}))
        .expect_problem(409);

    // And away.
    let config = json!({"operation": "uninstall", "release_name": "mine", "namespace": namespace});
    let away = make(&server, &helm_job("dev", &config));
    execute(&server, &away);
    assert_eq!(server.job_ended(&away, 60)["status"], "SUCCEEDED");
    assert_eq!(kubernetes.releases(&namespace), []);
    server.stop();
}

#[test]
fn what_cannot_be_executed_says_why() {
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_render();
    for job_type in [
        "model_deployment",
        "custom_job",
        "fine_tuning",
        "batch_inference",
        "usecase_component",
        "benchmark",
        "data_pipeline",
        "vector_db_deployment",
    ] {
        let id = make(
            &server,
            &json!({"name": "other", "job_type": job_type, "cluster_id": "local"}),
        );
        let refused = server
            .post(&format!("/jobs/{id}/execute"), &json!({}))
            .expect_problem(400);
        assert!(
            text(&refused, "detail").contains("does not support direct execution"),
            "{refused}"
        );
    }
    let refuse = |config: Value| {
        let refused = server
            .post("/jobs", &helm_job("local", &config))
            .expect_problem(422);
        assert!(
            text(&refused, "detail").contains("Invalid Helm config"),
            "{refused}"
        );
        text(&refused, "detail")
    };
    assert!(
        refuse(json!({"chart_ref": "ftp://bad-protocol/chart"}))
            .contains("does not match any allowed pattern")
    );
    assert!(refuse(json!({})).contains("chart_ref is required"));
    let privileged = json!({"containers": {"main": {"securityContext": {"privileged": true}}}});
    let said = refuse(json!({"chart_ref": "charts/agent-runtime", "values": privileged}));
    assert!(
        said.contains("containers.main.securityContext.privileged"),
        "{said}"
    );
    let _ = refuse(json!({"chart_ref": "charts/agent-runtime", "timeout": "soon"}));
    let _ = server
        .post(
            "/jobs",
            &json!({"name": "x", "job_type": "juggling", "cluster_id": "local"}),
        )
        .expect_problem(422);

    // What was fine when it was made may not be so when it is executed: it is checked again.
    let chart = Chart::tiny().push(&registry);
    let id = make(&server, &helm_job("local", &json!({"chart_ref": chart})));
    server.stop();
    server.restart_with(Options::default());
    let refused = server
        .post(&format!("/jobs/{id}/execute"), &json!({}))
        .expect_problem(400);
    assert!(
        text(&refused, "detail").contains("Invalid Helm config"),
        "{refused}"
    );
    assert_eq!(
        server.get(&format!("/jobs/{id}")).expect(200)["status"],
        "PENDING"
    );
    server.stop();
}

#[test]
fn a_cancelled_job_takes_away_what_it_installed() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    let namespace = format!("cancelled-{}", server.tag());
    kubernetes.remove_later(&namespace);
    let config = json!({"chart_ref": chart, "release_name": "stuck", "namespace": namespace,
                        "values": {"behaviour": "image-pull"}});
    let id = make(&server, &helm_job("dev", &config));
    execute(&server, &id);
    server.wait(60, "the job says what it waits for", |client| {
        let job = client.get(&format!("/jobs/{id}")).expect(200);
        let waits = job["waiting_for"]
            .as_array()?
            .iter()
            .any(|wait| wait["object"].to_string().contains("stuck"));
        waits.then_some(())
    });
    let _ = server.post(&format!("/jobs/{id}/cancel"), &json!({})).expect(202);
    let job = server.job_ended(&id, 60);
    assert_eq!(job["status"], "CANCELLED", "{job:#}");
    assert_eq!(kubernetes.releases(&namespace), []);
    assert_eq!(
        kubernetes
            .names("deployments,services,configmaps,secrets", &namespace)
            .iter()
            .filter(|name| name.contains("stuck"))
            .count(),
        0
    );
    server.stop();
}

#[test]
fn jobs_for_one_release_take_turns() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    // The same cluster under another name is the same cluster.
    let again = json!({"name": "same", "type": "kubeconfig", "kubeconfig": kubernetes.kubeconfig()});
    let _ = server.post("/clusters", &again).expect(201);
    let chart = Chart::tiny().push(&registry);
    let namespace = format!("turns-{}", server.tag());
    kubernetes.remove_later(&namespace);
    let job = |cluster: &str, round: u32| {
        let values = json!({"round": round, "color": format!("c{round}")});
        helm_job(
            cluster,
            &json!({"chart_ref": chart, "release_name": "shared", "namespace": namespace, "values": values}),
        )
    };
    let ids: Vec<String> = (0..4)
        .map(|round| make(&server, &job(["dev", "same"][round as usize % 2], round)))
        .collect();
    for id in &ids {
        execute(&server, id);
    }
    let mut succeeded = 0;
    for id in &ids {
        let job = server.job_ended(id, 120);
        match text(&job, "status").as_str() {
            "SUCCEEDED" => succeeded += 1,
            "CANCELLED" => assert!(text(&job, "error_message").contains("superseded"), "{job:#}"),
            other => panic!("{other}: {job:#}"),
        }
    }
    assert!(succeeded >= 1);
    let newest = server.job_ended(&ids[3], 120);
    assert_eq!(
        newest["status"], "SUCCEEDED",
        "the newest wanted state wins: {newest:#}"
    );
    let shown = kubernetes.objects("configmaps", &namespace);
    let colors: Vec<&str> = shown
        .iter()
        .filter_map(|map| map["data"]["color"].as_str())
        .collect();
    assert_eq!(colors, ["c3"]);
    let revisions = kubernetes.revisions(&namespace, "shared");
    assert_eq!(
        revisions.last().map(String::as_str),
        Some("deployed"),
        "{revisions:?}"
    );
    assert!(
        revisions
            .iter()
            .all(|status| ["deployed", "superseded"].contains(&status.as_str())),
        "{revisions:?}"
    );
    assert!(revisions.len() >= succeeded, "{revisions:?}");
    server.stop();
}
