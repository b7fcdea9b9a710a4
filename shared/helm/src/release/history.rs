//! The revisions of a release in a cluster, and recovering one whose writer died.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use slipway_ports::{Release, ReleaseRecord, ReleaseStatus, TargetError};

use super::payload::{Payload, status_of};
use crate::{
    client::{Kubernetes, encode},
    manifest::{hook_events, inventory, is_kept, label, text_at},
};

/// Labels that Helm itself puts onto a record.
const OWN_LABELS: &[&str] = &["name", "owner", "status", "version", "createdAt", "modifiedAt"];

/// One revision, without its payload.
#[derive(Debug, Clone)]
pub(crate) struct Revision {
    pub(crate) number: u32,
    pub(crate) status: ReleaseStatus,
    /// When its record was written, as the API server writes times.
    pub(crate) written_at: String,
    labels: BTreeMap<String, String>,
}

impl Revision {
    /// Whether it was ever deployed.
    pub(crate) fn was_deployed(&self) -> bool {
        matches!(self.status, ReleaseStatus::Deployed | ReleaseStatus::Superseded)
    }

    /// The deployment that it was made for, as its label says.
    pub(crate) fn deployment(&self) -> Option<&str> {
        self.labels.get("slipway-deployment").map(String::as_str)
    }

    fn of_metadata(object: &Value) -> Option<Self> {
        let labels = object
            .pointer("/metadata/labels")?
            .as_object()?
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .filter(|(key, _)| !OWN_LABELS.contains(&key.as_str()))
            .collect();
        Some(Self {
            number: label(object, "version")?.parse().ok()?,
            status: status_of(label(object, "status").unwrap_or_default()),
            written_at: text_at(object, "/metadata/creationTimestamp").to_owned(),
            labels,
        })
    }
}

impl Kubernetes {
    /// All revisions that Helm keeps, newest first.
    pub(crate) async fn revisions(&self, release: &Release) -> Result<Vec<Revision>, TargetError> {
        let query = format!("labelSelector=owner%3Dhelm%2Cname%3D{}", encode(&release.name));
        let secrets = self.list_metadata(&secrets_path(release), &query).await?;
        let mut revisions: Vec<_> = secrets.iter().filter_map(Revision::of_metadata).collect();
        revisions.sort_by_key(|revision| std::cmp::Reverse(revision.number));
        Ok(revisions)
    }

    /// The newest record.
    pub(crate) async fn record(&self, release: &Release) -> Result<Option<ReleaseRecord>, TargetError> {
        let revisions = self.revisions(release).await?;
        let Some(newest) = revisions.first() else {
            return Ok(None);
        };
        let payload = self.payload(release, newest.number).await?;
        let mut documents = payload.documents()?;
        let mut objects = inventory(&documents, &release.namespace);
        self.settle_namespaces(&mut objects).await?;
        documents.retain(|document| is_kept(&document.object));
        let mut kept = inventory(&documents, &release.namespace);
        self.settle_namespaces(&mut kept).await?;
        Ok(Some(ReleaseRecord {
            revision: newest.number,
            status: newest.status,
            labels: newest.labels.clone(),
            chart: payload.chart(),
            objects,
            kept,
            hooks: hook_events(&payload.hooks()?),
            ever_deployed: revisions.iter().any(Revision::was_deployed),
        }))
    }

    /// What one revision holds.
    pub(crate) async fn payload(&self, release: &Release, revision: u32) -> Result<Payload, TargetError> {
        match self.get(&secret_path(release, revision)).await? {
            Some(secret) => Payload::of_secret(&secret),
            None => Err(TargetError::transient(format!(
                "revision {revision} of release {release} has just been removed by someone else"
            ))),
        }
    }

    /// Puts labels onto the record of one revision.
    pub(crate) async fn label_revision(
        &self,
        release: &Release,
        revision: u32,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), TargetError> {
        let body = json!({"metadata": {"labels": labels}});
        self.patch(
            &secret_path(release, revision),
            crate::client::PatchKind::Merge,
            &body,
        )
        .await
    }

    /// Takes the volume claims out of the newest record, so that an uninstall leaves them.
    pub(crate) async fn forget_claims(&self, release: &Release) -> Result<(), TargetError> {
        let Some(newest) = self.revisions(release).await?.into_iter().next() else {
            return Ok(());
        };
        let path = secret_path(release, newest.number);
        let Some(mut secret) = self.get(&path).await? else {
            return Ok(());
        };
        let mut payload = Payload::of_secret(&secret)?;
        if !payload.forget_claims()? {
            return Ok(());
        }
        secret["data"]["release"] = packed(&payload)?.into();
        self.replace(&path, &secret).await
    }

