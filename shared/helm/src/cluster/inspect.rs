//! Reading from a release: services and outputs, tests, logs.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde_json::Value;
use slipway_model::OutputSource;
use slipway_ports::{CollectedRelease, ObjectReference, Release, TargetError};

use super::ClusterTarget;
use crate::{
    client::encode,
    collect::{Found, INSTANCE, collect, wanted},
    manifest::text_at,
    readiness::tail,
};

/// Most bytes of a test's log.
const TEST_LOG: usize = 16 << 10;

/// Most bytes of an error message.
const MESSAGE: usize = 4 << 10;

/// Most bytes of a release's logs, and lines per container.
const LOGS: usize = 64 << 10;
const LINES: usize = 100;

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

    pub(super) async fn test_release(
        &self,
        release: &Release,
        time_limit: Duration,
    ) -> Result<String, TargetError> {
        let (finished, error) = self
            .invoke(release, "test")?
            .with_release()
            .with(["--logs"])
            .with_timeout(time_limit)
            .finish(time_limit, None)
            .await?;
        let said = String::from_utf8_lossy(&finished.stdout);
        let report = test_report(&said);
        match error {
            None => Ok(tail(report, TEST_LOG).to_owned()),
            Some(mut error) => {
                // Helm names the pod that failed; its last lines say why.
                let room = MESSAGE.saturating_sub(error.0.message.len() + 1);
                let _ = write!(error.0.message, "\n{}", tail(report.trim_end(), room));
                Err(error)
            }
        }
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
                let log = self
                    .kubernetes
                    .text(&format!(
                        "{path}/{}/log?container={}&tailLines={LINES}&limitBytes={LOGS}",
                        encode(name),
                        encode(&container)
                    ))
                    .await;
                match log {
                    Ok(Some(log)) if !log.trim().is_empty() => {
                        let _ = writeln!(text, "==> {name} ({container}) <==\n{}", log.trim_end());
                    }
                    Ok(_) => {}
                    Err(error) => {
                        let _ = writeln!(text, "==> {name} ({container}) <==\n({error})");
                    }
                }
            }
        }
        Ok(tail(&text, LOGS).to_owned())
    }
}

fn containers(pod: &Value) -> Vec<String> {
    ["/spec/initContainers", "/spec/containers"]
        .iter()
        .filter_map(|field| pod.pointer(field)?.as_array())
        .flatten()
        .map(|container| text_at(container, "/name").to_owned())
        .collect()
}

/// What `helm test` prints, without the header and the chart's notes.
fn test_report(said: &str) -> &str {
    let start = said
        .find("TEST SUITE:")
        .or_else(|| said.find("POD LOGS:"))
        .unwrap_or(0);
    let report = said.get(start..).unwrap_or(said);
    match (report.find("\nNOTES:"), report.find("\nPOD LOGS:")) {
        (Some(notes), Some(logs)) if notes < logs => report.get(logs + 1..).unwrap_or(report),
        (Some(notes), None) => report.get(..notes).unwrap_or(report),
        _ => report,
    }
}
