//! Rendered manifests: documents, the inventory of objects, and previews without secrets.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::Value;
use sha2::{Digest, Sha256};
use slipway_ports::{HookEvent, ObjectReference};

/// Annotation that makes an object a hook.
pub(crate) const HOOK: &str = "helm.sh/hook";

/// Kinds of Kubernetes itself without a namespace, for where no API server can be asked. Custom resources are taken for namespaced.
const CLUSTER_SCOPED: &[&str] = &[
    "APIService",
    "CSIDriver",
    "CSINode",
    "CertificateSigningRequest",
    "ClusterRole",
    "ClusterRoleBinding",
    "ClusterTrustBundle",
    "ComponentStatus",
    "CustomResourceDefinition",
    "DeviceClass",
    "FlowSchema",
    "IPAddress",
    "IngressClass",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "PriorityLevelConfiguration",
    "ResourceSlice",
    "RuntimeClass",
    "SelfSubjectReview",
    "ServiceCIDR",
    "StorageClass",
    "StorageVersionMigration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "VolumeAttachment",
    "VolumeAttributesClass",
];

/// A manifest that is not YAML.
#[derive(Debug, thiserror::Error)]
#[error("document {number} of the rendered manifest{} is not valid YAML", .template.as_ref().map(|name| format!(" ({name})")).unwrap_or_default())]
pub(crate) struct ManifestError {
    number: usize,
    template: Option<String>,
    #[source]
    source: Box<serde_saphyr::Error>,
}

/// One object of a manifest.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// The object.
    pub(crate) object: Value,
    /// The text that it stood in.
    text: String,
}

impl Document {
    /// `kind`, or nothing.
    pub(crate) fn kind(&self) -> &str {
        text_at(&self.object, "/kind")
    }

    /// `apiVersion`, or nothing.
    pub(crate) fn api_version(&self) -> &str {
        text_at(&self.object, "/apiVersion")
    }

    /// `metadata.name`, or nothing.
    pub(crate) fn name(&self) -> &str {
        text_at(&self.object, "/metadata/name")
    }

    /// The text that it stands in.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The same object with something changed in it.
    pub(crate) fn with_object(&self, object: Value) -> Self {
        let source = source_of(&self.text).map_or_else(String::new, |source| format!("# Source: {source}\n"));
        Self {
            text: format!("{source}{}", to_yaml(&object)),
            object,
        }
    }

    /// Whether Helm runs it as a hook instead of keeping it.
    pub(crate) fn is_hook(&self) -> bool {
        annotation(&self.object, HOOK).is_some()
    }

    /// When it runs as a hook: as Helm reads it, a word that is none makes it run never.
    pub(crate) fn hook_events(&self) -> Vec<HookEvent> {
        let words = annotation(&self.object, HOOK).unwrap_or_default();
        words
            .split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .unwrap_or_default()
    }

    /// What it is, with the namespace that it lands in.
    pub(crate) fn reference(&self, release_namespace: &str) -> ObjectReference {
        let namespace = if is_cluster_scoped(self.api_version(), self.kind()) {
            ""
        } else {
            match text_at(&self.object, "/metadata/namespace") {
                "" => release_namespace,
                own => own,
            }
        };
        ObjectReference {
            api_version: self.api_version().to_owned(),
            kind: self.kind().to_owned(),
            namespace: namespace.to_owned(),
            name: self.name().to_owned(),
        }
    }
}

/// Whether objects of a well-known kind have no namespace. Others have kinds of the same names in groups of their own.
fn is_cluster_scoped(api_version: &str, kind: &str) -> bool {
    let is_of_kubernetes = api_version
        .split_once('/')
        .is_none_or(|(group, _)| group.ends_with(".k8s.io"));
    is_of_kubernetes && CLUSTER_SCOPED.binary_search(&kind).is_ok()
}

/// The text at a JSON pointer; empty if there is none.
pub(crate) fn text_at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Annotation that keeps an object when its release goes.
pub(crate) const RESOURCE_POLICY: &str = "helm.sh/resource-policy";

