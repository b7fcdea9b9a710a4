//! Where a cluster differs from what was applied to it. Everything here reads, or tries without doing.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use slipway_model::{DriftIgnore, DriftKind, DriftedField, DriftedObject};
use slipway_ports::{
    AppliedState, FoundDrift, ObjectReference, Release, ReleaseStatus, TargetError, UncomparedObject,
};

use super::{CONCURRENCY, ClusterTarget};
use crate::{
    client::{Refusal, UnknownFields},
    difference::{Owner, covers, differing, is_pointer, owners, wanted_part},
    manifest::{Document, annotation},
    readiness::passes,
    release::{Revision, word},
};

/// Annotation of an object that is left alone: `true` for all of it, or JSON pointers with commas between them.
const IGNORE: &str = "slipway.dev/drift-ignore";

/// Most fields that are told of one object.
const MOST_FIELDS: usize = 20;

/// As whom Helm applies.
pub(super) const HELM: &str = "helm";

impl ClusterTarget {
    pub(super) async fn find_drift(&self, applied: &AppliedState<'_>) -> Result<FoundDrift, TargetError> {
        let release = applied.release;
        let revisions = self.kubernetes.revisions(release).await?;
        let mut found = FoundDrift::default();
        let Some(newest) = revisions.first() else {
            let gone = record(release, "Helm's record of it is gone".to_owned());
            found.objects.push(gone);
            return Ok(found);
        };
        found.objects.extend(foreign_record(applied, newest));
        let Some(base) = base(applied, &revisions) else {
            return Ok(found);
        };
        let documents = self.kubernetes.payload(release, base.number).await?.documents()?;
        let kept: Vec<Document> = documents
            .into_iter()
            .filter(|document| !document.is_hook())
            .collect();
        let compared: Vec<Compared> = stream::iter(kept.clone())
            .map(|document| self.compare(applied, document))
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        for one in compared {
            match one {
                Compared::Same => {}
                Compared::Drifted(object) => found.objects.push(object),
                Compared::Not(uncompared) => found.uncompared.push(uncompared),
            }
        }
        let known: Vec<_> = kept
            .iter()
            .map(|document| identity(&document.reference(&release.namespace)))
            .collect();
        found.objects.extend(
            self.leftovers(release, &revisions, &known, applied.ignore)
                .await?,
        );
        Ok(found)
    }

    /// Tries to apply once more what was applied: what that would change was changed by somebody else. Defaults, and
    /// what controllers added, stay as they are, so they are no drift.
    async fn compare(&self, applied: &AppliedState<'_>, document: Document) -> Result<Compared, TargetError> {
        let release = applied.release;
        let mut reference = [document.reference(&release.namespace)];
        self.kubernetes.settle_namespaces(&mut reference).await?;
        let [reference] = reference;
        let rules = rules_for(applied.ignore, &reference, &document.object);
        if rules.is_whole {
            return Ok(Compared::Same);
        }
        let drifted =
            |drift, fields, message: String| Compared::Drifted(of(&reference, drift, fields, message));
        let Some(path) = self.kubernetes.path_of(&reference).await? else {
            let message = "the cluster does not know its kind any more".to_owned();
            return Ok(drifted(DriftKind::Missing, Vec::new(), message));
        };
        let Some(live) = self.kubernetes.get(&path).await? else {
            if passes(&document) {
                return Ok(Compared::Same);
            }
            return Ok(drifted(DriftKind::Missing, Vec::new(), "it is gone".to_owned()));
        };
        let rules = rules.and(rules_for(&[], &reference, &live));
        if rules.is_whole {
            return Ok(Compared::Same);
        }
        let object = as_helm_applies(&document.object, release);
        let result = match self
            .kubernetes
            .dry_run(&path, HELM, true, UnknownFields::Ignore, &object)
            .await?
        {
            Ok(result) => result,
            Err(refusal) if super::immutable::is_about_immutable_field(&refusal.message) => {
                let message = "a field that cannot change is another one: it was deleted and made again by somebody else";
                return Ok(drifted(DriftKind::Changed, Vec::new(), message.to_owned()));
            }
            Err(refusal) => {
                return Ok(Compared::Not(UncomparedObject {
                    reason: why_not(&refusal),
                    object: reference,
                }));
            }
        };
        let mut fields = Vec::new();
        for field in differing(&wanted_part(&live), &wanted_part(&result)) {
            if rules.paths.iter().any(|rule| covers(rule, &field.path)) {
                continue;
            }
            // What is not there any more is nobody's.
            let owners = field
                .before
                .map_or_else(Vec::new, |before| owners(&live, &before));
            // A controller that took a field over does its work: replicas that an autoscaler sets, say.
            let is_controlled = owners.iter().any(Owner::is_controller);
            if is_controlled
                && owners
                    .iter()
                    .all(|owner| owner.is_controller() || owner.name == HELM)
            {
                continue;
            }
            let mut managers: Vec<String> = owners.into_iter().map(|owner| owner.name).collect();
            managers.dedup();
            fields.push(DriftedField {
                path: field.path,
                managers,
            });
        }
        if fields.is_empty() {
            return Ok(Compared::Same);
        }
        let message = changed(&fields);
        fields.truncate(MOST_FIELDS);
        Ok(drifted(DriftKind::Changed, fields, message))
    }

