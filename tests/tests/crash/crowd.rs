//! Many deployments at the same time, some of which cannot come up.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use slipway_tests::{Chart, Kubernetes, Options, Registry, Template, component, statuses, text};

/// Deployments, unless `SLIPWAY_CROWD` says otherwise.
const SIZE: usize = 10;

/// Most Helms at the same time, whatever waits.
const MOST_HELMS: usize = 8;

/// Most memory that the control plane may ever have held, in KiB.
const MOST_RESIDENT: u64 = 100 << 10;

/// Template of the deployments that come up.
const WELL: &str = "crowd";

/// Template of those that cannot.
const ILL: &str = "crowd-ill";

/// What every fifth deployment's pods do, and the words that must be said of it.
const FAILURES: [(&str, &[&str]); 3] = [
    // Between two crashes only the event says so.
    ("crash", &["crash loop", "back-off restarting failed container"]),
    ("image-pull", &["image pull"]),
    ("never-ready", &["ready"]),
];

fn size() -> usize {
    std::env::var("SLIPWAY_CROWD").map_or(SIZE, |size| size.parse().unwrap())
}

/// What the deployment of this number suffers from.
fn failure(number: usize) -> Option<(&'static str, &'static [&'static str])> {
    number
        .is_multiple_of(5)
        .then(|| FAILURES[number / 5 % FAILURES.len()])
}

/// Alone on the machine a deployment takes seconds; in a crowd each waits for its turn with Helm.
fn patience() -> usize {
    30 + 4 * size()
}

/// What fails does so when this time is over, in which it must also have had its turn with Helm.
fn shaky_patience() -> usize {
    (2 * size()).max(40)
}

/// The same components, whose one in the middle has this many seconds.
fn template(name: &str, chart: &str, shaky_patience: usize) -> Template {
    let limit = json!({"timeout_seconds": patience()});
    let behaves = json!({"behaviour": "{{ parameters.behaviour }}"});
    let after = json!({"timeout_seconds": patience(), "depends_on": ["shaky"]});
    Template::named(name)
        .helm("first", chart, &json!({}))
        .and(&limit)
        .helm("shaky", chart, &behaves)
        .and(&json!({"timeout_seconds": shaky_patience, "depends_on": ["first"]}))
        .helm(
            "after",
            chart,
            &json!({"shown": "{{ steps.shaky.outputs.endpoint_url }}"}),
        )
        .and(&after)
        .helm("beside", chart, &json!({}))
        .and(&limit)
        .helm("slow", chart, &json!({"readyAfter": "1s"}))
        .and(&limit)
        .set(
            "parameters",
            &json!({"behaviour": {"type": "string", "default": ""}}),
        )
}

/// The statuses that the components of a deployment end in.
fn expected(fails: bool) -> BTreeMap<String, String> {
    let (shaky, after) = if fails {
        ("FAILED", "STOPPED")
    } else {
        ("RUNNING", "RUNNING")
    };
    [
        ("first", "RUNNING"),
        ("shaky", shaky),
        ("after", after),
        ("beside", "RUNNING"),
        ("slow", "RUNNING"),
    ]
    .map(|(name, status)| (name.to_owned(), status.to_owned()))
    .into()
}

#[test]
fn each_of_a_crowd_ends_as_it_must_and_the_control_plane_stays_small() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let mut server = Options::default().registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    // Only what must fail is to do so soon: what comes up may wait for Helm as long as the others.
    server.publish(&template(WELL, &chart, patience()));
    server.publish(&template(ILL, &chart, shaky_patience()));
    let names: Vec<String> = (0..size()).map(|number| format!("crowd-{number}")).collect();
    let mut namespaces = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let behaviour = failure(number).map_or("", |(behaviour, _)| behaviour);
        let parameters = json!({"behaviour": behaviour});
        let template = if behaviour.is_empty() { WELL } else { ILL };
        let order = json!({"name": name, "template": template, "cluster": "dev", "parameters": parameters});
        namespaces.push(text(&server.create_with(&order), "namespace"));
    }
    for namespace in &namespaces {
        kubernetes.remove_later(namespace);
    }
    for name in &names {
        server.begin(name);
    }
    let helm = xtask::tools::helm().unwrap().to_string_lossy().into_owned();
    let mut most_helms = 0;
    let limit = u64::try_from(patience()).unwrap() * 4;
    server.wait(limit, "the end of everything", |client| {
        // Helm itself, not the shells that guard it.
        let is_helm = |process: &&String| {
            process
                .split_once(": ")
                .is_some_and(|(_, line)| line.starts_with(&helm))
        };
        most_helms = most_helms.max(server.helms().iter().filter(is_helm).count());
        let all = client.get("/deployments?limit=200").expect(200);
        let mut all = all["items"].as_array().unwrap().iter();
        all.all(|deployment| deployment["status"] != "DEPLOYING")
            .then_some(())
    });
    for (number, name) in names.iter().enumerate() {
        expect_end(&server.deployment(name), failure(number));
        let releases = kubernetes.releases(&namespaces[number]);
        let left = if failure(number).is_some() { 3 } else { 5 };
        assert_eq!(releases.len(), left, "{name}: {releases:?}");
        assert!(
            releases.iter().all(|(_, status)| status == "deployed"),
            "{name}: {releases:?}"
        );
    }
    let most = server.process().most_resident();
    xtask::run::say(&format!(
        "{} deployments of 5 components: at most {most_helms} Helms at once, {most} KiB resident",
        names.len()
    ));
    assert!(
        (1..=MOST_HELMS).contains(&most_helms),
        "{most_helms} Helms at once"
    );
    assert!(most < MOST_RESIDENT, "{most} KiB resident");
    server.stop();
}

fn expect_end(deployment: &Value, failure: Option<(&str, &[&str])>) {
    let overall = if failure.is_some() { "FAILED" } else { "RUNNING" };
    assert_eq!(deployment["status"], overall, "{deployment:#}");
    assert_eq!(
        statuses(deployment),
        expected(failure.is_some()),
        "{deployment:#}"
    );
    if let Some((_, words)) = failure {
        let said = text(component(deployment, "shaky"), "error_message").to_lowercase();
        assert!(says(&said, words) && said.contains("-shaky"), "{said}");
        assert!(
            says(&text(deployment, "error_message").to_lowercase(), words),
            "{deployment:#}"
        );
    }
}

/// Whether one of the words is there.
fn says(said: &str, words: &[&str]) -> bool {
    words.iter().any(|word| said.contains(word))
}
