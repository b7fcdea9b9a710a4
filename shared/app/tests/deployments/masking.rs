//! Pods that print the secrets that they were given.

use serde_json::json;
use slipway_app::NewJob;
use slipway_model::{ComponentStatus, DeploymentStatus};
use slipway_ports::{ExposeSecret, Secrets as _};

use crate::{
    executions::{chart, run, step},
    upgrading::upgrade,
    world::{World, admin, new_deployment, problem},
};

const SECRET: &str = "correct-horse-41";
const NAMED: &str = "battery-staple-42";

/// Where a secret stands among all that is stored and answered.
async fn leaks(world: &World, id: &str) -> Vec<String> {
    let mut told = vec![
        ("view".to_owned(), json!(world.view(id).await).to_string()),
        (
            "progress".to_owned(),
            json!(world.app.deployment_progress(&admin(), id).await.unwrap()).to_string(),
        ),
    ];
    for stored in world.store.items() {
        told.push((stored.key.to_string(), stored.body));
    }
    told.retain(|(_, text)| text.contains(SECRET) || text.contains(NAMED));
    told.into_iter()
        .map(|(place, text)| format!("{place}: {text}"))
        .collect()
}

#[tokio::test]
async fn what_pods_print_is_kept_and_answered_without_secrets() {
    let world = World::new().await;
    let tenant = admin().tenant;
    world
        .secrets
        .put(&tenant, "expressions/license", NAMED.to_owned().into())
        .await
        .unwrap();
    let values =
        json!({"token": "{{ parameters.token }}", "license": "{{ secrets.license }}", "shown": "plain"});
    let component =
        |name: &str| json!({"name": name, "type": "helm", "chart": {"ref": "charts/web", "values": values}});
    let mut tested = component("tested");
    tested["test"] = json!(true);
    let template = json!({
        "name": "chatty", "version": "1.0.0",
        "parameters": {"token": {"type": "string", "secret": true, "required": true}},
        "settings": {"on_failure": "continue"},
        "components": [component("stuck"), tested, component("hooked")],
    });
    world.app.publish_template(&admin(), template).await.unwrap();
    let mut new = new_deployment("chatty", "chatty");
    new.parameters.insert("token".to_owned(), json!(SECRET));
    let created = world.app.create_deployment(&admin(), new).await.unwrap();
    let id = created.deployment.id.to_string();
    {
        let mut cloud = world.cluster.cloud();
        cloud.chatty = true;
        cloud.stuck.insert("chatty-stuck".to_owned());
        cloud.failing.insert("seed".to_owned());
        for (event, hook) in [("tested test", "check"), ("hooked post-install", "seed")] {
            cloud
                .hooks
                .insert(format!("chatty-{event}"), vec![hook.to_owned()]);
        }
    }
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&id).await, DeploymentStatus::Failed);
    for (name, status) in [
        ("stuck", ComponentStatus::Failed),
        ("tested", ComponentStatus::Running),
        ("hooked", ComponentStatus::Failed),
    ] {
        assert_eq!(world.component(&id, name).await.status, status, "{name}");
    }
    // They are told what was printed, but for the secrets in it.
    for name in ["stuck", "hooked"] {
        let said = world.component(&id, name).await.error_message.unwrap();
        assert!(said.contains("\"token\":\"(hidden)\""), "{name}: {said}");
        assert!(said.contains("\"license\":\"(hidden)\""), "{name}: {said}");
        assert!(said.contains("\"shown\":\"plain\""), "{name}: {said}");
    }
    let job = world.component(&id, "tested").await.job_id.unwrap();
    let logs = world.app.job_logs(&admin(), &job.to_string()).await.unwrap();
    assert!(logs.contains("plain") && logs.contains("(hidden)"), "{logs}");
    assert!(!logs.contains(SECRET) && !logs.contains(NAMED), "{logs}");
    assert_eq!(leaks(&world, &id).await, [""; 0]);
    let kept = &world.deployment(&id).await.secret_parameters["token"];
    let kept = world.secrets.get(&tenant, kept).await.unwrap().unwrap();
    assert_eq!(
        kept.expose_secret(),
        SECRET,
        "it is known to nobody but the secrets store"
    );
}

/// Whether eight characters in a row of a secret stand in a text.
fn tells_a_part(text: &str) -> bool {
    let windows = |secret: &'static str| secret.as_bytes().windows(8);
    windows(SECRET)
        .chain(windows(NAMED))
        .any(|part| text.contains(std::str::from_utf8(part).unwrap()))
}

