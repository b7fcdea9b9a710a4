//! The namespace of a release: made when it is missing, taken away when it was made for a deployment and is empty.

use serde_json::{Value, json};
use slipway_model::{DeploymentId, JobWait};
use slipway_ports::{Release, ReleaseRequest, TargetError};

use super::{ClusterTarget, DEPLOYMENT_LABEL, MANAGED_BY, inhabitants::Inhabitants};
use crate::{
    client::encode,
    manifest::{label, text_at},
};

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/{}", encode(name))
}

fn is_made_for(namespace: &Value, deployment: DeploymentId) -> bool {
    label(namespace, MANAGED_BY) == Some("slipway")
        && label(namespace, DEPLOYMENT_LABEL) == Some(&deployment.to_string())
}

impl ClusterTarget {
    /// Makes sure that the namespace is there; true if it was created for the request's deployment, now or before.
    pub(super) async fn ensure_namespace(&self, request: &ReleaseRequest) -> Result<bool, TargetError> {
        let name = &request.release.namespace;
        refuse_system(name)?;
        if let Some(namespace) = self.kubernetes.get(&path(name)).await? {
            if text_at(&namespace, "/status/phase") == "Terminating" {
                return Err(TargetError::transient(format!(
                    "namespace '{name}' is being deleted: the release can be applied when it is gone"
                )));
            }
            return Ok(request
                .deployment
                .is_some_and(|deployment| is_made_for(&namespace, deployment)));
        }
        if !request.create_namespace {
            return Err(TargetError::permanent(format!(
                "namespace '{name}' does not exist: create it, or set create_namespace"
            )));
        }
        let mut labels = json!({MANAGED_BY: "slipway"});
        if let Some(deployment) = request.deployment {
            labels[DEPLOYMENT_LABEL] = deployment.to_string().into();
        }
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
        });
        self.kubernetes.create("/api/v1/namespaces", &namespace).await
    }

    /// Deletes the namespace if it was created for the deployment and nothing lives in it. What is returned keeps the
    /// uninstall from being done; a namespace that others live in stays, and that is no reason to wait.
    pub(super) async fn remove_namespace(
        &self,
        release: &Release,
        deployment: DeploymentId,
    ) -> Result<Option<JobWait>, TargetError> {
        let name = &release.namespace;
        refuse_system(name)?;
        let Some(namespace) = self.kubernetes.get(&path(name)).await? else {
            return Ok(None);
        };
        if !is_made_for(&namespace, deployment) {
            return Ok(None);
        }
        if namespace.pointer("/metadata/deletionTimestamp").is_none() {
            match self.inhabitants(name).await? {
                Inhabitants::None => {}
                Inhabitants::Ending(wait) => return Ok(Some(wait)),
                Inhabitants::Living => return Ok(None),
            }
            let uid = text_at(&namespace, "/metadata/uid");
            self.kubernetes
                .delete(&path(name), &json!({"preconditions": {"uid": uid}}))
                .await?;
        }
        let Some(left) = self.kubernetes.get(&path(name)).await? else {
            return Ok(None);
        };
        let told: Vec<&str> = left
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|condition| text_at(condition, "/status") == "True")
            .map(|condition| text_at(condition, "/message"))
            .collect();
        Ok(Some(JobWait {
            object: format!("Namespace/{name}"),
            reason: "being deleted".to_owned(),
            message: told.join("; "),
        }))
    }
}

fn refuse_system(name: &str) -> Result<(), TargetError> {
    if name.starts_with("kube-") {
        return Err(TargetError::permanent(format!(
            "namespace '{name}' belongs to Kubernetes itself: releases go elsewhere"
        )));
    }
    Ok(())
}
