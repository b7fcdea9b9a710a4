//! Plan previews.

use std::time::Duration;

use serde_json::json;
use slipway_app::{ComponentChange, DeploymentPlan, PlanRequested, UpgradeRequest};
use slipway_model::{DangerKind, DeploymentStatus, Message, ObjectChange, Queue};
use slipway_ports::{Guard, Receiver as _, Store as _};

use crate::world::{World, admin, mixed, models, new_deployment, problem};

async fn preview(world: &World, id: &str) -> DeploymentPlan {
    world.app.request_plan(&admin(), id, None).await.unwrap();
    world.settle().await;
    world.app.plan(&admin(), id).await.unwrap()
}

fn changes(plan: &DeploymentPlan) -> Vec<(&str, ComponentChange)> {
    plan.components
        .iter()
        .map(|one| (one.component.as_str(), one.change))
        .collect()
}

#[tokio::test]
async fn a_preview_renders_what_can_be_known_and_changes_nothing() {
    use ComponentChange::{Create, Deferred};

    let world = World::new().await;
    let id = world.created("agent").await.deployment.id.to_string();
    assert_eq!(problem(world.app.plan(&admin(), &id).await).status, 404);
    let before = world.view(&id).await;
    world.app.request_plan(&admin(), &id, None).await.unwrap();
    assert_eq!(
        problem(world.app.plan(&admin(), &id).await).status,
        404,
        "it is not there yet"
    );
    assert_eq!(
        world.store.queue_length(&Queue::DeployHelm),
        1,
        "it is made where Helm is"
    );
    world.settle().await;
    let plan = world.app.plan(&admin(), &id).await.unwrap();
    assert_eq!(
        changes(&plan),
        [("vector_db", Create), ("llm", Create), ("runtime", Deferred)]
    );
    assert!(plan.components[0].manifest.as_ref().unwrap().contains("qdrant"));
    let reason = plan.components[2].reason.as_ref().unwrap();
    assert!(
        reason.contains("values.") && reason.contains("'vector_db'") || reason.contains("'llm'"),
        "{reason}"
    );
    assert_eq!(plan.dag.unwrap().steps.len(), 5);
    assert_eq!(world.view(&id).await, before);
    assert!(world.cluster.cloud().installed.is_empty());
}

#[tokio::test]
async fn a_preview_waits_some_turns_for_helm_and_then_says_what_for() {
    let world = World::new().await;
    let id = world.created("agent").await.deployment.id.to_string();
    world.cluster.cloud().crowded = true;
    let plan = preview(&world, &id).await;
    let said = |at: usize| plan.components[at].reason.as_deref();
    assert_eq!(
        (said(0), said(1)),
        (
            Some("all 8 places for Helm are taken"),
            Some("all 8 places for Helm are taken")
        )
    );
    assert_eq!(
        world.cluster.cloud().turns,
        12,
        "six turns each; the third is deferred"
    );
}

#[tokio::test]
async fn what_runs_is_unchanged_until_its_values_change() {
    use ComponentChange::{Change, Unchanged};

    let world = World::new().await;
    let id = world.running("models").await;
    let plan = preview(&world, &id).await;
    assert_eq!(changes(&plan), [("vector_db", Unchanged), ("llm", Unchanged)]);
    world
        .cluster
        .cloud()
        .broken
        .insert("my-models-llm".to_owned(), "no".to_owned());
    let request = serde_json::from_value(json!({"values": {"llm": {"extra": 1}}})).unwrap();
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    let plan = preview(&world, &id).await;
    let llm = plan.components.iter().find(|one| one.component == "llm").unwrap();
    assert!(matches!(llm.change, Change | Unchanged), "{:?}", llm.change);
}

