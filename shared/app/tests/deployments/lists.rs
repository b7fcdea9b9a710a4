//! Lists of deployments.

use slipway_app::ListQuery;
use slipway_model::DeploymentStatus;

use crate::world::{World, admin, new_deployment, problem};

async fn names(world: &World, query: ListQuery) -> Vec<String> {
    let page = world.app.deployments(&admin(), &query).await.unwrap();
    page.items.into_iter().map(|one| one.name).collect()
}

#[tokio::test]
async fn lists_are_filtered_by_status_template_and_cluster() {
    let world = World::new().await;
    let other = world.add_cluster("other").await;
    for (template, name, cluster) in [
        ("agent", "a", "dev"),
        ("models", "b", "dev"),
        ("models", "c", "other"),
    ] {
        let mut new = new_deployment(template, name);
        new.cluster = cluster.to_owned();
        world.app.create_deployment(&admin(), new).await.unwrap();
    }
    world.app.start_deployment(&admin(), "b").await.unwrap();
    let query = |change: fn(&mut ListQuery)| {
        let mut query = ListQuery::default();
        change(&mut query);
        query
    };
    assert_eq!(
        names(&world, query(|query| query.template = Some("agent".to_owned()))).await,
        ["a"]
    );
    assert_eq!(
        names(&world, query(|query| query.status = Some("deploying".to_owned()))).await,
        ["b"]
    );
    assert_eq!(
        names(&world, query(|query| query.cluster = Some("other".to_owned()))).await,
        ["c"]
    );
    let by_id = ListQuery {
        cluster: Some(other.id.to_string()),
        ..ListQuery::default()
    };
    assert_eq!(names(&world, by_id).await, ["c"]);
    assert!(
        names(&world, query(|query| query.cluster = Some("x/y".to_owned())))
            .await
            .is_empty()
    );
    let bad = query(|query| query.status = Some("BLUE".to_owned()));
    assert_eq!(problem(world.app.deployments(&admin(), &bad).await).status, 422);
}

#[tokio::test]
async fn pages_follow_each_other_newest_first() {
    let world = World::new().await;
    for number in 0..5 {
        let new = new_deployment("models", &format!("d{number}"));
        world.app.create_deployment(&admin(), new).await.unwrap();
        world.clock.advance(std::time::Duration::from_secs(1));
    }
    let mut found = Vec::new();
    let mut query = ListQuery {
        limit: Some(2),
        ..ListQuery::default()
    };
    loop {
        let page = world.app.deployments(&admin(), &query).await.unwrap();
        assert!(page.items.len() <= 2);
        found.extend(page.items.into_iter().map(|one| one.name));
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => break,
        }
    }
    assert_eq!(found, ["d4", "d3", "d2", "d1", "d0"]);
    for (limit, cursor, status) in [
        (Some(0), None, 422),
        (Some(201), None, 422),
        (None, Some("x"), 400),
    ] {
        let query = ListQuery {
            limit,
            cursor: cursor.map(str::to_owned),
            ..ListQuery::default()
        };
        assert_eq!(
            problem(world.app.deployments(&admin(), &query).await).status,
            status
        );
    }
}

#[tokio::test]
async fn a_list_shows_the_status_of_now() {
    let world = World::new().await;
    let id = world.running("models").await;
    let page = world
        .app
        .deployments(&admin(), &ListQuery::default())
        .await
        .unwrap();
    assert_eq!(page.items[0].status, DeploymentStatus::Running);
    assert_eq!(page.items[0].id.to_string(), id);
}

#[tokio::test]
async fn every_list_refuses_a_word_that_is_no_status_and_reads_any_case() {
    let world = World::new().await;
    let _ = world.running("models").await;
    let query = |status: &str| ListQuery {
        status: Some(status.to_owned()),
        ..ListQuery::default()
    };
    let (app, nonsense) = (&world.app, query("no-status"));
    assert_eq!(problem(app.deployments(&admin(), &nonsense).await).status, 422);
    assert_eq!(problem(app.executions(&admin(), &nonsense).await).status, 422);
    assert_eq!(problem(app.jobs(&admin(), &nonsense).await).status, 422);
    assert!(
        !app.executions(&admin(), &query("completed"))
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        !app.jobs(&admin(), &query("succeeded"))
            .await
            .unwrap()
            .items
            .is_empty()
    );
}
