//! Uninstalling, until nothing remains.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use slipway_model::JobWait;
use slipway_ports::{ObjectReference, Release, ReleaseStatus, TargetError, UninstallRequest, Uninstalled};

use super::{
    CONCURRENCY, ClusterTarget, RELEASE_LABEL, claims::GUARD, inhabitants::Inhabitant, ownership::Owners,
};
use crate::{
    binary::NOT_DELETED,
    client::encode,
    collect::INSTANCE,
    invocation::Budget,
    manifest::{self, HOOK, annotation, label, text_at},
};

impl ClusterTarget {
    /// `helm uninstall` without hooks, then what a failed revision left, then a look at what is still there. Then, unless
    /// they are still needed, the objects of hooks, Helm's record, and the namespace.
    pub(super) async fn uninstall_release(
        &self,
        request: &UninstallRequest,
    ) -> Result<Uninstalled, TargetError> {
        let release = &request.release;
        let budget = Budget::of(request.time_limit);
        let revisions = self.kubernetes.revisions(release).await?;
        let mut objects = self.recorded_objects(release).await?;
        objects.extend(self.objects_left_of(release, &revisions).await?);
        // Asked again, there is often only the end to be waited for, which needs no Helm.
        if revisions
            .first()
            .is_some_and(|newest| newest.status != ReleaseStatus::Uninstalled)
        {
            let placed = self.with_place(release, "uninstall", request.time_limit).await?;
            let uninstall = placed.invoke(release, "uninstall")?;
            self.keep_claims_of_sets(release, &objects).await?;
            // Helm would delete the claims that stand in the manifest.
            self.kubernetes.forget_claims(release).await?;
            let limit = budget.left(release, "uninstall")?;
            let outcome = uninstall
                .with_release()
                .with(["--ignore-not-found", "--no-hooks", "--keep-history"])
                .run(limit, None)
                .await;
            match outcome {
                // What is left is deleted below, which also says why something cannot be; and where a kind is gone that the
                // record names, Helm would say the same each time.
                Err(error) if error.to_string().contains(NOT_DELETED) => {}
                Err(error) => return Err(error),
                Ok(_) => self.confirm_uninstalled(release).await?,
            }
        }
        objects.extend(request.leftovers.iter().cloned());
        let there = self.objects_in(&release.namespace).await?.objects;
        // What Helm says in its annotations belongs to the release, whichever revision made it.
        let own = there.iter().filter(|(_, object)| is_own(object, release));
        objects.extend(own.map(|(reference, _)| reference.clone()));
        objects.retain(|object| object.kind != "PersistentVolumeClaim");
        objects.sort();
        objects.dedup();
        let mut remaining: Vec<JobWait> = stream::iter(objects)
            .map(|object| self.remove(release, object))
            .buffered(CONCURRENCY)
            .try_filter_map(|wait| std::future::ready(Ok(wait)))
            .try_collect()
            .await?;
        if !request.keep_record {
            let hooks: Vec<JobWait> = stream::iter(self.left_hooks(release, &there).await?)
                .map(|hook| self.remove_hook(release, hook))
                .buffered(CONCURRENCY)
                .try_filter_map(|wait| std::future::ready(Ok(wait)))
                .try_collect()
                .await?;
            remaining.extend(hooks);
        }
        remaining.extend(self.ending_pods(release).await?);
        if remaining.is_empty() && !request.keep_record {
            self.kubernetes.forget(release).await?;
        }
        // Found once as it was recorded and once in the version that the server prefers.
        let mut told = BTreeSet::new();
        remaining.retain(|wait| told.insert(wait.object.clone()));
        let done = remaining.is_empty() && !request.keep_record;
        if let Some(deployment) = request.namespace_of.filter(|_| done) {
            remaining.extend(self.remove_namespace(release, deployment).await?);
        }
        Ok(Uninstalled { remaining })
    }

