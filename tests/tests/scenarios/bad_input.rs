//! What is refused, what is said about it, and that nothing is left of it.

use serde_json::{Value, json};
use slipway_tests::{
    Answer, Chart, Client, Kubernetes, Options, Registry, Server, Template, component, text,
};

/// Paths of the errors of a problem, sorted.
fn paths(problem: &Value) -> Vec<String> {
    let errors = problem["errors"].as_array().unwrap();
    let mut paths: Vec<String> = errors.iter().map(|error| text(error, "path")).collect();
    paths.sort();
    paths
}

fn items(client: &Client, list: &str) -> Vec<Value> {
    client.get(&format!("/{list}?limit=200")).expect(200)["items"]
        .as_array()
        .unwrap()
        .clone()
}

/// Nothing that could ever do something was written.
fn expect_nothing(client: &Client) {
    for list in ["deployments", "executions", "jobs"] {
        assert_eq!(items(client, list), [Value::Null; 0], "in /{list}");
    }
}

#[test]
fn templates_that_cannot_work_are_refused_with_every_place() {
    let mut server = Server::start();
    let chart = "charts/agent-runtime";
    let refuse = |template: Template| -> Value {
        for path in ["/templates/validate", "/templates"] {
            let _ = server.post(path, template.document()).expect_problem(422);
        }
        server.post("/templates", template.document()).expect_problem(422)
    };
    // A step that does not exist, in the middle of a text, with what would be right.
    let unknown = refuse(Template::named("wrong").helm("runtime", chart, &json!({})).helm(
        "agent",
        chart,
        &json!({"extraEnv": [{"value": "at {{ steps.runtine.outputs.endpoint_url }}!"}]}),
    ));
    assert_eq!(
        paths(&unknown),
        ["components[1].chart.values.extraEnv[0].value"],
        "{unknown:#}"
    );
    let said = text(&unknown, "detail");
    assert!(said.contains("runtine") && said.contains("runtime"), "{said}");
    // An output that the step does not have.
    let output = refuse(Template::named("wrong").helm("runtime", chart, &json!({})).helm(
        "agent",
        chart,
        &json!({"llm_endpoint": "{{ steps.runtime.outputs.endpoint }}"}),
    ));
    assert!(
        text(&output, "detail").contains("endpoint_url"),
        "what there is: {output:#}"
    );
    // A cycle, as a path, from an edge that is written and one that an expression makes.
    let cycle = refuse(
        Template::named("wrong")
            .helm(
                "a",
                chart,
                &json!({"llm_endpoint": "{{ steps.c.outputs.endpoint_url }}"}),
            )
            .helm("b", chart, &json!({}))
            .and(&json!({"depends_on": ["a"]}))
            .helm("c", chart, &json!({}))
            .and(&json!({"depends_on": ["b"]})),
    );
    let said = text(&cycle, "detail");
    assert!(
        ["a → b → c → a", "b → c → a → b", "c → a → b → c"]
            .iter()
            .any(|path| said.contains(path)),
        "{said}"
    );
    // Two errors come at once.
    let two = refuse(
        Template::named("wrong")
            .component(&json!({"name": "a", "type": "helm"}))
            .component(
                &json!({"name": "Not A Name", "type": "helm", "chart": {"ref": "ftp://bad-protocol/chart"}}),
            ),
    );
    assert!(two["errors"].as_array().unwrap().len() >= 3, "{two:#}");
    assert!(
        text(&two, "detail").contains("does not match any allowed pattern"),
        "{two:#}"
    );
    // Blocked values, with their dotted path, nested and in lists; false is nothing bad.
    for (values, place) in [
        (json!({"hostNetwork": true}), "hostNetwork"),
        (
            json!({"containers": {"main": {"securityContext": {"privileged": true}}}}),
            "containers.main.securityContext.privileged",
        ),
        (
            json!({"containers": [{"hostPID": false}, {"hostPID": "yes"}]}),
            "containers[1].hostPID",
        ),
    ] {
        let blocked = refuse(Template::named("wrong").helm("a", chart, &values));
        assert!(text(&blocked, "detail").contains(place), "{blocked:#}");
    }
    let fine = Template::named("fine").helm("a", chart, &json!({"hostNetwork": false}));
    let _ = server.post("/templates/validate", fine.document()).expect(200);
    assert_eq!(items(&server, "templates"), [Value::Null; 0]);
    server.stop();
}

