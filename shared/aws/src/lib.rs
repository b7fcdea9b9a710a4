//! Slipway's ports on AWS: DynamoDB, SQS, SNS, Secrets Manager, S3, STS and EKS.

mod blobs;
mod eks;
mod failure;
mod outside;
mod secrets;

pub use blobs::S3Blobs;
pub use eks::{EksClusters, EksError, TOKEN_LIFETIME, TokenError, mint_token};
pub use outside::AwsOutside;
pub use secrets::SecretsManagerSecrets;
