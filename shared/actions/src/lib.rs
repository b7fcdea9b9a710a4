//! Slipway actions.
