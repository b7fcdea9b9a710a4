//! Immutable fields: finding in Helm's words which object refused a change.

use serde_json::{Value, json};
use slipway_model::ImmutablePolicy;
use slipway_ports::{ObjectReference, Release, TargetError};

use super::ClusterTarget;
use crate::manifest::text_at;

/// How many objects with immutable fields one change makes way for.
const MOST_RECREATED: usize = 10;

/// What the API server says about a field that cannot change; none is a part of another.
const MARKS: &[&str] = &[
    "is immutable",
    "may not change once set",
    "may not be changed once set",
    "may not be updated",
    "cannot be updated",
    "spec for fields other than",
    "spec: forbidden: pod updates may not change fields other than",
    "cannot change roleref",
    "may not be changed in an update",
];

/// What is said when a policy of the cluster's refuses a change, whatever its author says about it.
const DENIALS: &[&str] = &["denied the request", "denied request"];

/// What the API server says between each field that it does not take and the reason.
const COMPLAINTS: &[&str] = &[
    ": invalid value:",
    ": forbidden:",
    ": required value",
    ": unsupported value:",
    ": duplicate value:",
    ": too long:",
    ": too many:",
    ": not found:",
    ": internal error:",
];

const PREFIX: &str = "server-side apply failed for object ";

/// The same of a release of Helm 3, which is updated from the client.
const OLD_PREFIX: &str = "cannot patch \"";

/// Whether these are the server's words for fields that cannot change, and for nothing else: an object that is wrong in
/// itself would not be taken anew.
pub(super) fn is_about_immutable_field(message: &str) -> bool {
    let said = without_quoted(message).to_lowercase();
    let count = |words: &[&str]| -> usize { words.iter().map(|word| said.matches(word).count()).sum() };
    count(DENIALS) == 0 && count(MARKS) >= count(COMPLAINTS).max(1)
}

/// A text of the same length with blanks for what stands in double quotes, which are values and names.
fn without_quoted(text: &str) -> String {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let mut said = String::with_capacity(text.len());
    for character in text.chars() {
        if is_quoted && (is_escaped || character != '"') {
            is_escaped = !is_escaped && character == '\\';
            said.extend(std::iter::repeat_n(' ', character.len_utf8()));
        } else {
            is_quoted ^= character == '"';
            said.push(character);
        }
    }
    said
}

/// The objects whose immutable fields would change; none if anything else failed, too, which their end would not mend.
fn immutable_objects(message: &str, release: &Release) -> Option<Vec<ObjectReference>> {
    failures(message)
        .into_iter()
        .map(|failure| immutable_object(failure, release))
        .collect()
}

/// What Helm joined, taken apart.
fn failures(message: &str) -> Vec<&str> {
    const SIGN: &str = " && ";
    let said = without_quoted(message);
    let mut start = 0;
    let ends = said.match_indices(SIGN).map(|(at, _)| at).chain([message.len()]);
    ends.map(|end| {
        let failure = message.get(start..end).unwrap_or_default();
        start = end + SIGN.len();
        failure
    })
    .collect()
}

