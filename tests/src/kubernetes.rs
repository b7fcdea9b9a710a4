//! The development cluster, looked at with kubectl and Helm.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde_json::Value;
use xtask::cache::Share;
use xtask::cluster::RunningCluster;
use xtask::run::output;
use xtask::{cluster, tools, wait};

static SHARED: OnceLock<(RunningCluster, Share)> = OnceLock::new();

/// The cluster that all tests share. Each works in namespaces of its own, which go away with this value.
#[derive(Debug)]
pub struct Kubernetes {
    kubeconfig: PathBuf,
    cache: tempfile::TempDir,
    namespaces: Mutex<Vec<String>>,
}

impl Kubernetes {
    /// The cluster of `SLIPWAY_TEST_KUBECONFIG`; else the one named for tests, which is started when it does not run.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn shared() -> Self {
        let kubeconfig = match std::env::var_os("SLIPWAY_TEST_KUBECONFIG") {
            Some(file) => PathBuf::from(file),
            None => {
                let options = cluster::Options {
                    name: xtask::test_run::CLUSTER.to_owned(),
                    ..cluster::Options::default()
                };
                // Until this process ends, so that no other run takes it away meanwhile.
                let (running, _) = SHARED.get_or_init(|| cluster::join(&options).unwrap());
                running.kubeconfig.clone()
            }
        };
        Self {
            kubeconfig,
            cache: tempfile::tempdir().unwrap(),
            namespaces: Mutex::new(Vec::new()),
        }
    }

    /// Administrator's kubeconfig, as text.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        std::fs::read_to_string(&self.kubeconfig).unwrap()
    }

    /// Where that is.
    #[must_use]
    pub fn kubeconfig_file(&self) -> &std::path::Path {
        &self.kubeconfig
    }

    /// Removes a namespace when this value is dropped.
    ///
    /// # Panics
    /// Never.
    pub fn remove_later(&self, namespace: &str) {
        self.namespaces.lock().unwrap().push(namespace.to_owned());
    }

    pub(crate) fn kubectl_command(&self) -> Command {
        let mut command = Command::new(tools::kubectl().unwrap());
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(self.cache.path());
        command
    }

    /// What kubectl prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    #[must_use]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        output(self.kubectl_command().args(arguments)).unwrap()
    }

    /// Applies manifests.
    ///
    /// # Panics
    /// When kubectl fails.
    #[track_caller]
    pub fn apply(&self, manifests: &str) {
        let mut command = self.kubectl_command();
        xtask::run::output_with_input(command.args(["apply", "--filename=-"]), manifests).unwrap();
    }

    /// The objects of these kinds (`pods,services`) in a namespace.
    ///
    /// # Panics
    /// When kubectl fails.
    #[track_caller]
    #[must_use]
    pub fn objects(&self, kinds: &str, namespace: &str) -> Vec<Value> {
        let listed = self.kubectl(&["get", kinds, "--namespace", namespace, "--output=json"]);
        let list: Value = serde_json::from_str(&listed).unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Names of those objects, as `Kind/name`, sorted.
    ///
    /// # Panics
    /// When kubectl fails.
    #[track_caller]
    #[must_use]
    pub fn names(&self, kinds: &str, namespace: &str) -> Vec<String> {
        let mut names: Vec<String> = self.objects(kinds, namespace).iter().map(name_of).collect();
        names.sort();
        names
    }

    /// Whether there is such a namespace that is not being removed.
    ///
    /// # Panics
    /// When kubectl fails.
    #[track_caller]
    #[must_use]
    pub fn has_namespace(&self, name: &str) -> bool {
        let found = self.kubectl(&["get", "namespace", name, "--ignore-not-found", "--output=json"]);
        if found.trim().is_empty() {
            return false;
        }
        let found: Value = serde_json::from_str(&found).unwrap();
        found["status"]["phase"] != "Terminating"
    }

    /// Waits until a namespace is gone.
    ///
    /// # Panics
    /// When it stays.
    #[track_caller]
    pub fn wait_until_gone(&self, namespace: &str) {
        let gone = || Ok((!self.has_namespace(namespace)).then_some(()));
        wait::until(
            Duration::from_secs(60),
            &format!("the end of namespace {namespace}"),
            gone,
        )
        .unwrap();
    }

    /// What Helm prints, read as JSON.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    #[must_use]
    pub fn helm(&self, arguments: &[&str]) -> Value {
        let text = output(self.helm_command().args(arguments).arg("--output=json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// A Helm that works on this cluster.
    ///
    /// # Panics
    /// When there is no Helm.
    #[must_use]
    pub fn helm_command(&self) -> Command {
        let mut command = Command::new(tools::helm().unwrap());
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command
    }

    /// Releases in a namespace, in any state, as (name, status), sorted.
    ///
    /// # Panics
    /// When Helm fails.
    #[track_caller]
    #[must_use]
    pub fn releases(&self, namespace: &str) -> Vec<(String, String)> {
        let listed = self.helm(&["list", "--namespace", namespace]);
        let mut releases: Vec<_> = listed.as_array().unwrap().iter().map(release_of).collect();
        releases.sort();
        releases
    }

    /// The statuses of a release's revisions, oldest first.
    ///
    /// # Panics
    /// When Helm fails.
    #[track_caller]
    #[must_use]
    pub fn revisions(&self, namespace: &str, release: &str) -> Vec<String> {
        let history = self.helm(&["history", release, "--namespace", namespace]);
        let revisions = history.as_array().unwrap().iter();
        revisions
            .map(|revision| revision["status"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn name_of(object: &Value) -> String {
    format!(
        "{}/{}",
        object["kind"].as_str().unwrap_or_default(),
        object["metadata"]["name"].as_str().unwrap_or_default()
    )
}

fn release_of(release: &Value) -> (String, String) {
    let text = |key: &str| release[key].as_str().unwrap_or_default().to_owned();
    (text("name"), text("status"))
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        for namespace in self.namespaces.lock().unwrap().drain(..) {
            // A cluster that is gone needs no tidying.
            let _ = output(self.kubectl_command().args([
                "delete",
                "namespace",
                &namespace,
                "--ignore-not-found",
                "--wait=false",
            ]));
        }
    }
}