    /// That Helm ended without an error proves nothing.
    async fn confirm_uninstalled(&self, release: &Release) -> Result<(), TargetError> {
        let newest = self.kubernetes.revisions(release).await?.into_iter().next();
        if newest.is_some_and(|newest| newest.status != ReleaseStatus::Uninstalled) {
            return Err(TargetError::transient(format!(
                "helm uninstall of {release} ended without an error, but its record does not say so: either \
                 somebody else installed it again, or the Helm binary is not what it should be"
            )));
        }
        Ok(())
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

    /// The hooks of the newest revision, and those that are labelled as the release's, as they are when the release got
    /// no revision; volume claims are never deleted.
    async fn left_hooks(
        &self,
        release: &Release,
        there: &[Inhabitant],
    ) -> Result<Vec<ObjectReference>, TargetError> {
        let mut hooks = Vec::new();
        if let Some(newest) = self.kubernetes.revisions(release).await?.into_iter().next() {
            let payload = self.kubernetes.payload(release, newest.number).await?;
            let recorded = payload.hooks()?;
            hooks.extend(recorded.iter().map(|hook| hook.reference(&release.namespace)));
            self.kubernetes.settle_namespaces(&mut hooks).await?;
        }
        let labelled = there
            .iter()
            .filter(|(_, object)| label(object, RELEASE_LABEL) == Some(&release.name));
        hooks.extend(labelled.map(|(reference, _)| reference.clone()));
        hooks.retain(|hook| hook.namespace == release.namespace && hook.kind != "PersistentVolumeClaim");
        hooks.sort();
        hooks.dedup();
        Ok(hooks)
    }

    /// Helm leaves the objects of hooks behind, unless their delete policy says otherwise. One of a name that the hooks of
    /// several releases have is that of the release whose hook ran last.
    async fn remove_hook(
        &self,
        release: &Release,
        reference: ObjectReference,
    ) -> Result<Option<JobWait>, TargetError> {
        let Some(path) = self.kubernetes.path_of(&reference).await? else {
            return Ok(None);
        };
        match self.kubernetes.get(&path).await? {
            Some(object)
                if annotation(&object, HOOK).is_some()
                    && !is_kept(&object)
                    && label(&object, RELEASE_LABEL).is_none_or(|of| of == release.name) =>
            {
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
            self.keep_claims_of(reference, path).await?;
            let options = json!({"propagationPolicy": "Background", "preconditions": {"uid": uid}});
            self.kubernetes.delete(path, &options).await?;
        }
        let left = self.kubernetes.get(path).await?;
        Ok(left
            .filter(|left| text_at(left, "/metadata/uid") == uid)
            .map(|left| still_there(reference.to_string(), &left)))
    }

    /// Pods labelled with the release that have not ended yet, but for those of an object that stays.
    async fn ending_pods(&self, release: &Release) -> Result<Vec<JobWait>, TargetError> {
        let path = format!("/api/v1/namespaces/{}/pods", encode(&release.namespace));
        let query = format!("labelSelector={}%3D{}", encode(INSTANCE), encode(&release.name));
        let pods = self.kubernetes.list(&path, &query).await?;
        let mut owners = Owners::new(self, &release.namespace);
        let mut ending = Vec::new();
        for pod in pods {
            let has_ended = matches!(text_at(&pod, "/status/phase"), "Succeeded" | "Failed");
            if !has_ended && !owners.keep(&pod).await? {
                ending.push(still_there(
                    format!("Pod/{}", text_at(&pod, "/metadata/name")),
                    &pod,
                ));
            }
        }
        Ok(ending)
    }
}

pub(super) fn is_own(object: &Value, release: &Release) -> bool {
    annotation(object, "meta.helm.sh/release-name") == Some(&release.name)
        && annotation(object, "meta.helm.sh/release-namespace") == Some(&release.namespace)
}

/// Whether its chart, or somebody, wants an object to outlive its release; not what Helm alone is kept from deleting.
pub(super) fn is_kept(object: &Value) -> bool {
    manifest::is_kept(object) && annotation(object, GUARD).is_none()
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
