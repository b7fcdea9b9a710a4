//! Who owns an object, on and on, and whether it stays for that.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use slipway_ports::{FailureClass, ObjectReference, TargetError};

use super::ClusterTarget;
use crate::manifest::text_at;

/// The `ownerReferences` of an object.
pub(super) fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// Whether somebody deleted an object that is still there.
pub(super) fn is_deleted(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// The owners of objects in one namespace, each looked at once.
pub(super) struct Owners<'a> {
    target: &'a ClusterTarget,
    namespace: &'a str,
    found: HashMap<String, Owner>,
}

#[derive(Clone)]
enum Owner {
    Gone,
    There(Value),
    /// It may not be looked at, and may be there.
    Hidden,
}

impl<'a> Owners<'a> {
    pub(super) fn new(target: &'a ClusterTarget, namespace: &'a str) -> Self {
        Self {
            target,
            namespace,
            found: HashMap::new(),
        }
    }

    /// Whether the garbage collector leaves an object alone: nobody deleted it, and if it is owned, that is true of one of
    /// its owners.
    pub(super) async fn keep(&mut self, object: &Value) -> Result<bool, TargetError> {
        if is_deleted(object) {
            return Ok(false);
        }
        let mut open: Vec<Value> = owners(object).cloned().collect();
        if open.is_empty() {
            return Ok(true);
        }
        let mut seen = HashSet::new();
        while let Some(reference) = open.pop() {
            if !seen.insert(text_at(&reference, "/uid").to_owned()) {
                continue;
            }
            match self.owner(&reference).await? {
                Owner::Hidden => return Ok(true),
                Owner::There(owner) if !is_deleted(&owner) => {
                    let further: Vec<Value> = owners(&owner).cloned().collect();
                    if further.is_empty() {
                        return Ok(true);
                    }
                    open.extend(further);
                }
                Owner::There(_) | Owner::Gone => {}
            }
        }
        Ok(false)
    }

    async fn owner(&mut self, reference: &Value) -> Result<Owner, TargetError> {
        let uid = text_at(reference, "/uid");
        if let Some(known) = self.found.get(uid) {
            return Ok(known.clone());
        }
        let owner = match self.look(reference).await {
            Ok(Some(owner)) if text_at(&owner, "/metadata/uid") == uid => Owner::There(owner),
            // Another one has its name now.
            Ok(_) => Owner::Gone,
            Err(error) if error.class() == FailureClass::Permanent => Owner::Hidden,
            Err(error) => return Err(error),
        };
        self.found.insert(uid.to_owned(), owner.clone());
        Ok(owner)
    }

    async fn look(&self, reference: &Value) -> Result<Option<Value>, TargetError> {
        // Of a kind without namespaces, the path has none.
        let reference = ObjectReference {
            api_version: text_at(reference, "/apiVersion").to_owned(),
            kind: text_at(reference, "/kind").to_owned(),
            namespace: self.namespace.to_owned(),
            name: text_at(reference, "/name").to_owned(),
        };
        match self.target.kubernetes.path_of(&reference).await? {
            Some(path) => self.target.kubernetes.get(&path).await,
            None => Ok(None),
        }
    }
}
