//! `kill -9` at random moments.

use std::{ops::RangeInclusive, time::Duration};

use serde_json::{Value, json};
use slipway_tests::{
    Chance, Chart, Kubernetes, Options, Platform, Receiver, Registry, Server, Template, statuses, text,
};
use xtask::wait;

/// Where the random numbers begin, unless `SLIPWAY_TEST_SEED` says otherwise. It is printed with every kill.
const SEED: u64 = 20_260_206;

fn seed() -> u64 {
    let chosen = std::env::var("SLIPWAY_TEST_SEED").ok();
    chosen.map_or(SEED, |chosen| {
        chosen.parse().expect("SLIPWAY_TEST_SEED is a number")
    })
}

/// Longest time that a control plane lives before it is killed, in milliseconds: some of them do not get to look at
/// anything, others get to finish.
const LIFE: u64 = 900;

/// A time limit. On AWS what a dead function held is gone on with when its lease has expired and the schedule found it:
/// sooner than its message comes again by itself, which takes 18 minutes at least.
fn patience(seconds: u64) -> u64 {
    match Platform::of_this_run() {
        Platform::Embedded => seconds,
        Platform::AwsLocal => seconds + 900,
    }
}

/// As many rounds, or several times as many where `SLIPWAY_KILL_FACTOR` says so; on AWS one, because of the patience that
/// it takes.
fn rounds(some: u32) -> u32 {
    if Platform::of_this_run() == Platform::AwsLocal {
        return 1;
    }
    some * std::env::var("SLIPWAY_KILL_FACTOR").map_or(1, |factor| factor.parse().unwrap())
}

/// What one round is about, and what it must end in.
struct Round<'a> {
    server: &'a mut Server,
    chance: &'a mut Chance,
    receiver: &'a Receiver,
    /// Deployment, and the path of its webhook.
    name: String,
}

impl Round<'_> {
    fn webhook(&self) -> String {
        format!("/{}", self.name)
    }

    /// A run beside the deployment that tells somebody outside.
    fn tell(&self) -> String {
        let url = self.receiver.url(&self.webhook());
        self.server.execute(&json!({"name": "tell", "steps": [
            {"id": "before", "action": "pass", "params": {"word": "up"}},
            {"id": "tell", "action": "notification", "depends_on": ["before"],
             "params": {"channel": "webhook", "url": url, "message": "{{ steps.before.outputs.word }}"}},
            {"id": "after", "action": "pass", "depends_on": ["tell"]},
        ]}))
    }

    /// Kills it some times and starts it again. What it says after each start must be so.
    fn kill(&mut self, times: usize, check: &dyn Fn(&Value)) {
        for time in 0..times {
            let life = self.chance.below(LIFE);
            xtask::run::say(&format!(
                "seed {}: kill {time} of {} after {life} ms",
                seed(),
                self.name
            ));
            // A moment cannot be waited for otherwise: that nothing marks it is the point.
            wait::pause(Duration::from_millis(life));
            self.server.kill9();
            self.server.expect_no_helms();
            self.server.restart();
            check(&self.server.deployment(&self.name));
        }
    }

    fn expect_told(&self, execution: &str) {
        let progress = self.server.ended(execution, patience(60));
        assert_eq!(progress["status"], "COMPLETED", "{progress:#}");
        let calls = self.receiver.received(&self.webhook());
        let mut keys: Vec<&str> = calls.iter().map(|call| call.key()).collect();
        assert!(!keys.is_empty(), "the webhook was never called");
        keys.dedup();
        assert_eq!(keys.len(), 1, "one key per intent: {calls:?}");
        assert!(calls.iter().all(|call| call.body["message"] == "up"), "{calls:?}");
    }
}

fn template(name: &str, chart: &str) -> Template {
    let seen = json!({
        "shown": {"a": "{{ steps.a.outputs.endpoint_url }}", "b": "{{ steps.b.outputs.endpoint_url }}"},
        "color": "{{ parameters.color }}",
    });
    Template::named(name)
        .helm("a", chart, &json!({"color": "{{ parameters.color }}"}))
        .helm("b", chart, &json!({"readyAfter": "400ms"}))
        .helm("c", chart, &seen)
        .set(
            "parameters",
            &json!({"color": {"type": "string", "default": "green"}}),
        )
}