#[tokio::test]
async fn what_a_condition_excludes_is_deleted_where_it_is_installed_and_else_not_named() {
    use ComponentChange::{Change, Create, Delete, Unchanged};

    let world = World::new().await;
    let mut template = models("2.0.0");
    template["parameters"] = json!({"size": {"type": "integer", "default": 4}});
    template["components"][0]["when"] = json!("parameters.size > 2");
    template["components"].as_array_mut().unwrap().push(json!({
        "name": "web", "type": "helm", "chart": {"ref": "charts/web", "values": {
            "db": "{{ steps.vector_db.outputs.endpoint_url | default('none') }}"}}}));
    template["deployment_order"] = json!(["vector_db", "llm", "web"]);
    world.app.publish_template(&admin(), template).await.unwrap();
    let id = world.running("models").await;
    let of = async |size: u32| {
        let upgrade = serde_json::from_value(json!({"parameters": {"size": size}})).unwrap();
        world
            .app
            .request_plan(&admin(), &id, Some(upgrade))
            .await
            .unwrap();
        world.settle().await;
        world.app.plan(&admin(), &id).await.unwrap()
    };
    let plan = of(1).await;
    assert_eq!(
        changes(&plan),
        [("llm", Unchanged), ("web", Change), ("vector_db", Delete)]
    );
    let gone = &plan.components[2];
    assert_eq!(gone.reason.as_deref(), Some("its condition is false"));
    assert_eq!((gone.dangers.len(), plan.summary.delete), (1, 1));
    assert_eq!(gone.dangers[0].kind, DangerKind::ComponentRemoved);

    let upgrade = serde_json::from_value(json!({"parameters": {"size": 1}})).unwrap();
    world
        .app
        .upgrade_deployment(&admin(), &id, upgrade)
        .await
        .unwrap();
    world.settle().await;
    let plan = of(2).await;
    assert_eq!(changes(&plan), [("llm", Unchanged), ("web", Unchanged)]);
    let plan = of(3).await;
    assert_eq!(changes(&plan)[0], ("vector_db", Create));
}

#[tokio::test]
async fn the_plan_of_an_upgrade_knows_the_outputs_of_what_stays() {
    use ComponentChange::{Change, Deferred, Unchanged};

    let world = World::new().await;
    let id = world.running("agent").await;
    let plan = preview(&world, &id).await;
    assert_eq!(
        changes(&plan),
        [
            ("vector_db", Unchanged),
            ("llm", Unchanged),
            ("runtime", Unchanged)
        ]
    );
    let of = async |upgrade: serde_json::Value| {
        let upgrade = serde_json::from_value(upgrade).unwrap();
        world
            .app
            .request_plan(&admin(), &id, Some(upgrade))
            .await
            .unwrap();
        world.settle().await;
        world.app.plan(&admin(), &id).await.unwrap()
    };
    let plan = of(json!({"parameters": {"size": 8}})).await;
    assert_eq!(
        changes(&plan),
        [("vector_db", Unchanged), ("llm", Unchanged), ("runtime", Change)]
    );
    assert_eq!((plan.summary.change, plan.summary.unchanged), (1, 2));
    // What changes may find something else.
    let plan = of(json!({"values": {"llm": {"extra": 1}}})).await;
    assert_eq!(
        changes(&plan),
        [("vector_db", Unchanged), ("llm", Change), ("runtime", Deferred)]
    );
    let reason = plan.components[2].reason.as_ref().unwrap();
    assert!(reason.contains("'endpoint_url' of step 'llm'"), "{reason}");
    assert_eq!(plan.summary.deferred, 1);
    // The next one is of the deployment as it is, which nothing of this has changed.
    let plan = preview(&world, &id).await;
    assert_eq!(plan.summary.unchanged, 3);
    assert_eq!(plan.outdated, None);
    world
        .app
        .upgrade_deployment(
            &admin(),
            &id,
            serde_json::from_value(json!({"parameters": {"size": 2}})).unwrap(),
        )
        .await
        .unwrap();
    let outdated = world.app.plan(&admin(), &id).await.unwrap().outdated.unwrap();
    assert!(
        outdated.contains("generation 1") && outdated.contains("generation 2"),
        "{outdated}"
    );
}

#[tokio::test]
async fn what_the_template_does_not_have_any_more_is_called_out() {
    let world = World::new().await;
    let id = world.running("agent").await;
    let mut next = crate::world::mixed("1.1.0");
    next["components"].as_array_mut().unwrap().remove(2);
    next["deployment_order"] = json!(["vector_db", "llm"]);
    world.app.publish_template(&admin(), next).await.unwrap();
    let upgrade = serde_json::from_value(json!({"template_version": "1.1.0"})).unwrap();
    world
        .app
        .request_plan(&admin(), &id, Some(upgrade))
        .await
        .unwrap();
    world.settle().await;
    let plan = world.app.plan(&admin(), &id).await.unwrap();
    let gone = &plan.components[2];
    assert_eq!(
        (gone.component.as_str(), gone.change),
        ("runtime", ComponentChange::Delete)
    );
    assert_eq!(gone.dangers[0].kind, slipway_model::DangerKind::ComponentRemoved);
    assert_eq!((plan.summary.delete, plan.summary.dangers), (1, 1));
    assert_eq!(plan.template.version.to_string(), "1.1.0");
    assert_eq!(world.deployment(&id).await.template.version.to_string(), "1.0.0");
}