    /// What only revisions made that failed, and is still there and still the release's.
    async fn leftovers(
        &self,
        release: &Release,
        revisions: &[Revision],
        known: &[Identity],
        ignore: &[DriftIgnore],
    ) -> Result<Vec<DriftedObject>, TargetError> {
        let mut found: Vec<DriftedObject> = Vec::new();
        for revision in revisions {
            if revision.status != ReleaseStatus::Failed {
                continue;
            }
            let documents = self
                .kubernetes
                .payload(release, revision.number)
                .await?
                .documents()?;
            let mut suspects: Vec<ObjectReference> = documents
                .iter()
                .filter(|document| !document.is_hook())
                .map(|document| document.reference(&release.namespace))
                .filter(|reference| !known.contains(&identity(reference)))
                .collect();
            self.kubernetes.settle_namespaces(&mut suspects).await?;
            for suspect in suspects {
                if found
                    .iter()
                    .any(|other| other.kind == suspect.kind && other.name == suspect.name)
                {
                    continue;
                }
                let Some(path) = self.kubernetes.path_of(&suspect).await? else {
                    continue;
                };
                let Some(live) = self.kubernetes.get(&path).await? else {
                    continue;
                };
                let is_ours = annotation(&live, "meta.helm.sh/release-name") == Some(&release.name)
                    && annotation(&live, "meta.helm.sh/release-namespace") == Some(&release.namespace);
                if is_ours && !rules_for(ignore, &suspect, &live).is_whole {
                    let message = format!("only revision {} made it, which failed", revision.number);
                    found.push(of(&suspect, DriftKind::Leftover, Vec::new(), message));
                }
            }
        }
        Ok(found)
    }
}

/// What the look at one object came to.
enum Compared {
    /// It is as it was applied, or left alone.
    Same,
    Drifted(DriftedObject),
    Not(UncomparedObject),
}

/// Why an object cannot be compared, without what the server says, which may repeat what stands in the object.
fn why_not(refusal: &Refusal) -> String {
    match refusal.code {
        400 if refusal.message.contains("dry run") => {
            "an admission webhook with effects of its own cannot be asked".to_owned()
        }
        code => format!(
            "the cluster would not take it again as it was applied ({code}); a plan of the deployment says why"
        ),
    }
}

/// What an object is, whatever version of its kind it was written in.
pub(super) type Identity = (String, String, String, String);

pub(super) fn identity(object: &ObjectReference) -> Identity {
    let group = object.api_version.split_once('/').map_or("", |(group, _)| group);
    (
        group.to_owned(),
        object.kind.clone(),
        object.namespace.clone(),
        object.name.clone(),
    )
}

