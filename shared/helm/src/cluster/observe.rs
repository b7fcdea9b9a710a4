//! Looking at readiness, with a watch instead of a pause between looks.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use slipway_model::HealthCheck;
use slipway_ports::{Diagnosis, ObjectReference, Observation, Release, TargetError};
use tokio::time::{Instant, timeout, timeout_at};

use super::{CONCURRENCY, ClusterTarget};
use crate::{
    client::encode,
    manifest::text_at,
    readiness::{
        Applied, Check, LogRequest, Snapshot, Verdict, diagnosis, is_job, is_untold, judge, log_requests,
        passes,
    },
};

/// Changes come in swarms: after one, this much quiet is waited for, and no longer than the second figure.
const QUIET: Duration = Duration::from_millis(150);
const SWARM: Duration = Duration::from_secs(1);

/// Most lines of a log that are asked for.
const LOG_LINES: usize = 40;

impl ClusterTarget {
    /// One look; if something is not ready, further ones on changes, until it is, or reasons change, or `hold` is over.
    pub(super) async fn observe_objects(
        &self,
        release: &Release,
        objects: &[ObjectReference],
        health_checks: &[HealthCheck],
        hold: Duration,
    ) -> Result<Observation, TargetError> {
        let checks: Arc<[Check]> = Check::read(health_checks)?.into();
        let end = Instant::now() + hold;
        if hold.is_zero() {
            let snapshot = self.look(release, objects, &checks).await?;
            let verdict = judge(&snapshot);
            return self.tell(&snapshot, verdict).await;
        }
        // The watches begin before the first look, so that no change falls between.
        let mut changes = self.watch(release, objects).await?;
        let mut snapshot = self.look(release, objects, &checks).await?;
        let first = judge(&snapshot);
        let mut verdict = judge(&snapshot);
        while !verdict.is_ready() && verdict.failed.is_none() && !verdict.differs(&first) {
            match timeout_at(end, changes.next()).await {
                Err(_) => break,
                Ok(Some(Ok(()))) => settle(&mut changes).await,
                // A watch may be ended by the server at any time.
                Ok(Some(Err(_)) | None) => changes = self.watch(release, objects).await?,
            }
            snapshot = self.look(release, objects, &checks).await?;
            verdict = judge(&snapshot);
        }
        self.tell(&snapshot, verdict).await
    }

    async fn tell(&self, snapshot: &Snapshot, verdict: Verdict) -> Result<Observation, TargetError> {
        let diagnosis = if verdict.is_ready() {
            Diagnosis::default()
        } else {
            let mut logs = Vec::new();
            for request in log_requests(snapshot) {
                if let Some(log) = self.log(&request).await {
                    logs.push((request, log));
                }
            }
            diagnosis(snapshot, logs)
        };
        Ok(Observation {
            ready: verdict.is_ready(),
            waiting: verdict.waiting,
            failed: verdict.failed,
            diagnosis,
        })
    }

    /// The end of a container's log; of the run before, if the node still has it. A log that cannot be had must not
    /// hide what else is known.
    async fn log(&self, request: &LogRequest) -> Option<String> {
        if request.previous
            && let Ok(Some(log)) = self.log_end(request, LOG_LINES).await
            && !log.trim().is_empty()
        {
            return Some(log);
        }
        let current = LogRequest {
            previous: false,
            ..request.clone()
        };
        self.log_end(&current, LOG_LINES).await.ok().flatten()
    }

    async fn look(
        &self,
        release: &Release,
        objects: &[ObjectReference],
        checks: &Arc<[Check]>,
    ) -> Result<Snapshot, TargetError> {
        let objects = stream::iter(objects.iter().cloned())
            .map(|reference| async move {
                let object = match self.kubernetes.path_of(&reference).await? {
                    Some(path) => self.kubernetes.get(&path).await?,
                    None => None,
                };
                Ok::<_, TargetError>((reference, object))
            })
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let mut snapshot = Snapshot {
            objects,
            release: release.name.clone(),
            checks: checks.clone(),
            ..Snapshot::default()
        };
        if judge(&snapshot).is_ready() {
            // Pods and events only explain.
            return Ok(snapshot);
        }
        if self.look_for_jobs(release, &mut snapshot).await? && judge(&snapshot).is_ready() {
            return Ok(snapshot);
        }
        for namespace in namespaces(release, &snapshot) {
            let base = format!("namespaces/{}", encode(&namespace));
            let core = format!("/api/v1/{base}");
            snapshot
                .pods
                .extend(self.kubernetes.list(&format!("{core}/pods"), "").await?);
            let sets = format!("/apis/apps/v1/{base}/replicasets");
            snapshot
                .replica_sets
                .extend(self.kubernetes.list(&sets, "").await?);
            let events = format!("{core}/events");
            snapshot.events.extend(
                self.kubernetes
                    .list(&events, "fieldSelector=type%3DWarning")
                    .await?,
            );
            if snapshot.pods.iter().any(waits_for_claim) {
                let claims = format!("{core}/persistentvolumeclaims");
                snapshot.claims.extend(self.kubernetes.list(&claims, "").await?);
            }
            let has_claims = !snapshot.claims.is_empty()
                || snapshot.objects.iter().any(|(reference, _)| {
                    reference.kind == "PersistentVolumeClaim" && reference.namespace == namespace
                });
            if has_claims {
                let of_claims = "fieldSelector=involvedObject.kind%3DPersistentVolumeClaim%2Ctype%3DNormal";
                snapshot
                    .events
                    .extend(self.kubernetes.list(&events, of_claims).await?);
            }
        }
        if snapshot.pods.iter().any(lacks_resources) {
            // Not everybody may read nodes, and the scheduler's own words are there without them.
            snapshot.nodes = self
                .kubernetes
                .list("/api/v1/nodes", "")
                .await
                .unwrap_or_default();
        }
        Ok(snapshot)
    }