#[test]
fn deployments_that_cannot_work_are_refused_with_every_place() {
    let mut server = Server::start();
    server.add_render();
    let values = json!({"replicas": "{{ parameters.replicas }}"});
    let template = Template::named("small")
        .helm("agent", "charts/agent-runtime", &values)
        .set(
            "parameters",
            &json!({
                "replicas": {"type": "integer", "default": 1, "min": 1, "max": 3},
                "word": {"type": "string", "required": true, "pattern": "[a-z]+"},
            }),
        );
    server.publish(&template);
    let create = |fields: Value| -> Answer {
        let mut new =
            json!({"name": "d", "template": "small", "cluster": "local", "parameters": {"word": "x"}});
        for (key, value) in fields.as_object().unwrap() {
            new[key] = value.clone();
        }
        server.post("/deployments", &new)
    };
    let wrong =
        create(json!({"parameters": {"replicas": "many", "word": 7, "colour": 1}})).expect_problem(422);
    assert_eq!(
        paths(&wrong),
        ["parameters.colour", "parameters.replicas", "parameters.word"],
        "{wrong:#}"
    );
    let missing = create(json!({"parameters": {"replicas": 4}})).expect_problem(422);
    assert_eq!(
        paths(&missing),
        ["parameters.replicas", "parameters.word"],
        "{missing:#}"
    );
    let _ = create(json!({"cluster": "nowhere"})).expect_problem(422);
    let _ = create(json!({"template": "nothing"})).expect_problem(422);
    let _ = create(json!({"callback_topics": ["nobodysTopic"]})).expect_problem(422);
    let blocked =
        create(json!({"values": {"agent": {"podSpec": {"hostNetwork": true}}}})).expect_problem(422);
    assert!(
        text(&blocked, "detail").contains("podSpec.hostNetwork"),
        "{blocked:#}"
    );
    let _ = create(json!({"unknown_field": 1})).expect_problem(422);
    expect_nothing(&server);
    server.stop();
}

#[test]
fn bodies_that_are_no_documents_are_refused() {
    let mut server = Server::start();
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(10 << 20));
    for path in ["/templates", "/deployments", "/executions", "/jobs", "/clusters"] {
        let _ = server
            .post_text(path, "application/json", &large)
            .expect_problem(413);
        let _ = server
            .post_text(path, "application/json", "{\"name\": ")
            .expect_problem(400);
    }
    // Nine levels of nine references each: half a billion items if they were written out.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let references = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{references}]\n"));
    }
    for path in ["/templates", "/executions"] {
        let refused = server.post_text(path, "application/yaml", &bomb);
        assert!([400, 422].contains(&refused.status), "{}", refused.text);
        let _ = refused.expect_problem(refused.status);
    }
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let deep = format!(
        "{{\"name\": \"d\", \"steps\": [{{\"id\": \"a\", \"action\": \"pass\", \"params\": {{\"x\": {deep}}}}}]}}"
    );
    let _ = server
        .post_text("/executions", "application/json", &deep)
        .expect_problem(400);
    expect_nothing(&server);
    assert!(server.is_alive());
    server.stop();
}

