//! The use cases of Slipway: load, decide, commit, send.
//!
//! Everything that the HTTP API and the queue consumers do is here, written against the ports. A Lambda
//! function and the embedded server call the same functions.

mod caller;
mod error;
mod idempotency;
mod keys;
mod paging;
mod services;

pub use caller::{Caller, Role};
pub use error::AppError;
pub use idempotency::IdempotentRequest;
pub use paging::{ListQuery, Page};
pub use services::{App, Services, Settings};
