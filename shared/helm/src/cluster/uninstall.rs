//! Uninstalling, until nothing remains.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use slipway_model::JobWait;
use slipway_ports::{ObjectReference, Release, TargetError, UninstallRequest, Uninstalled};

use super::{CONCURRENCY, ClusterTarget};
use crate::{
    client::encode,
    collect::INSTANCE,
    manifest::{HOOK, annotation, text_at},
};

/// Annotation that keeps an object when its release goes.
const RESOURCE_POLICY: &str = "helm.sh/resource-policy";

impl ClusterTarget {
    /// `helm uninstall`, then what a failed revision left, then a look at what is still there, then the namespace.
    pub(super) async fn uninstall_release(
        &self,
        request: &UninstallRequest,
    ) -> Result<Uninstalled, TargetError> {
        let release = &request.release;
        let mut objects = self.recorded_objects(release).await?;
        let hooks = self.recorded_hooks(release).await?;
        // Asked again, there is often only the end to be waited for, which needs no Helm.
        if !self.kubernetes.revisions(release).await?.is_empty() {
            let uninstall = self.invoke(release, "uninstall")?;
            // Helm would delete the claims that stand in the manifest.
            self.kubernetes.forget_claims(release).await?;
            uninstall
                .with_release()
                .with(["--ignore-not-found"])
                .with_timeout(request.time_limit)
                .run(request.time_limit, None)
                .await?;
        }
        objects.extend(request.leftovers.iter().cloned());
        objects.extend(self.labelled_objects(release).await?);
        objects.retain(|object| object.kind != "PersistentVolumeClaim");
        objects.sort();
        objects.dedup();
        let mut remaining: Vec<JobWait> = stream::iter(objects)
            .map(|object| self.remove(release, object))
            .buffered(CONCURRENCY)
            .try_filter_map(|wait| std::future::ready(Ok(wait)))
            .try_collect()
            .await?;
        let hooks: Vec<JobWait> = stream::iter(hooks)
            .map(|hook| self.remove_hook(hook))
            .buffered(CONCURRENCY)
            .try_filter_map(|wait| std::future::ready(Ok(wait)))
            .try_collect()
            .await?;
        remaining.extend(hooks);
        remaining.extend(self.ending_pods(release).await?);
        // Found once as it was recorded and once in the version that the server prefers.
        let mut told = BTreeSet::new();
        remaining.retain(|wait| told.insert(wait.object.clone()));
        if let Some(deployment) = request.namespace_of.filter(|_| remaining.is_empty()) {
            remaining.extend(self.remove_namespace(release, deployment).await?);
        }
        Ok(Uninstalled { remaining })
    }

    /// Deletes an object of the release if it is still there, and says why it is not gone.
    async fn remove(
        &self,
        release: &Release,
        reference: ObjectReference,
    ) -> Result<Option<JobWait>, TargetError> {
        let Some(path) = self.kubernetes.path_of(&reference).await? else {
            return Ok(None);
        };
        let Some(object) = self.kubernetes.get(&path).await? else {
            return Ok(None);
        };
        if !is_own(&object, release) || is_kept(&object) {
            return Ok(None);
        }
        self.delete_and_look(&reference, &path, &object).await
    }

    /// What Helm says in its annotations belongs to the release, whichever revision made it.
    async fn labelled_objects(&self, release: &Release) -> Result<Vec<ObjectReference>, TargetError> {
        let objects = self.objects_in(&release.namespace).await?.unwrap_or_default();
        Ok(objects
            .into_iter()
            .filter(|(_, object)| is_own(object, release))
            .map(|(reference, _)| reference)
            .collect())
    }

    /// The hooks of the newest revision; volume claims are never deleted.
    async fn recorded_hooks(&self, release: &Release) -> Result<Vec<ObjectReference>, TargetError> {
        let Some(newest) = self.kubernetes.revisions(release).await?.into_iter().next() else {
            return Ok(Vec::new());
        };
        let payload = self.kubernetes.payload(release, newest.number).await?;
        let mut hooks: Vec<ObjectReference> = payload
            .hooks()?
            .iter()
            .map(|hook| hook.reference(&release.namespace))
            .filter(|hook| hook.namespace == release.namespace && hook.kind != "PersistentVolumeClaim")
            .collect();
        hooks.sort();
        hooks.dedup();
        Ok(hooks)
    }

    /// Helm leaves the objects of hooks behind, unless their delete policy says otherwise.
    async fn remove_hook(&self, reference: ObjectReference) -> Result<Option<JobWait>, TargetError> {
        let Some(path) = self.kubernetes.path_of(&reference).await? else {
            return Ok(None);
        };
        match self.kubernetes.get(&path).await? {
            Some(object) if annotation(&object, HOOK).is_some() && !is_kept(&object) => {
                self.delete_and_look(&reference, &path, &object).await
            }
            _ => Ok(None),
        }
    }

    /// Deletes an object, and says why it is not gone at once.
    async fn delete_and_look(
        &self,
        reference: &ObjectReference,
        path: &str,
        object: &Value,
    ) -> Result<Option<JobWait>, TargetError> {
        let uid = text_at(object, "/metadata/uid");
        if object.pointer("/metadata/deletionTimestamp").is_none() {
            let options = json!({"propagationPolicy": "Background", "preconditions": {"uid": uid}});
            self.kubernetes.delete(path, &options).await?;
        }
        let left = self.kubernetes.get(path).await?;
        Ok(left
            .filter(|left| text_at(left, "/metadata/uid") == uid)
            .map(|left| still_there(reference.to_string(), &left)))
    }

    /// Pods labelled with the release that have not ended yet.
    async fn ending_pods(&self, release: &Release) -> Result<Vec<JobWait>, TargetError> {
        let path = format!("/api/v1/namespaces/{}/pods", encode(&release.namespace));
        let query = format!("labelSelector={}%3D{}", encode(INSTANCE), encode(&release.name));
        let pods = self.kubernetes.list(&path, &query).await?;
        Ok(pods
            .iter()
            .filter(|pod| !matches!(text_at(pod, "/status/phase"), "Succeeded" | "Failed"))
            .map(|pod| still_there(format!("Pod/{}", text_at(pod, "/metadata/name")), pod))
            .collect())
    }
}

fn is_own(object: &Value, release: &Release) -> bool {
    annotation(object, "meta.helm.sh/release-name") == Some(&release.name)
        && annotation(object, "meta.helm.sh/release-namespace") == Some(&release.namespace)
}

fn is_kept(object: &Value) -> bool {
    annotation(object, RESOURCE_POLICY).is_some_and(|policy| policy.trim().eq_ignore_ascii_case("keep"))
}

/// Why an object that was deleted is still there.
fn still_there(object: String, left: &Value) -> JobWait {
    let finalizers: Vec<&str> = left
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let (reason, message) = if left.pointer("/metadata/deletionTimestamp").is_none() {
        ("not deleted yet", "its owner is being deleted".to_owned())
    } else if finalizers.is_empty() {
        ("ending", "its containers are being stopped".to_owned())
    } else {
        ("finalizers", format!("it waits for {}", finalizers.join(", ")))
    };
    JobWait {
        object,
        reason: reason.to_owned(),
        message,
    }
}