/// An object with the marks that Helm puts onto everything that it applies.
pub(super) fn as_helm_applies(object: &Value, release: &Release) -> Value {
    let mut object = object.clone();
    object["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm".into();
    object["metadata"]["annotations"]["meta.helm.sh/release-name"] = release.name.clone().into();
    object["metadata"]["annotations"]["meta.helm.sh/release-namespace"] = release.namespace.clone().into();
    object
}

/// The revision to compare with: the one that was applied, or else the newest of the deployment that is deployed.
fn base<'r>(applied: &AppliedState<'_>, revisions: &'r [Revision]) -> Option<&'r Revision> {
    let exact = revisions
        .iter()
        .find(|revision| Some(revision.number) == applied.revision);
    exact.or_else(|| {
        revisions.iter().find(|revision| {
            revision.status == ReleaseStatus::Deployed && revision.deployment() == Some(applied.deployment)
        })
    })
}

/// What is to be said about the newest record.
fn foreign_record(applied: &AppliedState<'_>, newest: &Revision) -> Option<DriftedObject> {
    let status = word(newest.status);
    let is_newer = applied.revision.is_some_and(|ours| newest.number > ours);
    if is_newer || newest.deployment() != Some(applied.deployment) {
        let ours = applied
            .revision
            .map_or_else(String::new, |ours| format!("; revision {ours} was applied"));
        let message = format!(
            "revision {} ({status}) was written by somebody else{ours}",
            newest.number
        );
        return Some(record(applied.release, message));
    }
    (newest.status != ReleaseStatus::Deployed).then(|| {
        record(
            applied.release,
            format!("Helm's record of revision {} is {status}", newest.number),
        )
    })
}

fn record(release: &Release, message: String) -> DriftedObject {
    DriftedObject {
        api_version: String::new(),
        kind: "Release".to_owned(),
        namespace: release.namespace.clone(),
        name: release.name.clone(),
        drift: DriftKind::Record,
        fields: Vec::new(),
        message,
    }
}

fn of(
    reference: &ObjectReference,
    drift: DriftKind,
    fields: Vec<DriftedField>,
    message: String,
) -> DriftedObject {
    DriftedObject {
        api_version: reference.api_version.clone(),
        kind: reference.kind.clone(),
        namespace: reference.namespace.clone(),
        name: reference.name.clone(),
        drift,
        fields,
        message,
    }
}

fn changed(fields: &[DriftedField]) -> String {
    let shown: Vec<String> = fields
        .iter()
        .take(3)
        .map(|field| match field.managers.as_slice() {
            [] => format!("{} was removed", field.path),
            managers => format!("{} was changed by {}", field.path, managers.join(" and ")),
        })
        .collect();
    let more = match fields.len() - shown.len() {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}

/// What is left alone of one object.
#[derive(Default)]
struct Rules {
    is_whole: bool,
    paths: Vec<String>,
}

impl Rules {
    fn and(mut self, other: Self) -> Self {
        self.is_whole |= other.is_whole;
        self.paths.extend(other.paths);
        self
    }
}

/// The template's rules that are about an object, and its own.
fn rules_for(ignore: &[DriftIgnore], reference: &ObjectReference, object: &Value) -> Rules {
    let mut rules = Rules::default();
    let is_meant = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
    for rule in ignore {
        if is_meant(&rule.kind, &reference.kind) && is_meant(&rule.name, &reference.name) {
            rules.is_whole |= rule.paths.is_empty();
            rules.paths.extend(rule.paths.iter().cloned());
        }
    }
    if let Some(own) = annotation(object, IGNORE) {
        let parts = own.split(',').map(str::trim);
        rules.is_whole |= own.trim() == "true";
        rules
            .paths
            .extend(parts.filter(|part| is_pointer(part)).map(str::to_owned));
    }
    rules
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_about_kind_and_name_and_objects_may_bring_their_own() {
        let reference = ObjectReference {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: "ns".into(),
            name: "web".into(),
        };
        let rule = |kind: Option<&str>, name: Option<&str>, paths: &[&str]| DriftIgnore {
            kind: kind.map(str::to_owned),
            name: name.map(str::to_owned),
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        };
        let bare = json!({});
        let found = |rules: &[DriftIgnore], object: &Value| {
            let rules = rules_for(rules, &reference, object);
            (rules.is_whole, rules.paths)
        };
        let none = (false, Vec::new());
        assert_eq!(found(&[rule(Some("Service"), None, &[])], &bare), none);
        assert_eq!(
            found(&[rule(Some("Deployment"), Some("other"), &[])], &bare),
            none
        );
        assert!(found(&[rule(None, Some("web"), &[])], &bare).0);
        let paths = found(&[rule(Some("Deployment"), None, &["/spec/replicas"])], &bare);
        assert_eq!(paths, (false, vec!["/spec/replicas".to_owned()]));
        let annotated = |text: &str| json!({"metadata": {"annotations": {IGNORE: text}}});
        assert!(found(&[], &annotated("true")).0);
        assert_eq!(found(&[], &annotated("false")), none);
        let paths = found(&[], &annotated("/spec/replicas, /metadata/labels/x"));
        assert_eq!(paths.1, ["/spec/replicas", "/metadata/labels/x"]);
    }
}