#[test]
fn dags_that_cannot_work_are_refused_with_every_place() {
    let mut server = Server::start();
    server.add_render();
    let refuse = |steps: Value| {
        server
            .post("/executions", &json!({"name": "dag", "steps": steps}))
            .expect_problem(422)
    };
    let wrong = refuse(json!([
        {"id": "a", "action": "fly"},
        {"id": "b", "action": "pass", "depends_on": ["z"], "params": {"x": "{{ steps.y.outputs.x }}"}},
    ]));
    assert!(wrong["errors"].as_array().unwrap().len() >= 3, "{wrong:#}");
    let cycle = refuse(json!([
        {"id": "a", "action": "pass", "depends_on": ["b"]},
        {"id": "b", "action": "pass", "depends_on": ["a"]},
    ]));
    assert!(text(&cycle, "detail").contains("a → b → a"), "{cycle:#}");
    let deploy = |params: Value| refuse(json!([{"id": "a", "action": "helm_deploy", "params": params}]));
    let bad = deploy(json!({"cluster_id": "local", "chart_ref": "ftp://bad-protocol/chart"}));
    assert!(
        text(&bad, "detail").contains("does not match any allowed pattern"),
        "{bad:#}"
    );
    let bad = deploy(
        json!({"cluster_id": "local", "chart_ref": "charts/agent-runtime", "values": {"a": [{"hostIPC": true}]}}),
    );
    assert!(text(&bad, "detail").contains("a[0].hostIPC"), "{bad:#}");
    let bad = deploy(json!({"cluster_id": "local"}));
    assert!(text(&bad, "detail").contains("chart_ref is required"), "{bad:#}");
    // Statements, and expressions that would eat the machine.
    let _ = refuse(
        json!([{"id": "a", "action": "pass", "params": {"x": "{% for i in range(9) %}x{% endfor %}"}}]),
    );
    let nested = format!("{{{{ {}1{} }}}}", "(".repeat(3000), ")".repeat(3000));
    let _ = refuse(json!([{"id": "a", "action": "pass", "params": {"x": nested}}]));
    expect_nothing(&server);
    server.stop();
}

#[test]
fn an_expression_that_grows_without_end_fails_its_step_only() {
    let mut server = Server::start();
    let progress = server.run(&json!([
        {"id": "a", "action": "pass", "params": {"x": "{{ 'x' * 100000000000 }}"}},
    ]));
    assert_eq!(progress["status"], "FAILED", "{progress:#}");
    assert!(server.is_alive());
    server.stop();
}

#[test]
fn kubeconfigs_that_would_run_programs_are_refused() {
    let mut server = Server::start();
    let kubeconfig = |user: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:1'}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             users: [{{name: u, user: {user}}}]\n"
        )
    };
    for user in [
        "{exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: [/tmp/owned]}}",
        "{auth-provider: {name: gcp}}",
        "{tokenFile: /etc/passwd}",
        "{client-certificate: /etc/passwd, client-key: /etc/passwd}",
    ] {
        let new = json!({"name": "bad", "type": "kubeconfig", "kubeconfig": kubeconfig(user)});
        let refused = server.post("/clusters", &new).expect_problem(422);
        assert!(paths(&refused)[0].starts_with("kubeconfig"), "{refused:#}");
    }
    assert_eq!(items(&server, "clusters"), [Value::Null; 0]);
    // A token is fine, and is told to nobody.
    let new =
        json!({"name": "good", "type": "kubeconfig", "kubeconfig": kubeconfig("{token: s3cr3t-t0ken}")});
    let made = server.post("/clusters", &new).expect(201);
    let told = [
        made,
        server.get("/clusters").expect(200),
        server.get("/clusters/good/health").expect(200),
    ];
    assert!(
        told.iter()
            .all(|answer| !answer.to_string().contains("s3cr3t-t0ken")),
        "{told:?}"
    );
    assert_eq!(told[2]["healthy"], false, "{}", told[2]);
    assert!(!server.whole_log().contains("s3cr3t-t0ken"));
    server.stop();
}

