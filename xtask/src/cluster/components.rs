//! The processes of a cluster: what each is told, and when it is ready.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::answers;
use super::files::{ADMIN, CONTROLLER_MANAGER, Files, SCHEDULER};
use super::state::State;
use crate::net::{accepts, free_ports};
use crate::process::Process;
use crate::run::workspace;
use crate::tools;
use crate::wait;

/// How long a component may take to get ready on a busy machine.
const READY: Duration = Duration::from_secs(60);

/// The stages that say how nodes and pods behave.
const STAGES: [&str; 4] = [
    "node.yaml",
    "pod-run.yaml",
    "pod-image-pull.yaml",
    "pod-crash.yaml",
];

/// Requests a second that the control plane's own clients may send. Their defaults suit a shared cluster, and make the
/// installation of a big chart wait for nothing here.
const RATE: [&str; 2] = ["--kube-api-qps=500", "--kube-api-burst=1000"];

/// Starts everything, each as soon as what it needs is ready. `fill` is called once the API server answers, while the
/// rest gets ready.
pub(super) fn start(files: &Files, state: &mut State, fill: impl FnOnce() -> Result<()>) -> Result<()> {
    files.create()?;
    let kubernetes = tools::CONTROL_PLANE.folder()?;
    let [
        etcd_port,
        peer_port,
        api_port,
        manager_port,
        scheduler_port,
        kwok_port,
    ] = free_ports()?;
    let etcd = launch(files, state, "etcd", &mut etcd(files, etcd_port, peer_port)?)?;
    ready(&etcd, || accepts(etcd_port))?;

    let server = launch(
        files,
        state,
        "kube-apiserver",
        &mut api_server(files, &kubernetes, etcd_port, api_port),
    )?;
    let certificate = files.path("certificates").join("apiserver.crt");
    // The key is written after the certificate, so that the certificate is complete once the key is there.
    let key = certificate.with_extension("key");
    ready(&server, || key.exists() && accepts(api_port))?;
    let certificates =
        fs::read_to_string(&certificate).context("cannot read the API server's certificate")?;
    files.write_kubeconfigs(&format!("https://127.0.0.1:{api_port}"), &certificates)?;
    ready(&server, || answers(files).unwrap_or(false))?;

    let manager = launch(
        files,
        state,
        "kube-controller-manager",
        &mut controller_manager(files, &kubernetes, manager_port),
    )?;
    let scheduler = launch(
        files,
        state,
        "kube-scheduler",
        &mut scheduler(files, &kubernetes, scheduler_port),
    )?;
    let kwok = launch(files, state, "kwok", &mut kwok(files, kwok_port)?)?;
    fill()?;
    ready(&manager, || accepts(manager_port))?;
    ready(&scheduler, || accepts(scheduler_port))?;
    ready(&kwok, || accepts(kwok_port))
}

/// Starts a process of the cluster and remembers it.
pub(super) fn launch(files: &Files, state: &mut State, name: &str, command: &mut Command) -> Result<Process> {
    let log = files.path("logs").join(format!("{name}.log"));
    let process = Process::start(name, command.current_dir(files.folder()), &log)?;
    state.push(process.clone(), &files.state())?;
    Ok(process)
}

/// Waits until a process is ready, or has ended.
pub(super) fn ready(process: &Process, mut is_ready: impl FnMut() -> bool) -> Result<()> {
    wait::until(READY, &format!("the readiness of {}", process.name), || {
        process.check()?;
        Ok(is_ready().then_some(()))
    })
    .with_context(|| {
        format!(
            "{} is not ready; the end of its log:\n{}",
            process.name,
            process.tail()
        )
    })
}

/// `--flag=value`, where the value is a path.
pub(super) fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn etcd(files: &Files, port: u16, peer_port: u16) -> Result<Command> {
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    let mut command = Command::new(tools::ETCD.folder()?.join("etcd"));
    command
        .arg(flag("data-dir", &files.path("etcd")))
        .args([
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
        ])
        .args([
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
        ])
        .arg(format!("--initial-cluster=default={peer}"))
        // The data goes away with the cluster: nothing is worth waiting for a disk.
        .args(["--unsafe-no-fsync", "--log-level=warn"]);
    Ok(command)
}

