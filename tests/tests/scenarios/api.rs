//! What holds for every resource of the API.

use serde_json::{Value, json};
use slipway_tests::{Client, Platform, Server, Template, text};

fn small() -> Template {
    Template::named("small").helm("agent", "charts/agent-runtime", &json!({}))
}

fn with_deployments(count: usize) -> Server {
    let server = Server::start();
    server.add_render();
    server.publish(&small());
    for index in 0..count {
        let _ = server
            .create_with(&json!({"name": format!("d{index}"), "template": "small", "cluster": "local"}));
    }
    server
}

/// Names on every page of a list, and the sizes of the pages.
fn pages(client: &Client, list: &str, limit: usize, field: &str) -> (Vec<String>, Vec<usize>) {
    let (mut names, mut sizes) = (Vec::new(), Vec::new());
    let mut cursor = String::new();
    loop {
        let separator = if list.contains('?') { '&' } else { '?' };
        let page = client
            .get(&format!("{list}{separator}limit={limit}{cursor}"))
            .expect(200);
        let items = page["items"].as_array().unwrap();
        sizes.push(items.len());
        names.extend(items.iter().map(|item| text(item, field)));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (names, sizes),
        }
        assert!(sizes.len() < 100, "it never ends");
    }
}

#[test]
fn a_creation_that_is_repeated_happens_once() {
    let mut server = with_deployments(0);
    let new = json!({"name": "once", "template": "small", "cluster": "local"});
    let key = [("idempotency-key", "a-key-of-mine")];
    let first = server.post_with("/deployments", &new, &key).expect(201);
    let second = server.post_with("/deployments", &new, &key).expect(201);
    assert_eq!(first, second);
    let other = json!({"name": "twice", "template": "small", "cluster": "local"});
    let _ = server.post_with("/deployments", &other, &key).expect_problem(422);
    let without = server.post("/deployments", &new).expect_problem(409);
    assert!(
        text(&without, "detail").contains("PENDING"),
        "it names the state: {without}"
    );

    let dag = json!({"name": "dag", "steps": [{"id": "a", "action": "pass"}]});
    let key = [("idempotency-key", "another-key")];
    let first = server.post_with("/executions", &dag, &key).expect(201);
    // A restart in between changes nothing.
    server.kill9();
    server.restart();
    let second = server.post_with("/executions", &dag, &key).expect(201);
    assert_eq!(first["id"], second["id"]);
    assert_eq!(pages(&server, "/executions", 10, "id").0, [text(&first, "id")]);
    let _ = server
        .post_with("/deployments", &new, &[("idempotency-key", "")])
        .expect_problem(400);
    let _ = server
        .post_with("/deployments", &new, &[("idempotency-key", &"k".repeat(300))])
        .expect_problem(400);
    server.stop();
}

#[test]
fn lists_have_pages_that_meet() {
    let mut server = with_deployments(7);
    let (names, sizes) = pages(&server, "/deployments", 3, "name");
    assert_eq!(names, ["d6", "d5", "d4", "d3", "d2", "d1", "d0"], "newest first");
    assert_eq!(sizes, [3, 3, 1]);
    for _ in 0..5 {
        let _ = server.run(&json!([{"id": "a", "action": "pass"}]));
    }
    assert_eq!(pages(&server, "/executions", 2, "id").1, [2, 2, 1]);
    for index in 0..5 {
        let job = json!({"name": format!("j{index}"), "job_type": "custom_job", "cluster_id": "local"});
        let _ = server.post("/jobs", &job).expect(201);
    }
    assert_eq!(
        pages(&server, "/jobs", 2, "name").0,
        ["j4", "j3", "j2", "j1", "j0"]
    );
    assert_eq!(
        pages(&server, "/jobs?cluster=local", 4, "name").1,
        [4, 1],
        "filtered by name"
    );
    assert_eq!(pages(&server, "/jobs?status=RUNNING", 4, "name").1, [0]);
    assert_eq!(
        pages(
            &server,
            "/deployments?status=pending&cluster=local&template=small",
            5,
            "name"
        )
        .1,
        [5, 2]
    );
    assert_eq!(pages(&server, "/deployments?template=other", 5, "name").1, [0]);
    assert_eq!(pages(&server, "/executions?status=COMPLETED", 4, "id").1, [4, 1]);

    // What is added while somebody reads pages comes before them.
    let first = server.get("/deployments?limit=2").expect(200);
    let _ = server.create_with(&json!({"name": "later", "template": "small", "cluster": "local"}));
    let next = server
        .get(&format!(
            "/deployments?limit=2&cursor={}",
            text(&first, "next_cursor")
        ))
        .expect(200);
    assert_eq!(next["items"][0]["name"], "d4");
    server.stop();
}