#[test]
fn a_rendered_deployment_comes_up_whenever_its_control_plane_is_killed() {
    let registry = Registry::start();
    let receiver = Receiver::start();
    let mut server = Options::default().registry(&registry).start();
    let mut chance = Chance::of(seed());
    server.add_render();
    let chart = Chart::tiny().push(&registry);
    server.publish(&template("killed", &chart));
    for round in 0..rounds(5) {
        let name = format!("killed-{round}");
        let _ = server.create_with(&json!({"name": name, "template": "killed", "cluster": "local"}));
        let mut round = Round {
            server: &mut server,
            chance: &mut chance,
            receiver: &receiver,
            name: name.clone(),
        };
        let told = round.tell();
        round.server.begin(&name);
        round.kill(5, &|deployment| {
            let status = deployment["status"].as_str().unwrap();
            assert!(["DEPLOYING", "RUNNING"].contains(&status), "{deployment:#}");
        });
        let running = round.server.running(&name, patience(60));
        assert!(
            statuses(&running).values().all(|status| status == "RUNNING"),
            "{running:#}"
        );
        round.expect_told(&told);
    }
    server.stop();
}

#[test]
fn a_deployment_on_a_cluster_comes_up_once_whenever_its_control_plane_is_killed() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let receiver = Receiver::start();
    let mut server = Options::default().registry(&registry).start();
    let mut chance = Chance::of(seed() + 1);
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    server.publish(&template("struck", &chart));
    for round in 0..rounds(2) {
        let name = format!("struck-{round}");
        let created = server.create_with(&json!({"name": name, "template": "struck", "cluster": "dev"}));
        let (id, namespace) = (text(&created, "id"), text(&created, "namespace"));
        let releases = ["a", "b", "c"].map(|component| format!("{name}-{component}"));
        kubernetes.remove_later(&namespace);
        let mut round = Round {
            server: &mut server,
            chance: &mut chance,
            receiver: &receiver,
            name: name.clone(),
        };
        let truthful = |deployment: &Value| {
            let releases = kubernetes.releases(&namespace);
            for (component, status) in statuses(deployment) {
                let release = (format!("{name}-{component}"), "deployed".to_owned());
                // What runs stays, so that looking at it later is no race; an upgrade begins where it was deployed.
                let claims = status == "RUNNING" && deployment["status"] != "UPGRADING";
                assert!(
                    !claims || releases.contains(&release),
                    "{component} is said to run: {releases:?}"
                );
            }
        };
        let told = round.tell();
        let first = round.server.begin(&name);
        round.kill(6, &truthful);
        let _ = round.server.running(&name, patience(120));
        truthful(&round.server.deployment(&name));
        expect_deployed(&kubernetes, &namespace, &name, [1..=1, 1..=1, 1..=1]);
        round.expect_told(&told);

        // A second intent, killed as well.
        let change = json!({"parameters": {"color": "blue"}});
        let _ = round
            .server
            .post(&format!("/deployments/{name}/upgrade"), &change)
            .expect(202);
        round.kill(3, &truthful);
        let _ = round.server.running(&name, patience(120));
        // Nothing of `b` depends on the color: it is kept, unless it was in doubt when it was looked at, such as not ready.
        expect_deployed(&kubernetes, &namespace, &name, [2..=2, 1..=2, 2..=2]);
        let values = kubernetes.helm(&["get", "values", &format!("{name}-c"), "--namespace", &namespace]);
        assert_eq!(values["color"], "blue");
        kubernetes.expect_only(&id, &namespace, &releases);

        // And back, killed as well.
        let back = json!({"execution_id": first});
        let _ = round
            .server
            .post(&format!("/deployments/{name}/rollback"), &back)
            .expect(202);
        round.kill(3, &|_| {});
        let _ = round.server.running(&name, patience(120));
        let values = kubernetes.helm(&["get", "values", &format!("{name}-c"), "--namespace", &namespace]);
        assert_eq!(values["color"], "green");
        expect_deployed(&kubernetes, &namespace, &name, [3..=3, 1..=3, 3..=3]);
        kubernetes.expect_only(&id, &namespace, &releases);
    }
    expect_all_ended(&server);
    server.stop();
}

