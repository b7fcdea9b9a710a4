//! The ports in memory: plain and slow, with every rule in as few words as possible.
//!
//! The store behaves as DynamoDB with SQS does: writes take effect at once, and what a session sends goes out when it
//! settles. A session that is dropped has kept its writes and lost its messages.

mod blobs;
mod queue;
mod secrets;
mod store;

pub use blobs::SimpleBlobs;
pub use secrets::SimpleSecrets;
pub use store::SimpleStore;
