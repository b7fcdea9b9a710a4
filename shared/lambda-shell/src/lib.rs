//! What every Slipway function shares: cold start, logs, traces, and the loop over a batch.

mod connector;

pub use connector::AwsConnector;
