//! What a part of the control plane can do that has no Helm binary, on a real API server.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use slipway_model::ImmutablePolicy;
use slipway_ports::{FailureClass, HookEvent, HookSource, RollbackRequest, UninstallRequest};

use crate::{
    cluster::{kubectl, target, until_ready, web},
    support::{bare_cluster_target, deployment, release, remove, request},
};

#[tokio::test]
async fn without_helm_releases_are_looked_at_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path()).await;
    let request = request(31, &web(), json!({}));
    let applied = target.apply(&request).await.unwrap();

    let bare = bare_cluster_target(folder.path()).await;
    assert!(bare.health().await.unwrap().healthy);
    assert_eq!(bare.identity().await.unwrap(), target.identity().await.unwrap());
    until_ready(&*bare, &release(31), &applied.objects).await;
    let record = bare.record(&release(31)).await.unwrap();
    assert_eq!(record, target.record(&release(31)).await.unwrap());
    let outputs = BTreeMap::new();
    let found = bare
        .collect(&release(31), &applied.objects, &outputs, None)
        .await
        .unwrap();
    assert!(!found.services.is_empty());
    bare.logs(&release(31)).await.unwrap();

    let limit = Duration::from_secs(10);
    let gone = UninstallRequest {
        release: release(31),
        leftovers: Vec::new(),
        namespace_of: Some(deployment(31)),
        keep_record: false,
        time_limit: limit,
    };
    let back = RollbackRequest {
        release: release(31),
        revision: 1,
        newest_before: 1,
        labels: BTreeMap::new(),
        immutable: ImmutablePolicy::Stop,
        time_limit: limit,
    };
    for error in [
        bare.check(&request).await.unwrap_err(),
        bare.apply(&request).await.unwrap_err(),
        bare.uninstall(&gone).await.unwrap_err(),
        bare.rollback(&back).await.unwrap_err(),
        bare.hooks(
            &release(31),
            HookEvent::PreUpgrade,
            HookSource::Rendered(&request),
        )
        .await
        .unwrap_err(),
    ] {
        assert_eq!(error.class(), FailureClass::Permanent, "{error}");
        assert!(error.to_string().contains("needs the Helm binary"), "{error}");
    }
    assert_eq!(bare.record(&release(31)).await.unwrap(), record);

    let elsewhere = crate::support::request(32, &web(), json!({}));
    bare.apply(&elsewhere).await.unwrap_err();
    let namespace = &elsewhere.release.namespace;
    assert_eq!(
        kubectl(&["get", "namespace", namespace, "--ignore-not-found"]),
        ""
    );
    remove(&*target, 31).await;
}
