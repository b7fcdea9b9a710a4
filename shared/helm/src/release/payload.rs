//! What stands in a release record: base64 of gzip of JSON, in a Secret that is base64 once more.

use std::io::{self, Read as _, Write as _};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::Value;
use slipway_ports::{Hook, HookEvent, HookPolicies, ReleaseStatus, TargetError};

use crate::manifest::{self, Document, text_at};

/// Most bytes of a release record: what a Secret may hold.
pub(crate) const LARGEST_RECORD: usize = 1 << 20;

/// Most bytes that a record is unpacked to.
const LARGEST_CONTENT: u64 = 64 << 20;

/// Helm's own description of one revision.
#[derive(Debug, Clone)]
pub(crate) struct Payload(Value);

impl Payload {
    /// Takes it out of a release Secret.
    pub(crate) fn of_secret(secret: &Value) -> Result<Self, TargetError> {
        let refused = |why: &str| {
            TargetError::permanent(format!(
                "the release record '{}' cannot be read: {why}; it was not written by Helm 3 or 4",
                text_at(secret, "/metadata/name")
            ))
        };
        let data = secret
            .pointer("/data/release")
            .and_then(Value::as_str)
            .ok_or_else(|| refused("it has no data"))?;
        let packed = BASE64_STANDARD
            .decode(data)
            .and_then(|inner| BASE64_STANDARD.decode(inner))
            .map_err(|_| refused("it is not base64"))?;
        let mut text = Vec::new();
        GzDecoder::new(packed.as_slice())
            .take(LARGEST_CONTENT)
            .read_to_end(&mut text)
            .map_err(|_| refused("it is not gzip"))?;
        Self::of_json(&text).ok_or_else(|| refused("it is not JSON"))
    }

    /// Reads what Helm prints with `-o json`.
    pub(crate) fn of_json(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok().map(Self)
    }

    /// As it stands in the `data` of a Secret.
    pub(crate) fn to_secret_data(&self) -> io::Result<String> {
        Ok(BASE64_STANDARD.encode(packed(self.0.to_string().as_bytes())?))
    }

    /// Chart name and version, such as `agent-runtime-1.2.0`.
    pub(crate) fn chart(&self) -> String {
        format!(
            "{}-{}",
            text_at(&self.0, "/chart/metadata/name"),
            text_at(&self.0, "/chart/metadata/version")
        )
    }

    /// Everything that is kept, hooks excluded, as text.
    pub(crate) fn manifest(&self) -> &str {
        text_at(&self.0, "/manifest")
    }

    /// The objects that are kept.
    pub(crate) fn documents(&self) -> Result<Vec<Document>, TargetError> {
        parse(self.manifest())
    }

    /// The value at a JSON pointer into the values that the revision was given.
    pub(crate) fn given_value(&self, pointer: &str) -> Option<&Value> {
        self.0.get("config")?.pointer(pointer)
    }

    /// The hooks.
    pub(crate) fn hooks(&self) -> Result<Vec<Document>, TargetError> {
        let mut hooks = Vec::new();
        for hook in self.recorded_hooks() {
            hooks.extend(parse(&manifest_of(hook))?);
        }
        Ok(hooks)
    }

    /// The hooks of an event, in the order in which Helm runs them: by weight, then by name, then by kind as they are
    /// recorded.
    pub(crate) fn hooks_of(&self, event: HookEvent, namespace: &str) -> Result<Vec<Hook>, TargetError> {
        let mut found = Vec::new();
        for recorded in self.recorded_hooks() {
            let words = |field: &str| -> Vec<&str> {
                recorded
                    .get(field)
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect()
            };
            if !words("events").contains(&event.as_str()) {
                continue;
            }
            let (delete, log) = (words("delete_policies"), words("output_log_policies"));
            let policies = HookPolicies {
                delete_before: delete.is_empty() || delete.contains(&"before-hook-creation"),
                delete_succeeded: delete.contains(&"hook-succeeded"),
                delete_failed: delete.contains(&"hook-failed"),
                log_succeeded: event == HookEvent::Test || log.contains(&"hook-succeeded"),
                log_failed: log.contains(&"hook-failed"),
            };
            let weight = recorded.get("weight").and_then(Value::as_i64).unwrap_or(0);
            let name = text_at(recorded, "/name");
            for document in parse(&manifest_of(recorded))? {
                let hook = Hook {
                    object: document.reference(namespace),
                    policies,
                    manifest: document.text().to_owned(),
                };
                found.push((weight, name, hook));
            }
        }
        found.sort_by_key(|(weight, name, _)| (*weight, *name));
        Ok(found.into_iter().map(|(_, _, hook)| hook).collect())
    }

    fn recorded_hooks(&self) -> impl Iterator<Item = &Value> {
        self.0
            .get("hooks")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }

    /// Takes volume claims out of the manifest, so that Helm does not delete them with the release; whether there were
    /// any.
    pub(crate) fn forget_claims(&mut self) -> Result<bool, TargetError> {
        let documents = self.documents()?;
        let is_claim = |document: &&Document| document.kind() == "PersistentVolumeClaim";
        if !documents.iter().any(|document| is_claim(&document)) {
            return Ok(false);
        }
        let rest: String = documents
            .iter()
            .filter(|document| !is_claim(document))
            .map(|document| format!("---\n{}", document.text()))
            .collect();
        if let Some(fields) = self.0.as_object_mut() {
            fields.insert("manifest".to_owned(), rest.into());
        }
        Ok(true)
    }