#[tokio::test]
async fn a_plan_renders_with_secrets_and_keeps_none_of_them() {
    let world = World::new().await;
    let id = guarded(&world).await;
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(
        changes(&preview(&world, &id).await),
        [("web", ComponentChange::Unchanged)]
    );
    let before = world.secrets.names();
    let upgrade = serde_json::from_value(json!({"parameters": {"token": "second-token"}})).unwrap();
    world
        .app
        .request_plan(&admin(), &id, Some(upgrade))
        .await
        .unwrap();
    world.settle().await;
    let plan = world.app.plan(&admin(), &id).await.unwrap();
    assert_eq!(changes(&plan), [("web", ComponentChange::Change)]);
    assert_eq!(world.secrets.names(), before, "nothing of the plan stays");
}

/// Takes away, behind everybody's back, what is stored under a key that ends like this.
async fn lose(world: &World, partition: &str) {
    let mut session = world.store.session();
    let mut lost = 0;
    for stored in world.store.items() {
        if stored.key.partition.ends_with(partition) {
            session.delete(&stored.key, Guard::Any).await.unwrap();
            lost += 1;
        }
    }
    session.settle().await.unwrap();
    assert!(lost > 0, "{partition}");
}

#[tokio::test]
async fn what_cannot_be_planned_is_answered_with_why() {
    let world = World::new().await;
    let id = world.running("models").await;
    let cluster = world.deployment(&id).await.cluster_id;
    lose(&world, &format!("/k/{cluster}")).await;
    let plan = preview(&world, &id).await;
    assert_eq!(plan.summary.refused, 2, "{plan:?}");
    let reason = plan.components[0].reason.as_ref().unwrap();
    assert!(reason.contains(&cluster.to_string()), "{reason}");

    lose(&world, "/t/models").await;
    let plan = preview(&world, &id).await;
    assert!(plan.components.is_empty() && plan.dag.is_none(), "{plan:?}");
    assert!(
        plan.errors[0].contains("template models@1.0.0"),
        "{:?}",
        plan.errors
    );
}

/// The message of a request.
fn message_of(asked: &PlanRequested) -> Message {
    Message::Plan {
        tenant: admin().tenant,
        deployment: asked.deployment_id,
        generation: 1,
        request: Some(asked.request_id),
    }
}

#[tokio::test]
async fn a_plan_that_was_given_up_says_so() {
    let world = World::new().await;
    let id = world.running("models").await;
    let give_up = async |asked: &PlanRequested| {
        let message = message_of(asked);
        let given_up = world.app.give_up(&Queue::DeployHelm, &message, "no room");
        given_up.await.unwrap();
    };
    let first = world.app.request_plan(&admin(), &id, None).await.unwrap();
    give_up(&first).await;
    let plan = world.app.plan(&admin(), &id).await.unwrap();
    assert!(plan.errors[0].contains("no room"), "{:?}", plan.errors);
    // What was found is worth more than that.
    let second = world.app.request_plan(&admin(), &id, None).await.unwrap();
    give_up(&first).await;
    assert_eq!(
        problem(world.app.plan(&admin(), &id).await).status,
        404,
        "it was another one"
    );
    world.settle().await;
    let found = world.app.plan(&admin(), &id).await.unwrap();
    assert_eq!(found.components.len(), 2);
    give_up(&second).await;
    assert_eq!(world.app.plan(&admin(), &id).await.unwrap(), found);
}

/// An upgrade that changes the last of three components.
fn larger() -> Option<UpgradeRequest> {
    serde_json::from_value(json!({"parameters": {"size": 8}})).unwrap()
}