    /// Reads what is known of Jobs that are not there; whether there are any.
    async fn look_for_jobs(&self, release: &Release, snapshot: &mut Snapshot) -> Result<bool, TargetError> {
        let missing: Vec<ObjectReference> = snapshot
            .objects
            .iter()
            .filter(|(reference, object)| object.is_none() && is_job(reference))
            .map(|(reference, _)| reference.clone())
            .collect();
        if missing.is_empty() {
            return Ok(false);
        }
        let Some(newest) = self.kubernetes.revisions(release).await?.into_iter().next() else {
            return Ok(false);
        };
        for job in &missing {
            let path = format!("/api/v1/namespaces/{}/events", encode(&job.namespace));
            let query = format!("involvedObject.kind=Job,involvedObject.name={}", job.name);
            let query = format!("fieldSelector={}", encode(&query));
            snapshot
                .job_events
                .extend(self.kubernetes.list(&path, &query).await?);
        }
        let mut passing = Vec::new();
        if missing
            .iter()
            .any(|job| is_untold(job, &newest.written_at, &snapshot.job_events))
        {
            let documents = self
                .kubernetes
                .payload(release, newest.number)
                .await?
                .documents()?;
            let passes = documents.iter().filter(|document| passes(document));
            passing.extend(passes.map(|document| document.reference(&release.namespace)));
        }
        snapshot.applied = Some(Applied {
            at: newest.written_at,
            passing,
        });
        Ok(true)
    }

    /// Changes of the objects' kinds, and of the pods in their namespaces.
    async fn watch(
        &self,
        release: &Release,
        objects: &[ObjectReference],
    ) -> Result<impl Stream<Item = Result<(), TargetError>> + Unpin + use<>, TargetError> {
        let mut collections =
            BTreeSet::from([format!("/api/v1/namespaces/{}/pods", encode(&release.namespace))]);
        for object in objects.iter().filter(|object| changes_by_itself(object)) {
            let collection = self
                .kubernetes
                .collection_of(&object.api_version, &object.kind, &object.namespace)
                .await?;
            collections.extend(collection);
        }
        let mut watches = Vec::new();
        for collection in collections {
            watches.push(Box::pin(self.kubernetes.changes(&collection).await?));
        }
        // One that ends lets all be begun again, so the end is told.
        let told = watches.into_iter().map(|watch| {
            Box::pin(
                watch.chain(stream::once(std::future::ready(Err(TargetError::transient(
                    "the watch ended",
                ))))),
            )
        });
        Ok(stream::select_all(told))
    }
}

/// What the scheduler says of a pod that it finds no node for.
fn scheduler_says(pod: &Value) -> &str {
    pod.pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|condition| {
            text_at(condition, "/type") == "PodScheduled" && text_at(condition, "/status") == "False"
        })
        .map_or("", |condition| text_at(condition, "/message"))
}

fn waits_for_claim(pod: &Value) -> bool {
    scheduler_says(pod)
        .to_lowercase()
        .contains("persistentvolumeclaim")
}

fn lacks_resources(pod: &Value) -> bool {
    scheduler_says(pod).contains("Insufficient ")
}

/// Whether objects of a kind become ready some time after they were made.
fn changes_by_itself(object: &ObjectReference) -> bool {
    !matches!(
        object.kind.as_str(),
        "ConfigMap"
            | "Secret"
            | "ServiceAccount"
            | "Role"
            | "RoleBinding"
            | "ClusterRole"
            | "ClusterRoleBinding"
            | "NetworkPolicy"
            | "PodDisruptionBudget"
            | "HorizontalPodAutoscaler"
            | "Ingress"
            | "CronJob"
            | "LimitRange"
            | "ResourceQuota"
            | "PriorityClass"
    )
}

fn namespaces(release: &Release, snapshot: &Snapshot) -> BTreeSet<String> {
    let mut all = BTreeSet::from([release.namespace.clone()]);
    for (reference, object) in &snapshot.objects {
        let own = object.as_ref().map_or(reference.namespace.as_str(), |object| {
            text_at(object, "/metadata/namespace")
        });
        if !own.is_empty() {
            all.insert(own.to_owned());
        }
    }
    all
}

/// Lets a swarm of changes pass.
async fn settle(changes: &mut (impl Stream<Item = Result<(), TargetError>> + Unpin)) {
    let swarm = async { while let Ok(Some(Ok(()))) = timeout(QUIET, changes.next()).await {} };
    // Either way it is time for a look.
    let _ = timeout(SWARM, swarm).await;
}
