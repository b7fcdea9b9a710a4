//! Blobs.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::BlobsSubject;

const KEY: &str = "charts/sha256:0a1b_c.tgz";

async fn put(subject: &BlobsSubject, key: &str, data: &[u8]) {
    subject.blobs.put(key, data.to_vec()).await.unwrap();
}

async fn get(subject: &BlobsSubject, key: &str) -> Option<Vec<u8>> {
    subject.blobs.get(key).await.unwrap()
}

pub async fn a_blob_is_read_back_to_the_byte(subject: &BlobsSubject) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let large = every_byte.repeat(8 * 1024);
    for data in [&[][..], b"text\r\n", &every_byte, &large] {
        put(subject, KEY, data).await;
        assert!(
            get(subject, KEY).await.as_deref() == Some(data),
            "{} bytes",
            data.len()
        );
    }
}

pub async fn an_absent_blob_is_nothing(subject: &BlobsSubject) {
    assert_eq!(get(subject, "no/such/blob").await, None);
}

pub async fn a_blob_is_replaced_as_a_whole(subject: &BlobsSubject) {
    put(subject, KEY, b"a long first content").await;
    put(subject, KEY, b"short").await;
    assert_eq!(get(subject, KEY).await.as_deref(), Some(&b"short"[..]));
}

pub async fn a_removed_blob_is_gone(subject: &BlobsSubject) {
    put(subject, KEY, b"1").await;
    subject.blobs.delete(KEY).await.unwrap();
    assert_eq!(get(subject, KEY).await, None);
}

pub async fn removing_an_absent_blob_is_no_error(subject: &BlobsSubject) {
    subject.blobs.delete(KEY).await.unwrap();
    subject.blobs.delete("never/was").await.unwrap();
}

pub async fn a_key_and_a_key_below_it_stay_apart(subject: &BlobsSubject) {
    for key in ["a", "a/b", "a/b/c", "a.b", "A"] {
        put(subject, key, key.as_bytes()).await;
    }
    subject.blobs.delete("a/b").await.unwrap();
    for key in ["a", "a/b/c", "a.b", "A"] {
        assert_eq!(get(subject, key).await.as_deref(), Some(key.as_bytes()));
    }
    assert_eq!(get(subject, "a/b").await, None);
}

pub async fn concurrent_writers_leave_one_whole_blob(subject: &BlobsSubject) {
    let mut writers = JoinSet::new();
    for writer in 0..8_u8 {
        let blobs = Arc::clone(&subject.blobs);
        writers.spawn(async move {
            blobs.put(KEY, vec![writer; 100_000]).await.unwrap();
            blobs.get(KEY).await.unwrap().unwrap()
        });
    }
    for seen in writers.join_all().await {
        assert_eq!(seen.len(), 100_000);
        assert!(seen.iter().all(|byte| *byte == seen[0]));
    }
}

pub async fn keys_that_are_no_paths_are_refused(subject: &BlobsSubject) {
    let long = "k".repeat(1025);
    let keys = [
        "",
        "/",
        "/etc/passwd",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../../b",
        "a/./b",
        "a b",
        "a\\b",
        "ä",
        "a\0b",
        "a@b",
        "a~",
        long.as_str(),
    ];
    for key in keys {
        let error = subject.blobs.put(key, vec![1]).await.expect_err(key);
        assert_eq!((error.key.as_str(), error.operation), (key, "written"));
        assert_eq!(subject.blobs.get(key).await.unwrap_err().operation, "read");
        assert_eq!(subject.blobs.delete(key).await.unwrap_err().operation, "removed");
    }
}
