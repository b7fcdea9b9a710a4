//! Helms that hang, are deaf, flood, do nothing, die, or talk nonsense. Each is the real one but for single commands.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use slipway_tests::{Chart, Kubernetes, Options, Registry, Template, component, text};
use xtask::tools;

/// A component, what its Helm does instead of applying, how the component must end, and what must be said of it.
struct Helm {
    component: &'static str,
    /// A pattern of the shell for the arguments between blanks, and the commands that run then.
    when: &'static str,
    does: &'static str,
    words: &'static [&'static str],
}

/// Most memory that the control plane may take meanwhile, in KiB, as a debug build.
const MOST_RESIDENT: u64 = 250 << 10;

const APPLIES: &str = "upgrade";
const CHECKS: &str = "dry-run";
const WELL: &str = "well";

const HELMS: [Helm; 9] = [
    Helm {
        component: "hangs",
        when: APPLIES,
        does: "exec sleep 1000",
        words: &["was stopped at its time limit"],
    },
    Helm {
        component: "deaf",
        when: APPLIES,
        does: "trap '' TERM; while :; do sleep 0.2; done",
        words: &["was stopped at its time limit"],
    },
    Helm {
        component: "floods",
        when: APPLIES,
        does: "exec head -c 1000000000 /dev/zero",
        words: &["wrote more than 32 MiB"],
    },
    Helm {
        component: "complains",
        when: APPLIES,
        does: "head -c 1000000000 /dev/zero >&2; printf '\\nError: the last word\\n' >&2; exit 1",
        words: &["the last word"],
    },
    Helm {
        component: "idle",
        when: APPLIES,
        does: "exit 0",
        words: &["ended without an error", "left no record"],
    },
    Helm {
        component: "dies",
        when: APPLIES,
        does: "kill -SEGV $$",
        words: &["was killed before it finished"],
    },
    // Once, as when the machine is about to go down: it is repeated, and nothing is taken away.
    Helm {
        component: "canceled",
        when: APPLIES,
        does: "[ -e \"$0.canceled\" ] || { : >\"$0.canceled\"; echo 'Error: context canceled' >&2; exit 1; }",
        words: &[],
    },
    Helm {
        component: "babbles",
        when: CHECKS,
        does: "echo '}{ what is this: ['; exit 0",
        words: &["is not JSON: is it Helm 4?"],
    },
    Helm {
        component: WELL,
        when: "nothing",
        does: "",
        words: &[],
    },
];

/// Writes a program of this text and returns where it is.
fn program(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("helm");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The real Helm, but for the commands of `HELMS`.
fn odd_helm(folder: &Path) -> PathBuf {
    let mut script = "#!/bin/sh\nwhat=$1\ncase \" $* \" in *' --dry-run'*) what=dry-run ;; esac\n".to_owned();
    script.push_str("case \"$what $2\" in\n");
    for helm in &HELMS {
        script.push_str(&format!(
            "  '{} '*-{}) {} ;;\n",
            helm.when, helm.component, helm.does
        ));
    }
    let real = tools::helm().unwrap();
    script.push_str(&format!("esac\nexec '{}' \"$@\"\n", real.display()));
    program(folder, &script)
}

#[test]
fn what_helm_did_not_do_is_never_said_to_run() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let folder = tempfile::tempdir().unwrap();
    let helm = odd_helm(folder.path());
    let options = Options::default().variable("SLIPWAY_HELM", &helm.to_string_lossy());
    let mut server = options.registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    let mut template = Template::named("odd").set("settings", &json!({"on_failure": "continue"}));
    for helm in &HELMS {
        template = template
            .helm(helm.component, &chart, &json!({}))
            .and(&json!({"timeout_seconds": 20}));
        // What runs keeps the namespace there, however early the others give up.
        if helm.component != WELL {
            template = template.and(&json!({"depends_on": [WELL]}));
        }
    }
    server.publish(&template);
    let created = server.create("odd", "dev");
    let namespace = text(&created, "namespace");
    kubernetes.remove_later(&namespace);
    server.begin("odd");
    let mut most = 0;
    let ended = server.wait(120, "the end of the deployment", |client| {
        most = most.max(server.process().resident());
        let deployment = client.deployment("odd");
        (deployment["status"] != "DEPLOYING").then_some(deployment)
    });
    assert_eq!(ended["status"], "FAILED", "{ended:#}");
    let deployed = ["odd-canceled", "odd-well"].map(|name| (name.to_owned(), "deployed".to_owned()));
    for helm in &HELMS {
        let component = component(&ended, helm.component);
        if helm.words.is_empty() {
            assert_eq!(component["status"], "RUNNING", "{component:#}");
            continue;
        }
        assert_eq!(component["status"], "FAILED", "{component:#}");
        let said = text(component, "error_message");
        for words in helm.words {
            assert!(said.contains(words), "{}: {said}", helm.component);
        }
        assert!(said.contains("odd-") && said.len() < 4 << 10, "{said}");
    }
    assert_eq!(kubernetes.releases(&namespace), deployed);
    assert!(folder.path().join("helm.canceled").exists());
    server.expect_no_helms();
    xtask::run::say(&format!("at most {most} KiB resident"));
    assert!(most < MOST_RESIDENT, "{most} KiB resident");
    server.stop();
}

