//! Hooks: finding those of an event, creating one, looking at it, deleting it. Which comes when is the job's to say.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use slipway_model::JobWait;
use slipway_ports::{
    Hook, HookEvent, HookRun, HookSet, HookSource, HookState, MadeHook, ObjectReference, Release, TargetError,
};
use tokio::time::{Instant, timeout_at};

use super::{ClusterTarget, DEPLOYMENT_LABEL, FENCE_LABEL, HOOK_LABEL, JOB_LABEL, RELEASE_LABEL};
use crate::{
    client::encode,
    invocation::checked_chart,
    manifest::{self, Document, text_at},
    readiness::{LogRequest, end},
};

/// Most lines of a hook's log that are asked for.
const LOG_LINES: usize = 60;

/// Kinds that Helm waits for.
fn runs(object: &ObjectReference) -> bool {
    matches!(
        (object.api_version.as_str(), object.kind.as_str()),
        ("batch/v1", "Job") | ("v1", "Pod")
    )
}

/// Kinds of which nothing is deleted: Helm keeps definitions, because all objects of their kinds would go with them,
/// and volume claims are deleted by name only.
fn is_kept(object: &ObjectReference) -> bool {
    matches!(
        object.kind.as_str(),
        "CustomResourceDefinition" | "PersistentVolumeClaim"
    )
}

impl ClusterTarget {
    pub(super) async fn find_hooks(
        &self,
        release: &Release,
        event: HookEvent,
        source: HookSource<'_>,
    ) -> Result<HookSet, TargetError> {
        let payload = match source {
            HookSource::Revision(revision) => self.kubernetes.payload(release, revision).await?,
            HookSource::Rendered(request) => {
                let chart = checked_chart(request)?;
                let placed = self.with_place(release, "upgrade", request.time_limit).await?;
                // Helm makes both before its first hook, which may be of a kind that the chart defines.
                self.ensure_namespace(request).await?;
                placed.apply_definitions(request, &chart).await?;
                placed.dry_run(request).await?
            }
        };
        let mut hooks = payload.hooks_of(event, &release.namespace)?;
        if let Some(gate) = &self.gate {
            let mut documents = Vec::new();
            for hook in &hooks {
                documents.extend(read(hook)?);
            }
            gate.judge_documents(release, &documents, &format!("{event} hooks"))?;
        }
        for hook in &mut hooks {
            if hook.object.name.is_empty() {
                return Err(TargetError::permanent(format!(
                    "a {event} hook of {release} of kind {} has no name: Helm needs metadata.name",
                    hook.object.kind
                )));
            }
            self.kubernetes
                .settle_namespaces(std::slice::from_mut(&mut hook.object))
                .await?;
        }
        Ok(HookSet {
            hooks,
            note: String::new(),
        })
    }

