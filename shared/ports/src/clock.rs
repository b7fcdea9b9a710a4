//! Time and chance, injected so that a simulation can repeat a run bit for bit.

use slipway_model::Timestamp;
use uuid::Uuid;

/// What time it is.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// New identifiers.
pub trait Ids: Send + Sync {
    /// A random (version 4) UUID.
    fn uuid(&self) -> Uuid;
}
