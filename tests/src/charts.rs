//! Tiny charts.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use xtask::run::output;
use xtask::tools;

use crate::Registry;

/// A chart in a folder, to be pushed to a registry.
#[derive(Debug)]
pub struct Chart {
    folder: TempDir,
    name: String,
    version: String,
}

/// A Deployment, a Service, a ConfigMap that shows values, and, where asked for, a volume claim and a test pod. What
/// the pods do is said by annotations, as the stages of the development cluster read them.
const OBJECTS: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
  labels: {app.kubernetes.io/instance: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app.kubernetes.io/instance: {{ .Release.Name }}}}
  template:
    metadata:
      labels: {app.kubernetes.io/instance: {{ .Release.Name }}}
      annotations:
        round: {{ .Values.round | quote }}
        {{- with .Values.behaviour }}
        dev.slipway/pod: {{ . | quote }}
        {{- end }}
        {{- with .Values.readyAfter }}
        dev.slipway/ready-after: {{ . | quote }}
        {{- end }}
    spec:
      containers:
        - name: main
          image: example.org/tiny:1
          ports: [{name: http, containerPort: 8080}]
          {{- with .Values.requests }}
          resources: {requests: {{ toJson . }}}
          {{- end }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ .Release.Name }}
  labels: {app.kubernetes.io/instance: {{ .Release.Name }}}
spec:
  selector: {app.kubernetes.io/instance: {{ .Release.Name }}}
  ports: [{name: http, port: 8080, targetPort: http}]
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}
  labels: {app.kubernetes.io/instance: {{ .Release.Name }}}
data:
  shown: {{ .Values.shown | toJson | quote }}
  color: {{ .Values.color | quote }}
{{- with .Values.claim }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ $.Release.Name }}-data
  annotations: {helm.sh/resource-policy: keep}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: {{ . }}}}
{{- end }}
"#;

const TEST: &str = r#"{{- if .Values.test }}
apiVersion: v1
kind: Pod
metadata:
  name: {{ .Release.Name }}-test
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation
    {{- if eq .Values.test "fail" }}
    dev.slipway/pod: crash
    {{- end }}
spec:
  restartPolicy: Never
  containers: [{name: main, image: example.org/tiny:1}]
{{- end }}
"#;

const VALUES: &str = "replicas: 1
round: 1
behaviour: ''
readyAfter: ''
requests: {}
shown: {}
color: ''
claim: ''
test: ''
";

impl Chart {
    /// `tiny` 1.0.0: one Deployment with a Service. Values: `replicas`; `behaviour` (`image-pull`, `crash`,
    /// `never-ready`); `readyAfter` (`2s`); `requests`; `shown` and `color`, which stand in a ConfigMap; `round`, which
    /// makes new pods; `claim`, the size of a volume claim; `test`, `pass` or `fail`.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn tiny() -> Self {
        Self::of("tiny", "1.0.0", &[("objects.yaml", OBJECTS), ("test.yaml", TEST)])
            .with("values.yaml", VALUES)
    }

    /// A chart with these templates.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn of(name: &str, version: &str, templates: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join(name);
        fs::create_dir_all(root.join("templates")).unwrap();
        let about = format!("apiVersion: v2\nname: {name}\nversion: {version}\n");
        fs::write(root.join("Chart.yaml"), about).unwrap();
        for (file, text) in templates {
            fs::write(root.join("templates").join(file), text).unwrap();
        }
        Self {
            folder,
            name: name.to_owned(),
            version: version.to_owned(),
        }
    }

    /// The same with a further file.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn with(self, file: &str, text: &str) -> Self {
        let path = self.root().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn root(&self) -> std::path::PathBuf {
        self.folder.path().join(&self.name)
    }

    /// Packages it and pushes it; returns its reference.
    ///
    /// # Panics
    /// When Helm refuses it or the registry does not take it.
    #[track_caller]
    #[must_use]
    pub fn push(&self, registry: &Registry) -> String {
        let out = self.folder.path();
        output(
            helm(out)
                .arg("package")
                .arg(self.root())
                .arg("--destination")
                .arg(out),
        )
        .unwrap();
        let package = out.join(format!("{}-{}.tgz", self.name, self.version));
        let repository = format!("oci://{}/charts", registry.address());
        output(
            helm(out)
                .arg("push")
                .arg(package)
                .args([repository.as_str(), "--plain-http"]),
        )
        .unwrap();
        format!("{repository}/{}", self.name)
    }
}

/// A Helm that leaves nothing outside of a folder.
fn helm(folder: &Path) -> Command {
    let mut command = Command::new(tools::helm().unwrap());
    command
        .env("HELM_CACHE_HOME", folder.join("cache"))
        .env("HELM_CONFIG_HOME", folder.join("config"))
        .env("HELM_DATA_HOME", folder.join("data"));
    command
}
