//! What a ready release offers: its services, its endpoint and the outputs that a component asks for. Pure functions
//! over objects, which come from the API server or from a rendered manifest.

mod address;
mod convert;
mod outputs;

pub(crate) use outputs::{collect, wanted};

use std::collections::BTreeMap;

use serde_json::Value;
use slipway_ports::{ObjectReference, Release};

use crate::manifest::{label, text_at};

/// Label that charts put a release's name into.
pub(crate) const INSTANCE: &str = "app.kubernetes.io/instance";

/// The objects that outputs are read from.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The release's Services.
    pub(crate) services: Vec<Value>,
    /// The release's Ingresses.
    pub(crate) ingresses: Vec<Value>,
    /// Other objects that an output names; absent ones are not in it.
    pub(crate) others: BTreeMap<ObjectReference, Value>,
    /// Whether objects have a status; those of a manifest have none.
    pub(crate) has_status: bool,
}

impl Found {
    /// Keeps of all Services and Ingresses of a namespace those of the release: labelled with it, or in its inventory.
    pub(crate) fn keep_own(mut self, release: &Release, objects: &[ObjectReference]) -> Self {
        let is_own = |kind: &str, object: &Value| {
            label(object, INSTANCE) == Some(&release.name)
                || objects.iter().any(|own| {
                    own.kind == kind
                        && own.namespace == release.namespace
                        && own.name == text_at(object, "/metadata/name")
                })
        };
        self.services.retain(|service| is_own("Service", service));
        self.ingresses.retain(|ingress| is_own("Ingress", ingress));
        let by_name = |one: &Value, other: &Value| name(one).cmp(name(other));
        self.services.sort_by(by_name);
        self.ingresses.sort_by(by_name);
        self
    }
}

fn name(object: &Value) -> &str {
    text_at(object, "/metadata/name")
}

#[cfg(test)]
mod tests;
