//! Slipway ports.
