//! Slipway dag.
