//! S3.

use std::sync::Arc;

use slipway_aws::S3Blobs;
use slipway_ports::Blobs;
use slipway_testkit::contract::BlobsSubject;

use crate::{REGION, moto, unique, whole};

async fn subject() -> BlobsSubject {
    let (bucket, client) = bucket().await;
    BlobsSubject {
        blobs: Arc::new(S3Blobs::new(client, bucket, "blobs/")),
        keep: Box::new(()),
    }
}

slipway_testkit::blobs_contract!(subject);

async fn bucket() -> (String, aws_sdk_s3::Client) {
    use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};

    let (bucket, client) = (unique("slipway"), moto().await.s3().clone());
    client
        .create_bucket()
        .bucket(&bucket)
        .create_bucket_configuration(
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(REGION))
                .build(),
        )
        .send()
        .await
        .unwrap();
    (bucket, client)
}

#[tokio::test]
async fn two_prefixes_share_a_bucket_and_nothing_else() {
    let (bucket, client) = bucket().await;
    let one = S3Blobs::new(client.clone(), bucket.clone(), "one/");
    let all = S3Blobs::new(client, bucket, "");
    one.put("a", vec![1]).await.unwrap();
    assert_eq!(all.get("a").await.unwrap(), None);
    assert_eq!(all.get("one/a").await.unwrap(), Some(vec![1]));
}

#[tokio::test]
async fn the_prefix_counts_for_the_longest_key() {
    let (bucket, client) = bucket().await;
    let blobs = S3Blobs::new(client, bucket, "blobs/");
    blobs.put(&"k".repeat(1018), vec![1]).await.unwrap();
    let error = blobs.put(&"k".repeat(1019), vec![1]).await.unwrap_err();
    assert!(whole(&error).contains("at most 1018 bytes"), "{}", whole(&error));
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named() {
    let blobs = S3Blobs::new(moto().await.s3().clone(), "slipway-nowhere", "");
    for error in [
        blobs.get("a").await.unwrap_err(),
        blobs.put("a", vec![1]).await.unwrap_err(),
    ] {
        let said = whole(&error);
        assert!(
            said.contains("slipway-nowhere") && said.contains("NoSuchBucket"),
            "{said}"
        );
    }
}
