//! Slipway embedded.
