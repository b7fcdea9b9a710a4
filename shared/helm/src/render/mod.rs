//! The `render` target: charts are rendered for real and kept on disk, and there is no cluster.

mod disk;
mod target;

pub(crate) use target::RenderTarget;
