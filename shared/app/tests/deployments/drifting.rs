//! What others changed, and what nobody owns.

use std::time::Duration;

use serde_json::json;
use slipway_app::ListQuery;
use slipway_model::{
    DeploymentStatus, DriftKind, DriftedField, DriftedObject, Message, Orphan, OrphanKind, Queue,
};
use slipway_ports::{
    ManagedNamespace, ManagedRelease, ObjectReference, Receiver as _, Release, ReleaseStatus,
    UncomparedObject,
};

use crate::world::{World, admin, problem};

fn scaled() -> DriftedObject {
    DriftedObject {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: "ns".to_owned(),
        name: "llm".to_owned(),
        drift: DriftKind::Changed,
        fields: vec![DriftedField {
            path: "/spec/replicas".to_owned(),
            managers: vec!["kubectl".to_owned()],
        }],
        message: "/spec/replicas was changed by kubectl".to_owned(),
    }
}

/// Lets an hour go by, a sweep after it, and what the sweep sent.
async fn an_hour_later(world: &World) {
    world.clock.advance(Duration::from_secs(3601));
    world.app.sync_deployments().await.unwrap();
    world.settle().await;
}

/// Adds the cluster `real`, which can be looked at.
async fn add_real_cluster(world: &World) {
    let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {server: 'https://127.0.0.1:6443'}}]\nusers: [{name: u, user: {token: t}}]\n";
    let new = serde_json::from_value(json!({"name": "real", "type": "kubeconfig", "kubeconfig": kubeconfig}))
        .unwrap();
    world.app.create_cluster(&admin(), new).await.unwrap();
}

async fn lines(world: &World, id: &str) -> Vec<String> {
    let events = world
        .app
        .deployment_events(&admin(), id, None, 1000)
        .await
        .unwrap();
    events
        .into_iter()
        .filter(|entry| entry.entry_type.starts_with("drift_"))
        .map(|entry| format!("{}: {}", entry.entry_type, entry.message))
        .collect()
}

#[tokio::test]
async fn what_others_change_is_shown_and_told_once_when_it_appears_and_when_it_goes() {
    let world = World::new().await;
    let id = world.running("models").await;
    assert_eq!(world.view(&id).await.drift, None, "nobody has looked yet");
    an_hour_later(&world).await;
    let drift = world.view(&id).await.drift.unwrap();
    assert_eq!((drift.objects.len(), drift.errors.len()), (0, 0));
    assert!(lines(&world, &id).await.is_empty());

    world
        .cluster
        .cloud()
        .drift
        .insert("my-models-llm".to_owned(), vec![scaled()]);
    let log = world.cluster.cloud().log.clone();
    for _ in 0..2 {
        an_hour_later(&world).await;
        let drift = world.view(&id).await.drift.unwrap();
        assert_eq!(drift.objects.len(), 1);
        assert_eq!(drift.objects[0].component, "llm");
        assert_eq!(drift.objects[0].object, scaled());
        let told = lines(&world, &id).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("drift_found: llm differs"), "{told:?}");
    }
    assert_eq!(world.cluster.cloud().log, log, "nothing was corrected");

    world.cluster.cloud().drift.clear();
    an_hour_later(&world).await;
    assert!(world.view(&id).await.drift.unwrap().objects.is_empty());
    let told = lines(&world, &id).await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].starts_with("drift_gone: llm"), "{told:?}");
}

#[tokio::test]
async fn a_cluster_that_cannot_be_looked_at_does_not_make_drift_go() {
    let world = World::new().await;
    let id = world.running("models").await;
    world
        .cluster
        .cloud()
        .drift
        .insert("my-models-llm".to_owned(), vec![scaled()]);
    an_hour_later(&world).await;
    world.cluster.cloud().away = true;
    an_hour_later(&world).await;
    let drift = world.view(&id).await.drift.unwrap();
    assert_eq!(drift.objects.len(), 1);
    assert_eq!(drift.errors.len(), 2, "{:?}", drift.errors);
    assert_eq!(lines(&world, &id).await.len(), 1);
}