#[test]
fn a_change_that_helm_only_claims_is_not_believed() {
    let kubernetes = Kubernetes::shared();
    let registry = Registry::start();
    let folder = tempfile::tempdir().unwrap();
    let real = tools::helm().unwrap();
    let only_claims = folder.path().join("only-claims");
    fs::write(&only_claims, "").unwrap();
    let claims = format!(
        "#!/bin/sh\ncase \" $* \" in *' --dry-run'*) exec '{1}' \"$@\" ;; esac\n\
         [ \"$1\" = \"$(cat '{0}')\" ] && exit 0\nexec '{1}' \"$@\"\n",
        only_claims.display(),
        real.display()
    );
    let helm = program(folder.path(), &claims);
    let options = Options::default().variable("SLIPWAY_HELM", &helm.to_string_lossy());
    let mut server = options.registry(&registry).start();
    server.add_kubernetes(&kubernetes);
    let chart = Chart::tiny().push(&registry);
    server.publish(&Template::named("claimed").helm("one", &chart, &json!({})));
    let created = server.create("claimed", "dev");
    let (id, namespace) = (text(&created, "id"), text(&created, "namespace"));
    kubernetes.remove_later(&namespace);
    server.begin("claimed");
    let _ = server.running("claimed", 60);

    fs::write(&only_claims, "upgrade").unwrap();
    let change = json!({"values": {"one": {"color": "blue"}}});
    let _ = server.post("/deployments/claimed/upgrade", &change).expect(202);
    let failed = server.settled("claimed", 60);
    assert_eq!(failed["status"], "FAILED", "{failed:#}");
    let said = text(component(&failed, "one"), "error_message");
    assert!(
        said.contains("its newest record is revision 1, of another writer"),
        "{said}"
    );

    fs::write(&only_claims, "uninstall").unwrap();
    let _ = server.delete("/deployments/claimed").expect(202);
    server.wait(60, "a repeat", |client| {
        let jobs = client.get("/jobs?status=RUNNING").expect(200);
        jobs.to_string()
            .contains("its record does not say so")
            .then_some(())
    });
    assert_eq!(server.deployment(&id)["status"], "DELETING");
    fs::write(&only_claims, "").unwrap();
    server.wait(60, "the end of the deployment", |client| {
        (client.deployment(&id)["status"] == "DELETED").then_some(())
    });
    kubernetes.wait_until_gone(&namespace);
    server.stop();
}

#[test]
fn a_helm_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let old = program(folder.path(), "#!/bin/sh\necho v3.19.0\n");
    let locked = folder.path().join("locked");
    fs::copy(&old, &locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o644)).unwrap();
    for (helm, words) in [(&old, "is Helm 3.19.0: Helm 4"), (&locked, "cannot be run")] {
        let mut server = Options::default()
            .variable("SLIPWAY_HELM", &helm.to_string_lossy())
            .start();
        server.add_render();
        server.publish(&Template::named("unusable").helm("one", "charts/vector-db", &json!({})));
        let _ = server.create("unusable", "local");
        server.begin("unusable");
        server.wait(60, "the reason", |client| {
            let progress = client.deployment_progress("unusable").to_string();
            progress.contains(words).then_some(())
        });
        server.stop();
    }
}