#[test]
fn what_is_stopped_or_deleted_goes_away_whenever_its_control_plane_is_killed() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let receiver = Receiver::start();
    let mut server = Options::default().registry(&registry).start();
    let mut chance = Chance::of(seed() + 2);
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    let stuck = json!({"behaviour": "never-ready"});
    let template = Template::named("given-up")
        .helm("done", &chart, &json!({}))
        .helm("stuck", &chart, &stuck);
    server.publish(&template.set("deployment_order", &json!(["done", "stuck"])));
    for round in 0..rounds(4) {
        let name = format!("given-up-{round}");
        let created = server.create_with(&json!({"name": name, "template": "given-up", "cluster": "dev"}));
        let (id, namespace) = (text(&created, "id"), text(&created, "namespace"));
        kubernetes.remove_later(&namespace);
        server.begin(&name);
        server.wait_for_component(&name, "stuck", "DEPLOYING", patience(60));
        let stops = round % 2 == 0;
        if stops {
            let _ = server
                .post(&format!("/deployments/{name}/stop"), &json!({}))
                .expect(202);
        } else {
            let _ = server.delete(&format!("/deployments/{name}")).expect(202);
        }
        let mut round = Round {
            server: &mut server,
            chance: &mut chance,
            receiver: &receiver,
            name: id.clone(),
        };
        round.kill(4, &|_| {});
        let ended = server.settled(&id, patience(120));
        if stops {
            assert_eq!(ended["status"], "STOPPED", "{ended:#}");
            let done = (format!("{name}-done"), "deployed".to_owned());
            assert_eq!(kubernetes.releases(&namespace), [done], "{ended:#}");
            let left = kubernetes.names("deployments,services,configmaps", &namespace);
            assert!(!left.iter().any(|object| object.contains("stuck")), "{left:?}");
            kubernetes.expect_only(&id, &namespace, &[format!("{name}-done")]);
        } else {
            assert_eq!(ended["status"], "DELETED", "{ended:#}");
            kubernetes.wait_until_gone(&namespace);
            kubernetes.expect_only(&id, &namespace, &[]);
        }
    }
    expect_all_ended(&server);
    server.stop();
}

/// No execution is lost: each that was ever begun has ended.
fn expect_all_ended(server: &Server) {
    server.wait(patience(60), "the end of every execution", |client| {
        let all = client.get("/executions?limit=200").expect(200);
        let mut all = all["items"].as_array().unwrap().iter();
        all.all(|execution| !["PENDING", "RUNNING"].contains(&execution["status"].as_str().unwrap()))
            .then_some(())
    });
}

/// Each release has as many revisions that were ever deployed as there were intents that changed it, which is never more
/// than there were, and its pods are ready.
fn expect_deployed(
    kubernetes: &Kubernetes,
    namespace: &str,
    name: &str,
    intents: [RangeInclusive<usize>; 3],
) {
    for (component, intents) in ["a", "b", "c"].into_iter().zip(intents) {
        let release = format!("{name}-{component}");
        let revisions = kubernetes.revisions(namespace, &release);
        let deployed = revisions
            .iter()
            .filter(|status| ["deployed", "superseded"].contains(&status.as_str()));
        assert!(
            intents.contains(&deployed.count()),
            "{release}: {revisions:?}, not {intents:?}"
        );
        assert_eq!(
            revisions.last().map(String::as_str),
            Some("deployed"),
            "{release}: {revisions:?}"
        );
    }
    for deployment in kubernetes.objects("deployments", namespace) {
        assert_eq!(deployment["status"]["readyReplicas"], 1, "{deployment:#}");
    }
}
