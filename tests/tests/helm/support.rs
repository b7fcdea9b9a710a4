//! What the tests of Helm share: the binary, charts made on the spot, targets, requests.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use slipway_helm::{Gate, Helm, HelmConnector, HelmSettings, RenderStore, package_directory};
use slipway_model::{Cluster, ClusterTarget, CrdPolicy, DeploymentId, ImmutablePolicy, TenantId, Timestamp};
use slipway_ports::{
    Blobs as _, Connector as _, Release, ReleaseRequest, SecretString, Target, UninstallRequest,
};
use slipway_testkit::memory::SimpleBlobs;

/// The Helm binary of the test run, or the one in the cache.
pub(crate) async fn helm(settings: HelmSettings) -> Helm {
    let path = match std::env::var_os("SLIPWAY_HELM") {
        Some(path) => PathBuf::from(path),
        None => xtask::tools::helm().unwrap(),
    };
    Helm::locate(Some(&path), settings).await.unwrap()
}

/// The kubeconfig of the cluster that all tests share.
pub(crate) fn kubeconfig() -> PathBuf {
    slipway_tests::Kubernetes::shared().kubeconfig_file().to_owned()
}

/// A chart that is written file by file.
pub(crate) struct Chart {
    folder: tempfile::TempDir,
}

impl Chart {
    pub(crate) fn new(name: &str) -> Self {
        Self::with_version(name, "1.0.0")
    }

    pub(crate) fn with_version(name: &str, version: &str) -> Self {
        let chart = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        chart.file(
            "Chart.yaml",
            &format!("apiVersion: v2\nname: {name}\nversion: {version}\n"),
        )
    }

    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn pack(&self) -> Vec<u8> {
        package_directory(self.folder.path()).unwrap()
    }
}

/// A template that works for longer than anybody waits, and does not notice SIGTERM meanwhile.
pub(crate) const LOOP: &str =
    "{{ range until 9000 }}{{ range until 9000 }}{{ range until 9000 }}{{ end }}{{ end }}{{ end }}";

/// The number that stands for a test's deployment, so that namespaces and labels of tests differ.
pub(crate) fn deployment(number: u32) -> DeploymentId {
    format!("{:08x}-{number:04x}-4000-8000-000000000000", std::process::id())
        .parse()
        .unwrap()
}

/// A registered cluster.
pub(crate) fn registered(target: ClusterTarget) -> Cluster {
    Cluster {
        id: "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b".parse().unwrap(),
        name: "test".to_owned(),
        target,
        ingress_url: None,
        created_at: Timestamp::from_millis(0),
    }
}

/// The folder under which a `render` target keeps its releases.
pub(crate) fn kept(directory: &Path) -> PathBuf {
    directory.join(registered(ClusterTarget::Render).id.to_string())
}

/// A place where a `render` target keeps what it renders.
pub(crate) struct Renders {
    folder: tempfile::TempDir,
    blobs: Option<Arc<SimpleBlobs>>,
}

impl Renders {
    /// One of each kind.
    pub(crate) fn every_kind() -> [Self; 2] {
        [None, Some(Arc::default())].map(|blobs| Self {
            folder: tempfile::tempdir().unwrap(),
            blobs,
        })
    }

    pub(crate) fn store(&self) -> RenderStore {
        match &self.blobs {
            None => RenderStore::from(self.folder.path()),
            Some(blobs) => RenderStore::Blobs(blobs.clone(), String::new()),
        }
    }

    /// What the test's cluster has there: contents by path.
    pub(crate) async fn kept(&self) -> BTreeMap<String, String> {
        let root = format!("{}/", registered(ClusterTarget::Render).id);
        let mut kept = BTreeMap::new();
        match &self.blobs {
            None => walk(self.folder.path(), self.folder.path(), &mut kept),
            Some(blobs) => {
                for key in blobs.keys() {
                    let data = blobs.get(&key).await.unwrap().unwrap();
                    kept.insert(key, String::from_utf8(data).unwrap());
                }
            }
        }
        kept.into_iter()
            .map(|(path, text)| (path.strip_prefix(&root).unwrap().to_owned(), text))
            .collect()
    }
}

fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(root, &path, found);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.insert(name, fs::read_to_string(path).unwrap());
        }
    }
}

pub(crate) async fn render_target(
    settings: HelmSettings,
    renders: impl Into<RenderStore>,
    gate: Option<Gate>,
) -> Arc<dyn Target> {
    let mut connector = HelmConnector::new(helm(settings).await, renders);
    if let Some(gate) = gate {
        connector = connector.with_gate(gate);
    }
    connect(&connector).await
}

/// A `render` target without Helm.
pub(crate) async fn bare_render_target(renders: impl Into<RenderStore>) -> Arc<dyn Target> {
    connect(&HelmConnector::without_helm(renders)).await
}

async fn connect(connector: &HelmConnector) -> Arc<dyn Target> {
    connector
        .connect(&TenantId::local(), &registered(ClusterTarget::Render), None)
        .await
        .unwrap()
}

/// A target for the cluster of the test run, or for another kubeconfig.
pub(crate) async fn cluster_target(
    work_directory: &Path,
    kubeconfig: Option<String>,
    gate: Option<Gate>,
) -> Arc<dyn Target> {
    let mut connector = HelmConnector::new(helm(HelmSettings::new(work_directory)).await, work_directory);
    if let Some(gate) = gate {
        connector = connector.with_gate(gate);
    }
    connect_to_cluster(&connector, kubeconfig).await
}

/// A target for the cluster of the test run, without Helm.
pub(crate) async fn bare_cluster_target(work_directory: &Path) -> Arc<dyn Target> {
    connect_to_cluster(&HelmConnector::without_helm(work_directory), None).await
}

async fn connect_to_cluster(connector: &HelmConnector, kubeconfig: Option<String>) -> Arc<dyn Target> {
    let kubeconfig = kubeconfig.unwrap_or_else(|| fs::read_to_string(self::kubeconfig()).unwrap());
    connector
        .connect(
            &TenantId::local(),
            &registered(ClusterTarget::Kubeconfig { context: None }),
            Some(&SecretString::from(kubeconfig)),
        )
        .await
        .unwrap()
}

/// A request to install or upgrade, for the deployment of that number in a namespace of its own.
#[expect(
    clippy::needless_pass_by_value,
    reason = "values are written where they are used"
)]
pub(crate) fn request(number: u32, chart: &Chart, values: Value) -> ReleaseRequest {
    let deployment = deployment(number);
    ReleaseRequest {
        release: release(number),
        chart: chart.pack(),
        values: values.as_object().unwrap().clone(),
        secrets: Vec::new(),
        labels: BTreeMap::from([
            ("slipway-job".to_owned(), format!("job-{number}")),
            ("slipway-fence".to_owned(), "7".to_owned()),
        ]),
        deployment: Some(deployment),
        create_namespace: true,
        crds: CrdPolicy::Create,
        immutable: ImmutablePolicy::Stop,
        adopt: false,
        leftovers: Vec::new(),
        time_limit: Duration::from_secs(60),
    }
}

pub(crate) fn release(number: u32) -> Release {
    Release {
        namespace: format!("uc-{}-{number}", deployment(number).short()),
        name: "app".to_owned(),
    }
}

/// Uninstalls until nothing remains, the namespace included.
pub(crate) async fn remove(target: &dyn Target, number: u32) {
    let request = UninstallRequest {
        release: release(number),
        leftovers: Vec::new(),
        namespace_of: Some(deployment(number)),
        keep_record: false,
        time_limit: Duration::from_secs(60),
    };
    for _ in 0..2_000 {
        if target.uninstall(&request).await.unwrap().remaining.is_empty() {
            return;
        }
    }
    panic!("something of {} remains", request.release);
}

/// Private directories of Helm that are still there.
pub(crate) fn left_behind(work_directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(work_directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("slipway-helm-")
        })
        .collect()
}
