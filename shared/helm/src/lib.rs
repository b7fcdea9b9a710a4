//! Slipway helm.
