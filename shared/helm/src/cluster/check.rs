//! Rendering against the cluster without changing it.

use std::collections::BTreeSet;

use serde_json::Value;
use slipway_model::CrdPolicy;
use slipway_ports::{CheckedRelease, ReleaseRequest, TargetError};

use super::{ClusterTarget, inhabitants::list};
use crate::{
    invocation::checked_chart,
    manifest::{self, Document, hook_events, inventory, preview, text_at},
    release::{LARGEST_RECORD, Payload, stored_size},
};

/// A chart's objects.
pub(super) struct Rendered {
    /// What the templates render, hooks included.
    pub(super) documents: Vec<Document>,
    /// What stands in `crds/`, unless it is to be skipped.
    pub(super) definitions: Vec<Document>,
}

impl Rendered {
    /// Everything, in the order of the manifest.
    pub(super) fn all(&self) -> Vec<Document> {
        [self.documents.as_slice(), &self.definitions].concat()
    }
}

impl ClusterTarget {
    /// `helm upgrade --install --dry-run=server`: the release's history decides whether it is an install or an upgrade,
    /// and `lookup` and the capabilities are the cluster's. It works also while the namespace does not exist yet.
    pub(super) async fn check_request(
        &self,
        request: &ReleaseRequest,
    ) -> Result<CheckedRelease, TargetError> {
        let rendered = self.rendered(request).await?;
        self.summary(request, &rendered.all()).await
    }

