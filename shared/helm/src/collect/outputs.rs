//! The extractors.

use std::collections::BTreeMap;

use serde_json::Value;
use slipway_model::{JsonMap, OutputSource};
use slipway_ports::{CollectedRelease, ObjectReference, Release, TargetError};

use super::{
    Found,
    address::{endpoint, ingress_address, service_address},
    convert::{convert, placeholder},
    name,
};

/// The objects, besides Services and Ingresses, that the extractors read.
pub(crate) fn wanted(release: &Release, outputs: &BTreeMap<String, OutputSource>) -> Vec<ObjectReference> {
    outputs
        .values()
        .filter_map(|source| other(release, source))
        .collect()
}

fn other(release: &Release, source: &OutputSource) -> Option<ObjectReference> {
    let (api_version, kind, name) = match source {
        OutputSource::Status {
            api_version,
            kind,
            name,
            ..
        } => (api_version.as_str(), kind.as_str(), name),
        OutputSource::ConfigMap { name, .. } => ("v1", "ConfigMap", name),
        OutputSource::Service { .. } | OutputSource::Ingress { .. } => return None,
    };
    Some(ObjectReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: release.namespace.clone(),
        name: name.clone(),
    })
}

/// Reads services, endpoint and outputs.
pub(crate) fn collect(
    release: &Release,
    found: &Found,
    outputs: &BTreeMap<String, OutputSource>,
    ingress_url: Option<&str>,
) -> Result<CollectedRelease, TargetError> {
    let mut read = JsonMap::new();
    for (output, source) in outputs {
        let failed = |reason: String| format!("output '{output}' of release {release}: {reason}");
        let value = match extract(release, found, source, ingress_url) {
            Ok(Some(value)) => convert(value, source.output_type())
                .map_err(|reason| TargetError::permanent(failed(reason)))?,
            Ok(None) => placeholder(source.output_type()),
            Err(Missing::Now(reason)) => return Err(TargetError::transient(failed(reason))),
            Err(Missing::Always(reason)) => return Err(TargetError::permanent(failed(reason))),
        };
        read.insert(output.clone(), value);
    }
    Ok(CollectedRelease {
        services: found
            .services
            .iter()
            .map(|service| name(service).to_owned())
            .collect(),
        endpoint_url: endpoint(found, &release.namespace, ingress_url),
        outputs: read,
    })
}

enum Missing {
    /// It may come.
    Now(String),
    /// It will not.
    Always(String),
}

impl Missing {
    /// What an operator makes after the release is ready; without a cluster nobody does.
    fn made_later(found: &Found, reason: String) -> Self {
        if found.has_status {
            Self::Now(reason)
        } else {
            Self::Always(reason)
        }
    }
}

/// The value; `None` if only a cluster would know it.
fn extract(
    release: &Release,
    found: &Found,
    source: &OutputSource,
    ingress_url: Option<&str>,
) -> Result<Option<Value>, Missing> {
    match source {
        OutputSource::Service { name, port, .. } => {
            let service = pick(found, &found.services, name.as_deref(), "Service")?;
            let address = service_address(service, &release.namespace, port.as_deref());
            address.map(|address| Some(address.into())).ok_or_else(|| {
                Missing::Always(format!(
                    "Service '{}' has no port{}; it has: {}",
                    super::name(service),
                    port.as_ref().map(|port| format!(" '{port}'")).unwrap_or_default(),
                    ports(service)
                ))
            })
        }
        OutputSource::Ingress { name, .. } => {
            let ingress = pick(found, &found.ingresses, name.as_deref(), "Ingress")?;
            match ingress_address(ingress, ingress_url) {
                Some(address) => Ok(Some(address.into())),
                None if !found.has_status => Ok(None),
                None => Err(Missing::Now(format!(
                    "Ingress '{}' has neither host nor address yet: set a host, or the cluster's ingress URL",
                    super::name(ingress)
                ))),
            }
        }
        OutputSource::Status { field, .. } => {
            if !found.has_status {
                return Ok(None);
            }
            let (what, object) = named(release, found, source)?;
            let value = object
                .get("status")
                .and_then(|status| field.split('.').try_fold(status, step));
            value
                .map(|value| Some(value.clone()))
                .ok_or_else(|| Missing::Now(format!("{what} has no field '{field}' in its status yet")))
        }
        OutputSource::ConfigMap { key, .. } => {
            let (what, object) = named(release, found, source)?;
            let data = object.get("data").and_then(Value::as_object);
            match data.and_then(|data| data.get(key)) {
                Some(value) => Ok(Some(value.clone())),
                None => {
                    let keys: Vec<_> = data.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
                    let reason = format!("{what} has no key '{key}'; it has: {}", listed(&keys));
                    Err(Missing::made_later(found, reason))
                }
            }
        }
    }
}

/// One step down a dotted path; numbers are places of lists.
fn step<'a>(value: &'a Value, part: &str) -> Option<&'a Value> {
    match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        value => value.get(part),
    }
}

fn pick<'a>(
    found: &Found,
    objects: &'a [Value],
    wanted: Option<&str>,
    kind: &str,
) -> Result<&'a Value, Missing> {
    let object = match wanted {
        None => objects.first(),
        Some(wanted) => objects.iter().find(|object| name(object) == wanted),
    };
    object.ok_or_else(|| {
        let names: Vec<_> = objects.iter().map(name).collect();
        let reason = match wanted {
            None => format!("the release has no {kind}"),
            Some(wanted) => format!("the release has no {kind} '{wanted}'; it has: {}", listed(&names)),
        };
        Missing::made_later(found, reason)
    })
}

fn named<'a>(
    release: &Release,
    found: &'a Found,
    source: &OutputSource,
) -> Result<(String, &'a Value), Missing> {
    let reference = other(release, source).ok_or_else(|| Missing::Always("it names no object".to_owned()))?;
    match found.others.get(&reference) {
        Some(object) => Ok((reference.to_string(), object)),
        None => {
            let (version, namespace) = (&reference.api_version, &release.namespace);
            let reason = format!("there is no {reference} ({version}) in namespace {namespace}");
            Err(Missing::made_later(found, reason))
        }
    }
}

fn ports(service: &Value) -> String {
    let ports: Vec<String> = service
        .pointer("/spec/ports")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|port| match crate::manifest::text_at(port, "/name") {
            "" => port.get("port").map(Value::to_string).unwrap_or_default(),
            name => name.to_owned(),
        })
        .collect();
    listed(&ports.iter().map(String::as_str).collect::<Vec<_>>())
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
