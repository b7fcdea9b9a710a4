//! The main job: a vector database, a language model and an agent that is told where both are.

use std::fs;

use serde_json::{Value, json};
use slipway_tests::{Client, Kubernetes, Server, component, statuses, text};

const DEPLOYMENT: &str = "my-agent-rag";

fn publish(client: &Client) {
    let template = fs::read_to_string(xtask::run::workspace().join("templates/agent-rag.yaml")).unwrap();
    let published = client
        .post_text("/templates", "application/yaml", &template)
        .expect(201);
    assert_eq!(published["version"], "1.0.0");
}

fn create(client: &Client, cluster: &str) -> Value {
    let new = json!({"name": DEPLOYMENT, "template": "agent-rag", "cluster": cluster, "parameters": {"chunk_size": 1024}});
    let created = client.create_with(&new);
    assert_eq!(created["status"], "PENDING");
    assert!(
        statuses(&created).values().all(|status| status == "PENDING"),
        "{created}"
    );
    assert_eq!(
        text(&created, "namespace"),
        format!("uc-{}", &text(&created, "id")[..8])
    );
    created
}

/// These history lines, `(type, step)`, are there once each and happened in this order.
fn expect_order(history: &[Value], lines: &[(&str, &str)]) {
    let mut before = String::new();
    for (kind, step) in lines {
        let is_it =
            |line: &&Value| line["type"] == *kind && line["step_id"].as_str().unwrap_or_default() == *step;
        let found: Vec<&Value> = history.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{kind} of '{step}': {history:#?}");
        let at = text(found[0], "at");
        assert!(
            at >= before,
            "{kind} of '{step}' happened too early: {history:#?}"
        );
        before = at;
    }
}

fn expect_whole_history(client: &Client) {
    let history = client.history(DEPLOYMENT);
    expect_order(
        &history,
        &[
            ("created", ""),
            ("start_requested", ""),
            ("step_completed", "cluster_health"),
            ("step_started", "vector_db"),
            ("step_completed", "vector_db"),
            ("step_started", "llm"),
            ("step_completed", "llm"),
            ("step_started", "agent_runtime"),
            ("step_completed", "agent_runtime"),
            ("step_completed", "notify_complete"),
            ("workflow_completed", ""),
        ],
    );
    let mut ids: Vec<&str> = history.iter().map(|line| line["id"].as_str().unwrap()).collect();
    let written = ids.clone();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, written, "the ids of history lines rise");
}

#[test]
fn it_is_rendered_where_there_is_no_cluster() {
    let mut server = Server::start();
    server.add_render();
    publish(&server);
    let created = create(&server, "local");
    let execution = server.begin(DEPLOYMENT);
    let deployment = server.running(DEPLOYMENT, 60);
    assert_eq!(text(&deployment, "pipeline_execution_id"), execution);
    assert!(
        statuses(&deployment).values().all(|status| status == "RUNNING"),
        "{deployment:#}"
    );

    let endpoints: Vec<String> = ["vector_db", "llm", "agent_runtime"]
        .iter()
        .map(|name| text(component(&deployment, name), "endpoint_url"))
        .collect();
    let namespace = text(&created, "namespace");
    for (endpoint, release) in endpoints.iter().zip(["vector-db", "llm", "agent-runtime"]) {
        assert!(
            endpoint.starts_with(&format!("http://{DEPLOYMENT}-{release}")),
            "{endpoint}"
        );
        assert!(endpoint.contains(&format!(".{namespace}.svc")), "{endpoint}");
    }

    // Each release has its first revision, and the agent's knows the other two.
    let files = server.manifests();
    for release in ["vector-db", "llm", "agent-runtime"] {
        let release = format!("{DEPLOYMENT}-{release}");
        let own: Vec<&(String, String)> = files
            .iter()
            .filter(|(path, _)| path.split('/').any(|part| part == release))
            .collect();
        assert!(
            !own.is_empty(),
            "no manifest of {release} among {:?}",
            files.iter().map(|(path, _)| path).collect::<Vec<_>>()
        );
        assert!(own.iter().all(|(path, _)| path.contains('1')), "{own:?}");
        assert!(
            own.iter().any(|(_, text)| text.contains("kind: Service")),
            "{own:?}"
        );
    }
    let agent: String = files
        .iter()
        .filter(|(path, _)| path.contains("agent-runtime"))
        .map(|(_, text)| text.as_str())
        .collect();
    for endpoint in &endpoints[..2] {
        assert!(
            agent.contains(endpoint),
            "the agent does not know {endpoint}:\n{agent}"
        );
    }

    assert!(
        agent.contains("\"1024\""),
        "the agent does not know the chunk size:\n{agent}"
    );

    expect_whole_history(&server);
    let progress = server.deployment_progress(DEPLOYMENT);
    assert_eq!(progress["percent"], 100.0, "{progress:#}");
    let health = server.get("/clusters/local/health").expect(200);
    assert!(
        text(&health, "message").contains("render"),
        "it says that there is no cluster: {health}"
    );
    server.stop();
}