#[tokio::test]
async fn no_part_of_a_secret_is_left_where_a_text_is_cut() {
    let world = World::new().await;
    // What is waited for is cut at 500 bytes, a hook's log to 4 KiB, and all logs to 64 KiB.
    let component = |name: &str, before: usize, after: usize| {
        json!({"name": name, "type": "helm", "chart": {"ref": "charts/web", "values": {
            "a": "x".repeat(before), "token": "{{ parameters.token }}", "z": "x".repeat(after),
        }}})
    };
    let template = json!({
        "name": "cut", "version": "1.0.0",
        "parameters": {"token": {"type": "string", "secret": true, "required": true}},
        "settings": {"on_failure": "continue"},
        "components": [component("stuck", 470, 0), component("hooked", 0, 4075), component("logged", 0, 65_515)],
    });
    world.app.publish_template(&admin(), template).await.unwrap();
    let mut new = new_deployment("cut", "cut");
    new.parameters.insert("token".to_owned(), json!(SECRET));
    let created = world.app.create_deployment(&admin(), new).await.unwrap();
    let id = created.deployment.id.to_string();
    {
        let mut cloud = world.cluster.cloud();
        cloud.chatty = true;
        cloud.stuck.insert("cut-stuck".to_owned());
        cloud.failing.insert("seed".to_owned());
        let hook = ("cut-hooked post-install".to_owned(), vec!["seed".to_owned()]);
        cloud.hooks.extend([hook]);
    }
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    for (name, least) in [("stuck", 500), ("hooked", 4 << 10)] {
        let said = world.component(&id, name).await.error_message.unwrap();
        assert!(said.len() > least && !tells_a_part(&said), "{name}: {said}");
    }
    let job = world.component(&id, "logged").await.job_id.unwrap();
    let logs = world.app.job_logs(&admin(), &job.to_string()).await.unwrap();
    assert!(logs.len() == 64 << 10 && !tells_a_part(&logs), "{}", &logs[..100]);
    for stored in world.store.items() {
        assert!(!tells_a_part(&stored.body), "{}: {}", stored.key, stored.body);
    }
}

#[tokio::test]
async fn the_logs_of_every_job_are_without_the_secrets_of_all_revisions() {
    let world = World::new().await;
    let component = json!({"name": "web", "type": "helm", "chart": {
        "ref": "charts/web", "values": {"token": "{{ parameters.token }}", "shown": "plain"}}});
    let template = json!({
        "name": "chatty", "version": "1.0.0",
        "parameters": {"token": {"type": "string", "secret": true, "required": true}},
        "components": [component],
    });
    world.app.publish_template(&admin(), template).await.unwrap();
    let mut new = new_deployment("chatty", "chatty");
    new.parameters.insert("token".to_owned(), json!(SECRET));
    let created = world.app.create_deployment(&admin(), new).await.unwrap();
    let id = created.deployment.id.to_string();
    world.cluster.cloud().chatty = true;
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    let old = world.component(&id, "web").await.job_id.unwrap();
    let request = upgrade(json!({"parameters": {"token": NAMED}}));
    world
        .app
        .upgrade_deployment(&admin(), &id, request)
        .await
        .unwrap();
    world.settle().await;
    let new = world.component(&id, "web").await.job_id.unwrap();
    assert_ne!(old, new);
    // Pods of the earlier revision may run on beside those of the new one, and either job's logs show both.
    for job in [old, new] {
        for secret in [SECRET, NAMED] {
            let values = json!({"token": secret, "shown": "plain"});
            let values = values.as_object().unwrap().clone();
            world
                .cluster
                .cloud()
                .installed
                .insert("chatty-web".to_owned(), values);
            let logs = world.app.job_logs(&admin(), &job.to_string()).await.unwrap();
            assert!(logs.contains("plain") && logs.contains("(hidden)"), "{logs}");
            assert!(!logs.contains(secret), "{logs}");
        }
    }
}