    /// What Helm says of how it came about.
    pub(crate) fn description(&self) -> &str {
        text_at(&self.0, "/info/description")
    }

    /// Marks it failed, with a reason.
    pub(crate) fn mark_failed(&mut self, description: &str) {
        if let Some(info) = self.0.get_mut("info").and_then(Value::as_object_mut) {
            info.insert("status".to_owned(), "failed".into());
            info.insert("description".to_owned(), description.into());
        }
    }
}

/// The text of a recorded hook, with the template that it comes from.
fn manifest_of(hook: &Value) -> String {
    format!(
        "# Source: {}\n{}",
        text_at(hook, "/path"),
        text_at(hook, "/manifest")
    )
}

fn parse(text: &str) -> Result<Vec<Document>, TargetError> {
    manifest::parse(text).map_err(|error| TargetError::permanent(crate::chain(&error)))
}

/// How large the record of a release would be that Helm prints as `json`.
pub(crate) fn stored_size(json: &[u8]) -> io::Result<usize> {
    packed(json).map(|text| text.len())
}

fn packed(json: &[u8]) -> io::Result<String> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(json)?;
    Ok(BASE64_STANDARD.encode(encoder.finish()?))
}

/// Reads the word that Helm uses for a status.
pub(crate) fn status_of(word: &str) -> ReleaseStatus {
    serde_json::from_value(Value::String(word.to_owned())).unwrap_or(ReleaseStatus::Unknown)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn payload() -> Payload {
        Payload(json!({
            "name": "demo", "version": 3, "info": {"status": "pending-upgrade", "notes": "n"},
            "chart": {"metadata": {"name": "agent", "version": "1.2.0"}},
            "manifest": "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
            "hooks": [{"path": "c/templates/h.yaml", "manifest": "apiVersion: v1\nkind: Pod\nmetadata: {name: h, annotations: {helm.sh/hook: test}}"}],
        }))
    }

    #[test]
    fn a_record_survives_being_marked_failed_and_stored() {
        let mut failed = payload();
        failed.mark_failed("its writer died");
        let secret = json!({"data": {"release": failed.to_secret_data().unwrap()}});
        let read = Payload::of_secret(&secret).unwrap();
        assert_eq!(
            read.0["info"],
            json!({"status": "failed", "description": "its writer died", "notes": "n"})
        );
        assert_eq!(read.chart(), "agent-1.2.0");
        assert_eq!(read.documents().unwrap().len(), 1);
        assert!(read.hooks().unwrap()[0].is_hook());
    }

    #[test]
    fn hooks_come_by_weight_then_name_then_kind_with_their_policies() {
        let hook = |kind: &str, name: &str, weight: i64, more: Value| {
            let mut hook = json!({
                "name": name, "kind": kind, "path": "c/templates/h.yaml", "weight": weight, "events": ["pre-install"],
                "manifest": format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}}}"),
            });
            for (key, value) in more.as_object().unwrap() {
                hook[key] = value.clone();
            }
            hook
        };
        // As Helm records them: sorted by kind.
        let payload = Payload(json!({"hooks": [
            hook("Secret", "b", 0, json!({})),
            hook("Secret", "a", 5, json!({"delete_policies": ["hook-succeeded"]})),
            hook("ConfigMap", "b", 0, json!({"events": ["post-install", "pre-install"], "output_log_policies": ["hook-failed"]})),
            hook("Pod", "a", -1, json!({"delete_policies": ["before-hook-creation", "hook-failed"]})),
            hook("Pod", "other", 0, json!({"events": ["test"]})),
        ]}));
        let found = payload.hooks_of(HookEvent::PreInstall, "ns").unwrap();
        let shown: Vec<String> = found.iter().map(|hook| hook.object.to_string()).collect();
        assert_eq!(shown, ["Pod/a", "Secret/b", "ConfigMap/b", "Secret/a"]);
        let policies = |hook: &Hook| {
            let HookPolicies {
                delete_before,
                delete_succeeded,
                delete_failed,
                ..
            } = hook.policies;
            (delete_before, delete_succeeded, delete_failed)
        };
        assert_eq!(policies(&found[0]), (true, false, true));
        assert_eq!(policies(&found[1]), (true, false, false), "the default");
        assert_eq!(policies(&found[3]), (false, true, false));
        assert!(found[2].policies.log_failed && !found[2].policies.log_succeeded);
        let tests = payload.hooks_of(HookEvent::Test, "ns").unwrap();
        assert!(tests.len() == 1 && tests[0].policies.log_succeeded);
        assert_eq!(tests[0].object.namespace, "ns");
    }

    #[test]
    fn what_is_no_record_is_named() {
        let secret = json!({"metadata": {"name": "sh.helm.release.v1.x.v1"}, "data": {"release": "????"}});
        let error = Payload::of_secret(&secret).unwrap_err();
        assert!(error.to_string().contains("sh.helm.release.v1.x.v1"), "{error}");
    }

    #[test]
    fn statuses_are_helms_words() {
        assert_eq!(status_of("pending-install"), ReleaseStatus::PendingInstall);
        assert_eq!(status_of("sleeping"), ReleaseStatus::Unknown);
    }
}
