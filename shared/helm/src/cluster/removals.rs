//! What an apply would delete.

use serde_json::Value;
use slipway_model::{Danger, DangerKind, ObjectChange};
use slipway_ports::{ObjectReference, Release, TargetError};

use super::{
    ClusterTarget,
    claims::has_templates,
    drift::Identity,
    preview::{Looked, compared},
    uninstall::{is_kept, is_own},
};
use crate::{difference::Hidden, manifest::text_at};

impl ClusterTarget {
    /// An object that the present revision has and the new one has not: it is deleted, unless it says that it stays or is
    /// a volume claim.
    pub(super) async fn look_at_deleted(
        &self,
        hidden: &Hidden,
        object: &Value,
        identity: &Identity,
    ) -> Result<Option<Looked>, TargetError> {
        let reference = reference_of(object, identity);
        let Some(live) = self.live(&reference).await? else {
            return Ok(None);
        };
        let stays = match reference.kind.as_str() {
            "PersistentVolumeClaim" => Some("a volume claim stays"),
            _ if is_kept(&live) || is_kept(object) => Some("helm.sh/resource-policy keeps it"),
            _ => None,
        };
        if let Some(why) = stays {
            let live = Some(&live);
            let mut plan = compared(hidden, &reference, ObjectChange::Unchanged, live, live);
            plan.reason = Some(format!("the chart does not have it any more; {why}"));
            return Ok(Some(Looked::plain(plan)));
        }
        let why = "the chart does not have it any more".to_owned();
        self.deleted(hidden, &reference, object, &live, why)
            .await
            .map(Some)
    }

    /// An object that only another revision has: what of it is still there is deleted when the apply has succeeded.
    pub(super) async fn look_at_leftover(
        &self,
        hidden: &Hidden,
        release: &Release,
        revision: u32,
        object: &Value,
        identity: &Identity,
    ) -> Result<Option<Looked>, TargetError> {
        let reference = reference_of(object, identity);
        if reference.kind == "PersistentVolumeClaim" {
            return Ok(None);
        }
        match self.live(&reference).await? {
            Some(live) if is_own(&live, release) && !is_kept(&live) => {
                let why = format!("revision {revision} left it, and the chart does not have it");
                let looked = self.deleted(hidden, &reference, object, &live, why).await?;
                Ok(Some(looked))
            }
            _ => Ok(None),
        }
    }

    async fn deleted(
        &self,
        hidden: &Hidden,
        reference: &ObjectReference,
        object: &Value,
        live: &Value,
        why: String,
    ) -> Result<Looked, TargetError> {
        let mut plan = compared(hidden, reference, ObjectChange::Delete, Some(object), None);
        plan.reason = Some(match has_templates(live) {
            true => format!("{why}; its volume claims stay"),
            false => why,
        });
        if reference.kind == "CustomResourceDefinition" {
            let count = self.resources_of(live).await?;
            plan.dangers.push(Danger::new(
                DangerKind::Definition,
                format!("{reference} has {count} custom resources on the cluster"),
            ));
        }
        Ok(Looked::plain(plan))
    }

    async fn live(&self, reference: &ObjectReference) -> Result<Option<Value>, TargetError> {
        match self.kubernetes.path_of(reference).await? {
            Some(path) => self.kubernetes.get(&path).await,
            None => Ok(None),
        }
    }

    /// How many custom resources there are of a definition.
    async fn resources_of(&self, definition: &Value) -> Result<usize, TargetError> {
        let version = definition
            .pointer("/status/storedVersions/0")
            .and_then(Value::as_str)
            .unwrap_or("v1");
        let path = format!(
            "/apis/{}/{version}/{}",
            text_at(definition, "/spec/group"),
            text_at(definition, "/spec/names/plural")
        );
        Ok(self.kubernetes.list_metadata(&path, "").await?.len())
    }
}

fn reference_of(object: &Value, (_, kind, namespace, name): &Identity) -> ObjectReference {
    ObjectReference {
        api_version: text_at(object, "/apiVersion").to_owned(),
        kind: kind.clone(),
        namespace: namespace.clone(),
        name: name.clone(),
    }
}