    /// Creates a hook unless this run of it is there. A chart may draw the name at random, so it is looked for by label.
    pub(super) async fn make_hook(&self, run: HookRun<'_>, hook: &Hook) -> Result<MadeHook, TargetError> {
        let HookRun { release, event, .. } = run;
        let object = &hook.object;
        let collection = self
            .kubernetes
            .collection_of(&object.api_version, &object.kind, &object.namespace)
            .await?
            .ok_or_else(|| {
                TargetError::permanent(format!(
                    "the {event} hook {object} of {release} is of a kind that the cluster does not know ({})",
                    object.api_version
                ))
            })?;
        if let Some(made) = self.hook_of_run(run, hook, &collection).await? {
            return Ok(made);
        }
        let path = format!("{collection}/{}", encode(&object.name));
        let doomed = hook.policies.delete_before && !is_kept(object);
        if doomed && self.kubernetes.get(&path).await?.is_some() {
            self.keep_claims_of(object, &path).await?;
            self.kubernetes
                .delete(&path, &json!({"propagationPolicy": "Background"}))
                .await?;
            self.wait_until_gone(object).await?;
        }
        let mut body = read(hook)?
            .into_iter()
            .next()
            .map(|document| document.object)
            .unwrap_or_default();
        let mut labels = vec![
            (JOB_LABEL, run.job.to_string()),
            (FENCE_LABEL, run.fence.to_string()),
            (HOOK_LABEL, place(run)),
            (RELEASE_LABEL, release.name.clone()),
        ];
        if let Some(deployment) = run.deployment {
            labels.push((DEPLOYMENT_LABEL, deployment.to_string()));
        }
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            let known = metadata.entry("labels").or_insert_with(|| json!({}));
            if known.is_null() {
                *known = json!({});
            }
            for (key, value) in labels {
                known[key] = value.into();
            }
        }
        let made = self
            .kubernetes
            .apply_as_helm(&path, &body)
            .await
            .map_err(|mut error| {
                error.0.message =
                    format!("the {event} hook {object} of {release} could not be created: {error}");
                error
            })?;
        Ok(made_hook(hook, &made))
    }

    /// The object of this run of a hook; nothing if it was not created. What a cluster does not know it does not have.
    pub(super) async fn find_made_hook(
        &self,
        run: HookRun<'_>,
        hook: &Hook,
    ) -> Result<Option<MadeHook>, TargetError> {
        let object = &hook.object;
        let collection = self
            .kubernetes
            .collection_of(&object.api_version, &object.kind, &object.namespace)
            .await?;
        match collection {
            Some(collection) => self.hook_of_run(run, hook, &collection).await,
            None => Ok(None),
        }
    }

    async fn hook_of_run(
        &self,
        run: HookRun<'_>,
        hook: &Hook,
        collection: &str,
    ) -> Result<Option<MadeHook>, TargetError> {
        let query = format!("{JOB_LABEL}={},{HOOK_LABEL}={}", run.job, place(run));
        let query = format!("labelSelector={}", encode(&query));
        let found = self.kubernetes.list_metadata(collection, &query).await?;
        Ok(found.first().map(|made| made_hook(hook, made)))
    }

    /// Looks until the hook has ended, or `hold` is over.
    pub(super) async fn look_at_hook(
        &self,
        release: &Release,
        hook: &MadeHook,
        hold: Duration,
    ) -> Result<HookState, TargetError> {
        let none = || HookState::Succeeded { log: String::new() };
        let object = &hook.object;
        if !runs(object) {
            return Ok(none());
        }
        let end = Instant::now() + hold;
        let Some(path) = self.kubernetes.path_of(object).await? else {
            return Ok(none());
        };
        let collection = path
            .rsplit_once('/')
            .map_or(path.as_str(), |(collection, _)| collection);
        let mut changes = Box::pin(self.kubernetes.changes(collection).await?);
        loop {
            let found = self.kubernetes.get(&path).await?;
            let found = found.filter(|found| text_at(found, "/metadata/uid") == hook.uid);
            let Some(found) = found else {
                return self.vanished(hook).await;
            };
            match outcome(&found) {
                Some(Ok(())) if hook.policies.log_succeeded => {
                    let log = self.hook_log(hook).await;
                    return Ok(HookState::Succeeded { log });
                }
                Some(Ok(())) => return Ok(none()),
                Some(Err(mut reason)) => {
                    let pods = self.hook_pods(hook).await?;
                    let codes: Vec<String> = pods.last().map(exit_codes).unwrap_or_default();
                    if !codes.is_empty() {
                        reason = format!("{reason} ({})", codes.join(", "));
                    }
                    let log = self.hook_log(hook).await;
                    return Ok(HookState::Failed { reason, log });
                }
                None => {}
            }
            match timeout_at(end, changes.next()).await {
                Err(_) => break,
                Ok(Some(Ok(()))) => {}
                Ok(Some(Err(_)) | None) => {
                    changes = Box::pin(self.kubernetes.changes(collection).await?);
                }
            }
        }
        let seen = self
            .observe_objects(release, std::slice::from_ref(object), &[], Duration::ZERO)
            .await?;
        let wait = seen.waiting.into_iter().next().unwrap_or_else(|| JobWait {
            object: object.to_string(),
            reason: "running".to_owned(),
            message: "it has not ended yet".to_owned(),
        });
        Ok(HookState::Running {
            wait,
            diagnosis: seen.diagnosis,
        })
    }

    /// A Job may have been taken away by its time to live; an event then still says how it ended.
    async fn vanished(&self, hook: &MadeHook) -> Result<HookState, TargetError> {
        let path = format!("/api/v1/namespaces/{}/events", encode(&hook.object.namespace));
        let query = format!("fieldSelector=involvedObject.uid%3D{}", encode(&hook.uid));
        let events = self.kubernetes.list(&path, &query).await?;
        let log = String::new();
        Ok(match end(&events) {
            Some(Ok(())) => HookState::Succeeded { log },
            Some(Err(why)) => HookState::Failed {
                reason: format!("the job failed: {why}"),
                log,
            },
            None => HookState::Failed {
                reason: "it was deleted before it was seen to end".to_owned(),
                log,
            },
        })
    }

    pub(super) async fn remove_hook_object(&self, hook: &MadeHook) -> Result<(), TargetError> {
        if is_kept(&hook.object) {
            return Ok(());
        }
        let Some(path) = self.kubernetes.path_of(&hook.object).await? else {
            return Ok(());
        };
        match self.kubernetes.get(&path).await? {
            Some(found) if text_at(&found, "/metadata/uid") == hook.uid => {
                self.keep_claims_of(&hook.object, &path).await?;
                let options = json!({"propagationPolicy": "Background", "preconditions": {"uid": hook.uid}});
                self.kubernetes.delete(&path, &options).await
            }
            _ => Ok(()),
        }
    }

    /// The pods of a hook, oldest first.
    async fn hook_pods(&self, hook: &MadeHook) -> Result<Vec<Value>, TargetError> {
        let path = format!("/api/v1/namespaces/{}/pods", encode(&hook.object.namespace));
        if hook.object.kind == "Pod" {
            let pod = self
                .kubernetes
                .get(&format!("{path}/{}", encode(&hook.object.name)))
                .await?;
            return Ok(pod.into_iter().collect());
        }
        let query = format!("labelSelector=job-name%3D{}", encode(&hook.object.name));
        let mut pods = self.kubernetes.list(&path, &query).await?;
        pods.retain(|pod| {
            let owners = pod.pointer("/metadata/ownerReferences").and_then(Value::as_array);
            owners
                .into_iter()
                .flatten()
                .any(|owner| text_at(owner, "/uid") == hook.uid)
        });
        pods.sort_by_key(|pod| text_at(pod, "/metadata/creationTimestamp").to_owned());
        Ok(pods)
    }

    /// The end of what the newest pod of a hook said. A log that cannot be had must not hide how the hook ended.
    async fn hook_log(&self, hook: &MadeHook) -> String {
        let pods = self.hook_pods(hook).await.unwrap_or_default();
        let Some(pod) = pods.last() else {
            return String::new();
        };
        let mut text = String::new();
        for container in super::inspect::containers(pod) {
            let request = LogRequest {
                namespace: hook.object.namespace.clone(),
                pod: text_at(pod, "/metadata/name").to_owned(),
                container,
                previous: false,
            };
            if let Ok(Some(log)) = self.log_end(&request, LOG_LINES).await {
                text.push_str(&log);
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
            }
        }
        text.trim_end().to_owned()
    }
}

