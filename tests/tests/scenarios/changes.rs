//! Deployments that run and are changed: previews, upgrades, rollbacks.

use serde_json::{Value, json};
use slipway_tests::{Chart, Kubernetes, Options, Registry, Server, Template, component, statuses, text};

fn first_version(chart: &str) -> Template {
    Template::named("changing")
        .helm("store", chart, &json!({"color": "{{ parameters.color }}"}))
        .helm("old", chart, &json!({}))
        .set(
            "parameters",
            &json!({"color": {"type": "string", "default": "red"}}),
        )
}

fn second_version(chart: &str) -> Template {
    let new = json!({"shown": {"store": "{{ steps.store.outputs.endpoint_url }}"}});
    Template::named("changing")
        .set("version", &json!("1.1.0"))
        .helm("store", chart, &json!({"color": "{{ parameters.color }}"}))
        .helm("new", chart, &new)
        .set(
            "parameters",
            &json!({"color": {"type": "string", "default": "red"}}),
        )
}

/// What the preview says of each component, `name: change`.
fn preview(server: &Server, deployment: &str) -> Vec<String> {
    let path = format!("/deployments/{deployment}/plan");
    let asked = server.post(&path, &json!({})).expect(202);
    let plan = server.wait(30, "the preview", |client| {
        let plan = client.get(&path);
        (plan.status == 200 && plan.json()["request_id"] == asked["request_id"]).then(|| plan.json())
    });
    assert_eq!(plan["dag"]["steps"][0]["id"], "cluster_health", "{plan:#}");
    let components = plan["components"].as_array().unwrap().iter();
    components
        .map(|one| format!("{}: {}", text(one, "component"), text(one, "change")))
        .collect()
}

fn colour(kubernetes: &Kubernetes, namespace: &str) -> Value {
    let shown = kubernetes.objects("configmaps", namespace);
    let of_store = shown
        .iter()
        .find(|object| object["metadata"]["name"] == "mine-store")
        .unwrap();
    of_store["data"]["color"].clone()
}

#[test]
fn a_deployment_is_previewed_upgraded_and_rolled_back() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    server.publish(&first_version(&chart));
    let created = server.create_with(&json!({"name": "mine", "template": "changing", "cluster": "dev"}));
    let namespace = text(&created, "namespace");
    kubernetes.remove_later(&namespace);
    assert_eq!(preview(&server, "mine"), ["store: create", "old: create"]);
    assert!(!kubernetes.has_namespace(&namespace), "a preview changes nothing");
    let first = server.begin("mine");
    let _ = server.running("mine", 60);
    assert_eq!(preview(&server, "mine"), ["store: unchanged", "old: unchanged"]);
    assert_eq!(colour(&kubernetes, &namespace), "red");

    // Another version: what it does not have any more goes.
    server.publish(&second_version(&chart));
    let change = json!({"template_version": "1.1.0", "parameters": {"color": "blue"}});
    let upgrading = server.post("/deployments/mine/upgrade", &change).expect(202);
    assert_eq!(upgrading["status"], "UPGRADING", "{upgrading}");
    let upgraded = server.running("mine", 60);
    assert_eq!(upgraded["template"]["version"], "1.1.0");
    assert_eq!(
        statuses(&upgraded).into_keys().collect::<Vec<_>>(),
        ["new", "store"]
    );
    assert_eq!(colour(&kubernetes, &namespace), "blue");
    let deployed = |names: [&str; 2]| {
        names
            .map(|name| (name.to_owned(), "deployed".to_owned()))
            .to_vec()
    };
    assert_eq!(
        kubernetes.releases(&namespace),
        deployed(["mine-new", "mine-store"])
    );

    // And back, to what the first execution brought up.
    let rolling = server
        .post("/deployments/mine/rollback", &json!({"execution_id": first}))
        .expect(202);
    assert_eq!(rolling["status"], "ROLLING_BACK", "{rolling}");
    let back = server.running("mine", 60);
    assert_eq!(back["template"]["version"], "1.0.0");
    assert_eq!(back["parameters"]["color"], "red");
    assert_eq!(statuses(&back).into_keys().collect::<Vec<_>>(), ["old", "store"]);
    assert_eq!(colour(&kubernetes, &namespace), "red");
    assert_eq!(
        kubernetes.releases(&namespace),
        deployed(["mine-old", "mine-store"])
    );
    let revisions = kubernetes.revisions(&namespace, "mine-store");
    assert_eq!(revisions, ["superseded", "superseded", "deployed"]);

    // An upgrade that fails says so, and what ran goes on running.
    let broken = json!({"values": {"store": {"behaviour": "crash"}}, "parameters": {"color": "black"}});
    let refused = server.post("/deployments/mine/upgrade", &json!({"parameters": {"color": 7}}));
    let _ = refused.expect_problem(422);
    assert_eq!(
        server.deployment("mine")["status"],
        "RUNNING",
        "what is refused changes nothing"
    );
    let _ = server.post("/deployments/mine/upgrade", &broken).expect(202);
    server.wait(60, "the upgrade waits", |client| {
        let progress = client.deployment_progress("mine");
        component(&progress, "store")["waiting_for"]
            .as_str()?
            .contains("crash loop")
            .then_some(())
    });
    let _ = server.post("/deployments/mine/stop", &json!({})).expect(202);
    let stopped = server.settled("mine", 60);
    assert_eq!(stopped["status"], "STOPPED", "{stopped:#}");
    let releases = kubernetes.releases(&namespace);
    assert!(
        releases.iter().any(|(name, _)| name == "mine-store"),
        "only first installs are taken away: {releases:?}"
    );
    let _ = server.post("/deployments/mine/rollback", &json!({})).expect(202);
    let _ = server.running("mine", 60);
    assert_eq!(colour(&kubernetes, &namespace), "red");
    server.stop();
}
