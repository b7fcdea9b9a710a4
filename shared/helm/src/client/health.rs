//! Whether a cluster answers, and what it has free.

use std::{collections::HashSet, time::Duration};

use serde_json::Value;
use slipway_model::{Capacity, ClusterHealth, Quantity};
use slipway_ports::TargetError;
use tokio::time::timeout;

use super::Kubernetes;
use crate::manifest::text_at;

/// How long the whole look may take.
const PATIENCE: Duration = Duration::from_secs(15);

impl Kubernetes {
    /// UID of the `kube-system` namespace.
    pub(crate) async fn identity(&self) -> Result<String, TargetError> {
        let namespace = self.get("/api/v1/namespaces/kube-system").await?;
        let uid = namespace
            .as_ref()
            .map(|namespace| text_at(namespace, "/metadata/uid"))
            .unwrap_or_default();
        if uid.is_empty() {
            return Err(TargetError::permanent(format!(
                "the cluster at {} has no namespace kube-system: is it a Kubernetes API server?",
                self.server()
            )));
        }
        Ok(uid.to_owned())
    }

    /// A look at the cluster.
    pub(crate) async fn health(&self) -> Result<ClusterHealth, TargetError> {
        match timeout(PATIENCE, self.look()).await {
            Ok(seen) => seen,
            Err(_) => Err(TargetError::transient(format!(
                "the cluster at {} gave no full answer in {} s",
                self.server(),
                PATIENCE.as_secs()
            ))),
        }
    }

    async fn look(&self) -> Result<ClusterHealth, TargetError> {
        let version = self.get("/version").await?.unwrap_or_default();
        let ready = self.text("/readyz").await?;
        let uid = self.identity().await?;
        let nodes = self.list("/api/v1/nodes", "").await?;
        let pods = self
            .list(
                "/api/v1/pods",
                "fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed",
            )
            .await?;
        let usable: HashSet<&str> = nodes.iter().filter(|node| is_usable(node)).map(name).collect();
        let ready_nodes = nodes.iter().filter(|node| is_ready(node)).count();
        let (allocatable, free) = capacity(&nodes, &pods, &usable);
        let healthy = ready.as_deref() == Some("ok");
        let message = if !healthy {
            "the API server answers and says that it is not ready".to_owned()
        } else if usable.is_empty() {
            "the API server is ready, but no node is: nothing can run".to_owned()
        } else {
            String::new()
        };
        Ok(ClusterHealth {
            healthy,
            message,
            version: Some(text_at(&version, "/gitVersion").to_owned()).filter(|version| !version.is_empty()),
            uid: Some(uid),
            ready_nodes: count(ready_nodes),
            nodes: count(nodes.len()),
            allocatable: Some(allocatable),
            free: Some(free),
        })
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn name(object: &Value) -> &str {
    text_at(object, "/metadata/name")
}

fn is_ready(node: &Value) -> bool {
    node.pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|condition| text_at(condition, "/type") == "Ready" && text_at(condition, "/status") == "True")
}

/// Ready and not cordoned.
fn is_usable(node: &Value) -> bool {
    is_ready(node) && node.pointer("/spec/unschedulable") != Some(&Value::Bool(true))
}

/// What the usable nodes give, and that less what pods on them, or on their way to one, have requested.
fn capacity(nodes: &[Value], pods: &[Value], usable: &HashSet<&str>) -> (Capacity, Capacity) {
    let mut all = Capacity::default();
    for node in nodes.iter().filter(|node| usable.contains(name(node))) {
        if let Some(amounts) = node.pointer("/status/allocatable") {
            add(&mut all, read(amounts));
        }
    }
    let mut taken = Capacity::default();
    for pod in pods {
        let node = text_at(pod, "/spec/nodeName");
        if node.is_empty() || usable.contains(node) {
            add(&mut taken, requests(pod));
        }
    }
    let free = Capacity {
        cpu_millicores: all.cpu_millicores.saturating_sub(taken.cpu_millicores),
        memory_bytes: all.memory_bytes.saturating_sub(taken.memory_bytes),
        gpus: all.gpus.saturating_sub(taken.gpus),
    };
    (all, free)
}

/// What the scheduler sets aside for a pod: its containers and sidecars together, or the largest of its init
/// containers beside the sidecars before it, whichever is more, and the overhead.
fn requests(pod: &Value) -> Capacity {
    let containers = |field: &str| pod.pointer(field).and_then(Value::as_array).into_iter().flatten();
    let of = |container: &Value| {
        container
            .pointer("/resources/requests")
            .map(read)
            .unwrap_or_default()
    };
    let mut sidecars = Capacity::default();
    let mut largest = Capacity::default();
    for container in containers("/spec/initContainers") {
        let mut alone = of(container);
        if text_at(container, "/restartPolicy") == "Always" {
            add(&mut sidecars, alone);
            alone = sidecars;
        } else {
            add(&mut alone, sidecars);
        }
        largest = most(largest, alone);
    }
    let mut together = sidecars;
    for container in containers("/spec/containers") {
        add(&mut together, of(container));
    }
    let mut all = most(together, largest);
    if let Some(whole) = pod.pointer("/spec/resources/requests") {
        // Set for the pod as a whole, it stands for its containers'.
        let whole_read = read(whole);
        if whole.get("cpu").is_some() {
            all.cpu_millicores = whole_read.cpu_millicores;
        }
        if whole.get("memory").is_some() {
            all.memory_bytes = whole_read.memory_bytes;
        }
    }
    if let Some(overhead) = pod.pointer("/spec/overhead") {
        add(&mut all, read(overhead));
    }
    all
}

fn read(amounts: &Value) -> Capacity {
    let quantity = |name: &str| {
        let text = match amounts.get(name)? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        text.parse::<Quantity>().ok()
    };
    Capacity {
        cpu_millicores: quantity("cpu").map_or(0, |quantity| quantity.millis()),
        memory_bytes: quantity("memory").map_or(0, |quantity| quantity.units()),
        gpus: quantity("nvidia.com/gpu").map_or(0, |quantity| quantity.units()),
    }
}

fn add(sum: &mut Capacity, more: Capacity) {
    sum.cpu_millicores = sum.cpu_millicores.saturating_add(more.cpu_millicores);
    sum.memory_bytes = sum.memory_bytes.saturating_add(more.memory_bytes);
    sum.gpus = sum.gpus.saturating_add(more.gpus);
}

fn most(one: Capacity, other: Capacity) -> Capacity {
    Capacity {
        cpu_millicores: one.cpu_millicores.max(other.cpu_millicores),
        memory_bytes: one.memory_bytes.max(other.memory_bytes),
        gpus: one.gpus.max(other.gpus),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, ready: &str, cordoned: bool) -> Value {
        json!({
            "metadata": {"name": name},
            "spec": {"unschedulable": cordoned},
            "status": {
                "allocatable": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "2"},
                "conditions": [{"type": "Ready", "status": ready}],
            },
        })
    }