#[tokio::test]
async fn what_expressions_make_of_secrets_is_told_no_more_than_they_are() {
    let world = World::new().await;
    let tenant = admin().tenant;
    let encoded = "Y29ycmVjdC1ob3JzZS00MQ==".to_owned();
    world
        .secrets
        .put(&tenant, "expressions/encoded", encoded.into())
        .await
        .unwrap();
    let values = json!({
        "token": "{{ secrets.encoded | b64decode }}",
        "url": "postgres://u:{{ (parameters.login | split(':'))[1] }}@db",
        "mode": "{{ 'secured' if secrets.encoded | length > 3 else 'open' }}",
        "on": "{{ (secrets.encoded | length > 3) | string | lower }}",
        "shown": "true, secured",
    });
    let stuck = json!({"name": "stuck", "type": "helm", "chart": {"ref": "charts/web", "values": values}});
    let mut tested = stuck.clone();
    tested["name"] = json!("tested");
    tested["test"] = json!(true);
    let template = json!({
        "name": "chatty", "version": "1.0.0",
        "parameters": {"login": {"type": "string", "secret": true, "required": true}},
        "settings": {"on_failure": "continue"},
        "components": [stuck, tested],
    });
    world.app.publish_template(&admin(), template).await.unwrap();
    let mut new = new_deployment("chatty", "chatty");
    new.parameters
        .insert("login".to_owned(), json!(format!("admin:{NAMED}")));
    let created = world.app.create_deployment(&admin(), new).await.unwrap();
    let id = created.deployment.id.to_string();
    {
        let mut cloud = world.cluster.cloud();
        cloud.chatty = true;
        cloud.stuck.insert("chatty-stuck".to_owned());
        let hook = ("chatty-tested test".to_owned(), vec!["check".to_owned()]);
        cloud.hooks.extend([hook]);
    }
    world.app.start_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    let job = world.component(&id, "tested").await.job_id.unwrap();
    let logs = world.app.job_logs(&admin(), &job.to_string()).await.unwrap();
    let said = world.component(&id, "stuck").await.error_message.unwrap();
    for told in [logs, said] {
        assert!(told.contains("\"token\":\"(hidden)\""), "{told}");
        assert!(told.contains("postgres://u:(hidden)@db"), "{told}");
        assert!(told.contains("\"mode\":\"secured\""), "{told}");
        assert!(told.contains("\"shown\":\"true, secured\""), "{told}");
    }
    assert_eq!(leaks(&world, &id).await, [""; 0]);
}

#[tokio::test]
async fn a_job_without_values_and_deployment_tells_no_secret_of_its_execution() {
    let world = World::new().await;
    let (tenant, secret) = (admin().tenant, SECRET.to_owned());
    world
        .secrets
        .put(&tenant, "expressions/db", secret.into())
        .await
        .unwrap();
    {
        let mut cloud = world.cluster.cloud();
        cloud.chatty = true;
        for (event, hook) in [("test", "check"), ("pre-delete", "farewell")] {
            cloud.hooks.insert(format!("db {event}"), vec![hook.to_owned()]);
            cloud.failing.insert(hook.to_owned());
        }
    }
    let values = json!({"password": "{{ secrets.db }}", "shown": "plain"});
    let db = chart("db", &json!({"namespace": "usecase", "values": values}));
    let test = json!({"id": "test", "action": "helm_test", "depends_on": ["db"], "params": {
        "cluster_id": "dev", "release_name": "db", "namespace": "usecase"}});
    let dag = json!({"name": "x", "settings": {"on_failure": "rollback"}, "steps": [db, test]});
    let id = run(&world, dag).await;
    world.settle().await;
    let execution = world.app.execution(&admin(), &id).await.unwrap();
    let undone_by = execution.compensated_by.unwrap().to_string();
    for (execution, name) in [(&id, "test"), (&undone_by, "undo-db")] {
        let step = step(&world, execution, name).await;
        let said = step.error_message.unwrap();
        assert!(said.contains("\"password\":\"(hidden)\""), "{name}: {said}");
        assert!(said.contains("\"shown\":\"plain\""), "{name}: {said}");
        let job = step.job_id.unwrap().to_string();
        let logs = world.app.job_logs(&admin(), &job).await.unwrap();
        assert!(logs.contains("(hidden)") && !logs.contains(SECRET), "{logs}");
    }
    for stored in world.store.items() {
        assert!(!stored.body.contains(SECRET), "{}: {}", stored.key, stored.body);
    }
}

#[tokio::test]
async fn a_job_shows_no_logs_of_a_release_that_is_not_its_own() {
    let world = World::new().await;
    let id = world.running("models").await;
    world.cluster.cloud().chatty = true;
    let namespace = world.deployment(&id).await.namespace;
    let llm = world.component(&id, "llm").await.release_name;
    for (release, why) in [
        (llm.as_str(), format!("belongs to {id}")),
        ("coredns", "does not exist".to_owned()),
    ] {
        let new: NewJob = serde_json::from_value(json!({
            "name": "curious", "job_type": "helm_deploy", "cluster_id": "dev",
            "config": {"operation": "test", "namespace": namespace, "release_name": release, "adopt": true}}))
        .unwrap();
        let job = world.app.create_job(&admin(), new).await.unwrap().id.to_string();
        let refused = problem(world.app.job_logs(&admin(), &job).await);
        assert_eq!(refused.status, 409);
        assert!(refused.detail.contains(&why), "{}", refused.detail);
    }
}
