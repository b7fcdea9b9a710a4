//! What applying a release would do, asked from the server without doing it.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use slipway_model::{CrdPolicy, ImmutablePolicy, ObjectChange, ObjectPlan, ObjectRole};
use slipway_ports::{
    ExposeSecret as _, ObjectReference, PreviewRequest, ReleasePreview, ReleaseStatus, TargetError,
    says_enough,
};

use super::{
    CONCURRENCY, ClusterTarget,
    drift::{HELM, as_helm_applies, identity},
    immutable::is_about_immutable_field,
    orphans::may_have_left,
};
use crate::{
    client::{Refusal, UnknownFields, encode},
    difference::{Hidden, dangers, unified, wanted_part},
    manifest::{self, Document, HOOK, annotation, preview},
    release::{Payload, Revision},
};

/// What was found about one object: how it would change, and why the server would refuse that.
pub(crate) struct Looked {
    pub(crate) plan: ObjectPlan,
    pub(crate) refused: Option<String>,
    pub(crate) note: Option<String>,
}

/// What every look needs.
struct Surroundings<'a> {
    request: &'a PreviewRequest<'a>,
    hidden: &'a Hidden,
    /// Objects of the revision that Helm compares with.
    applied: &'a BTreeMap<(String, String, String, String), Value>,
    /// Whether the namespace is there.
    namespace: bool,
}

impl ClusterTarget {
    pub(super) async fn preview_request(
        &self,
        request: &PreviewRequest<'_>,
    ) -> Result<ReleasePreview, TargetError> {
        let wanted = request.release;
        let release = &wanted.release;
        let rendered = self.rendered(wanted).await?;
        let revisions = self.kubernetes.revisions(release).await?;
        let present = revisions
            .iter()
            .find(|revision| revision.status == ReleaseStatus::Deployed)
            .or(revisions.first())
            .map(|revision| revision.number);
        let read = revisions
            .iter()
            .filter(|revision| Some(revision.number) == present || may_have_left(revision))
            .map(|revision| revision.number);
        let payloads: Vec<(u32, Payload)> = stream::iter(read.collect::<Vec<u32>>())
            .map(|number| async move { Ok((number, self.kubernetes.payload(release, number).await?)) })
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let hidden = hidden(request, &payloads);
        let mut applied = BTreeMap::new();
        let mut left = BTreeMap::new();
        for (number, payload) in &payloads {
            for document in payload.documents()? {
                let mut reference = [document.reference(&release.namespace)];
                self.kubernetes.settle_namespaces(&mut reference).await?;
                let [reference] = reference;
                if Some(*number) == present {
                    applied.insert(identity(&reference), document.object);
                } else {
                    // The newest of them says most.
                    left.entry(identity(&reference))
                        .or_insert((*number, document.object));
                }
            }
        }
        let path = format!("/api/v1/namespaces/{}", encode(&release.namespace));
        let surroundings = Surroundings {
            request,
            hidden: &hidden,
            applied: &applied,
            namespace: self.kubernetes.get(&path).await?.is_some(),
        };
        let is_going = revisions.first().is_some_and(|newest| newest.status.is_going());
        let exists = !is_going && revisions.iter().any(Revision::was_deployed);

        let mut looked = Vec::new();
        if !surroundings.namespace {
            looked.push(new_namespace(&release.namespace, wanted.create_namespace));
        }
        for document in &rendered.definitions {
            looked.push(self.look_at_definition(&surroundings, document).await?);
        }
        let all = rendered.all();
        let (hooks, kept): (Vec<Document>, Vec<Document>) =
            rendered.documents.into_iter().partition(Document::is_hook);
        let mut references: Vec<ObjectReference> = kept
            .iter()
            .map(|document| document.reference(&release.namespace))
            .collect();
        self.kubernetes.settle_namespaces(&mut references).await?;
        let here: BTreeSet<_> = references.iter().map(identity).collect();
        let pairs: Vec<(Document, ObjectReference)> = kept.into_iter().zip(references).collect();
        let objects: Vec<Looked> = stream::iter(pairs)
            .map(|(document, reference)| self.look_at_object(&surroundings, document, reference))
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        looked.extend(objects);
        for (key, object) in &applied {
            if !here.contains(key) {
                looked.extend(self.look_at_deleted(&hidden, object, key).await?);
            }
        }
        for (key, (revision, object)) in &left {
            if !here.contains(key) && !applied.contains_key(key) {
                let gone = self.look_at_leftover(&hidden, release, *revision, object, key);
                looked.extend(gone.await?);
            }
        }
        looked.extend(
            hooks
                .iter()
                .filter_map(|hook| run(hook, exists, &release.namespace, &hidden)),
        );

        let mut notes: Vec<String> = Vec::new();
        if !surroundings.namespace {
            notes.push(format!(
                "namespace '{}' is not there yet: what is created in it is shown as it was rendered",
                release.namespace
            ));
        }
        let mut refused = Vec::new();
        let mut objects = Vec::new();
        for one in looked {
            refused.extend(one.refused);
            notes.extend(one.note);
            objects.push(one.plan);
        }
        let whole: String = all.iter().map(Document::text).collect();
        Ok(ReleasePreview {
            revision: revisions.first().map(|newest| newest.number),
            exists,
            objects,
            refused: refused.iter().map(|sentence| hide(&hidden, sentence)).collect(),
            notes: notes.iter().map(|sentence| hide(&hidden, sentence)).collect(),
            manifest_digest: manifest::digest(whole.as_bytes()),
            manifest: blanked(&all, &hidden),
        })
    }

