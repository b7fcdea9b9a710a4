//! Narrow traits between the use cases and the outside world.
//!
//! Each has at least two adapters: AWS (DynamoDB, SQS, Secrets Manager, S3) and embedded (SQLite and the
//! local disk). The contract suite in `slipway-testkit` says, in code, what every adapter must do.

mod chain;
mod charts;
mod clock;
mod diagnosis;
mod hidden;
mod hooks;
mod looking;
mod outside;
mod queue;
mod secrets;
mod store;
mod system;
mod target;

pub use chain::chain;
pub use charts::{BlobError, Blobs, ChartError, ChartSource, PulledChart};
pub use clock::{Clock, Ids};
pub use diagnosis::{Diagnosis, LogEnd, last_lines, shortened};
pub use hidden::{HIDDEN, Hidden, percent_encoded, says_enough};
pub use hooks::{
    Hook, HookEvent, HookPolicies, HookRun, HookSet, HookSource, HookState, MadeHook, NoHookEvent,
};
pub use looking::{
    AppliedState, FoundDrift, Managed, ManagedNamespace, ManagedRelease, PreviewRequest, ReleasePreview,
    UncomparedObject,
};
pub use outside::{HttpAnswer, HttpCall, Outside, OutsideError};
pub use queue::{DeadLetter, Delivery, QueueError, Receiver};
pub use secrets::{SecretError, Secrets};
pub use store::{
    Arrivals, DUE_SHARDS, Due, DueItem, Filter, Guard, Item, Key, ListPage, Listing, Put, Session, Store,
    StoreError, Stored,
};
pub use system::{RandomIds, SystemClock};
pub use target::{
    AppliedRelease, CheckedRelease, CollectedRelease, CompletionRequest, Connector, Failure, FailureClass,
    ObjectReference, Observation, Release, ReleaseRecord, ReleaseRequest, ReleaseStatus, RollbackRequest,
    Target, TargetError, UninstallRequest, Uninstalled,
};

/// Re-exported so that adapters and use cases agree on one version.
pub use secrecy::{ExposeSecret, SecretString};
