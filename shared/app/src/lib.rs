//! Slipway app.
