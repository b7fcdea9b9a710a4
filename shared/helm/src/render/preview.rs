//! What rendering once more would change in what was rendered last.

use std::collections::BTreeMap;

use serde_json::Value;
use slipway_model::{CrdPolicy, ObjectChange, ObjectRole};
use slipway_ports::{ExposeSecret as _, PreviewRequest, ReleasePreview, ReleaseStatus, TargetError};

use super::target::RenderTarget;
use crate::{
    cluster::{blanked, compared, run},
    difference::Hidden,
    invocation::checked_chart,
    manifest::{self, Document},
};

/// What a `render` target cannot know.
const NO_SECRETS: &str = "render target: compared with what was rendered last, whose secrets were not kept: whether they change is not known";

/// Said of what was kept with secrets that nobody can tell any more.
const NOT_SHOWN: &str = "what it was is not shown, because it was kept with its secrets";

/// The object as it is kept: without what came from secrets. What names it stays, as it is told everywhere.
pub(super) fn kept(hidden: &Hidden, object: &Value) -> Value {
    let mut kept = hidden.blank(object);
    for place in ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"] {
        if let (Some(blanked), Some(own)) = (kept.pointer_mut(place), object.pointer(place)) {
            blanked.clone_from(own);
        }
    }
    kept
}

impl RenderTarget {
    pub(super) async fn preview_request(
        &self,
        request: &PreviewRequest<'_>,
    ) -> Result<ReleasePreview, TargetError> {
        let wanted = request.release;
        let release = &wanted.release;
        let chart = checked_chart(wanted)?;
        let history = self.history(release).await?;
        let documents = self.render(wanted, &chart, !history.is_empty()).await?;
        let present = history
            .iter()
            .find(|record| record.status == ReleaseStatus::Deployed);
        let mut before: BTreeMap<_, Document> = BTreeMap::new();
        if let Some(present) = present {
            for document in self.kept_documents(release, present.revision).await? {
                if !document.is_hook() {
                    before.insert(document.reference(&release.namespace), document);
                }
            }
        }
        let tells = present.is_none_or(|present| present.blanked)
            || (wanted.secrets.is_empty() && request.secret_values.is_empty());
        let hidden = Hidden::of(wanted.secrets.iter().map(|secret| secret.expose_secret()));
        let mut objects = Vec::new();
        let mut is_compared = false;
        for document in documents.iter().filter(|document| !document.is_hook()) {
            let reference = document.reference(&release.namespace);
            let was = before
                .remove(&reference)
                .map(|document| kept(&hidden, &document.object));
            // What was kept is blanked, so it is compared with what would be kept.
            let now = kept(&hidden, &document.object);
            is_compared |= was.is_some() && now != document.object;
            let change = match &was {
                None => ObjectChange::Create,
                Some(was) if *was == now => ObjectChange::Unchanged,
                Some(_) => ObjectChange::Change,
            };
            let was = was.as_ref();
            let mut plan = compared(&hidden, &reference, change, was.filter(|_| tells), Some(&now));
            plan.reason = (was.is_some() && !tells).then(|| NOT_SHOWN.to_owned());
            if wanted.crds != CrdPolicy::Skip && document.kind() == "CustomResourceDefinition" {
                plan.role = ObjectRole::Definition;
            }
            objects.push(plan);
        }
        for (reference, document) in before {
            let was = kept(&hidden, &document.object);
            let was = Some(&was).filter(|_| tells);
            let mut plan = compared(&hidden, &reference, ObjectChange::Delete, was, None);
            plan.reason = Some("the chart does not have it any more".to_owned());
            objects.push(plan);
        }
        let hooks = documents.iter().filter(|document| document.is_hook());
        objects.extend(
            hooks
                .filter_map(|hook| run(hook, present.is_some(), &release.namespace, &hidden))
                .map(|looked| looked.plan),
        );
        let whole: String = documents.iter().map(Document::text).collect();
        Ok(ReleasePreview {
            revision: history.first().map(|newest| newest.revision),
            exists: present.is_some(),
            objects,
            refused: Vec::new(),
            notes: is_compared.then(|| NO_SECRETS.to_owned()).into_iter().collect(),
            manifest_digest: manifest::digest(whole.as_bytes()),
            manifest: blanked(&documents, &hidden),
        })
    }
}
