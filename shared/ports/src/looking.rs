//! Looking at a cluster without changing it: what a change would do, and what somebody else has done.

use slipway_model::{DriftIgnore, DriftedObject, ObjectPlan};

use crate::{ObjectReference, Release, ReleaseRequest, ReleaseStatus};

/// What a preview is asked about.
pub struct PreviewRequest<'a> {
    /// What would be applied, and the secrets in it.
    pub release: &'a ReleaseRequest,
    /// JSON pointers into the values of the present revision and of this one: what stands there came from secrets, and no
    /// answer may hold it either.
    pub secret_values: &'a [String],
}

/// What applying a release would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReleasePreview {
    /// The release's newest revision; none before the first.
    pub revision: Option<u32>,
    /// Whether any revision was ever deployed: if not, it would be installed.
    pub exists: bool,
    /// Every object that would be made, changed or deleted, and those that stay; hooks and definitions included.
    pub objects: Vec<ObjectPlan>,
    /// Why the server would refuse objects, a sentence each. Nothing would be refused if empty.
    pub refused: Vec<String>,
    /// What could not be asked from the server, for people.
    pub notes: Vec<String>,
    /// `sha256:<hex>` of the rendered manifest, as [`CheckedRelease`](crate::CheckedRelease) has it.
    pub manifest_digest: String,
    /// The rendered manifest with everything blanked that came from secrets.
    pub manifest: String,
}

/// What was applied, to compare a cluster with.
pub struct AppliedState<'a> {
    /// Which release.
    pub release: &'a Release,
    /// The revision that Slipway made last; any revision of the deployment is taken for it if absent.
    pub revision: Option<u32>,
    /// The deployment, as the label of the release's record says.
    pub deployment: &'a str,
    /// What is not to be reported.
    pub ignore: &'a [DriftIgnore],
}

/// Where a cluster differs from what was applied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FoundDrift {
    /// What differs; nothing if all is as it was applied.
    pub objects: Vec<DriftedObject>,
    /// Of which objects that could not be told.
    pub uncompared: Vec<UncomparedObject>,
}

/// An object that could not be compared with what was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncomparedObject {
    /// Which.
    pub object: ObjectReference,
    /// A sentence that says why; never the server's own words, which may repeat what stands in the object.
    pub reason: String,
}

/// A page of what is labelled as Slipway's on a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Managed {
    /// Releases, by their newest record.
    pub releases: Vec<ManagedRelease>,
    /// Namespaces; all of them on the first page.
    pub namespaces: Vec<ManagedNamespace>,
    /// Where the next page begins; absent on the last.
    pub next: Option<String>,
}

/// A release whose record says that Slipway made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedRelease {
    /// Which release.
    pub release: Release,
    /// Status of the newest record.
    pub status: ReleaseStatus,
    /// The deployment in its label; `none` for jobs without one.
    pub deployment: String,
}

/// A namespace that Slipway made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedNamespace {
    /// Its name.
    pub name: String,
    /// The deployment in its label.
    pub deployment: String,
}