    async fn look_at_object(
        &self,
        around: &Surroundings<'_>,
        document: Document,
        reference: ObjectReference,
    ) -> Result<Looked, TargetError> {
        let release = &around.request.release.release;
        let object = as_helm_applies(&document.object, release);
        let created = || {
            compared(
                around.hidden,
                &reference,
                ObjectChange::Create,
                None,
                Some(&document.object),
            )
        };
        let path = self.kubernetes.path_of(&reference).await?;
        let (Some(path), true) = (path, around.namespace || reference.namespace.is_empty()) else {
            return Ok(Looked::plain(created()));
        };
        let live = self.kubernetes.get(&path).await?;
        let tried = self
            .kubernetes
            .dry_run(
                &path,
                HELM,
                around.request.release.adopt,
                UnknownFields::Refuse,
                &object,
            )
            .await?;
        Ok(match (live, tried) {
            (None, Ok(_)) => Looked::plain(created()),
            // Of another namespace that is not there either, or made by this release.
            (None, Err(refusal)) if refusal.code == 404 => Looked::plain(created()),
            (None, Err(refusal)) => refused(created(), &reference, &refusal),
            (Some(live), Ok(result)) => {
                let (before, after) = (wanted_part(&live), wanted_part(&result));
                let change = if before == after {
                    ObjectChange::Unchanged
                } else {
                    ObjectChange::Change
                };
                Looked::plain(compared(
                    around.hidden,
                    &reference,
                    change,
                    Some(&before),
                    Some(&after),
                ))
            }
            (Some(live), Err(refusal)) => not_taken(around, &reference, &document, &live, &refusal),
        })
    }

    /// A definition of `crds/`, which Slipway applies itself.
    async fn look_at_definition(
        &self,
        around: &Surroundings<'_>,
        document: &Document,
    ) -> Result<Looked, TargetError> {
        let reference = document.reference("");
        let mut plan = compared(
            around.hidden,
            &reference,
            ObjectChange::Create,
            None,
            Some(&document.object),
        );
        let mut refusal = None;
        if let Some(path) = self.kubernetes.path_of(&reference).await?
            && let Some(live) = self.kubernetes.get(&path).await?
        {
            plan = compared(
                around.hidden,
                &reference,
                ObjectChange::Unchanged,
                Some(&live),
                Some(&live),
            );
            if around.request.release.crds == CrdPolicy::Apply {
                match self
                    .kubernetes
                    .dry_run(&path, "slipway", true, UnknownFields::Ignore, &document.object)
                    .await?
                {
                    Ok(result) => {
                        let (before, after) = (wanted_part(&live), wanted_part(&result));
                        if before != after {
                            let (before, after) = (Some(&before), Some(&after));
                            plan = compared(around.hidden, &reference, ObjectChange::Change, before, after);
                        }
                    }
                    Err(refused) => refusal = Some(format!("{reference}: {}", refused.message)),
                }
            } else {
                plan.reason = Some("it is there, and crds: create leaves it as it is".to_owned());
            }
        }
        plan.role = ObjectRole::Definition;
        Ok(Looked {
            plan,
            refused: refusal,
            note: None,
        })
    }
}

