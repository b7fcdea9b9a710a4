//! Registering clusters.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_app::{Caller, ListQuery, NewCluster, Role};
use slipway_model::{ClusterId, ClusterTarget};
use slipway_ports::{ExposeSecret, Guard, Secrets, Store as _, TargetError};

use crate::world::{World, admin, caller, problem};

const KUBECONFIG: &str = "{clusters: [{name: c, cluster: {server: 'https://127.0.0.1:6443'}}], \
    users: [{name: u, user: {token: t0ken}}], contexts: [{name: x, context: {cluster: c, user: u}}], \
    current-context: x}";

async fn create(world: &World, body: Value) -> Result<slipway_model::Cluster, slipway_app::AppError> {
    world
        .app
        .create_cluster(&admin(), serde_json::from_value(body).unwrap())
        .await
}

#[tokio::test]
async fn a_kubeconfig_goes_to_the_secrets_store_and_nowhere_else() {
    let world = World::new().await;
    let body = json!({"name": "prod", "type": "kubeconfig", "kubeconfig": KUBECONFIG, "context": "x"});
    let cluster = create(&world, body).await.unwrap();
    let context = Some("x".to_owned());
    assert_eq!(cluster.target, ClusterTarget::Kubeconfig { context });
    let name = format!("cluster/{}/kubeconfig", cluster.id);
    let kept = world.secrets.get(&admin().tenant, &name).await.unwrap().unwrap();
    assert!(kept.expose_secret().contains("t0ken"));
    assert!(
        world
            .store
            .items()
            .iter()
            .all(|item| !item.body.contains("t0ken"))
    );
    assert_eq!(world.app.cluster(&admin(), "prod").await.unwrap(), cluster);
    assert_eq!(
        world
            .app
            .cluster(&admin(), &cluster.id.to_string())
            .await
            .unwrap(),
        cluster
    );

    world.app.delete_cluster(&admin(), "prod").await.unwrap();
    assert!(world.secrets.get(&admin().tenant, &name).await.unwrap().is_none());
    assert_eq!(problem(world.app.cluster(&admin(), "prod").await).status, 404);
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once() {
    let world = World::new().await;
    let bad = KUBECONFIG.replace("token: t0ken", "exec: {command: sh}, tokenFile: /x");
    let body =
        json!({"name": "Prod", "type": "kubeconfig", "kubeconfig": bad, "region": "eu", "ingress_url": "x"});
    let refused = problem(create(&world, body).await);
    assert_eq!(refused.status, 422);
    let places: Vec<&str> = refused.errors.iter().map(|error| error.path.as_str()).collect();
    for place in [
        "name",
        "ingress_url",
        "region",
        "kubeconfig.users[0].user.exec",
        "kubeconfig.users[0].user.tokenFile",
    ] {
        assert!(places.contains(&place), "{place}: {places:?}");
    }
}

#[tokio::test]
async fn eks_needs_a_server_that_can_reach_it() {
    let body = json!({"name": "prod", "type": "eks", "eks_name": "main", "region": "eu-central-1"});
    let world = World::new().await;
    assert_eq!(problem(create(&world, body.clone()).await).errors[0].path, "type");
    let world = World::with(|settings| settings.eks = true).await;
    let cluster = create(&world, body).await.unwrap();
    let (name, region) = ("main".to_owned(), "eu-central-1".to_owned());
    let (role_arn, external_id) = (None, None);
    assert_eq!(
        cluster.target,
        ClusterTarget::Eks {
            name,
            region,
            role_arn,
            external_id
        }
    );
}

#[tokio::test]
async fn a_role_and_its_external_id_are_kept_or_refused_by_name() {
    let world = World::with(|settings| settings.eks = true).await;
    let body = |name: &str, role: &str, id: Option<&str>| {
        json!({
            "name": name, "type": "eks", "region": "cn-north-1", "role_arn": role, "external_id": id,
        })
    };
    let role = "arn:aws-cn:iam::123456789012:role/platform/slipway_prod+1";
    let cluster = create(&world, body("prod", role, Some("a:b/c=1"))).await.unwrap();
    let ClusterTarget::Eks {
        role_arn,
        external_id,
        ..
    } = cluster.target
    else {
        panic!("{:?}", cluster.target);
    };
    assert_eq!(
        (role_arn.as_deref(), external_id.as_deref()),
        (Some(role), Some("a:b/c=1"))
    );

    for bad in [
        "",
        "slipway",
        "arn:aws:iam::123456789012:user/slipway",
        "arn:aws:iam:eu-central-1:123456789012:role/slipway",
        "arn:aws:iam::12345678901:role/slipway",
        "arn:aws:sts::123456789012:role/slipway",
        "arn:aws:iam::123456789012:role/",
        "arn:aws:iam::123456789012:role/a//b",
        "arn:aws:iam::123456789012:role/slip way",
        "arn:AWS:iam::123456789012:role/slipway",
    ] {
        let refused = problem(create(&world, body("other", bad, None)).await);
        assert_eq!(refused.errors[0].path, "role_arn", "{bad}");
    }
    let longest = "x".repeat(1224);
    create(&world, body("longest", role, Some(&longest)))
        .await
        .unwrap();
    for bad in ["", "x", "a b", "ä1", &format!("{longest}x")] {
        let refused = problem(create(&world, body("other", role, Some(bad))).await);
        assert_eq!(refused.errors[0].path, "external_id", "{bad}");
    }
    let alone = json!({"name": "other", "type": "eks", "region": "eu-west-1", "external_id": "id"});
    assert_eq!(problem(create(&world, alone).await).errors[0].path, "external_id");
    let elsewhere = json!({"name": "other", "type": "render", "role_arn": role, "external_id": "id"});
    let places: Vec<String> = problem(create(&world, elsewhere).await)
        .errors
        .into_iter()
        .map(|error| error.path)
        .collect();
    assert_eq!(places, ["role_arn", "external_id"]);
}

#[tokio::test]
async fn other_tenants_reach_eks_through_a_role_of_their_own_only() {
    let world = World::with(|settings| settings.eks = true).await;
    let caller = Caller {
        tenant: "acme".parse().unwrap(),
        ..admin()
    };
    let role = json!("arn:aws:iam::123456789012:role/slipway");
    for (role, id, accepted) in [
        (json!(null), json!(null), false),
        (role.clone(), json!(null), false),
        (role, json!("only-acme-knows"), true),
    ] {
        let new = json!({
            "name": "prod", "type": "eks", "region": "eu-central-1", "role_arn": role, "external_id": id,
        });
        let created = world
            .app
            .create_cluster(&caller, serde_json::from_value(new).unwrap())
            .await;
        if accepted {
            created.unwrap();
        } else {
            assert_eq!(problem(created).errors[0].path, "role_arn", "{role} {id}");
        }
    }
}

#[tokio::test]
async fn a_name_is_taken_once_and_the_other_cluster_is_named() {
    let world = World::new().await;
    let first = world.app.cluster(&admin(), "dev").await.unwrap();
    let refused = problem(create(&world, json!({"name": "dev", "type": "render"})).await);
    assert_eq!(refused.status, 409);
    assert!(
        refused.detail.contains(&first.id.to_string()),
        "{}",
        refused.detail
    );
    let listed = world.app.clusters(&admin(), &ListQuery::default()).await.unwrap();
    assert_eq!(listed.items, [first]);
}

#[tokio::test]
async fn a_cluster_in_use_stays_until_its_deployment_is_deleted() {
    let world = World::new().await;
    let id = world.created("models").await.deployment.id.to_string();
    let refused = problem(world.app.delete_cluster(&admin(), "dev").await);
    assert_eq!(refused.status, 409);
    assert!(refused.detail.contains(&id), "{}", refused.detail);
    world.app.delete_deployment(&admin(), &id).await.unwrap();
    world.app.delete_cluster(&admin(), "dev").await.unwrap();
}

#[tokio::test]
async fn logs_of_a_job_whose_cluster_is_gone_are_a_conflict_and_no_failure() {
    let world = World::new().await;
    let id = world.running("models").await;
    let job = world.component(&id, "llm").await.job_id.unwrap().to_string();
    world.app.delete_deployment(&admin(), &id).await.unwrap();
    world.settle().await;
    world.app.delete_cluster(&admin(), "dev").await.unwrap();
    let refused = problem(world.app.job_logs(&admin(), &job).await);
    assert_eq!(refused.status, 409, "{}", refused.detail);
    assert!(
        refused.detail.contains("is not registered any more"),
        "{}",
        refused.detail
    );
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_unhealthy_and_no_error() {
    let world = World::new().await;
    assert!(
        world
            .app
            .cluster_health(&admin(), "dev")
            .await
            .unwrap()
            .health
            .healthy
    );
    world.cluster.cloud().out_of_reach = Some(TargetError::transient("connection refused"));
    let health = world.app.cluster_health(&admin(), "dev").await.unwrap().health;
    assert!(!health.healthy);
    assert_eq!(health.message, "connection refused");
    assert_eq!(
        problem(world.app.cluster_health(&admin(), "x/y").await).status,
        404
    );
}

#[tokio::test]
async fn another_tenant_sees_none_of_it() {
    let world = World::new().await;
    let cluster = world.app.cluster(&admin(), "dev").await.unwrap();
    let mut other = caller(Role::Admin);
    other.tenant = "other".parse().unwrap();
    for name in ["dev", &cluster.id.to_string()] {
        assert_eq!(problem(world.app.cluster(&other, name).await).status, 404);
        assert_eq!(problem(world.app.delete_cluster(&other, name).await).status, 404);
    }
    assert!(
        world
            .app
            .clusters(&other, &ListQuery::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn what_was_forgotten_in_part_is_forgotten_whole_when_asked_again() {
    let world = World::new().await;
    let body = json!({"name": "prod", "type": "kubeconfig", "kubeconfig": KUBECONFIG, "context": "x"});
    let cluster = create(&world, body.clone()).await.unwrap();
    let mut session = world.store.session();
    let stored = world.store.items().into_iter();
    let record = stored
        .into_iter()
        .find(|item| item.body.contains(r#""prod""#) && item.body.contains("context"));
    session.delete(&record.unwrap().key, Guard::Any).await.unwrap();
    session.settle().await.unwrap();
    assert_eq!(problem(world.app.cluster(&admin(), "prod").await).status, 404);
    assert_eq!(problem(create(&world, body.clone()).await).status, 409);

    world.app.delete_cluster(&admin(), "prod").await.unwrap();
    let name = format!("cluster/{}/kubeconfig", cluster.id);
    assert!(world.secrets.get(&admin().tenant, &name).await.unwrap().is_none());
    assert_eq!(
        problem(world.app.delete_cluster(&admin(), "prod").await).status,
        404
    );
    create(&world, body).await.unwrap();
}

#[tokio::test]
async fn a_registration_that_was_cut_short_anywhere_leaves_no_credentials() {
    let body = json!({"name": "prod", "type": "kubeconfig", "kubeconfig": KUBECONFIG, "context": "x"});
    let new = || serde_json::from_value::<NewCluster>(body.clone()).unwrap();
    let first_id = ClusterId("11111111-1111-4111-8111-111111111111".parse().unwrap());
    for is_known in [true, false] {
        for calls in 0.. {
            let case = format!("after {calls} calls; the caller repeats it under its key: {is_known}");
            let world = World::new().await;
            world.flaky.die_after_calls(Some(calls));
            let first = world.app.create_cluster_as(&admin(), first_id, new()).await;
            world.flaky.die_after_calls(None);
            let had_its_name = world.app.cluster(&admin(), "prod").await.is_ok();
            let again = match is_known {
                true => world.app.create_cluster_as(&admin(), first_id, new()).await,
                false => world.app.create_cluster(&admin(), new()).await,
            };
            match is_known || !had_its_name {
                true => assert_eq!(
                    again.unwrap(),
                    world.app.cluster(&admin(), "prod").await.unwrap(),
                    "{case}"
                ),
                false => assert_eq!(problem(again).status, 409, "{case}"),
            }
            world.clock.advance(Duration::from_secs(600));
            world.app.sync_deployments().await.unwrap();
            let listed = world.app.clusters(&admin(), &ListQuery::default()).await.unwrap();
            assert_eq!(listed.items.len(), 2, "{case}: {listed:?}");
            assert_eq!(world.secrets.names().len(), 1, "{case}");
            world.app.delete_cluster(&admin(), "prod").await.unwrap();
            assert!(
                world.secrets.names().is_empty(),
                "{case}: {:?}",
                world.secrets.names()
            );
            if first.is_ok() {
                assert!(calls > 4, "registering takes only {calls} calls");
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_nobody_registers_again_is_swept_away() {
    for calls in 0.. {
        let world = World::new().await;
        let body = json!({"name": "prod", "type": "kubeconfig", "kubeconfig": KUBECONFIG, "context": "x"});
        world.flaky.die_after_calls(Some(calls));
        let first = create(&world, body).await;
        world.flaky.die_after_calls(None);
        world.clock.advance(Duration::from_secs(600));
        world.app.sync_deployments().await.unwrap();
        let is_there = world.app.cluster(&admin(), "prod").await.is_ok();
        let listed = world.app.clusters(&admin(), &ListQuery::default()).await.unwrap();
        let case = format!("after {calls} calls");
        assert_eq!(listed.items.len(), 1 + usize::from(is_there), "{case}");
        assert_eq!(world.secrets.names().len(), usize::from(is_there), "{case}");
        if first.is_ok() {
            assert!(is_there);
            break;
        }
    }
}

async fn replace(
    world: &World,
    name: &str,
    body: Value,
) -> Result<slipway_model::Cluster, slipway_app::AppError> {
    let new = serde_json::from_value(body).unwrap();
    world.app.replace_cluster_credentials(&admin(), name, new).await
}

/// A cluster that is reached with a kubeconfig, and the name of that in the secrets store.
async fn prod(world: &World) -> String {
    let body = json!({"name": "prod", "type": "kubeconfig", "kubeconfig": KUBECONFIG, "context": "x"});
    let cluster = create(world, body).await.unwrap();
    format!("cluster/{}/kubeconfig", cluster.id)
}

/// A kubeconfig with another token, whose only context has another name.
fn renewed() -> String {
    KUBECONFIG
        .replace("t0ken", "n3w")
        .replace("name: x", "name: z")
        .replace("current-context: x", "current-context: z")
}

async fn kept(world: &World, secret: &str) -> String {
    let kept = world.secrets.get(&admin().tenant, secret).await.unwrap();
    kept.unwrap().expose_secret().to_owned()
}

#[tokio::test]
async fn credentials_are_replaced_as_a_whole() {
    let world = World::new().await;
    let secret = prod(&world).await;
    let body = json!({"kubeconfig": renewed(), "context": "z"});
    // Cut short between the two writes, the first of which says all that a connection needs.
    world.flaky.refuse_put("k", 0);
    assert!(replace(&world, "prod", body.clone()).await.is_err());
    assert!(!world.flaky.is_to_refuse());
    assert!(kept(&world, &secret).await.contains("n3w"));
    world.app.cluster_health(&admin(), "prod").await.unwrap();
    assert!(world.cluster.cloud().contexts.iter().all(Option::is_none));

    let replaced = replace(&world, "prod", body).await.unwrap();
    let context = Some("z".to_owned());
    assert_eq!(replaced.target, ClusterTarget::Kubeconfig { context });
    assert_eq!(world.app.cluster(&admin(), "prod").await.unwrap(), replaced);
    let kept = kept(&world, &secret).await;
    assert!(kept.contains("n3w") && !kept.contains("t0ken"));
}

#[tokio::test]
async fn credentials_that_lead_to_another_cluster_are_refused() {
    let world = World::new().await;
    let secret = prod(&world).await;
    let body = json!({"kubeconfig": renewed()});
    let refuse = async |status: u16| {
        let refused = problem(replace(&world, "prod", body.clone()).await);
        assert_eq!(refused.status, status, "{}", refused.detail);
        assert!(refused.errors.iter().all(|error| error.path == "kubeconfig"));
        assert!(kept(&world, &secret).await.contains("t0ken"));
    };
    let new_leads_to = |to| world.cluster.cloud().leads_to.insert("n3w".to_owned(), to);
    new_leads_to(Ok("another".to_owned()));
    refuse(422).await;
    new_leads_to(Err(TargetError::permanent("401 Unauthorized")));
    refuse(422).await;
    new_leads_to(Err(TargetError::transient("no route to host")));
    refuse(503).await;

    // The old ones do not lead anywhere any more; what the hourly look saw is known.
    new_leads_to(Ok("another".to_owned()));
    world.clock.advance(Duration::from_secs(3600));
    world.app.sync_deployments().await.unwrap();
    world.settle().await;
    let expired = Err(TargetError::permanent("401 Unauthorized"));
    world.cluster.cloud().leads_to.insert("t0ken".to_owned(), expired);
    refuse(422).await;
    new_leads_to(Ok("uid".to_owned()));
    replace(&world, "prod", body.clone()).await.unwrap();
}

#[tokio::test]
async fn credentials_replace_those_of_a_cluster_that_nobody_ever_reached() {
    let world = World::new().await;
    let secret = prod(&world).await;
    let expired = Err(TargetError::permanent("401 Unauthorized"));
    world.cluster.cloud().leads_to.insert("t0ken".to_owned(), expired);
    replace(&world, "prod", json!({"kubeconfig": renewed()}))
        .await
        .unwrap();
    assert!(kept(&world, &secret).await.contains("n3w"));
}

#[tokio::test]
async fn credentials_have_to_be_of_the_kind_that_the_cluster_has() {
    let world = World::with(|settings| settings.eks = true).await;
    prod(&world).await;
    let role = "arn:aws:iam::123456789012:role/slipway";
    let eks = json!({
        "name": "eks", "type": "eks", "eks_name": "main", "region": "eu-central-1", "role_arn": role,
        "external_id": "leaked",
    });
    let before = create(&world, eks).await.unwrap();
    create(&world, json!({"name": "paper", "type": "render"}))
        .await
        .unwrap();
    let with_role = json!({"role_arn": role, "external_id": "fresh"});
    let with_exec = KUBECONFIG.replace("token: t0ken", "exec: {command: sh}");
    for (name, body, place) in [
        ("prod", &with_role, "role_arn"),
        ("prod", &json!({}), "kubeconfig"),
        (
            "prod",
            &json!({"kubeconfig": with_exec}),
            "kubeconfig.users[0].user.exec",
        ),
        ("eks", &json!({"kubeconfig": KUBECONFIG}), "kubeconfig"),
        (
            "eks",
            &json!({"role_arn": role, "external_id": "?"}),
            "external_id",
        ),
        ("paper", &json!({}), ""),
    ] {
        let refused = problem(replace(&world, name, body.clone()).await);
        assert_eq!(
            (refused.status, refused.errors[0].path.as_str()),
            (422, place),
            "{name}"
        );
    }
    let in_another_account = Ok("another".to_owned());
    world
        .cluster
        .cloud()
        .leads_to
        .insert("fresh".to_owned(), in_another_account);
    assert_eq!(
        problem(replace(&world, "eks", with_role.clone()).await).status,
        422
    );
    assert_eq!(world.app.cluster(&admin(), "eks").await.unwrap(), before);
    world.cluster.cloud().leads_to.clear();
    let replaced = replace(&world, "eks", with_role).await.unwrap();
    let ClusterTarget::Eks {
        name, external_id, ..
    } = replaced.target
    else {
        panic!("{:?}", replaced.target);
    };
    assert_eq!((name.as_str(), external_id.as_deref()), ("main", Some("fresh")));
}
