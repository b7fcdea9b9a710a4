//! Slipway's ports on AWS: DynamoDB, SQS, SNS, Secrets Manager, S3, STS and EKS.

mod backoff;
mod blobs;
mod calls;
mod clients;
mod dead_letters;
mod eks;
mod error;
mod failure;
mod http;
mod outside;
mod queues;
mod receiver;
mod row;
mod secrets;
mod sending;
mod session;
mod store;
mod table;
pub mod trace;

pub use blobs::S3Blobs;
pub use calls::{CallCounter, Calls};
pub use clients::{AwsConfig, Clients};
pub use dead_letters::REASON;
pub use eks::{EksClusters, EksError, TOKEN_LIFETIME, TokenError, mint_token};
pub use error::SetupError;
pub use outside::AwsOutside;
pub use queues::Queues;
pub use receiver::SqsReceiver;
pub use secrets::SecretsManagerSecrets;
pub use sending::LARGEST_MESSAGE;
pub use store::DynamoStore;
