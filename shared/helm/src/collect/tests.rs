#![allow(
    clippy::needless_pass_by_value,
    reason = "objects are written where they are used"
)]

use serde_json::json;
use slipway_model::OutputSource;
use slipway_ports::FailureClass;

use super::*;

fn release() -> Release {
    Release {
        namespace: "ns".to_owned(),
        name: "rel".to_owned(),
    }
}

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "labels": {INSTANCE: "rel"}}, "spec": spec})
}

fn plain(name: &str, port: u16) -> Value {
    service(name, json!({"ports": [{"port": port}]}))
}

fn found(services: Vec<Value>, ingresses: Vec<Value>) -> Found {
    Found {
        services,
        ingresses,
        has_status: true,
        ..Found::default()
    }
    .keep_own(&release(), &[])
}

fn endpoint(found: &Found, ingress_url: Option<&str>) -> String {
    collect(&release(), found, &BTreeMap::new(), ingress_url)
        .unwrap()
        .endpoint_url
}

#[test]
fn the_endpoint_is_ingress_then_load_balancer_then_first_service_then_nothing() {
    let ingress = |host: &str, tls: bool| {
        json!({"metadata": {"name": "in", "labels": {INSTANCE: "rel"}},
            "spec": {"tls": if tls { json!([{}]) } else { json!([]) },
                "rules": [{"host": host, "http": {"paths": [{"path": "/api/"}]}}]}})
    };
    let mut balancer = service("lb", json!({"type": "LoadBalancer", "ports": [{"port": 443}]}));
    balancer["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}});
    let services = vec![plain("b", 8080), balancer, plain("a", 6333)];

    let all = found(services.clone(), vec![ingress("app.example.com", true)]);
    assert_eq!(
        endpoint(&all, Some("https://in.example")),
        "https://app.example.com/api"
    );
    let hostless = found(services.clone(), vec![ingress("", false)]);
    assert_eq!(
        endpoint(&hostless, Some("https://in.example/")),
        "https://in.example/api"
    );
    assert_eq!(endpoint(&hostless, None), "https://203.0.113.7:443");
    assert_eq!(
        endpoint(&found(services, vec![]), None),
        "https://203.0.113.7:443"
    );
    let headless = service("a", json!({"clusterIP": "None", "ports": [{"port": 1}]}));
    let inside = found(vec![plain("b", 8080), headless.clone(), plain("c", 1)], vec![]);
    assert_eq!(
        endpoint(&inside, Some("https://in.example")),
        "http://b.ns.svc:8080"
    );
    assert_eq!(
        endpoint(&found(vec![headless], vec![]), None),
        "http://a.ns.svc:1"
    );
    assert_eq!(endpoint(&found(vec![], vec![]), None), "");
}

#[test]
fn only_the_releases_services_count() {
    let mut foreign = plain("aaa", 1);
    foreign["metadata"]["labels"][INSTANCE] = "other".into();
    let mut unlabelled = plain("listed", 2);
    unlabelled["metadata"]["labels"] = json!({});
    let own = [ObjectReference {
        api_version: "v1".into(),
        kind: "Service".into(),
        namespace: "ns".into(),
        name: "listed".into(),
    }];
    let found = Found {
        services: vec![foreign, plain("z", 3), unlabelled],
        ..Found::default()
    }
    .keep_own(&release(), &own);
    let collected = collect(&release(), &found, &BTreeMap::new(), None).unwrap();
    assert_eq!(collected.services, ["listed", "z"]);
}

fn read(found: &Found, source: Value) -> Result<Value, slipway_ports::TargetError> {
    let source: OutputSource = serde_json::from_value(source).unwrap();
    let outputs = BTreeMap::from([("out".to_owned(), source)]);
    collect(&release(), found, &outputs, None).map(|collected| collected.outputs["out"].clone())
}

#[test]
fn outputs_are_read_and_typed() {
    let mut all = found(
        vec![service(
            "db",
            json!({"ports": [{"name": "http", "port": 6333}, {"name": "grpc", "port": 6334}]}),
        )],
        vec![],
    );
    let object = |api_version: &str, kind: &str| ObjectReference {
        api_version: api_version.into(),
        kind: kind.into(),
        namespace: "ns".into(),
        name: "x".into(),
    };
    all.others.insert(
        object("v1", "ConfigMap"),
        json!({"data": {"n": " 42 ", "j": "[1]", "b": "yes", "long": "x".repeat(200)}}),
    );
    all.others.insert(
        object("apps/v1", "Deployment"),
        json!({"status": {"readyReplicas": 3, "conditions": [{"type": "Available"}]}}),
    );
    let ok = |source: Value| read(&all, source).unwrap();
    assert_eq!(ok(json!({"from": "service"})), "http://db.ns.svc:6333");
    assert_eq!(
        ok(json!({"from": "service", "name": "db", "port": "grpc"})),
        "http://db.ns.svc:6334"
    );
    assert_eq!(
        ok(json!({"from": "service", "port": "6334"})),
        "http://db.ns.svc:6334"
    );
    let key = |key: &str, kind: &str| json!({"from": "config_map", "name": "x", "key": key, "type": kind});
    assert_eq!(ok(key("n", "integer")), 42);
    assert_eq!(ok(key("n", "string")), " 42 ");
    assert_eq!(ok(key("j", "json")), json!([1]));
    let status = |field: &str, kind: &str| {
        json!({"from": "status", "api_version": "apps/v1", "kind": "Deployment", "name": "x",
            "field": field, "type": kind})
    };
    assert_eq!(ok(status("readyReplicas", "string")), "3");
    assert_eq!(ok(status("conditions.0.type", "string")), "Available");

    let error = |source: Value| read(&all, source).unwrap_err();
    let boolean = error(key("b", "boolean"));
    assert_eq!(
        boolean.to_string(),
        "output 'out' of release ns/rel: \"yes\" is not true or false"
    );
    // What is secret in it can be masked only while it is whole.
    let long = error(key("long", "integer")).to_string();
    assert!(long.contains(&"x".repeat(200)), "{long}");
    let missing = error(key("absent", "string"));
    assert!(
        missing
            .to_string()
            .ends_with("ConfigMap/x has no key 'absent'; it has: b, j, long, n"),
        "{missing}"
    );
    let port = error(json!({"from": "service", "port": "web"}));
    assert!(
        port.to_string().ends_with("no port 'web'; it has: http, grpc"),
        "{port}"
    );
    assert_eq!(error(status("phase", "string")).class(), FailureClass::Transient);

    all.has_status = false;
    assert_eq!(read(&all, status("phase", "integer")).unwrap(), 0);
}

#[test]
fn what_an_operator_makes_may_come_and_what_is_only_rendered_will_not() {
    let reference = ObjectReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        namespace: "ns".into(),
        name: "x".into(),
    };
    let of = |name: &str| json!({"from": "config_map", "name": name, "key": "url"});
    let database = json!({"from": "status", "api_version": "example.com/v1", "kind": "Database", "name": "db",
        "field": "url"});
    for (has_status, class) in [(true, FailureClass::Transient), (false, FailureClass::Permanent)] {
        let mut all = found(vec![], vec![]);
        all.has_status = has_status;
        all.others.insert(reference.clone(), json!({"data": {}}));
        assert_eq!(read(&all, of("x")).unwrap_err().class(), class, "its key");
        assert_eq!(read(&all, of("y")).unwrap_err().class(), class, "itself");
        for kind in ["service", "ingress"] {
            for source in [json!({"from": kind}), json!({"from": kind, "name": "x"})] {
                let error = read(&all, source).unwrap_err();
                assert_eq!(error.class(), class, "{error}");
            }
        }
    }
    let error = read(&found(vec![], vec![]), database).unwrap_err();
    assert_eq!(error.class(), FailureClass::Transient);
    assert_eq!(
        error.to_string(),
        "output 'out' of release ns/rel: there is no Database/db (example.com/v1) in namespace ns"
    );
}