#[tokio::test]
async fn an_object_that_cannot_be_compared_hides_no_other_and_is_not_taken_for_mended() {
    let world = World::new().await;
    let id = world.running("models").await;
    let release = || "my-models-llm".to_owned();
    let is_gone = DriftedObject {
        drift: DriftKind::Missing,
        kind: "Service".to_owned(),
        fields: Vec::new(),
        ..scaled()
    };
    world.cluster.cloud().drift.insert(release(), vec![scaled()]);
    an_hour_later(&world).await;

    let refused = UncomparedObject {
        object: ObjectReference {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: "ns".to_owned(),
            name: "llm".to_owned(),
        },
        reason: "it is refused".to_owned(),
    };
    world
        .cluster
        .cloud()
        .drift
        .insert(release(), vec![is_gone.clone()]);
    world.cluster.cloud().uncompared.insert(release(), vec![refused]);
    an_hour_later(&world).await;
    let errors = ["llm: Deployment/llm cannot be compared: it is refused"];
    let drift = world.view(&id).await.drift.unwrap();
    let objects: Vec<DriftedObject> = drift.objects.into_iter().map(|one| one.object).collect();
    assert_eq!(objects, [is_gone, scaled()]);
    assert_eq!(drift.errors, errors);
    let told = lines(&world, &id).await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[1].contains("Service/llm") && !told[1].contains("Deployment"),
        "{told:?}"
    );

    // A plan looks itself.
    world.app.request_plan(&admin(), &id, None).await.unwrap();
    world.settle().await;
    let plan = world.app.plan(&admin(), &id).await.unwrap();
    let drift = plan.drift.unwrap();
    assert_eq!(
        (drift.objects.len(), drift.errors),
        (1, errors.map(str::to_owned).to_vec())
    );

    world.cluster.cloud().uncompared.clear();
    world.cluster.cloud().drift.clear();
    an_hour_later(&world).await;
    let drift = world.view(&id).await.drift.unwrap();
    assert_eq!((drift.objects.len(), drift.errors.len()), (0, 0));
    let told = lines(&world, &id).await;
    assert_eq!(told[2], "drift_gone: llm is as it was applied again");
}

#[tokio::test]
async fn a_sync_looks_at_once_and_only_what_runs_is_looked_at() {
    let world = World::new().await;
    let id = world.created("models").await.deployment.id.to_string();
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    assert_eq!(
        world.store.queue_length(&Queue::ExecuteStep),
        0,
        "it does not run"
    );
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    world
        .cluster
        .cloud()
        .drift
        .insert("my-models-llm".to_owned(), vec![scaled()]);
    world.app.sync_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.view(&id).await.drift.unwrap().objects.len(), 1);

    // What an upgrade changes is not what was looked at.
    let request = serde_json::from_value(json!({"values": {"llm": {"extra": 1}}})).unwrap();
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(world.view(&id).await.drift, None);
    an_hour_later(&world).await;
    assert!(world.view(&id).await.drift.is_some(), "the schedule goes on");

    world.app.delete_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Deleted);
    an_hour_later(&world).await;
    let before = world.store.queue_length(&Queue::ExecuteStep);
    world.clock.advance(Duration::from_secs(3601));
    world.app.sync_deployments().await.unwrap();
    assert_eq!(
        world.store.queue_length(&Queue::ExecuteStep),
        before,
        "nobody looks any more"
    );
}

#[tokio::test]
async fn a_look_during_a_change_says_nothing() {
    let world = World::new().await;
    let id = world.running("models").await;
    world
        .cluster
        .cloud()
        .drift
        .insert("my-models-llm".to_owned(), vec![scaled()]);
    let request = serde_json::from_value(json!({"values": {"llm": {"extra": 1}}})).unwrap();
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    let deployment = world.deployment(&id).await;
    let message = Message::Drift {
        tenant: deployment.tenant,
        deployment: deployment.id,
        component: Some("llm".to_owned()),
    };
    world.app.handle(&Queue::ExecuteStep, message).await.unwrap();
    assert!(lines(&world, &id).await.is_empty());
}

#[tokio::test]
async fn what_nobody_owns_on_a_cluster_is_reported_and_left_alone() {
    let world = World::new().await;
    add_real_cluster(&world).await;
    let running = world.running("models").await;
    let running = world.deployment(&running).await;
    let gone = "00000000-0000-4000-8000-00000000dead";
    let release = |namespace: &str, name: &str, deployment: &str| ManagedRelease {
        release: Release {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        },
        status: ReleaseStatus::Deployed,
        deployment: deployment.to_owned(),
    };
    let namespace = |name: &str, deployment: &str| ManagedNamespace {
        name: name.to_owned(),
        deployment: deployment.to_owned(),
    };
    let own = running.id.to_string();
    {
        let mut cloud = world.cluster.cloud();
        cloud.managed.releases = vec![
            release(&running.namespace, "my-models-llm", &own),
            release(&running.namespace, "my-models-old", &own),
            release("uc-dead", "x-llm", gone),
            release("jobs", "by-hand", "none"),
        ];
        cloud.managed.namespaces = vec![namespace(&running.namespace, &own), namespace("uc-dead", gone)];
    }
    let health = world.app.cluster_health(&admin(), "real").await.unwrap();
    assert_eq!(health.orphans, None, "nobody has looked yet");
    an_hour_later(&world).await;
    let orphans = world
        .app
        .cluster_health(&admin(), "real")
        .await
        .unwrap()
        .orphans
        .unwrap();
    let found: Vec<(OrphanKind, &str, Option<&str>)> = orphans
        .items
        .iter()
        .map(|orphan: &Orphan| (orphan.kind, orphan.namespace.as_str(), orphan.release.as_deref()))
        .collect();
    assert_eq!(
        found,
        [
            (
                OrphanKind::Release,
                running.namespace.as_str(),
                Some("my-models-old")
            ),
            (OrphanKind::Release, "uc-dead", Some("x-llm")),
            (OrphanKind::Namespace, "uc-dead", None),
        ]
    );
    assert!(
        !world
            .cluster
            .cloud()
            .log
            .iter()
            .any(|line| line.starts_with("uninstall"))
    );
    // A cluster that is registered as `render` has none, and is not asked.
    assert_eq!(
        world.app.cluster_health(&admin(), "dev").await.unwrap().orphans,
        None
    );
    let clusters = world.app.clusters(&admin(), &ListQuery::default()).await.unwrap();
    assert_eq!(clusters.items.len(), 2);
}