fn api_server(files: &Files, kubernetes: &Path, etcd_port: u16, port: u16) -> Command {
    let key = files.path("service-accounts.pem");
    let mut command = Command::new(kubernetes.join("kube-apiserver"));
    command
        .arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"))
        .arg(format!("--secure-port={port}"))
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        .arg(flag("cert-dir", &files.path("certificates")))
        .arg(flag("token-auth-file", &files.path("tokens.csv")))
        .arg(flag("service-account-key-file", &key))
        .arg(flag("service-account-signing-key-file", &key))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .args([
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
        ])
        .args([
            "--endpoint-reconciler-type=none",
            "--kubelet-preferred-address-types=Hostname,InternalIP",
        ])
        // As every hosted cluster does: what may be privileged is a policy's business.
        .arg("--allow-privileged=true");
    command
}

fn controller_manager(files: &Files, kubernetes: &Path, port: u16) -> Command {
    let kubeconfig = files.kubeconfig(CONTROLLER_MANAGER);
    let mut command = Command::new(kubernetes.join("kube-controller-manager"));
    command
        .arg(flag("kubeconfig", &kubeconfig))
        .args([
            flag("authentication-kubeconfig", &kubeconfig),
            flag("authorization-kubeconfig", &kubeconfig),
        ])
        .arg(flag(
            "service-account-private-key-file",
            &files.path("service-accounts.pem"),
        ))
        .arg(flag("root-ca-file", &files.path("authority.crt")))
        .arg(flag("cert-dir", &files.path("certificates")))
        .args([
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
        ])
        .args(["--use-service-account-credentials=true", "--leader-elect=false"])
        // Volumes are folders of this machine; the class is among the objects of the cluster.
        .arg("--enable-hostpath-provisioner=true")
        .args(RATE);
    command
}

fn scheduler(files: &Files, kubernetes: &Path, port: u16) -> Command {
    let kubeconfig = files.kubeconfig(SCHEDULER);
    let mut command = Command::new(kubernetes.join("kube-scheduler"));
    command
        .arg(flag("kubeconfig", &kubeconfig))
        .args([
            flag("authentication-kubeconfig", &kubeconfig),
            flag("authorization-kubeconfig", &kubeconfig),
        ])
        .arg(flag("cert-dir", &files.path("certificates")))
        .args([
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
        ])
        .arg("--leader-elect=false")
        .args(RATE);
    command
}

fn kwok(files: &Files, port: u16) -> Result<Command> {
    let pod_log = files.path("pod.log");
    // KWOK reads the form in which a container runtime keeps its logs.
    fs::write(
        &pod_log,
        "2026-01-01T00:00:00.000000000Z stdout F KWOK plays this pod: nothing runs in it\n",
    )?;
    let logs = files.path("pod-logs.yaml");
    fs::write(&logs, pod_logs(&pod_log))?;
    let mut command = Command::new(tools::KWOK.folder()?.join("kwok"));
    command
        .arg(flag("kubeconfig", &files.kubeconfig(ADMIN)))
        // Real nodes, which lack the annotation, are left alone.
        .args([
            "--manage-all-nodes=false",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        ])
        .args(["--node-ip=127.0.0.1".to_owned(), format!("--node-port={port}")])
        .arg(format!("--server-address=127.0.0.1:{port}"))
        .arg("--cidr=10.244.0.0/16")
        // Without a lease that is renewed a node counts as lost after 50 seconds.
        .arg("--node-lease-duration-seconds=40")
        .arg(flag("config", &logs));
    for stage in STAGES {
        command.arg(flag("config", &workspace().join("dev/kwok").join(stage)));
    }
    Ok(command)
}

fn pod_logs(file: &Path) -> String {
    format!(
        "apiVersion: kwok.x-k8s.io/v1alpha1
kind: ClusterLogs
metadata:
  name: all
spec:
  logs:
    - logsFile: '{}'
",
        file.display()
    )
}