/// Which hook of a job a run is of, as its object is labelled.
fn place(run: HookRun<'_>) -> String {
    format!("{}.{}", run.event, run.number)
}

fn read(hook: &Hook) -> Result<Vec<Document>, TargetError> {
    manifest::parse(&hook.manifest).map_err(|error| TargetError::permanent(crate::chain(&error)))
}

fn made_hook(hook: &Hook, made: &Value) -> MadeHook {
    MadeHook {
        object: ObjectReference {
            name: text_at(made, "/metadata/name").to_owned(),
            ..hook.object.clone()
        },
        uid: text_at(made, "/metadata/uid").to_owned(),
        policies: hook.policies,
    }
}

/// How a Job or a Pod ended; nothing while it goes on.
fn outcome(object: &Value) -> Option<Result<(), String>> {
    if text_at(object, "/kind") == "Pod" {
        return match text_at(object, "/status/phase") {
            "Succeeded" => Some(Ok(())),
            "Failed" => {
                let mut told = "the pod failed".to_owned();
                for field in ["/status/reason", "/status/message"] {
                    let text = text_at(object, field);
                    if !text.is_empty() {
                        told = format!("{told}: {text}");
                    }
                }
                Some(Err(told))
            }
            _ => None,
        };
    }
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    for condition in conditions.into_iter().flatten() {
        if text_at(condition, "/status") != "True" {
            continue;
        }
        match text_at(condition, "/type") {
            "Complete" => return Some(Ok(())),
            "Failed" => {
                return Some(Err(format!(
                    "the job failed: {}: {}",
                    text_at(condition, "/reason"),
                    text_at(condition, "/message")
                )));
            }
            _ => {}
        }
    }
    None
}

/// How the containers of a pod ended that did not end well.
fn exit_codes(pod: &Value) -> Vec<String> {
    ["/status/initContainerStatuses", "/status/containerStatuses"]
        .iter()
        .filter_map(|field| pod.pointer(field)?.as_array())
        .flatten()
        .filter_map(|status| {
            let ended = ["/state/terminated", "/lastState/terminated"]
                .iter()
                .find_map(|state| status.pointer(state))?;
            let code = ended.get("exitCode")?.as_i64().filter(|code| *code != 0)?;
            Some(format!(
                "container {} ended with exit code {code}",
                text_at(status, "/name")
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_and_pods_end_by_their_status_and_nothing_else_does() {
        let pod = |status: Value| outcome(&json!({"kind": "Pod", "status": status}));
        assert_eq!(pod(json!({"phase": "Running"})), None);
        assert_eq!(pod(json!({"phase": "Succeeded"})), Some(Ok(())));
        assert_eq!(
            pod(json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"})),
            Some(Err("the pod failed: Evicted: low on memory".to_owned()))
        );
        let job = |kind: &str, status: &str| {
            outcome(&json!({"kind": "Job", "status": {"conditions": [
                {"type": "SuccessCriteriaMet", "status": "True"},
                {"type": kind, "status": status, "reason": "BackoffLimitExceeded", "message": "too often"},
            ]}}))
        };
        assert_eq!(job("Complete", "True"), Some(Ok(())));
        assert_eq!(job("Complete", "False"), None);
        assert_eq!(
            job("Failed", "True"),
            Some(Err("the job failed: BackoffLimitExceeded: too often".to_owned()))
        );
    }

    #[test]
    fn exit_codes_name_their_containers() {
        let pod = json!({"status": {
            "initContainerStatuses": [{"name": "wait", "state": {"terminated": {"exitCode": 0}}}],
            "containerStatuses": [
                {"name": "migrate", "state": {"terminated": {"exitCode": 3}}},
                {"name": "again", "state": {"waiting": {}}, "lastState": {"terminated": {"exitCode": 137}}},
            ],
        }});
        assert_eq!(
            exit_codes(&pod),
            [
                "container migrate ended with exit code 3",
                "container again ended with exit code 137"
            ]
        );
    }
}