/// Whether Helm leaves an object alone when its release goes.
pub(crate) fn is_kept(object: &Value) -> bool {
    annotation(object, RESOURCE_POLICY).is_some_and(|policy| policy.trim().eq_ignore_ascii_case("keep"))
}

/// An annotation of an object.
pub(crate) fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(name)?.as_str()
}

/// A label of an object.
pub(crate) fn label<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.pointer("/metadata/labels")?.get(name)?.as_str()
}

/// Reads all objects of a YAML stream in order; `List`s are taken apart, empty documents left out.
pub(crate) fn parse(manifest: &str) -> Result<Vec<Document>, ManifestError> {
    let mut documents = Vec::new();
    for (index, text) in split(manifest).into_iter().enumerate() {
        let object: Value = read(&text).map_err(|source| ManifestError {
            number: index + 1,
            template: source_of(&text).map(str::to_owned),
            source: Box::new(source),
        })?;
        if !object.is_object() {
            continue;
        }
        let items = object
            .get("items")
            .and_then(Value::as_array)
            .filter(|_| text_at(&object, "/kind").ends_with("List"));
        match items {
            Some(items) => documents.extend(items.iter().filter(|item| item.is_object()).map(|item| {
                let text = match source_of(&text) {
                    Some(source) => format!("# Source: {source}\n{}", to_yaml(item)),
                    None => to_yaml(item),
                };
                Document {
                    object: item.clone(),
                    text,
                }
            })),
            None => documents.push(Document { object, text }),
        }
    }
    Ok(documents)
}

/// Every event for which there is a hook.
pub(crate) fn hook_events(documents: &[Document]) -> BTreeSet<HookEvent> {
    documents.iter().flat_map(Document::hook_events).collect()
}

/// The inventory: every object that is no hook, each once, in order.
pub(crate) fn inventory(documents: &[Document], release_namespace: &str) -> Vec<ObjectReference> {
    let mut objects: Vec<ObjectReference> = Vec::new();
    for document in documents.iter().filter(|document| !document.is_hook()) {
        let reference = document.reference(release_namespace);
        if !reference.name.is_empty() && !objects.contains(&reference) {
            objects.push(reference);
        }
    }
    objects
}

/// The manifest as text in which the data of Secrets is blanked; keys stay, so that a preview shows what there is.
pub(crate) fn preview(documents: &[Document]) -> String {
    let mut out = String::new();
    for document in documents {
        out.push_str("---\n");
        if document.kind() == "Secret" {
            if let Some(source) = source_of(&document.text) {
                let _ = writeln!(out, "# Source: {source}");
            }
            out.push_str(&to_yaml(&blank_secret(document.object.clone())));
        } else {
            out.push_str(document.text.trim_matches('\n'));
        }
        if !out.ends_with('\n') {
            out.push('\n');
        }
    }
    out
}

/// The object with each value of `data` and `stringData` blanked.
pub(crate) fn blank_secret(mut secret: Value) -> Value {
    for field in ["data", "stringData"] {
        if let Some(values) = secret.get_mut(field).and_then(Value::as_object_mut) {
            for value in values.values_mut() {
                *value = slipway_ports::HIDDEN.into();
            }
        }
    }
    // What `kubectl apply` keeps there is the whole object once more.
    if let Some(annotations) = secret
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    secret
}

/// Writes an object as YAML.
pub(crate) fn to_yaml(object: &Value) -> String {
    // JSON is YAML: whatever the writer may refuse is still shown.
    serde_saphyr::to_string(object).unwrap_or_else(|_| object.to_string())
}

/// Reads one YAML document.
pub(crate) fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        // As Helm reads it: the last of several equal keys counts, and the mode 0755 is octal.
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
    };
    serde_saphyr::from_str_with_options(text, options)
}

