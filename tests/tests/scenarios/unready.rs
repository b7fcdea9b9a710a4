//! Pods that never get ready, and what is said about them.

use serde_json::{Value, json};
use slipway_tests::{Chart, Kubernetes, Options, Registry, Template, component, text};

/// How long a component is waited for, in seconds: long enough for a loaded machine to start Helm four times and to look
/// at what came of it before that is over.
const WAITS: u64 = 40;

/// What a component does, and the words that must stand in what is said of it.
const KINDS: [(&str, Kind, &str); 4] = [
    ("pull", Kind::Behaviour("image-pull"), "image pull"),
    ("crash", Kind::Behaviour("crash"), "crash loop"),
    ("never", Kind::Behaviour("never-ready"), "ready"),
    ("huge", Kind::Requests("4000"), "unschedulable"),
];

enum Kind {
    Behaviour(&'static str),
    Requests(&'static str),
}

impl Kind {
    fn values(&self) -> Value {
        match self {
            Self::Behaviour(behaviour) => json!({"behaviour": behaviour}),
            Self::Requests(cores) => json!({"requests": {"cpu": cores}}),
        }
    }
}

#[test]
fn what_is_waited_for_is_said_while_waiting_and_again_at_the_end() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    let mut template = Template::named("unready").set("settings", &json!({"on_failure": "continue"}));
    for (name, kind, _) in &KINDS {
        template = template
            .helm(name, &chart, &kind.values())
            .and(&json!({"timeout_seconds": WAITS}));
    }
    server.publish(&template);
    let created = server.create("unready", "dev");
    let namespace = text(&created, "namespace");
    kubernetes.remove_later(&namespace);
    server.begin("unready");

    for (name, _, words) in &KINDS {
        let what = format!("progress says why {name} waits ({words})");
        server.wait(WAITS, &what, |client| {
            let progress = client.deployment_progress("unready");
            let waiting = component(&progress, name)["waiting_for"].as_str()?.to_lowercase();
            (waiting.contains(&format!("unready-{name}")) && waiting.contains(words)).then_some(())
        });
    }
    let failed = server.settled("unready", 3 * WAITS);
    assert_eq!(failed["status"], "FAILED", "{failed:#}");
    for (name, _, words) in &KINDS {
        let component = component(&failed, name);
        assert_eq!(component["status"], "FAILED", "{component:#}");
        let said = text(component, "error_message").to_lowercase();
        assert!(
            said.contains(&format!("unready-{name}")) && said.contains(words),
            "{name}: {said}"
        );
        let job = server
            .get(&format!("/jobs/{}", text(component, "job_id")))
            .expect(200);
        assert_eq!(job["error_message"], component["error_message"], "{job:#}");
    }
    let pull = text(component(&failed, "pull"), "error_message");
    assert!(pull.contains("example.org/tiny:1"), "the image is named: {pull}");
    // Events that the cluster itself writes are told.
    let huge = text(component(&failed, "huge"), "error_message");
    assert!(
        huge.contains("Insufficient cpu"),
        "the last event is told: {huge}"
    );
    let overall = text(&failed, "error_message");
    assert!(
        KINDS
            .iter()
            .any(|(name, ..)| overall.contains(&format!("unready-{name}"))),
        "{overall}"
    );

    // Each took away what it had installed, and the last one the namespace.
    assert_eq!(kubernetes.releases(&namespace), []);
    kubernetes.wait_until_gone(&namespace);
    server.stop();
}

#[test]
fn what_failed_stays_where_that_is_wanted() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    let kept = json!({"timeout_seconds": WAITS / 2, "delete_on_failure": false});
    let template = Template::named("kept")
        .helm("broken", &chart, &json!({"behaviour": "crash"}))
        .and(&kept);
    server.publish(
        &template
            .helm("after", &chart, &json!({}))
            .and(&json!({"depends_on": ["broken"]})),
    );
    let created = server.create("kept", "dev");
    let namespace = text(&created, "namespace");
    kubernetes.remove_later(&namespace);
    server.begin("kept");
    let failed = server.settled("kept", 3 * WAITS);
    assert_eq!(failed["status"], "FAILED", "{failed:#}");
    assert_eq!(component(&failed, "broken")["status"], "FAILED");
    assert_eq!(
        component(&failed, "after")["status"],
        "STOPPED",
        "its dependency failed: {failed:#}"
    );
    let names = kubernetes.names("deployments", &namespace);
    assert_eq!(names, ["Deployment/kept-broken"], "it can be looked at");
    server.stop();
}
