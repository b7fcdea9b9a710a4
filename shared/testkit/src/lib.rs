//! Slipway testkit.