/// `sha256:<hex>` of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Splits at `---` lines; documents of comments and blank lines only are left out.
fn split(manifest: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in manifest.lines() {
        let rest = line.strip_prefix("---");
        if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '#'])) {
            let rest = rest.trim_start();
            documents.push(match rest {
                "" => String::new(),
                text => format!("{text}\n"),
            });
        } else if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents.retain(|document| {
        document
            .lines()
            .any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    });
    documents
}

/// The template that Helm says a document came from.
fn source_of(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("# Source: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "---\n# Source: c/templates/a.yaml\napiVersion: v1\nkind: Secret\nmetadata:\n  name: s\nstringData:\n  password: hunter22\n---\n# only a comment\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: hook, annotations: {helm.sh/hook: pre-install}}\n--- # next\nkind: List\napiVersion: v1\nitems:\n- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: r, namespace: ignored}}\n- {apiVersion: v1, kind: Secret, metadata: {name: inner, namespace: other}, data: {k: aHVudGVyMjI=}}\n";

    #[test]
    fn the_inventory_has_every_object_but_hooks_with_its_namespace() {
        let objects = inventory(&parse(MANIFEST).unwrap(), "ns");
        let shown: Vec<_> = objects
            .iter()
            .map(|object| format!("{}:{}", object.namespace, object))
            .collect();
        assert_eq!(shown, ["ns:Secret/s", ":ClusterRole/r", "other:Secret/inner"]);
    }

    #[test]
    fn a_preview_shows_the_keys_of_secrets_and_never_their_values() {
        let documents = parse(MANIFEST).unwrap();
        let preview = preview(&documents);
        assert!(
            !preview.contains("hunter22") && !preview.contains("aHVudGVyMjI="),
            "{preview}"
        );
        assert!(preview.contains("password"), "{preview}");
        let again = parse(&preview).unwrap();
        assert_eq!(again.len(), documents.len());
        assert_eq!(inventory(&again, "ns"), inventory(&documents, "ns"));
    }

    #[test]
    fn numbers_are_those_that_helm_reads_and_texts_stay_texts() {
        let text =
            "{a: 0755, b: 010, c: 0o17, d: 0, e: -0400, f: \"0755\", g: 0x1F, h: 0.5, i: 08, j: 10, k: 1e3}";
        let read = read::<Value>(text).unwrap();
        let expected = serde_json::json!({
            "a": 493, "b": 8, "c": 15, "d": 0, "e": -256, "f": "0755", "g": 31, "h": 0.5, "i": 8.0, "j": 10, "k": 1000.0
        });
        assert_eq!(read, expected);
        let texts = serde_json::json!([
            "0755", "010", "0o17", "0_10", "08", "0", "-0400", "0x1F", "00", "0x_1"
        ]);
        assert_eq!(
            super::read::<Value>(&to_yaml(&texts)).unwrap(),
            texts,
            "{}",
            to_yaml(&texts)
        );
    }

    #[test]
    fn dashes_inside_a_block_are_text() {
        let documents =
            parse("kind: ConfigMap\nmetadata: {name: a}\ndata:\n  k: |\n    --- inner\n    ---\n---x: 1\n");
        assert_eq!(documents.unwrap().len(), 1);
    }

    #[test]
    fn the_table_of_cluster_scoped_kinds_is_sorted_for_its_search() {
        assert!(CLUSTER_SCOPED.is_sorted());
        for (api_version, kind, expected) in [
            ("v1", "Namespace", true),
            ("rbac.authorization.k8s.io/v1", "ClusterRole", true),
            ("apps/v1", "Deployment", false),
            ("longhorn.io/v1beta2", "Node", false),
            ("ipam.cluster.x-k8s.io/v1beta1", "IPAddress", false),
        ] {
            assert_eq!(
                is_cluster_scoped(api_version, kind),
                expected,
                "{api_version} {kind}"
            );
        }
    }

    #[test]
    fn an_error_names_the_template() {
        let error = parse("---\n# Source: c/templates/b.yaml\na: [1\n").unwrap_err();
        assert!(error.to_string().contains("c/templates/b.yaml"), "{error}");
    }
}