#[tokio::test]
async fn a_plan_answers_the_request_that_came_last_and_no_other() {
    use ComponentChange::{Change, Unchanged};

    let world = World::new().await;
    let id = world.running("agent").await;
    let (app, of) = (world.app.clone(), id.clone());
    let upgrade = serde_json::from_value(json!({"values": {"llm": {"extra": 1}}})).unwrap();
    world.app.request_plan(&admin(), &id, upgrade).await.unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    // While Helm renders for the first.
    world.cluster.meanwhile("check", async move {
        let second = app.request_plan(&admin(), &of, larger()).await.unwrap();
        tell.send(second).unwrap();
    });
    let first = world
        .store
        .receive(&Queue::DeployHelm, 1, Duration::ZERO, Duration::from_secs(60))
        .await
        .unwrap()
        .remove(0);
    let message = Message::from_body(&Queue::DeployHelm, &first.body).unwrap();
    world.app.handle(&Queue::DeployHelm, message).await.unwrap();
    let answer = world.app.plan(&admin(), &id).await;
    assert_eq!(problem(answer).status, 404, "that is the answer to the first");
    let second = told.await.unwrap();
    world
        .app
        .handle(&Queue::DeployHelm, message_of(&second))
        .await
        .unwrap();
    let plan = world.app.plan(&admin(), &id).await.unwrap();
    assert_eq!(plan.request_id, Some(second.request_id));
    assert_eq!(
        changes(&plan),
        [("vector_db", Unchanged), ("llm", Unchanged), ("runtime", Change)]
    );
}

/// A deployment `guarded` that runs with a secret parameter, `token`.
async fn guarded(world: &World) -> String {
    let template = json!({
        "name": "guarded", "version": "1.0.0",
        "parameters": {"token": {"type": "string", "secret": true, "required": true}},
        "components": [{"name": "web", "type": "helm", "chart": {
            "ref": "charts/web", "values": {"token": "{{ parameters.token }}"}}}],
    });
    world.app.publish_template(&admin(), template).await.unwrap();
    let mut new = crate::world::new_deployment("guarded", "guarded");
    new.parameters.insert("token".to_owned(), json!("first-token"));
    let created = world.app.create_deployment(&admin(), new).await.unwrap();
    created.deployment.id.to_string()
}

fn token(token: &str) -> Option<UpgradeRequest> {
    serde_json::from_value(json!({"parameters": {"token": token}})).unwrap()
}

#[tokio::test]
async fn reading_a_plan_leaves_the_secrets_of_the_next_one_alone() {
    let world = World::new().await;
    let id = guarded(&world).await;
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    let asked = world.app.request_plan(&admin(), &id, token("second")).await;
    world.settle().await;
    let (app, of) = (world.app.clone(), id.clone());
    let read = format!("secrets/{}", asked.unwrap().request_id);
    // The reader has the first plan, and is about to take away what it was made with.
    world.flaky.before_get(&read, async move {
        app.request_plan(&admin(), &of, token("third")).await.unwrap();
    });
    world.app.plan(&admin(), &id).await.unwrap();
    world.settle().await;
    let plan = world.app.plan(&admin(), &id).await.unwrap();
    assert_eq!(changes(&plan), [("web", ComponentChange::Change)]);
    assert!(plan.components[0].manifest.as_ref().unwrap().contains("third"));
}

#[tokio::test]
async fn no_secret_of_a_plan_outlives_its_deployment_wherever_asking_was_cut_short() {
    for calls in 0.. {
        let world = World::new().await;
        let id = guarded(&world).await;
        world.flaky.die_after_calls(Some(calls));
        let asked = world.app.request_plan(&admin(), &id, token("second")).await;
        world.flaky.die_after_calls(None);
        world.app.delete_deployment(&admin(), &id).await.unwrap();
        assert!(
            world.secrets.names().is_empty(),
            "after {calls} calls: {:?}",
            world.secrets.names()
        );
        if asked.is_ok() {
            assert!(calls > 5, "asking takes only {calls} calls");
            break;
        }
    }
}

#[tokio::test]
async fn no_plan_is_made_of_what_is_deleted_meanwhile() {
    let world = World::new().await;
    let id = guarded(&world).await;
    let (app, of) = (world.app.clone(), id.clone());
    world.flaky.before_put("plan-request", async move {
        app.delete_deployment(&admin(), &of).await.unwrap();
    });
    let asked = world.app.request_plan(&admin(), &id, token("second")).await;
    assert_eq!(problem(asked).status, 409);
    assert!(world.secrets.names().is_empty(), "{:?}", world.secrets.names());
    world.settle().await;
    assert_eq!(problem(world.app.plan(&admin(), &id).await).status, 404);
}

