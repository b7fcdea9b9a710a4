//! Which path an object has: asked from the server once per group and version.

use std::collections::HashMap;

use serde_json::Value;
use slipway_ports::{ObjectReference, TargetError};
use tokio::sync::Mutex;

use super::{Kubernetes, encode};
use crate::manifest::text_at;

/// What the server says about the kinds of a group and version.
#[derive(Default)]
pub(super) struct Discovery {
    known: Mutex<HashMap<String, HashMap<String, Resource>>>,
}

#[derive(Clone)]
struct Resource {
    plural: String,
    namespaced: bool,
}

impl Kubernetes {
    /// The path of an object; none if the server does not know its kind.
    pub(crate) async fn path_of(&self, object: &ObjectReference) -> Result<Option<String>, TargetError> {
        let collection = self
            .collection_of(&object.api_version, &object.kind, &object.namespace)
            .await?;
        Ok(collection.map(|collection| format!("{collection}/{}", encode(&object.name))))
    }

    /// The path of all objects of a kind, in one namespace if the kind has them.
    pub(crate) async fn collection_of(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
    ) -> Result<Option<String>, TargetError> {
        let Some(resource) = self.resource(api_version, kind).await? else {
            return Ok(None);
        };
        let base = base(api_version);
        let plural = &resource.plural;
        Ok(Some(if resource.namespaced && !namespace.is_empty() {
            format!("{base}/namespaces/{}/{plural}", encode(namespace))
        } else {
            format!("{base}/{plural}")
        }))
    }

    /// Empties the namespaces of objects whose kind has none, and gives the others the release's.
    pub(crate) async fn settle_namespaces(&self, objects: &mut [ObjectReference]) -> Result<(), TargetError> {
        for object in objects {
            let resource = self.resource(&object.api_version, &object.kind).await?;
            if resource.is_some_and(|resource| !resource.namespaced) {
                object.namespace.clear();
            }
        }
        Ok(())
    }

    async fn resource(&self, api_version: &str, kind: &str) -> Result<Option<Resource>, TargetError> {
        let mut known = self.discovery.known.lock().await;
        if let Some(resource) = known.get(api_version).and_then(|kinds| kinds.get(kind)) {
            return Ok(Some(resource.clone()));
        }
        // Not known is asked again: its definition may just have been made.
        let Some(list) = self.get(&base(api_version)).await? else {
            return Ok(None);
        };
        let kinds: HashMap<String, Resource> = list
            .get("resources")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|resource| !text_at(resource, "/name").contains('/'))
            .map(|resource| {
                let described = Resource {
                    plural: text_at(resource, "/name").to_owned(),
                    namespaced: resource.get("namespaced") == Some(&Value::Bool(true)),
                };
                (text_at(resource, "/kind").to_owned(), described)
            })
            .collect();
        let found = kinds.get(kind).cloned();
        known.insert(api_version.to_owned(), kinds);
        Ok(found)
    }
}

fn base(api_version: &str) -> String {
    if api_version.contains('/') {
        format!("/apis/{api_version}")
    } else {
        format!("/api/{api_version}")
    }
}