    #[test]
    fn free_is_what_usable_nodes_give_less_what_pods_on_them_or_waiting_request() {
        let nodes = [
            node("a", "True", false),
            node("b", "False", false),
            node("c", "True", true),
        ];
        let usable: HashSet<&str> = nodes.iter().filter(|node| is_usable(node)).map(name).collect();
        let pod = |node: &str, cpu: &str| json!({"spec": {"nodeName": node, "containers": [{"resources": {"requests": {"cpu": cpu, "nvidia.com/gpu": "1"}}}]}});
        let pods = [pod("a", "500m"), pod("b", "3"), pod("", "1")];
        let (all, free) = capacity(&nodes, &pods, &usable);
        assert_eq!(
            (all.cpu_millicores, all.memory_bytes, all.gpus),
            (4000, 8 << 30, 2)
        );
        assert_eq!((free.cpu_millicores, free.gpus), (2500, 0));
    }

    #[test]
    fn a_pod_takes_its_containers_with_sidecars_or_its_largest_init_container() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("200m");
        sidecar["restartPolicy"] = json!("Always");
        let mut pod = json!({"spec": {
            "containers": [container("100m"), container("300m")],
            "initContainers": [sidecar, container("1")],
            "overhead": {"cpu": "10m"},
        }});
        assert_eq!(requests(&pod).cpu_millicores, 1210);
        pod["spec"]["initContainers"][1] = container("100m");
        assert_eq!(requests(&pod).cpu_millicores, 610);
    }
}