#[test]
fn ids_names_and_cursors_of_any_shape_get_an_answer() {
    let mut server = with_deployments(1);
    let long = "x".repeat(3000);
    let odd = [
        "nothing",
        "00000000-0000-0000-0000-000000000000",
        "D0",
        "..%2F..%2Fetc",
        "%00",
        "%FF",
        "%F0%9F%92%A5",
        "a%20b",
        "-",
        "d0%0a",
        "{id}",
        "null",
        "'%20OR%201=1",
        long.as_str(),
    ];
    for id in odd {
        for path in ["deployments", "executions", "jobs", "clusters", "templates"] {
            let answer = server.get(&format!("/{path}/{id}"));
            assert!(
                [400, 404, 414].contains(&answer.status),
                "{path}/{id}: {} {}",
                answer.status,
                answer.text
            );
            if answer.status != 414 {
                let _ = answer.expect_problem(answer.status);
            }
        }
        for path in [
            "deployments",
            "executions",
            "jobs",
            "clusters",
            "templates",
            "deployments/d0/events",
        ] {
            let answer = server.get(&format!("/{path}?cursor={id}"));
            assert!(
                [200, 400, 404, 414].contains(&answer.status),
                "{path}: {} {}",
                answer.status,
                answer.text
            );
        }
        for path in [
            "/deployments/X/start",
            "/executions/X/cancel",
            "/jobs/X/execute",
            "/executions/X/steps/a/approve",
        ] {
            let answer = server.post(&path.replace('X', id), &json!({}));
            assert!(
                [400, 404, 414].contains(&answer.status),
                "{path} {id}: {} {}",
                answer.status,
                answer.text
            );
        }
        let answer = server.delete(&format!("/deployments/{id}"));
        assert!(
            [400, 404, 414].contains(&answer.status),
            "{id}: {} {}",
            answer.status,
            answer.text
        );
    }
    for list in ["deployments", "executions", "jobs", "clusters", "templates"] {
        for limit in ["0", "201", "-1", "many"] {
            let _ = server.get(&format!("/{list}?limit={limit}")).expect_problem(400);
        }
        let garbage = server.get(&format!("/{list}?cursor=zzzz")).expect_problem(400);
        assert!(text(&garbage, "type").starts_with("https://"), "{garbage}");
    }
    let _ = server.get("/deployments?status=EXCELLENT").expect_problem(400);
    assert_eq!(server.get("/deployments/d0").expect(200)["name"], "d0");
    server.stop();
}

#[test]
fn calls_in_the_wrong_state_are_refused_with_that_state() {
    let mut server = with_deployments(1);
    let refuse = |method: &str, path: &str| -> Value {
        let answer = match method {
            "DELETE" => server.delete(path),
            _ => server.post(path, &json!({})),
        };
        answer.expect_problem(409)
    };
    for verb in ["retry", "upgrade", "rollback"] {
        let refused = refuse("POST", &format!("/deployments/d0/{verb}"));
        assert!(text(&refused, "detail").contains("PENDING"), "{verb}: {refused}");
        assert_eq!(refused["type"], "https://slipway.dev/problems/conflict");
    }
    server.begin("d0");
    let _ = server.running("d0", 60);
    let refused = refuse("POST", "/deployments/d0/start");
    assert!(text(&refused, "detail").contains("RUNNING"), "{refused}");
    // What is used cannot go.
    let _ = refuse("DELETE", "/templates/small");
    let _ = refuse("DELETE", "/clusters/local");
    // Templates are immutable, and clusters have one name.
    let _ = server.post("/templates", small().document()).expect(201);
    let other = small().set("description", &json!("another"));
    let _ = server.post("/templates", other.document()).expect_problem(409);
    let _ = server
        .post("/clusters", &json!({"name": "local", "type": "render"}))
        .expect_problem(409);

    let _ = server.delete("/deployments/d0").expect(202);
    server.wait(60, "the end of the deployment", |client| {
        (client.get("/deployments/d0").status == 404).then_some(())
    });
    let _ = server.delete("/templates/small").expect(204);
    let _ = server.delete("/clusters/local").expect(204);
    server.stop();
}

#[test]
fn callers_need_the_token_and_the_machines_own_name() {
    let mut server = Server::start();
    for token in ["", "wrong", &server.token()[1..]] {
        let stranger = Client::new(server.url(), token);
        let _ = stranger.get("/deployments").expect_problem(401);
        let _ = stranger.post("/templates", &json!({})).expect_problem(401);
    }
    if Platform::of_this_run() == Platform::Embedded {
        // Names of an API on AWS are API Gateway's.
        let rebound = server
            .call("GET", "/deployments", &[("host", "evil.example")], None)
            .unwrap();
        let _ = rebound.expect_problem(403);
    }
    let _ = server.get("/nothing-of-ours").expect_problem(404);
    let _ = server.delete("/catalog").expect_problem(405);
    let description = server.get("/openapi.json").expect(200);
    assert!(
        text(&description, "openapi").starts_with("3.1"),
        "{}",
        description["openapi"]
    );
    for path in [
        "/api/v1/deployments/{id}/rollback",
        "/api/v1/jobs/{id}/execute",
        "/api/v1/executions/{id}/progress",
    ] {
        assert!(description["paths"][path].is_object(), "{path} is described");
    }
    server.stop();
}