#[test]
fn it_comes_up_on_a_cluster_and_goes_away_again() {
    let kubernetes = Kubernetes::shared();
    let mut server = Server::start();
    server.add_kubernetes(&kubernetes);
    publish(&server);
    let created = create(&server, "dev");
    let namespace = text(&created, "namespace");
    kubernetes.remove_later(&namespace);
    assert!(
        !kubernetes.has_namespace(&namespace),
        "creating touches no cluster"
    );

    server.begin(DEPLOYMENT);
    assert_eq!(server.deployment(DEPLOYMENT)["status"], "DEPLOYING");
    let deployment = server.running(DEPLOYMENT, 120);
    assert!(
        statuses(&deployment).values().all(|status| status == "RUNNING"),
        "{deployment:#}"
    );

    let releases: Vec<(String, String)> = ["agent-runtime", "llm", "vector-db"]
        .iter()
        .map(|release| (format!("{DEPLOYMENT}-{release}"), "deployed".to_owned()))
        .collect();
    assert_eq!(kubernetes.releases(&namespace), releases);
    for release in &releases {
        assert_eq!(kubernetes.revisions(&namespace, &release.0), ["deployed"]);
    }
    let pods = kubernetes.objects("pods", &namespace);
    assert!(pods.len() >= 3, "{pods:#?}");
    for pod in &pods {
        let conditions = pod["status"]["conditions"].as_array().unwrap();
        let ready = conditions
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        assert!(ready, "{pod:#}");
    }
    let values = kubernetes.helm(&["get", "values", &releases[0].0, "--namespace", &namespace]);
    for (key, name) in [("llm_endpoint", "llm"), ("vectordb_endpoint", "vector_db")] {
        assert_eq!(
            values[key],
            component(&deployment, name)["endpoint_url"],
            "{values:#}"
        );
        // What is said is where a Service is.
        let endpoint = text(component(&deployment, name), "endpoint_url");
        let host = endpoint
            .trim_start_matches("http://")
            .split(['.', ':'])
            .next()
            .unwrap();
        assert!(
            kubernetes
                .names("services", &namespace)
                .contains(&format!("Service/{host}")),
            "{endpoint}"
        );
    }
    let labels = kubernetes.kubectl(&[
        "get",
        "namespace",
        &namespace,
        "--output=jsonpath={.metadata.labels}",
    ]);
    assert!(
        labels.contains(r#""app.kubernetes.io/managed-by":"slipway""#),
        "{labels}"
    );
    expect_whole_history(&server);

    // Away again: what came up last goes first, and only what holds data stays.
    let claims = kubernetes.names("persistentvolumeclaims", &namespace);
    assert!(!claims.is_empty(), "the vector database has a volume");
    let _ = server.delete(&format!("/deployments/{DEPLOYMENT}")).expect(202);
    server.wait(120, "the end of the deployment", |client| {
        (client.deployment(&text(&created, "id"))["status"] == "DELETED").then_some(())
    });
    assert_eq!(kubernetes.releases(&namespace), []);
    assert!(kubernetes.has_namespace(&namespace), "it holds claims");
    assert_eq!(kubernetes.names("persistentvolumeclaims", &namespace), claims);
    let left = kubernetes.names("deployments,statefulsets,services,secrets", &namespace);
    assert_eq!(left, [""; 0]);
    let history = server.history(&text(&created, "id"));
    let uninstalled: Vec<String> = history
        .iter()
        .skip_while(|line| line["type"] != "delete_requested")
        .filter(|line| line["type"] == "step_completed")
        .map(|line| text(line, "step_id"))
        .collect();
    let place = |name: &str| uninstalled.iter().position(|step| step.contains(name)).unwrap();
    assert!(
        place("agent_runtime") < place("llm") && place("llm") < place("vector_db"),
        "{uninstalled:?}"
    );
    // Its name is free again.
    let _ = create(&server, "dev");
    server.stop();
}
