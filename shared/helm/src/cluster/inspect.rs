//! Reading from a release: services and outputs, logs.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;
use slipway_model::OutputSource;
use slipway_ports::{CollectedRelease, ObjectReference, Release, TargetError, last_lines};

use super::ClusterTarget;
use crate::{
    client::encode,
    collect::{Found, INSTANCE, collect, wanted},
    manifest::text_at,
    readiness::LogRequest,
};

/// Most lines of a container's log, and bytes of all logs of a release: several times what is told of them in the end.
const LINES: usize = 100;
const LOGS: usize = 256 << 10;

impl ClusterTarget {
    pub(super) async fn collect_release(
        &self,
        release: &Release,
        objects: &[ObjectReference],
        outputs: &BTreeMap<String, OutputSource>,
        ingress_url: Option<&str>,
    ) -> Result<CollectedRelease, TargetError> {
        let namespace = encode(&release.namespace);
        let mut found = Found {
            services: self
                .kubernetes
                .list(&format!("/api/v1/namespaces/{namespace}/services"), "")
                .await?,
            ingresses: self
                .kubernetes
                .list(
                    &format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses"),
                    "",
                )
                .await?,
            has_status: true,
            ..Found::default()
        }
        .keep_own(release, objects);
        for reference in wanted(release, outputs) {
            if let Some(path) = self.kubernetes.path_of(&reference).await?
                && let Some(object) = self.kubernetes.get(&path).await?
            {
                found.others.insert(reference, object);
            }
        }
        collect(release, &found, outputs, ingress_url)
    }

    pub(super) async fn release_logs(&self, release: &Release) -> Result<String, TargetError> {
        let path = format!("/api/v1/namespaces/{}/pods", encode(&release.namespace));
        let query = format!("labelSelector={}%3D{}", encode(INSTANCE), encode(&release.name));
        let pods = self.kubernetes.list(&path, &query).await?;
        let mut text = String::new();
        for pod in &pods {
            let name = text_at(pod, "/metadata/name");
            let containers = containers(pod);
            for container in containers {
                let request = LogRequest {
                    namespace: release.namespace.clone(),
                    pod: name.to_owned(),
                    container,
                    previous: false,
                };
                let container = &request.container;
                match self.log_end(&request, LINES).await {
                    Ok(Some(log)) if !log.trim().is_empty() => {
                        let _ = writeln!(text, "==> {name} ({container}) <==\n{}", log.trim_end());
                    }
                    Ok(_) => {}
                    Err(error) => {
                        let _ = writeln!(text, "==> {name} ({container}) <==\n({error})");
                    }
                }
                if text.len() > 2 * LOGS {
                    text = last_lines(&text, LOGS).to_owned();
                }
            }
        }
        Ok(text)
    }
}

pub(super) fn containers(pod: &Value) -> Vec<String> {
    ["/spec/initContainers", "/spec/containers"]
        .iter()
        .filter_map(|field| pod.pointer(field)?.as_array())
        .flatten()
        .map(|container| text_at(container, "/name").to_owned())
        .collect()
}