impl Looked {
    pub(crate) fn plain(plan: ObjectPlan) -> Self {
        Self {
            plan,
            refused: None,
            note: None,
        }
    }
}

fn refused(plan: ObjectPlan, reference: &ObjectReference, refusal: &Refusal) -> Looked {
    Looked {
        plan,
        refused: Some(format!("{reference}: {}", refusal.message)),
        note: None,
    }
}

/// What becomes of an object that is there and that the server does not change as asked.
fn not_taken(
    around: &Surroundings<'_>,
    reference: &ObjectReference,
    document: &Document,
    live: &Value,
    refusal: &Refusal,
) -> Looked {
    // What somebody wrote says more than what the server made of it.
    let before = around
        .applied
        .get(&identity(reference))
        .cloned()
        .unwrap_or_else(|| wanted_part(live));
    let planned = |change| {
        compared(
            around.hidden,
            reference,
            change,
            Some(&before),
            Some(&document.object),
        )
    };
    if is_about_immutable_field(&refusal.message) {
        let mut looked = Looked::plain(planned(ObjectChange::Replace));
        looked.plan.reason = Some(refusal.message.clone()).map(|text| hide(around.hidden, &text));
        if reference.kind == "PersistentVolumeClaim" {
            looked.refused = Some(format!(
                "{reference}: {}; a volume claim is never replaced",
                refusal.message
            ));
        } else if around.request.release.immutable == ImmutablePolicy::Stop {
            looked.refused = Some(format!(
                "{reference}: {}; it would have to be deleted and created again: set immutable: recreate to allow it",
                refusal.message
            ));
        }
        return looked;
    }
    let mut looked = refused(planned(ObjectChange::Change), reference, refusal);
    if refusal.code == 400 && refusal.message.contains("dry run") {
        // An admission webhook with effects of its own is not asked in a dry run, and the server says so.
        looked.note = looked
            .refused
            .take()
            .map(|why| format!("{why}; shown as it was rendered"));
        if before == document.object {
            looked.plan.change = ObjectChange::Unchanged;
        }
    }
    looked
}

/// The plan of an object, with its diff and what is dangerous about it.
pub(crate) fn compared(
    hidden: &Hidden,
    reference: &ObjectReference,
    change: ObjectChange,
    before: Option<&Value>,
    after: Option<&Value>,
) -> ObjectPlan {
    let diff = (change != ObjectChange::Unchanged).then(|| {
        let (before, after) = hidden.pair(before, after);
        unified(before.as_ref(), after.as_ref())
    });
    let mut dangers = dangers(change, before, after);
    for danger in &mut dangers {
        // It names hosts, paths and containers as they stand in the object.
        danger.message = hidden.hide(&danger.message);
    }
    ObjectPlan {
        api_version: reference.api_version.clone(),
        kind: reference.kind.clone(),
        namespace: reference.namespace.clone(),
        name: reference.name.clone(),
        change,
        role: ObjectRole::Object,
        reason: None,
        diff: diff.filter(|diff| !diff.is_empty()),
        dangers,
    }
}

fn new_namespace(name: &str, may_create: bool) -> Looked {
    let plan = ObjectPlan {
        api_version: "v1".to_owned(),
        kind: "Namespace".to_owned(),
        namespace: String::new(),
        name: name.to_owned(),
        change: ObjectChange::Create,
        role: ObjectRole::Namespace,
        reason: None,
        diff: None,
        dangers: Vec::new(),
    };
    Looked {
        plan,
        refused: (!may_create)
            .then(|| format!("namespace '{name}' does not exist: create it, or set create_namespace")),
        note: None,
    }
}

