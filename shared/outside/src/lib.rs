//! Calls to the outside over HTTP, which no step can turn against the machine that makes them.

mod address;
mod http;

pub use address::Loopback;
pub use http::HttpOutside;