#[tokio::test]
async fn what_a_slot_that_nothing_fills_would_say_is_not_waited_for() {
    let world = World::new().await;
    let mut template = mixed("2.0.0");
    let slot = json!({"name": "memory", "type": "memory_store", "required": false, "compatible_components": ["valkey"]});
    template["components"].as_array_mut().unwrap().insert(2, slot);
    template["components"][3]["chart"]["values"]["memory"] =
        json!("{{ steps.memory.outputs.endpoint_url | default('none') }}");
    template["deployment_order"] = json!(["vector_db", "llm", "memory", "runtime"]);
    world.app.publish_template(&admin(), template).await.unwrap();
    let id = world.running("agent").await;
    let plan = preview(&world, &id).await;
    assert!(
        changes(&plan)
            .iter()
            .all(|(_, change)| *change == ComponentChange::Unchanged),
        "{plan:?}"
    );
    assert_eq!(plan.components.len(), 3);
}

#[tokio::test]
async fn an_output_that_is_read_elsewhere_is_not_known_though_its_release_stays() {
    use ComponentChange::{Deferred, Unchanged};

    let world = World::new().await;
    let id = world.running("agent").await;
    let mut template = mixed("2.0.0");
    template["components"][1]["outputs"] = json!({"endpoint_url": {"from": "service", "port": "9000"}});
    world.app.publish_template(&admin(), template).await.unwrap();
    let upgrade = serde_json::from_value(json!({"template_version": "2.0.0"})).unwrap();
    world
        .app
        .request_plan(&admin(), &id, Some(upgrade))
        .await
        .unwrap();
    world.settle().await;
    let plan = world.app.plan(&admin(), &id).await.unwrap();
    assert_eq!(
        changes(&plan),
        [
            ("vector_db", Unchanged),
            ("llm", Unchanged),
            ("runtime", Deferred)
        ]
    );
}

/// What somebody did by hand to a release.
fn edit(world: &World, release: &str) {
    let mut cloud = world.cluster.cloud();
    let values = cloud.installed.get_mut(release).unwrap();
    values.insert("replicas".to_owned(), json!(7));
}

async fn plan_of(world: &World, id: &str, upgrade: Option<UpgradeRequest>) -> DeploymentPlan {
    world.app.request_plan(&admin(), id, upgrade).await.unwrap();
    world.settle().await;
    world.app.plan(&admin(), id).await.unwrap()
}

#[tokio::test]
async fn a_release_that_an_upgrade_keeps_is_unchanged_whatever_others_did_to_it() {
    use ComponentChange::{Change, Unchanged};

    let world = World::new().await;
    let id = world.running("agent").await;
    edit(&world, "my-agent-vector-db");
    let plan = plan_of(&world, &id, larger()).await;
    assert_eq!(
        changes(&plan),
        [("vector_db", Unchanged), ("llm", Unchanged), ("runtime", Change)]
    );
    let kept = &plan.components[0];
    assert!(kept.notes[0].contains("not corrected"), "{:?}", kept.notes);
    assert_eq!((kept.revision, plan.summary.unchanged), (Some(1), 2));
    assert!(kept.manifest_digest.is_some());
    world.cluster.cloud().log.clear();
    world
        .app
        .upgrade_deployment(&admin(), &id, larger().unwrap())
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(world.cluster.cloud().log, ["apply my-agent-runtime"]);
    // What is not ready is applied, and so it is planned.
    world
        .cluster
        .cloud()
        .stuck
        .insert("my-agent-vector-db".to_owned());
    assert_eq!(plan_of(&world, &id, None).await.components[0].change, Change);
}

