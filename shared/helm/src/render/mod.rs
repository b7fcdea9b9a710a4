//! The `render` target: charts are rendered for real and kept, and there is no cluster.

mod blobs;
mod disk;
mod preview;
mod shelf;
mod target;

pub use shelf::RenderStore;
pub(crate) use target::RenderTarget;
