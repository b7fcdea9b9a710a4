//! Slipway's ports on AWS: DynamoDB, SQS, SNS, Secrets Manager, S3, STS and EKS.
