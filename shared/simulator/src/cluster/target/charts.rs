//! What charts make of values.

use std::collections::BTreeSet;

use serde_json::Value;
use slipway_model::JsonMap;
use slipway_ports::{HookEvent, ObjectReference, Release, ReleaseRequest};

/// Values that a chart writes as they are into what it makes.
pub(crate) const READABLE: [&str; 4] = ["version", "size", "serial", "extra"];

/// What a chart makes of values: always the same, whoever renders it.
pub(super) fn rendered(request: &ReleaseRequest) -> String {
    let chart = String::from_utf8_lossy(&request.chart).into_owned();
    let values = Value::Object(request.values.clone()).to_string();
    let sum = values.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{chart} {} {sum:016x}", plain(&request.values))
}

/// What of values everybody can read in what a chart makes of them.
pub(crate) fn plain(values: &JsonMap) -> String {
    let said = READABLE.iter().filter_map(|name| {
        let value = values.get(*name)?;
        Some(format!("{name}={value}"))
    });
    format!("[{}]", said.collect::<Vec<_>>().join(" "))
}

pub(super) fn objects(release: &Release, manifest: &str) -> Vec<ObjectReference> {
    let object = |api_version: &str, kind: &str, name: String| ObjectReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: release.namespace.clone(),
        name,
    };
    let mut all = vec![
        object("apps/v1", "Deployment", release.name.clone()),
        object("v1", "Service", release.name.clone()),
        // One whose name changes with the values, so that an upgrade leaves something to take away.
        object(
            "v1",
            "ConfigMap",
            format!("{}-{}", release.name, &manifest[manifest.len() - 6..]),
        ),
    ];
    if manifest.contains("db") || manifest.contains("vector") {
        all.push(object(
            "v1",
            "PersistentVolumeClaim",
            format!("data-{}", release.name),
        ));
    }
    all
}

/// Charts whose names say so have hooks.
pub(crate) fn hook_events(manifest: &str) -> BTreeSet<HookEvent> {
    if manifest.contains("hooked") {
        HookEvent::ALL.into_iter().collect()
    } else {
        BTreeSet::new()
    }
}