    /// What would be applied, hooks and the chart's definitions included.
    pub(super) async fn rendered(&self, request: &ReleaseRequest) -> Result<Rendered, TargetError> {
        let chart = checked_chart(request)?;
        let definitions = self.definitions(request, &chart).await?;
        let mut documents;
        match self.dry_run(request).await {
            Ok(payload) => {
                documents = payload.documents()?;
                documents.extend(payload.hooks()?);
            }
            Err(error) if !definitions.is_empty() && lacks_definitions(&error) => {
                documents = self.render_before_definitions(request, &definitions).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(Rendered {
            documents,
            definitions,
        })
    }

    /// What Helm would record.
    pub(super) async fn dry_run(&self, request: &ReleaseRequest) -> Result<Payload, TargetError> {
        let release = &request.release;
        let newest = self.kubernetes.record(release).await?;
        // What was never deployed, or is being uninstalled, makes way before the apply: it is an install then.
        let is_install = newest.is_some_and(|record| record.is_absent());
        let rendering = match is_install {
            true => self.invoke(release, "install")?.with_request(request)?,
            false => self
                .invoke(release, "upgrade")?
                .with_request(request)?
                .with(["--install", "--reset-values"]),
        };
        let finished = rendering
            .with(["--dry-run=server", "--skip-crds", "--output", "json"])
            .with(super::apply::adoption(request))
            .run(request.time_limit, self.gate.as_ref())
            .await?;
        // A warning may stand before the JSON.
        let start = finished.stdout.iter().position(|byte| *byte == b'{').unwrap_or(0);
        let json = &finished.stdout[start..];
        refuse_large_record(request, json)?;
        Payload::of_json(json).ok_or_else(|| {
            TargetError::permanent(format!(
                "what Helm printed for {release} is not JSON: is it Helm 4?"
            ))
        })
    }

    async fn summary(
        &self,
        request: &ReleaseRequest,
        documents: &[Document],
    ) -> Result<CheckedRelease, TargetError> {
        let own: Vec<Document> = documents
            .iter()
            .filter(|document| {
                document.kind() != "CustomResourceDefinition" || request.crds == CrdPolicy::Skip
            })
            .cloned()
            .collect();
        let mut objects = inventory(&own, &request.release.namespace);
        self.kubernetes.settle_namespaces(&mut objects).await?;
        let whole: String = documents.iter().map(Document::text).collect();
        Ok(CheckedRelease {
            objects,
            hooks: hook_events(documents),
            manifest_digest: manifest::digest(whole.as_bytes()),
            manifest: preview(documents),
        })
    }

    /// Objects of kinds that the chart itself defines cannot be rendered with `--dry-run=server` before the
    /// definitions exist. `helm template` is told the cluster's version and kinds instead; only `lookup` finds nothing.
    async fn render_before_definitions(
        &self,
        request: &ReleaseRequest,
        definitions: &[Document],
    ) -> Result<Vec<Document>, TargetError> {
        let mut arguments = vec![
            "--skip-crds".to_owned(),
            "--kube-version".to_owned(),
            self.kubernetes_version().await?,
        ];
        for known in self.api_versions(definitions).await? {
            arguments.extend(["--api-versions".to_owned(), known]);
        }
        let newest = self.kubernetes.record(&request.release).await?;
        if newest.is_some_and(|record| !record.is_absent()) {
            arguments.push("--is-upgrade".to_owned());
        }
        let finished = self
            .invoke(&request.release, "template")?
            .with_request(request)?
            .with(arguments)
            .run(request.time_limit, self.gate.as_ref())
            .await?;
        manifest::parse(&String::from_utf8_lossy(&finished.stdout))
            .map_err(|error| TargetError::permanent(crate::chain(&error)))
    }

    /// What charts may ask for in `.Capabilities.APIVersions`: every version of every group, and every kind in it.
    async fn api_versions(&self, definitions: &[Document]) -> Result<BTreeSet<String>, TargetError> {
        let mut known = BTreeSet::from(["v1".to_owned()]);
        for root in ["/api", "/apis"] {
            match self.kubernetes.discover(root).await? {
                Some(groups) => known.extend(served(&groups)),
                None => known.extend(self.versions_of_groups(root).await?),
            }
        }
        for definition in definitions {
            let object = &definition.object;
            let versions = object.pointer("/spec/versions").and_then(|list| list.as_array());
            for version in versions.into_iter().flatten() {
                let group = text_at(object, "/spec/group");
                let api_version = format!("{group}/{}", text_at(version, "/name"));
                known.insert(format!("{api_version}/{}", text_at(object, "/spec/names/kind")));
                known.insert(api_version);
            }
        }
        Ok(known)
    }

    /// The same of an API server that tells of each version by itself.
    async fn versions_of_groups(&self, root: &str) -> Result<Vec<String>, TargetError> {
        let root_list = self.kubernetes.get(root).await?.unwrap_or_default();
        let mut versions = Vec::new();
        for version in list(&root_list, "versions") {
            versions.extend(version.as_str().map(str::to_owned));
        }
        for group in list(&root_list, "groups") {
            let of_group = list(&group, "versions");
            versions.extend(
                of_group
                    .iter()
                    .map(|one| text_at(one, "/groupVersion").to_owned()),
            );
        }
        let mut found = Vec::new();
        for version in versions {
            // One whose server is away has no kinds to tell.
            let resources = self.kubernetes.get(&format!("{root}/{version}")).await;
            for resource in list(&resources.ok().flatten().unwrap_or_default(), "resources") {
                found.push(format!("{version}/{}", text_at(&resource, "/kind")));
            }
            found.push(version);
        }
        Ok(found)
    }
}

/// Versions and kinds, as in `apps/v1` and `apps/v1/Deployment`, of an aggregated discovery.
fn served(groups: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for group in list(groups, "items") {
        for version in list(&group, "versions") {
            let api_version = match text_at(&group, "/metadata/name") {
                "" => text_at(&version, "/version").to_owned(),
                name => format!("{name}/{}", text_at(&version, "/version")),
            };
            for resource in list(&version, "resources") {
                let kind = text_at(&resource, "/responseKind/kind");
                found.push(format!("{api_version}/{kind}"));
            }
            found.push(api_version);
        }
    }
    found
}

fn lacks_definitions(error: &TargetError) -> bool {
    error.to_string().contains("no matches for kind")
}

/// A release record is one Secret: said here, it costs nothing; said by the API server, it is a release half done.
fn refuse_large_record(request: &ReleaseRequest, json: &[u8]) -> Result<(), TargetError> {
    let size = stored_size(json)
        .map_err(|error| TargetError::permanent(format!("the release record cannot be packed: {error}")))?;
    if size > LARGEST_RECORD {
        return Err(TargetError::permanent(format!(
            "the release record of {} would have {} KiB and Kubernetes keeps at most {} KiB in one Secret: make the chart or its values smaller, or split the chart",
            request.release,
            size >> 10,
            LARGEST_RECORD >> 10,
        )));
    }
    Ok(())
}
