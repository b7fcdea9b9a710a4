//! How long deployments take, in a program of its own so that nothing else runs beside it.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Duration;

use serde_json::{Value, json};
use slipway_tests::{Chart, Kubernetes, Options, Registry, Template, step, text};

/// Milliseconds since midnight of a time such as `2026-02-06T10:11:12.345Z`.
fn millis(step: &Value, field: &str) -> u64 {
    let time = text(step, field);
    let clock = time.split('T').nth(1).unwrap().trim_end_matches('Z');
    let parts: Vec<f64> = clock.split(':').map(|part| part.parse().unwrap()).collect();
    let seconds = Duration::from_secs_f64(parts[0] * 3600.0 + parts[1] * 60.0 + parts[2]);
    u64::try_from(seconds.as_millis()).unwrap()
}

fn length(step: &Value) -> u64 {
    millis(step, "ended_at") - millis(step, "started_at")
}

#[test]
fn components_of_one_rank_come_up_side_by_side() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    server.publish(
        &Template::named("ranks")
            .helm("a", &chart, &json!({"readyAfter": "5s"}))
            .helm("b", &chart, &json!({"readyAfter": "4s"}))
            .helm("c", &chart, &json!({"readyAfter": "1s"}))
            .set("deployment_order", &json!([["a", "b"], "c"])),
    );
    let created = server.create("ranks", "dev");
    kubernetes.remove_later(&text(&created, "namespace"));
    let execution = server.begin("ranks");
    let _ = server.running("ranks", 120);
    let progress = server.steps(&execution);
    let of = |id: &str| step(&progress, id);
    assert!(
        millis(of("b"), "started_at") < millis(of("a"), "ended_at"),
        "side by side: {progress:#}"
    );
    assert!(
        millis(of("a"), "started_at") < millis(of("b"), "ended_at"),
        "side by side: {progress:#}"
    );
    let last = millis(of("a"), "ended_at").max(millis(of("b"), "ended_at"));
    assert!(
        millis(of("c"), "started_at") >= last,
        "one rank after the other: {progress:#}"
    );
    let critical = length(of("cluster_health"))
        + length(of("a")).max(length(of("b")))
        + length(of("c"))
        + length(of("notify_complete"));
    let total = millis(of("notify_complete"), "ended_at") - millis(of("cluster_health"), "started_at");
    assert!(
        total <= critical + 1000,
        "{total} ms for a critical path of {critical} ms: {progress:#}"
    );
    // What a step takes is what its pods take, and not much more.
    for (id, ready) in [("a", 5000), ("b", 4000), ("c", 1000)] {
        let took = length(of(id));
        assert!(
            (ready..ready + 5000).contains(&took),
            "{id} took {took} ms for pods that take {ready} ms"
        );
    }
    server.stop();
}
