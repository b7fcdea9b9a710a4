//! The ports on SQLite and the local disk: a control plane that needs nothing but a folder.
//!
//! Everything is in one data folder that one process uses at a time. Sessions share commits: whoever settles waits
//! for one fsync together with everybody else who waits. The folder survives the end of the process at any moment.

mod batch;
mod blobs;
mod cache;
mod clock;
mod consumer;
mod core;
mod error;
mod folder;
mod fresh;
mod open;
mod pending;
mod queues;
mod receiver;
mod schema;
mod secrets;
mod session;
mod store;

pub use blobs::FileBlobs;
pub use consumer::Consumer;
pub use error::OpenError;
pub use folder::while_unused;
pub use open::{Embedded, Options, Statistics};
pub use receiver::SqliteReceiver;
pub use secrets::FileSecrets;
pub use store::SqliteStore;