/// Deploys one tiny component to a cluster on which that cannot go well, and returns what is said about it.
fn deploy_in_vain(server: &Server, chart: &str, cluster: &str) -> (Value, String) {
    let name = format!("vain-{cluster}");
    server.publish(
        &Template::named(&name)
            .helm("only", chart, &json!({}))
            .and(&json!({"timeout_seconds": 20})),
    );
    let created = server.create(&name, cluster);
    server.begin(&name);
    let failed = server.settled(&name, 120);
    assert_eq!(failed["status"], "FAILED", "{failed:#}");
    assert_ne!(component(&failed, "only")["status"], "RUNNING", "{failed:#}");
    let said = text(&failed, "error_message");
    (created, said)
}

#[test]
fn clusters_that_cannot_be_used_are_said_to_be_so_and_nothing_is_left_on_them() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    let chart = Chart::tiny().push(&registry);

    // Nobody listens.
    let kubeconfig = kubernetes.kubeconfig();
    let address = kubeconfig
        .lines()
        .find_map(|line| line.trim().strip_prefix("server: "))
        .unwrap()
        .to_owned();
    let away = kubeconfig.replace(&address, "https://127.0.0.1:1");
    let _ = server
        .post(
            "/clusters",
            &json!({"name": "away", "type": "kubeconfig", "kubeconfig": away}),
        )
        .expect(201);
    server.publish(&Template::named("patient").helm("only", &chart, &json!({})));
    let _ = server.create("patient", "away");
    server.begin("patient");
    server.wait(60, "what it waits for", |client| {
        let progress = client.deployment_progress("patient");
        let waits = component(&progress, "only")["waiting_for"].as_str()?.to_owned();
        (waits.contains("https://127.0.0.1:1 does not answer") && waits.contains("tried again at"))
            .then_some(())
    });
    let _ = server.post("/deployments/patient/stop", &json!({})).expect(202);
    let stopped = server.settled("patient", 20);
    assert_eq!(stopped["status"], "STOPPED", "{stopped:#}");

    // Somebody who may do nothing.
    let tag = server.tag();
    let place = format!("powerless-{tag}");
    kubernetes.apply(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {place}}}\n---\n\
         apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: nobody, namespace: {place}}}\n"
    ));
    kubernetes.remove_later(&place);
    let token = kubernetes.kubectl(&["create", "token", "nobody", "--namespace", &place]);
    let admin = kubeconfig
        .lines()
        .find_map(|line| line.trim().strip_prefix("token: "))
        .unwrap();
    let powerless = kubeconfig.replace(admin.trim(), token.trim());
    let _ = server
        .post(
            "/clusters",
            &json!({"name": "weak", "type": "kubeconfig", "kubeconfig": powerless}),
        )
        .expect(201);
    let (created, said) = deploy_in_vain(&server, &chart, "weak");
    assert!(
        said.contains("forbidden") || said.contains("may not") || said.contains("rights"),
        "{said}"
    );
    assert!(!kubernetes.has_namespace(&text(&created, "namespace")));
    server.stop();
}

#[test]
fn a_chart_that_does_not_exist_is_named() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let missing = format!("oci://{}/charts/no-such-chart", registry.address());
    let (created, said) = deploy_in_vain(&server, &missing, "dev");
    assert!(said.contains("no-such-chart"), "{said}");
    assert!(!kubernetes.has_namespace(&text(&created, "namespace")));
    // A host that is not on the list is refused before that.
    let elsewhere =
        Template::named("elsewhere").helm("only", "oci://registry.example.com/charts/tiny", &json!({}));
    let refused = server
        .post("/templates", elsewhere.document())
        .expect_problem(422);
    let dag = json!({"name": "x", "steps": [{"id": "a", "action": "helm_deploy",
        "params": {"cluster_id": "dev", "chart_ref": "oci://registry.example.com/charts/tiny"}}]});
    let posted = server.post("/executions", &dag).expect_problem(422);
    assert!(
        text(&posted, "detail").contains("registry.example.com"),
        "{posted:#}"
    );
    assert!(
        text(&refused, "detail").contains("registry.example.com"),
        "{refused:#}"
    );
    server.stop();
}
