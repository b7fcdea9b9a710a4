//! The objects that make a control plane a usable cluster: nodes and a storage class.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::RunningCluster;
use crate::run::{output, output_with_input, say};
use crate::tools;

/// The folder in which the controller manager makes volumes; it has no setting for it.
const VOLUMES: &str = "/tmp/hostpath_pv";

/// A kubectl for one kubeconfig, which keeps what it learns about the API in the cluster's own folder.
pub(super) fn kubectl(kubeconfig: &Path, folder: &Path) -> Result<Command> {
    let mut command = Command::new(tools::kubectl()?);
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .arg("--cache-dir")
        .arg(folder.join("kubectl-cache"));
    Ok(command)
}

/// Creates the nodes and the storage class of a new cluster.
pub(super) fn create(cluster: &RunningCluster, nodes: u32) -> Result<()> {
    let mut items: Vec<_> = (0..nodes).map(node).collect();
    items.push(storage_class());
    create_list(cluster, &items)
}

/// Waits until pods can be created and scheduled.
pub(super) fn wait_until_usable(cluster: &RunningCluster, nodes: u32) -> Result<()> {
    // Pods cannot be created before the controller manager has made this account.
    output(
        cluster
            .kubectl()?
            .args(["wait", "--for=create", "serviceaccount/default", "--timeout=60s"]),
    )
    .context("the controller manager does not create service accounts")?;
    wait_for_nodes(cluster, nodes)
}

/// Creates those of the first `nodes` nodes that are not there.
pub(super) fn ensure_nodes(cluster: &RunningCluster, nodes: u32) -> Result<()> {
    let listed = output(cluster.kubectl()?.args(["get", "nodes", "--output=name"]))?;
    let there: BTreeSet<_> = listed.lines().collect();
    let absent: Vec<_> = (0..nodes)
        .filter(|index| !there.contains(format!("node/{}", name(*index)).as_str()))
        .map(node)
        .collect();
    if absent.is_empty() {
        return Ok(());
    }
    create_list(cluster, &absent)?;
    wait_for_nodes(cluster, nodes)
}

/// Removes the folders behind the cluster's volumes. What cannot be removed is said and left.
pub(super) fn remove_volumes(cluster: &RunningCluster) {
    let listed = cluster.kubectl().and_then(|mut kubectl| {
        output(kubectl.args([
            "get",
            "pv",
            "--output=jsonpath={range .items[*]}{.spec.hostPath.path}{\"\\n\"}{end}",
        ]))
    });
    let listed = listed.unwrap_or_default();
    for folder in listed
        .lines()
        .map(Path::new)
        .filter(|folder| folder.parent() == Some(Path::new(VOLUMES)))
    {
        if let Err(error) = fs::remove_dir_all(folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            say(&format!("cannot remove the volume {}: {error}", folder.display()));
        }
    }
}

fn create_list(cluster: &RunningCluster, items: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    output_with_input(
        cluster
            .kubectl()?
            .args(["create", "--validate=false", "--filename=-"]),
        &list.to_string(),
    )?;
    Ok(())
}

fn wait_for_nodes(cluster: &RunningCluster, nodes: u32) -> Result<()> {
    if nodes == 0 {
        return Ok(());
    }
    let names = (0..nodes).map(|index| format!("node/{}", name(index)));
    output(
        cluster
            .kubectl()?
            .args(["wait", "--for=condition=Ready", "--timeout=60s"])
            .args(names),
    )
    .context("the nodes do not become ready")?;
    Ok(())
}

fn name(index: u32) -> String {
    format!("fake-{index}")
}

/// A node that KWOK plays. Every third one, from the first on, has GPUs.
fn node(index: u32) -> Value {
    let name = name(index);
    let mut resources = json!({"cpu": "32", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "250"});
    let mut labels = json!({
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "topology.kubernetes.io/region": "local",
        "topology.kubernetes.io/zone": format!("local-{}", ["a", "b", "c"][index as usize % 3]),
    });
    if index.is_multiple_of(3) {
        resources["nvidia.com/gpu"] = json!("8");
        labels["nvidia.com/gpu.present"] = json!("true");
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": "",
                "containerRuntimeVersion": format!("kwok://{}", tools::KWOK.version),
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "kubeletVersion": format!("v{}", tools::CONTROL_PLANE.version),
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "",
                "systemUUID": "",
            },
        },
    })
}

fn storage_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "standard",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/host-path",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    })
}
