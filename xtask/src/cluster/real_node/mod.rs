//! A node of this very machine: containerd and a kubelet, for what only running containers can show.
//!
//! It needs root. Everything of it lies in the cluster's folder, in one folder of `/run` and in one control group of
//! its own, so that it stays clear of any other container runtime of the machine and can be cleared away as a whole.

mod configuration;
mod control_groups;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use super::RunningCluster;
use super::components::{flag, launch, ready};
use super::files::{ADMIN, Files};
use super::state::State;
use crate::image::{self, Image};
use crate::process;
use crate::run::{output, say};
use crate::tools;
use crate::wait;

/// The node's name. The API server reaches the kubelet under it, on the loopback interface.
pub const NODE: &str = "localhost";

/// The image whose program serves HTTP, or ends with the exit code that it is told: `dev/image/main.go`.
pub const IMAGE: &str = "slipway.dev/dev/program:1";

const PAUSE_IMAGE: &str = "slipway.dev/dev/pause:1";

const CONTAINERD: &str = "containerd";
const KUBELET: &str = "kubelet";

/// Whether the cluster has one.
pub(super) fn is_in(state: &State) -> bool {
    state.processes.iter().any(|process| process.name == KUBELET)
}

/// Starts it in a cluster that is up, and waits until it is ready. With `taint` only pods that tolerate
/// `slipway.dev/node` come to it.
pub(super) fn start(files: &Files, state: &mut State, cluster: &RunningCluster, taint: bool) -> Result<()> {
    if !geteuid().is_root() {
        bail!("a real node needs root: containers cannot be started without it");
    }
    let node = Node::of(files);
    for folder in [&node.folder, &node.run] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    control_groups::create(&node.control_group)?;
    node.write_configuration(taint)?;

    let binaries = tools::CONTAINERD.folder()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(binaries.clone()).chain(std::env::split_paths(&path)))?;
    let mut containerd = Command::new(binaries.join("containerd"));
    containerd
        .env("PATH", &path)
        .arg("--config")
        .arg(node.folder.join("containerd.toml"));
    let containerd = launch(files, state, CONTAINERD, &mut containerd)?;
    ready(&containerd, || {
        node.socket().exists() && node.ctr().is_ok_and(|mut ctr| output(ctr.arg("version")).is_ok())
    })?;

    let archive = node.folder.join("images.tar");
    let program = tools::PROGRAM.folder()?.join("program");
    let images = [
        Image {
            reference: IMAGE,
            arguments: &["serve"],
        },
        Image {
            reference: PAUSE_IMAGE,
            arguments: &["pause"],
        },
    ];
    image::write_archive(&program, &images, &archive)?;
    output(node.ctr()?.args(["images", "import"]).arg(&archive))
        .context("containerd does not take the images")?;

    let mut kubelet = Command::new(tools::KUBELET.folder()?.join("kubelet"));
    kubelet
        .arg(flag("config", &node.folder.join("kubelet.yaml")))
        .arg(flag("kubeconfig", &files.kubeconfig(ADMIN)))
        .arg(flag("root-dir", &node.folder.join("kubelet")))
        .arg(flag("cert-dir", &node.folder.join("certificates")))
        .args([
            format!("--hostname-override={NODE}"),
            "--node-labels=slipway.dev/node=real".to_owned(),
        ]);
    let kubelet = launch(files, state, KUBELET, &mut kubelet)?;
    let condition = "--output=jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    ready(&kubelet, || {
        let node = cluster
            .kubectl()
            .and_then(|mut kubectl| output(kubectl.args(["get", "node", NODE, condition])));
        node.is_ok_and(|status| status == "True")
    })
}

/// Ends it with all its containers and removes what it left outside the cluster's folder. What cannot be removed is
/// said and left.
pub(super) fn stop(files: &Files, state: &State, cluster: &RunningCluster) -> Result<()> {
    let node = Node::of(files);
    let named = |name: &str| {
        state
            .processes
            .iter()
            .filter(|process| process.name == name)
            .cloned()
            .collect::<Vec<_>>()
    };
    // Whoever would replace the pods goes first; then the kubelet takes the pods down as it does in life.
    process::end(&named("kube-controller-manager"), Duration::from_secs(1))?;
    let pods = [
        "delete",
        "pods",
        "--all-namespaces",
        &format!("--field-selector=spec.nodeName={NODE}"),
        "--grace-period=1",
        "--timeout=30s",
    ];
    if let Err(error) = cluster
        .kubectl()
        .and_then(|mut kubectl| output(kubectl.args(pods)))
    {
        say(&format!(
            "the pods of the real node were not taken down in order: {error:#}"
        ));
    }
    process::end(&named(KUBELET), Duration::from_secs(5))?;
    if let Err(error) = node.kill_containers() {
        say(&format!(
            "the containers of the real node may still run: {error:#}"
        ));
    }
    process::end(&named(CONTAINERD), Duration::from_secs(5))?;
    node.unmount_all()?;
    match fs::remove_dir_all(&node.run) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            say(&format!("cannot remove {}: {error}", node.run.display()));
        }
        _ => {}
    }
    control_groups::remove(&node.control_group);
    Ok(())
}

/// Where the parts of a real node are.
struct Node {
    folder: PathBuf,
    /// Sockets have short paths, so that theirs cannot be in the cluster's folder.
    run: PathBuf,
    control_group: String,
}

impl Node {
    fn of(files: &Files) -> Self {
        let name = format!("slipway-{}", files.name());
        Self {
            folder: files.path("node"),
            run: Path::new("/run").join(&name),
            control_group: name,
        }
    }

    fn socket(&self) -> PathBuf {
        self.run.join("containerd.sock")
    }

    fn ctr(&self) -> Result<Command> {
        let mut ctr = Command::new(tools::CONTAINERD.folder()?.join("ctr"));
        ctr.arg("--address").arg(self.socket()).arg("--namespace=k8s.io");
        Ok(ctr)
    }

    fn kill_containers(&self) -> Result<()> {
        let listed = || output(self.ctr()?.args(["tasks", "list", "--quiet"]));
        for container in listed()?.lines() {
            output(self.ctr()?.args(["tasks", "delete", "--force", container]))?;
        }
        wait::until(Duration::from_secs(10), "the end of the containers", || {
            Ok(listed()?.trim().is_empty().then_some(()))
        })
    }

    /// Volumes and root file systems that are still mounted would keep the folders from being removed.
    fn unmount_all(&self) -> Result<()> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("cannot list what is mounted")?;
        let ours = |point: &&str| {
            Path::new(point).starts_with(&self.folder) || Path::new(point).starts_with(&self.run)
        };
        for point in mounts
            .lines()
            .rev()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(ours)
        {
            output(Command::new("umount").args(["--lazy", point]))?;
        }
        Ok(())
    }
}