fn immutable_object(failure: &str, release: &Release) -> Option<ObjectReference> {
    let is_one = failure.matches(PREFIX).count() + failure.matches(OLD_PREFIX).count() == 1;
    if !is_one || !is_about_immutable_field(failure) {
        return None;
    }
    if let Some((_, rest)) = failure.split_once(PREFIX) {
        // `<namespace>/<name> <group>/<version>, Kind=<kind>: …`, the group of core kinds being empty.
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
    // `cannot patch "<name>" with kind <kind>: …`
    let (_, rest) = failure.split_once(OLD_PREFIX)?;
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
    /// Deletes the objects that refused the change if the policy says so and nothing else is in the way; otherwise the
    /// error says what can be done, and nothing was deleted. `recreated` has what the same change made way for before.
    pub(super) async fn make_way(
        &self,
        error: TargetError,
        release: &Release,
        policy: ImmutablePolicy,
        recreated: &mut Vec<ObjectReference>,
    ) -> Result<(), TargetError> {
        let Some(objects) = immutable_objects(&error.to_string(), release) else {
            return Err(error);
        };
        if objects
            .iter()
            .any(|object| object.kind == "PersistentVolumeClaim")
        {
            return Err(TargetError::permanent(format!(
                "{error}; a volume claim is never deleted for this: keep its old specification, or give the new claim another name"
            )));
        }
        if policy == ImmutablePolicy::Stop {
            let objects: Vec<String> = objects.iter().map(ToString::to_string).collect();
            return Err(TargetError::permanent(format!(
                "{error}; {} would have to be deleted and created again: set immutable: recreate to allow it",
                objects.join(" and ")
            )));
        }
        let is_repeat = objects.iter().any(|object| recreated.contains(object));
        if is_repeat || recreated.len() + objects.len() > MOST_RECREATED {
            return Err(error);
        }
        // All that may refuse is asked first, so that either all of them go or none.
        let mut deletions = Vec::new();
        for object in &objects {
            if let Some(deletion) = self.tried_deletion(object).await? {
                deletions.push((object, deletion));
            }
        }
        for (object, (path, _)) in &deletions {
            self.keep_claims_of(object, path).await?;
        }
        for (object, (path, options)) in &deletions {
            // Once more: the others took their time, in which somebody may have taken it back.
            self.keep_claims_of(object, path).await?;
            self.kubernetes.delete(path, options).await?;
        }
        for object in objects {
            self.wait_until_gone(&object).await?;
            recreated.push(object);
        }
        Ok(())
    }

    /// How an object is deleted, which the API server would take now; `None` if it is absent.
    async fn tried_deletion(&self, object: &ObjectReference) -> Result<Option<(String, Value)>, TargetError> {
        let Some(path) = self.kubernetes.path_of(object).await? else {
            return Ok(None);
        };
        let Some(live) = self.kubernetes.get(&path).await? else {
            return Ok(None);
        };
        // In the foreground, so that its pods are gone before those of its successor come.
        let uid = text_at(&live, "/metadata/uid");
        let options = json!({"propagationPolicy": "Foreground", "preconditions": {"uid": uid}});
        let mut tried = options.clone();
        tried["dryRun"] = json!(["All"]);
        self.kubernetes.delete(&path, &tried).await?;
        Ok(Some((path, options)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        binary::{Finished, Redactor, to_error},
        client::Kubernetes,
    };

    fn found(message: &str) -> Option<String> {
        let release = Release {
            namespace: "ns".into(),
            name: "r".into(),
        };
        let objects = immutable_objects(message, &release)?;
        let shown = objects.iter().map(|object| {
            format!(
                "{} {} {}/{}",
                object.api_version, object.kind, object.namespace, object.name
            )
        });
        Some(shown.collect::<Vec<_>>().join(", "))
    }

    const SET: &str = "server-side apply failed for object newns/db apps/v1, Kind=StatefulSet: StatefulSet.apps \"db\" is invalid: spec: Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden";
    const JOB: &str = "server-side apply failed for object ns/j batch/v1, Kind=Job: Job.batch \"j\" is invalid: spec.template: Invalid value: {\"command\":[\"sh\",\"-c\",\"echo \\\"é\\\" && b: invalid value: \"]}: field is immutable";

    #[test]
    fn the_object_is_found_in_both_of_helms_ways_to_say_it() {
        let set = format!("UPGRADE FAILED: {SET}");
        assert_eq!(found(&set).as_deref(), Some("apps/v1 StatefulSet newns/db"));
        let service = "server-side apply failed for object newns/s /v1, Kind=Service: Service \"s\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.96.3.3\"]: may not change once set";
        assert_eq!(found(service).as_deref(), Some("v1 Service newns/s"));
        let old = "cannot patch \"web\" with kind Deployment: Deployment.apps \"web\" is invalid: spec.selector: Invalid value: {}: field is immutable";
        assert_eq!(found(old).as_deref(), Some("apps/v1 Deployment ns/web"));
        let role = "server-side apply failed for object ns/b rbac.authorization.k8s.io/v1, Kind=RoleBinding: RoleBinding.rbac.authorization.k8s.io \"b\" is invalid: roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\"}: cannot change roleRef";
        assert_eq!(
            found(role).as_deref(),
            Some("rbac.authorization.k8s.io/v1 RoleBinding ns/b")
        );
        let priority = "server-side apply failed for object p scheduling.k8s.io/v1, Kind=PriorityClass: PriorityClass.scheduling.k8s.io \"p\" is invalid: value: Forbidden: may not be changed in an update.";
        assert_eq!(
            found(priority).as_deref(),
            Some("scheduling.k8s.io/v1 PriorityClass /p")
        );
        assert_eq!(
            found("server-side apply failed for object ns/db apps/v1, Kind=StatefulSet: denied"),
            None
        );
    }

    /// In JSON, as API servers say it, and in Go's syntax, as older ones do.
    #[test]
    fn objects_are_found_however_much_of_them_is_quoted() {
        let variable = r#"{"Name":"A","Value":"is \"{\" \u0026\u0026 [ Invalid value: {"},"#.repeat(200);
        let new = format!(r#"{{"Volumes":null,"Containers":[{{"Env":[{variable}]}}]}}"#);
        let variable = r#"core.EnvVar{Name:"A", Value:"is \"{\" && [ Invalid value: {", ValueFrom:(*core.EnvVarSource)(nil)}, "#.repeat(100);
        let old = format!(r#"core.PodTemplateSpec{{Spec:core.PodSpec{{Env:[]core.EnvVar{{{variable}}}}}}}"#);
        let failed = [("a", &new), ("b", &old), ("c", &new)].map(|(name, quoted)| {
            assert!(quoted.len() > 8_000);
            format!("server-side apply failed for object ns/{name} batch/v1, Kind=Job: Job.batch \"{name}\" is invalid: spec.template: Invalid value: {quoted}: field is immutable")
        });
        let finished = Finished {
            code: Some(1),
            stdout: Vec::new(),
            overflowed: false,
            stderr: format!("Error: UPGRADE FAILED: {}\n", failed.join(" && ")),
            timed_out: false,
        };
        let error = to_error(&finished, "helm upgrade of ns/r", &Redactor::default()).to_string();
        assert_eq!(
            found(&error).as_deref(),
            Some("batch/v1 Job ns/a, batch/v1 Job ns/b, batch/v1 Job ns/c"),
            "{error}"
        );
        assert!(error.len() < 1_000, "{error}");
    }

    #[test]
    fn several_objects_are_found_only_if_nothing_else_failed() {
        assert_eq!(
            found(&format!("UPGRADE FAILED: {JOB} && {SET}")).as_deref(),
            Some("batch/v1 Job ns/j, apps/v1 StatefulSet newns/db")
        );
        let denied = "server-side apply failed for object ns/s /v1, Kind=Secret: admission webhook \"x.example\" denied the request: labels cannot be updated";
        let policy = "server-side apply failed for object ns/s /v1, Kind=Secret: secrets \"s\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: field is immutable";
        let conflict = "conflict occurred while applying object ns/web apps/v1, Kind=Deployment: Apply failed with 1 conflict: conflict with \"kubectl-edit\" using apps/v1: .spec.replicas";
        let away = "Get \"https://10.0.0.1/api\": dial tcp 10.0.0.1:443: connect: connection refused";
        let both = "server-side apply failed for object ns/web apps/v1, Kind=Deployment: Deployment.apps \"web\" is invalid: [spec.template.metadata.labels: Invalid value: {\"app\":\"is immutable\"}: `selector` does not match template `labels`, spec.selector: Invalid value: {}: field is immutable]";
        for other in [denied, policy, conflict, away, both] {
            assert_eq!(found(other), None, "{other}");
            assert_eq!(found(&format!("{other} && {SET}")), None, "{other}");
            assert_eq!(found(&format!("{JOB} && {other}")), None, "{other}");
        }
    }

    /// An API server with StatefulSets, whether each is the owner of its claim, and their controller.
    struct Sets {
        owners: BTreeMap<&'static str, bool>,
        /// What was deleted, and whether its claim went with it.
        deleted: Vec<(&'static str, bool)>,
        /// Whether somebody is yet to take back what was done to the first set while the last is waited for.
        is_contested: bool,
    }

    impl Sets {
        fn answer(&mut self, method: &str, path: &str, body: &Value) -> Option<Value> {
            const SETS: &str = "/apis/apps/v1/namespaces/ns/statefulsets";
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            if path == "/apis/apps/v1" {
                let sets = json!({"name": "statefulsets", "kind": "StatefulSet", "namespaced": true});
                return Some(json!({"resources": [sets]}));
            }
            if path == "/api/v1/namespaces/ns/persistentvolumeclaims" {
                let owned = self.owners.iter().filter(|(_, is_owner)| **is_owner);
                let claims = owned.map(|(name, _)| {
                    json!({"metadata": {"name": format!("data-{name}-0"), "ownerReferences": [{"uid": name}]}})
                });
                return Some(json!({"items": claims.collect::<Vec<_>>()}));
            }
            if path == SETS {
                let is_watch = query.contains("watch=true");
                return Some(if is_watch {
                    Value::Null
                } else {
                    json!({"metadata": {}})
                });
            }
            let asked = path.strip_prefix(SETS)?.strip_prefix('/')?;
            let (&name, &is_owner) = self.owners.get_key_value(asked)?;
            match method {
                "DELETE" if body.get("dryRun").is_none() => {
                    self.deleted.push((name, is_owner));
                    self.owners.remove(name);
                }
                "PATCH" if body.pointer("/spec").is_some() => {
                    self.owners.insert(name, false);
                    if name == "db" && std::mem::take(&mut self.is_contested) {
                        self.owners.insert("cache", true);
                    }
                }
                _ => {}
            }
            let when_deleted = if is_owner { "Delete" } else { "Retain" };
            Some(json!({
                "metadata": {"name": name, "uid": name, "generation": 1},
                "spec": {
                    "volumeClaimTemplates": [{}],
                    "persistentVolumeClaimRetentionPolicy": {"whenDeleted": when_deleted},
                },
                "status": {"observedGeneration": 1},
            }))
        }

        async fn serve(&mut self, listener: TcpListener) {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (method, path, body) = request(&mut stream).await;
                let (status, answer) = match self.answer(&method, &path, &body) {
                    Some(Value::Null) => ("200 OK", String::new()),
                    Some(answer) => ("200 OK", answer.to_string()),
                    None => (
                        "404 Not Found",
                        json!({"status": "Failure", "code": 404}).to_string(),
                    ),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    answer.len()
                );
                stream.write_all((head + &answer).as_bytes()).await.unwrap();
            }
        }
    }

    async fn request(stream: &mut TcpStream) -> (String, String, Value) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).await.unwrap();
        let mut words = head.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        (method, path, serde_json::from_slice(&body).unwrap_or_default())
    }

    #[tokio::test]
    async fn claims_stay_although_somebody_gives_them_back_while_another_set_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kubeconfig = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             clusters: [{{name: c, cluster: {{server: \"http://{}\"}}}}], users: [{{name: u, user: {{token: t}}}}]}}",
            listener.local_addr().unwrap()
        );
        let (kubernetes, kubeconfig) = Kubernetes::connect(&kubeconfig, None).unwrap();
        let target = ClusterTarget {
            helm: None,
            kubernetes,
            kubeconfig,
            gate: None,
        };
        let release = Release {
            namespace: "ns".into(),
            name: "r".into(),
        };
        let refused = format!("{} && {SET}", SET.replace("db", "cache")).replace("newns", "ns");
        let mut sets = Sets {
            owners: BTreeMap::from([("cache", true), ("db", true)]),
            deleted: Vec::new(),
            is_contested: true,
        };
        let mut recreated = Vec::new();
        tokio::select! {
            () = sets.serve(listener) => unreachable!("it serves on"),
            made = target.make_way(TargetError::permanent(refused), &release, ImmutablePolicy::Recreate, &mut recreated) => {
                made.unwrap();
            }
        }
        assert_eq!(sets.deleted, [("cache", false), ("db", false)]);
        assert!(!sets.is_contested && recreated.len() == 2);
    }
}
