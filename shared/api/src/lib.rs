//! Slipway api.
