//! What on a cluster is labelled as Slipway's.

use serde_json::Value;
use slipway_ports::{Managed, ManagedNamespace, ManagedRelease, Release, TargetError};

use super::{DEPLOYMENT_LABEL, MANAGED_BY};
use crate::{
    client::{Kubernetes, encode},
    manifest::{label, text_at},
    release::status_of,
};

impl Kubernetes {
    /// A page of releases, and on the first page all namespaces. Superseded revisions are not read: of a release that is
    /// there one revision is not superseded.
    pub(super) async fn managed(&self, after: Option<&str>) -> Result<Managed, TargetError> {
        let ours = format!("{MANAGED_BY}=slipway");
        let selector = encode(&format!("owner=helm,{ours},status!=superseded"));
        let query = format!("labelSelector={selector}");
        let (records, next) = self.page_of_metadata("/api/v1/secrets", &query, after).await?;
        let mut releases: Vec<(u32, ManagedRelease)> = Vec::new();
        for record in &records {
            let Some((revision, found)) = release_of(record) else {
                continue;
            };
            match releases
                .iter_mut()
                .find(|(_, known)| known.release == found.release)
            {
                Some((newest, known)) if *newest < revision => (*newest, *known) = (revision, found),
                Some(_) => {}
                None => releases.push((revision, found)),
            }
        }
        let mut namespaces = Vec::new();
        if after.is_none() {
            let query = format!("labelSelector={}", encode(&ours));
            for namespace in self.list_metadata("/api/v1/namespaces", &query).await? {
                // One that goes away is nobody's any more.
                if namespace.pointer("/metadata/deletionTimestamp").is_none() {
                    namespaces.push(ManagedNamespace {
                        name: text_at(&namespace, "/metadata/name").to_owned(),
                        deployment: label(&namespace, DEPLOYMENT_LABEL).unwrap_or_default().to_owned(),
                    });
                }
            }
        }
        Ok(Managed {
            releases: releases.into_iter().map(|(_, release)| release).collect(),
            namespaces,
            next,
        })
    }
}

fn release_of(record: &Value) -> Option<(u32, ManagedRelease)> {
    let release = Release {
        namespace: text_at(record, "/metadata/namespace").to_owned(),
        name: label(record, "name")?.to_owned(),
    };
    let found = ManagedRelease {
        release,
        status: status_of(label(record, "status").unwrap_or_default()),
        deployment: label(record, "slipway-deployment").unwrap_or_default().to_owned(),
    };
    Some((label(record, "version")?.parse().ok()?, found))
}
