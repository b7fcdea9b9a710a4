//! The cluster and the registry, started for real: what the tests of other packages rely on.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::path::Path;
use std::process::Command;

use xtask::cluster::{self, Options, RunningCluster};
use xtask::registry::Registry;
use xtask::run::{output, output_with_input};
use xtask::tools;

/// Ends the cluster whichever way the test ends.
struct Ended(&'static str);

impl Drop for Ended {
    fn drop(&mut self) {
        cluster::down(self.0).unwrap();
    }
}

fn kubectl(cluster: &RunningCluster, arguments: &[&str]) -> String {
    output(cluster.kubectl().unwrap().args(arguments)).unwrap()
}

fn pod(name: &str, annotations: &str, restart_policy: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, annotations: {{{annotations}}}}}
spec:
  restartPolicy: {restart_policy}
  containers: [{{name: main, image: example.org/none}}]
---
"
    )
}

fn write_chart(folder: &Path) {
    fs::create_dir_all(folder.join("templates")).unwrap();
    fs::write(
        folder.join("Chart.yaml"),
        "apiVersion: v2\nname: store\nversion: 1.2.3\n",
    )
    .unwrap();
    fs::write(
        folder.join("templates/store.yaml"),
        "apiVersion: apps/v1
kind: StatefulSet
metadata: {name: '{{ .Release.Name }}'}
spec:
  serviceName: '{{ .Release.Name }}'
  replicas: 2
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec:
      containers:
        - name: store
          image: example.org/store
          resources: {requests: {nvidia.com/gpu: 1}, limits: {nvidia.com/gpu: 1}}
          volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
    - metadata: {name: data}
      spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
",
    )
    .unwrap();
}

#[test]
fn a_cluster_runs_workloads_and_leaves_nothing_behind() {
    const NAME: &str = "xtask-test";
    cluster::down(NAME).unwrap();
    let ended = Ended(NAME);
    let options = Options {
        name: NAME.to_owned(),
        nodes: 2,
        ..Options::default()
    };
    let cluster = cluster::up(&options).unwrap();
    assert!(cluster::status(NAME).unwrap().is_healthy());

    // Found again, with the node that it lacked.
    let again = cluster::up(&Options { nodes: 3, ..options }).unwrap();
    assert_eq!(again.kubeconfig, cluster.kubeconfig);
    assert_eq!(
        kubectl(&cluster, &["get", "nodes", "--output=name"])
            .lines()
            .count(),
        3
    );

    // Each node has a lease that is renewed, without which it would count as lost after 50 seconds.
    for node in ["fake-0", "fake-1", "fake-2"] {
        let lease = format!("lease/{node}");
        let arguments = [
            "wait",
            "--for=create",
            &lease,
            "--namespace=kube-node-lease",
            "--timeout=30s",
        ];
        kubectl(&cluster, &arguments);
    }

    // A chart with volumes becomes ready: the claims are bound, and GPUs are there to be asked for.
    let chart = tempfile::tempdir().unwrap();
    write_chart(chart.path());
    let mut helm = Command::new(tools::helm().unwrap());
    helm.arg("--kubeconfig")
        .arg(&cluster.kubeconfig)
        .args(["install", "store"])
        .arg(chart.path());
    output(helm.args([
        "--namespace=charts",
        "--create-namespace",
        "--wait",
        "--timeout=60s",
    ]))
    .unwrap();
    let volume = kubectl(
        &cluster,
        &["get", "pv", "--output=jsonpath={.items[0].spec.hostPath.path}"],
    );
    assert!(Path::new(&volume).is_dir(), "{volume}");

    // The annotations of dev/kwok/README.md.
    let pods = [
        pod("late", "dev.slipway/ready-after: 200ms", "Always"),
        pod("never", "dev.slipway/pod: never-ready", "Always"),
        pod("pull", "dev.slipway/pod: image-pull", "Always"),
        pod("crash", "dev.slipway/pod: crash", "Always"),
        pod("done", "", "Never"),
        pod("failed", "dev.slipway/pod: crash", "Never"),
    ];
    output_with_input(
        cluster.kubectl().unwrap().args(["create", "--filename=-"]),
        &pods.concat(),
    )
    .unwrap();
    let waiting = "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}";
    for (condition, name) in [
        ("--for=condition=Ready", "late"),
        ("--for=jsonpath={.status.phase}=Running", "never"),
        (&format!("{waiting}=ImagePullBackOff"), "pull"),
        (
            "--for=jsonpath={.status.containerStatuses[0].restartCount}=2",
            "crash",
        ),
        (&format!("{waiting}=CrashLoopBackOff"), "crash"),
        ("--for=jsonpath={.status.phase}=Succeeded", "done"),
        (
            "--for=jsonpath={.status.containerStatuses[0].state.terminated.exitCode}=3",
            "failed",
        ),
    ] {
        kubectl(
            &cluster,
            &["wait", condition, &format!("pod/{name}"), "--timeout=30s"],
        );
    }
    let ready = "--output=jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    assert_eq!(kubectl(&cluster, &["get", "pod/never", ready]), "False");
    assert!(kubectl(&cluster, &["logs", "pod/late"]).contains("KWOK"));

    let processes: Vec<u32> = fs::read_to_string(cluster.folder.join("state.json"))
        .map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap())
        .unwrap()["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| process["pid"].as_u64().unwrap().try_into().unwrap())
        .collect();
    assert_eq!(processes.len(), 5);
    drop(ended);
    assert!(!cluster.folder.exists());
    assert!(!Path::new(&volume).exists());
    assert!(!cluster::status(NAME).unwrap().is_healthy());
    for process in processes {
        let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // This test is their parent and has not waited for them, so that they may still be listed as ended.
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }
}

#[test]
fn a_chart_can_be_pushed_to_the_registry_and_pulled_by_its_digest() {
    let registry = Registry::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_chart(&folder.path().join("store"));
    let helm = |arguments: &[&str]| {
        let mut helm = Command::new(tools::helm().unwrap());
        output(helm.current_dir(folder.path()).args(arguments)).unwrap()
    };
    let repository = format!("oci://{}/charts", registry.address());
    helm(&["package", "store"]);
    let mut push = Command::new(tools::helm().unwrap());
    push.current_dir(folder.path())
        .args(["push", "store-1.2.3.tgz", &repository, "--plain-http"]);
    let pushed = push.output().unwrap();
    let pushed = [pushed.stdout, pushed.stderr].concat();
    let pushed = String::from_utf8_lossy(&pushed);
    let (_, digest) = pushed
        .split_once("Digest: ")
        .expect("helm prints the digest of what it pushed");
    let pulled = helm(&[
        "show",
        "chart",
        &format!("{repository}/store@{}", digest.trim()),
        "--plain-http",
    ]);
    assert!(pulled.contains("version: 1.2.3"), "{pulled}");
}