#[tokio::test]
async fn what_a_retry_keeps_is_unchanged_and_its_outputs_are_known() {
    use ComponentChange::{Change, Create, Unchanged};

    let world = World::new().await;
    let id = world.created("agent").await.deployment.id.to_string();
    let broken = "my-agent-runtime".to_owned();
    world.cluster.cloud().broken.insert(broken, "no".to_owned());
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
    edit(&world, "my-agent-vector-db");
    world
        .cluster
        .cloud()
        .stuck
        .insert("my-agent-vector-db".to_owned());
    assert_eq!(
        changes(&plan_of(&world, &id, None).await),
        [("vector_db", Unchanged), ("llm", Unchanged), ("runtime", Create)]
    );
    assert_eq!(plan_of(&world, &id, larger()).await.components[0].change, Change);
}

#[tokio::test]
async fn the_plan_of_a_deletion_that_failed_is_to_delete() {
    use ComponentChange::Delete;

    let world = World::new().await;
    let id = world.running("models").await;
    let broken = "uninstall my-models-llm".to_owned();
    world
        .cluster
        .cloud()
        .broken
        .insert(broken, "finalizer".to_owned());
    world.app.delete_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
    let plan = plan_of(&world, &id, None).await;
    assert_eq!(changes(&plan), [("llm", Delete), ("vector_db", Delete)]);
    assert_eq!((plan.summary.delete, plan.summary.dangers), (2, 2));
    let steps = plan.dag.clone().unwrap().steps;
    assert!(
        steps.iter().all(|step| step.action == "helm_uninstall"),
        "{steps:?}"
    );
    let change = |plan: &DeploymentPlan| plan.components[0].objects[0].change;
    assert_eq!(change(&plan), ObjectChange::Delete);
    world.cluster.cloud().kept.insert("my-models-llm".to_owned());
    let kept = plan_of(&world, &id, None).await;
    assert_eq!(change(&kept), ObjectChange::Unchanged);
    let reason = kept.components[0].objects[0].reason.as_deref();
    assert!(reason.unwrap().starts_with("helm.sh/resource-policy keeps it"));
    // An upgrade is what it was.
    let upgrade = serde_json::from_value(json!({"values": {"llm": {"extra": 1}}})).unwrap();
    let plan = plan_of(&world, &id, Some(upgrade)).await;
    assert_eq!(changes(&plan)[1], ("llm", ComponentChange::Change));
}

#[tokio::test]
async fn a_plan_is_made_within_its_invocation_and_names_what_it_did_not_look_at() {
    use ComponentChange::{Change, Deferred};

    let world = World::with(|settings| settings.invocation = Duration::from_secs(100)).await;
    let id = world.running("models").await;
    world.cluster.cloud().checking = Duration::from_secs(80);
    let upgrade = json!({"values": {"llm": {"extra": 1}, "vector_db": {"extra": 1}}});
    let plan = plan_of(&world, &id, Some(serde_json::from_value(upgrade).unwrap())).await;
    assert_eq!(changes(&plan), [("vector_db", Change), ("llm", Deferred)]);
    let reason = plan.components[1].reason.as_ref().unwrap();
    assert!(reason.starts_with("not looked at"), "{reason}");
    assert_eq!(plan.summary.deferred, 1);
    let errors = plan.drift.unwrap().errors;
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("vector_db: not looked at"), "{errors:?}");
}

#[tokio::test]
async fn a_chart_from_a_host_that_is_not_allowed_is_refused_by_the_plan_as_it_is_by_the_job() {
    let world = World::new().await;
    let template = json!({
        "name": "elsewhere", "version": "1.0.0",
        "components": [{"name": "app", "type": "helm", "chart": {"ref": "{{ parameters.registry }}/app"}}],
        "parameters": {"registry": {"type": "string", "default": "charts"}},
        "deployment_order": ["app"],
    });
    world.app.publish_template(&admin(), template).await.unwrap();
    for (registry, expected) in [
        ("charts", ComponentChange::Create),
        ("oci://evil.example/x", ComponentChange::Refused),
    ] {
        let mut new = new_deployment("elsewhere", &format!("of-{}", registry.len()));
        new.parameters = serde_json::from_value(json!({"registry": registry})).unwrap();
        let made = world.app.create_deployment(&admin(), new).await.unwrap();
        let plan = preview(&world, &made.deployment.id.to_string()).await;
        assert_eq!(changes(&plan), [("app", expected)]);
        if expected == ComponentChange::Refused {
            let reason = plan.components[0].reason.as_ref().unwrap();
            assert!(reason.contains("evil.example"), "{reason}");
        }
    }
}
