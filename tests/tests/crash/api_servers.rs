//! API servers that restart, throttle, break, are slow, cut connections, or forbid.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_tests::{
    ApiServer, Chart, Client, Fault, Kubernetes, Options, Registry, Server, Template, component, text,
};

/// A template whose components wait ten minutes for a cluster that is away.
const PATIENT: &str = "through";

/// The same, but its first component waits for seconds.
const HURRIED: &str = "hurried";

/// A deployment through a proxy of its own, named as its cluster.
struct Through<'a> {
    name: &'static str,
    api: ApiServer,
    kubernetes: &'a Kubernetes,
    namespace: String,
}

impl<'a> Through<'a> {
    fn new(name: &'static str, template: &str, server: &Server, kubernetes: &'a Kubernetes) -> Self {
        let api = ApiServer::start(kubernetes);
        let cluster = json!({"name": name, "type": "kubeconfig", "kubeconfig": api.kubeconfig()});
        let _ = server.post("/clusters", &cluster).expect(201);
        let order = json!({"name": name, "template": template, "cluster": name});
        let namespace = text(&server.create_with(&order), "namespace");
        kubernetes.remove_later(&namespace);
        Self {
            name,
            api,
            kubernetes,
            namespace,
        }
    }

    /// Lets the fault be met a few times, then ends it.
    fn recover_after(&self, server: &Server, times: u32) {
        server.wait(60, &format!("{} meets its fault", self.name), |_| {
            (self.api.met() >= times).then_some(())
        });
        self.api.fails(Fault::None);
    }

    /// The job of its first component.
    fn first_job(&self, client: &Client) -> Value {
        let jobs = client.get("/jobs?limit=200").expect(200);
        let name = format!("helm-{}-first", self.name);
        let mut jobs = jobs["items"].as_array().unwrap().iter();
        jobs.find(|job| job["name"] == name.as_str()).unwrap().clone()
    }

    fn expect_running(&self, server: &Server) {
        let _ = server.running(self.name, 90);
        for component in ["first", "second"] {
            let release = format!("{}-{component}", self.name);
            let revisions = self.kubernetes.revisions(&self.namespace, &release);
            let deployed = revisions
                .iter()
                .filter(|status| ["deployed", "superseded"].contains(&status.as_str()));
            assert_eq!(deployed.count(), 1, "{release}: {revisions:?}");
        }
    }
}

fn server(registry: &Registry) -> Server {
    let server = Options::default().registry(registry).start();
    let chart = Chart::tiny().push(registry);
    for (name, limit) in [(PATIENT, json!({})), (HURRIED, json!({"timeout_seconds": 20}))] {
        server.publish(
            &Template::named(name)
                .helm("first", &chart, &json!({"readyAfter": "2s"}))
                .and(&limit)
                .helm(
                    "second",
                    &chart,
                    &json!({"shown": "{{ steps.first.outputs.endpoint_url }}"}),
                ),
        );
    }
    server
}

#[test]
fn a_cluster_that_comes_back_gets_what_was_wanted_once() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = server(&registry);
    let through = |name| Through::new(name, PATIENT, &server, &kubernetes);
    let (absent, throttled, broken) = (through("absent"), through("throttled"), through("broken"));
    let (slow, cut, restarted) = (through("slow"), through("cut"), through("restarted"));
    // Before anything else, the health of the cluster is looked at.
    let (early, unready) = (through("early"), through("unready"));
    for (deployment, fault) in [(&early, Fault::Down), (&unready, Fault::Answers(503, None))] {
        deployment.api.fails(fault);
        server.begin(deployment.name);
        server.wait(
            60,
            &format!("{} to say what it waits for", deployment.name),
            |client| {
                let progress = client.deployment_progress(deployment.name);
                let waits = component(&progress, "first")["waiting_for"].as_str()?.to_owned();
                (waits.contains("is not healthy: the cluster ") && waits.contains("; tried again at "))
                    .then_some(())
            },
        );
    }
    let faults = [
        (&absent, Fault::Down),
        (&throttled, Fault::Answers(429, Some(1))),
        (&broken, Fault::Answers(500, None)),
        (&slow, Fault::Late(Duration::from_millis(150))),
        (&cut, Fault::Cuts),
    ];
    for (deployment, _) in &faults {
        server.begin(deployment.name);
    }
    server.begin(restarted.name);
    for (deployment, fault) in &faults {
        server.wait_for_component(deployment.name, "first", "DEPLOYING", 60);
        deployment.api.fails(*fault);
    }
    // One goes away while readiness is waited for.
    server.wait(60, "the first release", |_| {
        (!kubernetes.releases(&restarted.namespace).is_empty()).then_some(())
    });
    restarted.api.fails(Fault::Down);
    for (deployment, _) in &faults {
        // A slow one stays so.
        if deployment.name != slow.name {
            deployment.recover_after(&server, 3);
        }
    }
    restarted.recover_after(&server, 3);
    for deployment in [&early, &unready] {
        deployment.recover_after(&server, 2);
    }
    for (deployment, _) in &faults {
        deployment.expect_running(&server);
    }
    for deployment in [&restarted, &early, &unready] {
        deployment.expect_running(&server);
    }
    assert!(slow.api.met() > 10, "hardly anything was slow");
    server.stop();
}

#[test]
fn a_cluster_that_refuses_ends_a_deployment_with_its_answer() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = server(&registry);
    let forbidding = Through::new("forbidding", PATIENT, &server, &kubernetes);
    let dead = Through::new("dead", HURRIED, &server, &kubernetes);
    let ill = Through::new("ill", HURRIED, &server, &kubernetes);
    for (deployment, fault) in [
        (&forbidding, Fault::RefusesRecords(403)),
        (&dead, Fault::None),
        (&ill, Fault::None),
    ] {
        deployment.api.fails(fault);
        server.begin(deployment.name);
    }
    for (deployment, fault) in [(&dead, Fault::Down), (&ill, Fault::Answers(500, None))] {
        // The health of the cluster is looked at first.
        server.wait_for_component(deployment.name, "first", "DEPLOYING", 60);
        deployment.api.fails(fault);
    }
    for deployment in [&dead, &ill] {
        // That may pass: until its time is over the job waits, and says for what.
        server.wait(60, &format!("{} is out of reach", deployment.name), |client| {
            let job = deployment.first_job(client);
            let waits = job["waiting_for"].to_string();
            (job["status"] == "RUNNING" && waits.contains("out of reach")).then_some(())
        });
    }
    let words = [
        (&forbidding, "the proxy forbids this"),
        (&dead, "connection"),
        (&ill, "the proxy is broken"),
    ];
    for (deployment, words) in words {
        let failed = server.settled(deployment.name, 90);
        assert_eq!(failed["status"], "FAILED", "{failed:#}");
        let first = component(&failed, "first");
        assert_eq!(first["status"], "FAILED", "{failed:#}");
        let said = text(first, "error_message");
        assert!(said.contains(words), "{}: {said}", deployment.name);
        let job = deployment.first_job(&server);
        assert_eq!(job["status"], "FAILED", "{job:#}");
        if deployment.name == forbidding.name {
            // That does not pass.
            assert_eq!(job["retry_count"], 0, "{job:#}");
        }
        deployment.api.fails(Fault::None);
    }
    server.stop();
}
