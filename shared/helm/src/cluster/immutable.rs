//! Immutable fields: finding in Helm's words which object refused a change.

use serde_json::json;
use slipway_model::ImmutablePolicy;
use slipway_ports::{ObjectReference, Release, TargetError};

use super::ClusterTarget;

/// What the API server says about a field that cannot change.
const MARKS: &[&str] = &[
    "field is immutable",
    "is immutable after creation",
    "may not change once set",
    "may not be changed once set",
    "may not be updated",
    "cannot be updated",
    "spec for fields other than",
    "spec: forbidden: pod updates may not change fields other than",
    "is immutable",
];

const PREFIX: &str = "server-side apply failed for object ";

/// Whether these are the server's words for a field that cannot change.
pub(super) fn is_about_immutable_field(message: &str) -> bool {
    let lower = message.to_lowercase();
    MARKS.iter().any(|mark| lower.contains(mark))
}

/// The object whose immutable field would change.
pub(super) fn immutable_object(message: &str, release: &Release) -> Option<ObjectReference> {
    if !is_about_immutable_field(message) {
        return None;
    }
    if let Some(start) = message.find(PREFIX) {
        // `<namespace>/<name> <group>/<version>, Kind=<kind>: …`, the group of core kinds being empty.
        let rest = message.get(start + PREFIX.len()..)?;
        let (place, rest) = rest.split_once(' ')?;
        let (api_version, rest) = rest.split_once(", Kind=")?;
        let (kind, _) = rest.split_once(':')?;
        let (namespace, name) = place.split_once('/').unwrap_or(("", place));
        return Some(ObjectReference {
            api_version: api_version.trim_start_matches('/').to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        });
    }
    // Releases of Helm 3 are updated from the client: `cannot patch "<name>" with kind <kind>: …`
    let (_, rest) = message.split_once("cannot patch \"")?;
    let (name, rest) = rest.split_once("\" with kind ")?;
    let (kind, _) = rest.split_once(':')?;
    let api_version = match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" => "apps/v1",
        "Job" | "CronJob" => "batch/v1",
        "Pod" | "Service" | "Secret" | "ConfigMap" | "PersistentVolumeClaim" => "v1",
        "Role" | "RoleBinding" => "rbac.authorization.k8s.io/v1",
        _ => return None,
    };
    Some(ObjectReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: release.namespace.clone(),
        name: name.to_owned(),
    })
}

impl ClusterTarget {
    /// Deletes the object that refused the change if the policy says so; otherwise the error says what can be done.
    pub(super) async fn make_way(
        &self,
        error: TargetError,
        release: &Release,
        policy: ImmutablePolicy,
    ) -> Result<ObjectReference, TargetError> {
        let Some(object) = immutable_object(&error.to_string(), release) else {
            return Err(error);
        };
        if object.kind == "PersistentVolumeClaim" {
            return Err(TargetError::permanent(format!(
                "{error}; a volume claim is never deleted for this: keep its old specification, or give the new claim another name"
            )));
        }
        if policy == ImmutablePolicy::Stop {
            return Err(TargetError::permanent(format!(
                "{error}; {object} would have to be deleted and created again: set immutable: recreate to allow it"
            )));
        }
        let Some(path) = self.kubernetes.path_of(&object).await? else {
            return Err(error);
        };
        self.keep_claims_of(&object, &path).await?;
        // In the foreground, so that its pods are gone before those of its successor come.
        self.kubernetes
            .delete(&path, &json!({"propagationPolicy": "Foreground"}))
            .await?;
        self.wait_until_gone(&object).await?;
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(message: &str) -> Option<String> {
        let release = Release {
            namespace: "ns".into(),
            name: "r".into(),
        };
        immutable_object(message, &release).map(|object| {
            format!(
                "{} {} {}/{}",
                object.api_version, object.kind, object.namespace, object.name
            )
        })
    }

    #[test]
    fn the_object_is_found_in_both_of_helms_ways_to_say_it() {
        let set = "UPGRADE FAILED: server-side apply failed for object newns/db apps/v1, Kind=StatefulSet: StatefulSet.apps \"db\" is invalid: spec: Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden";
        assert_eq!(found(set).as_deref(), Some("apps/v1 StatefulSet newns/db"));
        let service = "server-side apply failed for object newns/s /v1, Kind=Service: Service \"s\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.96.3.3\"]: may not change once set";
        assert_eq!(found(service).as_deref(), Some("v1 Service newns/s"));
        let old = "cannot patch \"web\" with kind Deployment: Deployment.apps \"web\" is invalid: spec.selector: Invalid value: {}: field is immutable";
        assert_eq!(found(old).as_deref(), Some("apps/v1 Deployment ns/web"));
        assert_eq!(
            found("server-side apply failed for object ns/db apps/v1, Kind=StatefulSet: denied"),
            None
        );
    }
}
