//! A local stand-in for the AWS services that Slipway runs on: Lambda, event sources and API Gateway, around DynamoDB Local, ElasticMQ and moto.

fn main() {}
