//! Whether everything on the cluster belongs to somebody.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Kubernetes;

/// What the tiny chart installs, and what Helm writes down.
const KINDS: &str = "deployments,services,configmaps,secrets";

/// On every object of a deployment.
const DEPLOYMENT: &str = "slipway.dev/deployment-id";

impl Kubernetes {
    /// Nothing of a deployment is on the cluster but the objects and records of these releases in its namespace; no
    /// intention of any of them was ever deployed twice.
    ///
    /// # Panics
    /// When something else is there.
    #[track_caller]
    pub fn expect_only(&self, deployment: &str, namespace: &str, releases: &[String]) {
        let mut intents: BTreeMap<(String, String), usize> = BTreeMap::new();
        for object in self.objects(KINDS, namespace) {
            let name = object["metadata"]["name"].as_str().unwrap();
            if name == "kube-root-ca.crt" {
                continue;
            }
            let label = |name: &str| object["metadata"]["labels"][name].as_str().unwrap_or_default();
            let is_record = object["type"] == "helm.sh/release.v1";
            let (release, owner) = if is_record {
                (label("name"), label("slipway-deployment"))
            } else {
                (name, label(DEPLOYMENT))
            };
            assert!(
                releases.iter().any(|known| known == release),
                "a stray: {object:#}"
            );
            assert_eq!(owner, deployment, "whose is this? {object:#}");
            if is_record && ["deployed", "superseded"].contains(&label("status")) {
                let intent = (release.to_owned(), label("slipway-job").to_owned());
                *intents.entry(intent).or_default() += 1;
            }
        }
        assert!(
            intents.values().all(|deployed| *deployed == 1),
            "deployed twice for one job: {intents:?}"
        );
        let selector = format!("{DEPLOYMENT}={deployment}");
        let everywhere = format!("{KINDS},persistentvolumeclaims,pods,namespaces");
        let listed = self.kubectl(&[
            "get",
            &everywhere,
            "--all-namespaces",
            "--selector",
            &selector,
            "--output=json",
        ]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        for object in listed["items"].as_array().unwrap() {
            let place = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
            let is_gone = object["metadata"]["deletionTimestamp"].is_string();
            assert!(
                place == namespace && (!releases.is_empty() || is_gone),
                "a stray: {object:#}"
            );
        }
    }
}