/// A hook that this change runs; none for one that runs at another time.
pub(crate) fn run(hook: &Document, is_upgrade: bool, namespace: &str, hidden: &Hidden) -> Option<Looked> {
    let mine = if is_upgrade {
        ["pre-upgrade", "post-upgrade"]
    } else {
        ["pre-install", "post-install"]
    };
    let events: Vec<&str> = annotation(&hook.object, HOOK)?
        .split(',')
        .map(str::trim)
        .filter(|event| mine.contains(event))
        .collect();
    if events.is_empty() {
        return None;
    }
    let reference = hook.reference(namespace);
    let mut plan = compared(hidden, &reference, ObjectChange::Create, None, Some(&hook.object));
    plan.change = ObjectChange::Run;
    plan.role = ObjectRole::Hook;
    plan.reason = Some(format!("hook: {}", events.join(", ")));
    Some(Looked::plain(plan))
}

/// What no answer may hold: secrets as they are, what was made of secrets when these revisions were applied, and what
/// is made of them now.
fn hidden(request: &PreviewRequest<'_>, revisions: &[(u32, Payload)]) -> Hidden {
    let now = request
        .release
        .secrets
        .iter()
        .map(|secret| secret.expose_secret());
    let then = request.secret_values.iter().flat_map(|pointer| {
        revisions
            .iter()
            .filter_map(move |(_, payload)| payload.given_value(pointer)?.as_str())
    });
    // An expression may have made another text of what it read.
    let values = Value::Object(request.release.values.clone());
    let made = request
        .secret_values
        .iter()
        .filter_map(|pointer| values.pointer(pointer)?.as_str())
        .filter(|text| says_enough(text));
    Hidden::of(now.chain(then).chain(made))
}

/// A sentence of the server's, which may repeat a value.
fn hide(hidden: &Hidden, sentence: &str) -> String {
    hidden.hide(sentence)
}

/// The manifest with everything blanked that came from secrets.
pub(crate) fn blanked(documents: &[Document], hidden: &Hidden) -> String {
    if hidden.is_empty() {
        return preview(documents);
    }
    let blanked: Vec<Document> = documents
        .iter()
        .map(|document| document.with_object(hidden.blank(&document.object)))
        .collect();
    preview(&blanked)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use slipway_ports::{Release, ReleaseRequest};

    use super::*;

    #[test]
    fn what_is_made_of_secrets_now_is_hidden_where_it_says_something() {
        let values = json!({"a/b": ["decoded-now"], "on": "true", "plain": "not hidden"});
        let release = ReleaseRequest {
            release: Release {
                namespace: "n".to_owned(),
                name: "web".to_owned(),
            },
            chart: Vec::new(),
            values: values.as_object().unwrap().clone(),
            secrets: Vec::new(),
            labels: BTreeMap::new(),
            deployment: None,
            create_namespace: true,
            crds: CrdPolicy::default(),
            immutable: ImmutablePolicy::default(),
            adopt: false,
            leftovers: Vec::new(),
            time_limit: Duration::from_secs(60),
        };
        let pointers = ["/a~1b/0".to_owned(), "/on".to_owned(), "/absent".to_owned()];
        let request = PreviewRequest {
            release: &release,
            secret_values: &pointers,
        };
        let hidden = hidden(&request, &[]);
        assert_eq!(
            hidden.hide("decoded-now is true and not hidden"),
            "(hidden) is true and not hidden"
        );
    }

    #[test]
    fn a_danger_tells_no_secret() {
        let route = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"},
            "spec": {"rules": [{"host": "not-to-be-told.example.com"}]}});
        let reference = ObjectReference {
            api_version: "networking.k8s.io/v1".to_owned(),
            kind: "Ingress".to_owned(),
            namespace: "n".to_owned(),
            name: "web".to_owned(),
        };
        let hidden = Hidden::of(["not-to-be-told"]);
        let plan = compared(&hidden, &reference, ObjectChange::Create, None, Some(&route));
        let [danger] = plan.dangers.as_slice() else {
            panic!("{:?}", plan.dangers)
        };
        assert!(
            danger.message.contains("from outside into the cluster at "),
            "{danger:?}"
        );
        assert!(!danger.message.contains("not-to-be-told"), "{danger:?}");
    }
}
