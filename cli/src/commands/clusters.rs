//! `slipway cluster …`

use std::{fs, path::Path};

use serde_json::{Value, json};
use slipway_app::ClusterHealthView;
use slipway_model::{Capacity, Cluster, ClusterHealth, Orphans};

use super::{Session, looks};
use crate::{
    arguments::ClusterCommand,
    client::{encode, read},
    failure::{Exit, Failure},
    output::{Table, or_dash, time},
};

/// What is said wherever the status of something on a render target is shown.
pub(crate) const RENDER_NOTE: &str =
    "render target: nothing runs on a cluster; the charts were rendered, checked and kept on disk";

pub(super) fn run(session: &Session, command: ClusterCommand) -> Result<Exit, Failure> {
    match command {
        ClusterCommand::Add(add) => {
            let mut body = json!({"name": add.name});
            let target = &add.target;
            if target.render {
                body["type"] = json!("render");
            } else if let Some(file) = &target.kubeconfig {
                body["type"] = json!("kubeconfig");
                body["kubeconfig"] = json!(kubeconfig(file)?);
            } else if let Some(name) = &target.eks {
                body["type"] = json!("eks");
                body["eks_name"] = json!(name);
            }
            let optional = [
                ("context", add.context),
                ("region", add.region),
                ("role_arn", add.role_arn),
                ("external_id", add.external_id),
                ("ingress_url", add.ingress_url),
            ];
            for (key, value) in optional {
                if let Some(value) = value {
                    body[key] = json!(value);
                }
            }
            let answer = session.client.create("/clusters", &body)?;
            session.show(&answer, |answer| {
                let cluster: Cluster = read(answer)?;
                let kind = cluster.target.as_str();
                Ok(format!(
                    "registered cluster {} ({kind}, {})",
                    cluster.name, cluster.id
                ))
            })?;
        }
        ClusterCommand::List => {
            let items = Value::Array(session.client.get_all("/clusters")?);
            session.show(&items, |items| Ok(list(&read::<Vec<Cluster>>(items)?)))?;
        }
        ClusterCommand::Health { cluster } => {
            let answer = session
                .client
                .get(&format!("/clusters/{}/health", encode(&cluster)))?;
            session.show(&answer, |answer| {
                let view: ClusterHealthView = read(answer)?;
                Ok(health(&view.health) + &orphans(view.orphans.as_ref()))
            })?;
            let health: ClusterHealth = read(&answer)?;
            return Ok(if health.healthy { Exit::Done } else { Exit::Failed });
        }
        ClusterCommand::Credentials(new) => {
            let kubeconfig = new.kubeconfig.as_deref().map(kubeconfig).transpose()?;
            let body = json!({
                "kubeconfig": kubeconfig, "context": new.context, "role_arn": new.role_arn,
                "external_id": new.external_id,
            });
            let path = format!("/clusters/{}/credentials", encode(&new.cluster));
            let answer = session.client.put(&path, &body)?;
            session.show(&answer, |answer| {
                let cluster: Cluster = read(answer)?;
                Ok(format!("replaced the credentials of cluster {}", cluster.name))
            })?;
        }
        ClusterCommand::Orphans { cluster } => return looks::orphans(session, &cluster),
        ClusterCommand::Remove { cluster } => {
            session
                .client
                .delete(&format!("/clusters/{}", encode(&cluster)))?;
            session.show(&json!({"deleted": cluster}), |_| {
                Ok(format!("forgot cluster {cluster}; nothing on it was touched"))
            })?;
        }
    }
    Ok(Exit::Done)
}

fn kubeconfig(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| {
        Failure::misuse(format!(
            "the kubeconfig {} cannot be read: {error}",
            file.display()
        ))
    })
}

fn list(clusters: &[Cluster]) -> String {
    let mut table = Table::new(["NAME", "TYPE", "ID", "INGRESS", "REGISTERED"]);
    for cluster in clusters {
        table.row([
            cluster.name.clone(),
            cluster.target.as_str().to_owned(),
            cluster.id.to_string(),
            or_dash(cluster.ingress_url.as_deref()),
            time(cluster.created_at),
        ]);
    }
    if table.is_empty() {
        return "no clusters; register one with `slipway cluster add NAME --render` or --kubeconfig FILE"
            .to_owned();
    }
    table.to_string()
}

fn health(health: &ClusterHealth) -> String {
    let mut text = if health.healthy { "healthy" } else { "not healthy" }.to_owned();
    if !health.message.is_empty() {
        text.push_str(&format!(": {}", health.message));
    }
    if let Some(version) = &health.version {
        text.push_str(&format!("\nversion:     {version}"));
    }
    if health.nodes > 0 {
        text.push_str(&format!(
            "\nnodes:       {} of {} ready",
            health.ready_nodes, health.nodes
        ));
    }
    let capacities = [("allocatable", &health.allocatable), ("free", &health.free)];
    for (label, capacity) in capacities {
        if let Some(capacity) = capacity {
            text.push_str(&format!("\n{:<13}{}", format!("{label}:"), amounts(capacity)));
        }
    }
    text
}

/// What nobody owns, a line each; nothing before the first look.
fn orphans(found: Option<&Orphans>) -> String {
    found.map_or_else(String::new, |found| format!("\n{}", orphans_text(found)))
}

/// What nobody owns, a line each.
pub(super) fn orphans_text(found: &Orphans) -> String {
    let at = time(found.checked_at);
    let mut text = match (&found.error, found.items.is_empty()) {
        (None, true) => format!("orphans:     none, looked at {at}"),
        (None, false) => {
            format!("orphans:     made by Slipway and owned by nobody, looked at {at}; nothing was removed")
        }
        (Some(error), true) => format!("orphans:     could not be looked for at {at}: {error}"),
        (Some(error), false) => {
            format!("orphans:     could not be looked for at {at}: {error}; the look before found")
        }
    };
    for orphan in &found.items {
        let what = match &orphan.release {
            Some(release) => format!("release {}/{release}", orphan.namespace),
            None => format!("namespace {}", orphan.namespace),
        };
        text.push_str(&format!("\n  {what}: {}", orphan.message));
    }
    if found.more > 0 {
        text.push_str(&format!("\n  and {} more", found.more));
    }
    text
}

fn amounts(capacity: &Capacity) -> String {
    let cores = f64::from(u32::try_from(capacity.cpu_millicores).unwrap_or(u32::MAX)) / 1000.0;
    let mebibytes = capacity.memory_bytes >> 20;
    let gpus = match capacity.gpus {
        0 => String::new(),
        1 => ", 1 GPU".to_owned(),
        many => format!(", {many} GPUs"),
    };
    format!(
        "{cores:.1} cores, {:.1} GiB{gpus}",
        f64::from(u32::try_from(mebibytes).unwrap_or(u32::MAX)) / 1024.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_shows_what_is_free() {
        let shown = health(&ClusterHealth {
            healthy: true,
            message: String::new(),
            version: Some("v1.36.3".to_owned()),
            uid: None,
            ready_nodes: 2,
            nodes: 3,
            allocatable: None,
            free: Some(Capacity {
                cpu_millicores: 3500,
                memory_bytes: 16 << 30,
                gpus: 1,
            }),
        });
        assert_eq!(
            shown,
            "healthy\nversion:     v1.36.3\nnodes:       2 of 3 ready\nfree:        3.5 cores, 16.0 GiB, 1 GPU"
        );
    }
}