    /// Marks the newest revision failed if it is that one and deployed.
    pub(crate) async fn mark_failed(
        &self,
        release: &Release,
        revision: u32,
        reason: &str,
    ) -> Result<(), TargetError> {
        let newest = self.revisions(release).await?.into_iter().next();
        if newest.is_none_or(|newest| newest.number != revision || newest.status != ReleaseStatus::Deployed) {
            return Ok(());
        }
        let path = secret_path(release, revision);
        let Some(mut secret) = self.get(&path).await? else {
            return Ok(());
        };
        mark(&mut secret, reason)?;
        self.replace(&path, &secret).await
    }

    /// Deletes all records of a release, the newest last: as long as there is any, that one tells how it stands.
    pub(crate) async fn forget(&self, release: &Release) -> Result<(), TargetError> {
        for revision in self.revisions(release).await?.into_iter().rev() {
            self.delete(&secret_path(release, revision.number), &json!({}))
                .await?;
        }
        Ok(())
    }

    /// Recovers a revision that a dead writer left pending; says what was done.
    pub(crate) async fn recover(&self, release: &Release, revision: u32) -> Result<String, TargetError> {
        let revisions = self.revisions(release).await?;
        if let Some(newest) = revisions.first().filter(|newest| newest.number != revision) {
            return Err(TargetError::transient(format!(
                "release {release} is at revision {}, not {revision}: someone else writes it",
                newest.number
            )));
        }
        let path = secret_path(release, revision);
        let Some(mut secret) = self.get(&path).await? else {
            return Ok(format!(
                "release {release} has no revision {revision}: nothing to recover"
            ));
        };
        let status = status_of(label(&secret, "status").unwrap_or_default());
        let is_first = status.is_pending() || status == ReleaseStatus::Failed;
        if is_first && status != ReleaseStatus::Uninstalling && !revisions.iter().any(Revision::was_deployed)
        {
            // Marked failed, Helm would take the next install for an upgrade and never run post-install hooks.
            let version = text_at(&secret, "/metadata/resourceVersion");
            let uid = text_at(&secret, "/metadata/uid");
            let options = json!({"preconditions": {"resourceVersion": version, "uid": uid}});
            self.delete(&path, &options).await?;
            for earlier in revisions.iter().skip(1) {
                self.delete(&secret_path(release, earlier.number), &json!({}))
                    .await?;
            }
            let why = match status {
                ReleaseStatus::Failed => "had failed and was never deployed".to_owned(),
                status => format!("was left {} by a writer that died", word(status)),
            };
            return Ok(format!(
                "release {release} {why}: its record was deleted, so that it is installed again"
            ));
        }
        match status {
            ReleaseStatus::PendingInstall
            | ReleaseStatus::PendingUpgrade
            | ReleaseStatus::PendingRollback => {
                mark(&mut secret, "its writer died; marked failed by slipway")?;
                // The resource version that was read goes along, so a writer that is still alive wins.
                self.replace(&path, &secret).await?;
                Ok(format!(
                    "revision {revision} of release {release} was left {} by a writer that died: it was marked failed",
                    word(status)
                ))
            }
            ReleaseStatus::Uninstalling => Ok(format!(
                "the uninstall of release {release} was left unfinished: it is to be repeated"
            )),
            status => Ok(format!(
                "revision {revision} of release {release} is {}: nothing to recover",
                word(status)
            )),
        }
    }
}

/// Marks a release Secret failed, with a reason.
fn mark(secret: &mut Value, reason: &str) -> Result<(), TargetError> {
    let mut payload = Payload::of_secret(secret)?;
    payload.mark_failed(reason);
    secret["data"]["release"] = packed(&payload)?.into();
    secret["metadata"]["labels"]["status"] = "failed".into();
    Ok(())
}

fn packed(payload: &Payload) -> Result<String, TargetError> {
    payload
        .to_secret_data()
        .map_err(|error| TargetError::permanent(format!("the record cannot be packed: {error}")))
}

/// Helm's word for a status.
pub(crate) fn word(status: ReleaseStatus) -> String {
    match serde_json::to_value(status) {
        Ok(Value::String(word)) => word,
        _ => "unknown".to_owned(),
    }
}

/// Path of the Secrets of a namespace.
fn secrets_path(release: &Release) -> String {
    format!("/api/v1/namespaces/{}/secrets", encode(&release.namespace))
}

fn secret_path(release: &Release, revision: u32) -> String {
    let name = format!("sh.helm.release.v1.{}.v{revision}", release.name);
    format!("{}/{}", secrets_path(release), encode(&name))
}