#[tokio::test]
async fn a_look_that_is_asked_for_says_what_it_saw_and_what_it_did_not() {
    let world = World::new().await;
    let id = world.created("models").await.deployment.id.to_string();
    let refused = problem(world.app.request_drift(&admin(), &id).await);
    assert!(refused.detail.contains("PENDING"), "{refused:?}");
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    let asked = world.app.request_drift(&admin(), &id).await.unwrap();
    let deployment = world.deployment(&id).await;
    let of_one = Message::Drift {
        tenant: deployment.tenant,
        deployment: deployment.id,
        component: Some("llm".to_owned()),
    };
    world.app.handle(&Queue::ExecuteStep, of_one).await.unwrap();
    let half = world.view(&id).await.drift.unwrap();
    assert_eq!(half.unseen, ["vector_db"], "one of two components was looked at");
    world.settle().await;
    let whole = world.view(&id).await.drift.unwrap();
    assert!(
        whole.unseen.is_empty() && whole.checked_at >= asked.requested_at,
        "{whole:?}"
    );
}

#[tokio::test]
async fn a_cluster_is_looked_at_when_somebody_asks_and_a_failed_look_forgets_nothing() {
    let world = World::new().await;
    let refused = problem(world.app.request_orphans(&admin(), "dev").await);
    assert!(refused.detail.contains("render"), "{refused:?}");
    add_real_cluster(&world).await;
    world.cluster.cloud().managed.namespaces = vec![ManagedNamespace {
        name: "uc-dead".to_owned(),
        deployment: "00000000-0000-4000-8000-00000000dead".to_owned(),
    }];
    assert_eq!(problem(world.app.orphans(&admin(), "real").await).status, 404);
    world.app.request_orphans(&admin(), "real").await.unwrap();
    world.settle().await;
    let found = world.app.orphans(&admin(), "real").await.unwrap();
    assert_eq!((found.items.len(), &found.error), (1, &None));

    world.cluster.cloud().away = true;
    world.app.request_orphans(&admin(), "real").await.unwrap();
    world.settle().await;
    let again = world.app.orphans(&admin(), "real").await.unwrap();
    assert_eq!(again.items, found.items);
    assert!(again.error.unwrap().contains("no route to host"));
}

/// The page of a look at a cluster that was sent.
async fn page_sent(world: &World) -> Message {
    let queue = Queue::ExecuteStep;
    let (wait, hidden) = (Duration::ZERO, Duration::from_secs(60));
    let got = world.store.receive(&queue, 10, wait, hidden).await.unwrap();
    let [delivery] = &got[..] else { panic!("{got:?}") };
    world.store.acknowledge(&queue, &delivery.receipt).await.unwrap();
    Message::from_body(&queue, &delivery.body).unwrap()
}

#[tokio::test]
async fn a_page_that_comes_again_or_late_takes_nothing_of_what_was_found() {
    let world = World::new().await;
    add_real_cluster(&world).await;
    let show = |name: &str, next: Option<&str>| {
        let mut cloud = world.cluster.cloud();
        cloud.managed.namespaces = vec![ManagedNamespace {
            name: name.to_owned(),
            deployment: "00000000-0000-4000-8000-00000000dead".to_owned(),
        }];
        cloud.managed.next = next.map(str::to_owned);
    };
    let handle = async |page: &Message| {
        let handled = world.app.handle(&Queue::ExecuteStep, page.clone()).await;
        handled.unwrap();
    };
    show("uc-first", Some("last"));
    let mut last_pages = Vec::new();
    for _ in 0..2 {
        world.app.request_orphans(&admin(), "real").await.unwrap();
        handle(&page_sent(&world).await).await;
        last_pages.push(page_sent(&world).await);
    }
    show("uc-last", None);
    let [older, newer] = &last_pages[..] else {
        panic!("{last_pages:?}")
    };
    handle(older).await;
    assert_eq!(problem(world.app.orphans(&admin(), "real").await).status, 404);
    for page in [newer, newer, older] {
        handle(page).await;
        let found = world.app.orphans(&admin(), "real").await.unwrap().items;
        let names: Vec<&str> = found.iter().map(|orphan| orphan.namespace.as_str()).collect();
        assert_eq!(names, ["uc-first", "uc-last"]);
    }
}
