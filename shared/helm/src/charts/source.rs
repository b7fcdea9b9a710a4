//! Pulling charts.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use serde_json::json;
use slipway_model::TenantId;
use slipway_ports::{ChartError, ChartSource, FailureClass, PulledChart, Secrets};
use url::Url;

use super::{
    constraint,
    credentials::HostAccess,
    index::{archive_url, authority},
    reference::{Place, Reference},
};
use crate::{
    archive::{LARGEST_ARCHIVE, chart_version, check_archive, package_directory},
    binary::{Finished, Helm, Redactor, Workspace, run, to_error},
};

/// Where Helm keeps the index of the repository that it is given here.
const INDEX: &str = "cache/repository/source-index.yaml";

/// How long one pull may take.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// What registries and repositories say when a repeat is pointless.
const REFUSALS: &[&str] = &[
    "not found",
    "404",
    "401",
    "403",
    "unauthorized",
    "forbidden",
    "denied",
    "could not locate a version",
    "no chart version found",
    "no chart name found",
    "improper constraint",
    "invalid",
    "manifest does not contain",
    "certificate",
    "server gave http response to https client",
];

/// The charts that come with Slipway.
#[derive(Debug, Clone)]
pub enum BundledCharts {
    /// A folder with one folder per chart; packed when used.
    Directory(PathBuf),
    /// Packed already, by name.
    Packed(BTreeMap<String, Vec<u8>>),
}

/// What is said of a host, `name` or `name:port`, that a repository sends on to: whether it is asked without TLS; or a
/// sentence why no chart may come from there.
pub type HostRule = Arc<dyn Fn(&str) -> Result<bool, String> + Send + Sync>;

/// Charts, from wherever a reference says. Whether its host may be asked is decided by the caller before; a host that
/// a repository's index names besides is asked only if the rule allows it.
pub struct Charts {
    helm: Option<Helm>,
    bundled: BundledCharts,
    plain_http: BTreeSet<String>,
    hosts: Option<HostRule>,
    secrets: Option<Arc<dyn Secrets>>,
}

impl Charts {
    /// A source of charts that reaches every registry over TLS and without credentials.
    pub fn new(helm: Helm, bundled: BundledCharts) -> Self {
        Self::of(Some(helm), bundled)
    }

    /// For a part of the control plane that has no Helm binary: bundled charts only, any other is refused.
    pub fn without_helm(bundled: BundledCharts) -> Self {
        Self::of(None, bundled)
    }

    fn of(helm: Option<Helm>, bundled: BundledCharts) -> Self {
        Self {
            helm,
            bundled,
            plain_http: BTreeSet::new(),
            hosts: None,
            secrets: None,
        }
    }

    /// Hosts (`name` or `name:port`) that are asked without TLS.
    #[must_use]
    pub fn with_plain_http(mut self, hosts: impl IntoIterator<Item = String>) -> Self {
        self.plain_http.extend(hosts);
        self
    }

    /// Asks the rule about every host that a repository's index names; without one, only the repository's own host is
    /// asked.
    #[must_use]
    pub fn with_hosts(mut self, rule: HostRule) -> Self {
        self.hosts = Some(rule);
        self
    }

    /// Takes credentials and certificate authorities from the secrets store: for each host the secret
    /// `registries/<host>` (a `:` before the port being a `_`), a JSON object with `username`, `password` and `ca`
    /// (PEM), each optional.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Arc<dyn Secrets>) -> Self {
        self.secrets = Some(secrets);
        self
    }

    fn bundled(&self, name: &str) -> Result<Vec<u8>, String> {
        let known = |names: Vec<String>| {
            format!(
                "no bundled chart has that name; there are: {}",
                if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                }
            )
        };
        match &self.bundled {
            BundledCharts::Packed(charts) => charts
                .get(name)
                .cloned()
                .ok_or_else(|| known(charts.keys().cloned().collect())),
            BundledCharts::Directory(directory) => {
                let folder = directory.join(name);
                if folder.join("Chart.yaml").is_file() {
                    return package_directory(&folder).map_err(|error| crate::chain(&error));
                }
                let mut names: Vec<String> = fs::read_dir(directory)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .filter(|entry| entry.path().join("Chart.yaml").is_file())
                    .map(|entry| entry.file_name().to_string_lossy().into_owned())
                    .collect();
                names.sort();
                Err(known(names))
            }
        }
    }

    async fn access(&self, tenant: &TenantId, host: &str) -> Result<HostAccess, PullError> {
        let stored = match &self.secrets {
            Some(secrets) => HostAccess::of(&**secrets, tenant, host)
                .await
                .map_err(PullError::Unavailable)?,
            None => None,
        };
        Ok(stored.unwrap_or(HostAccess {
            username: None,
            password: None,
            ca: None,
        }))
    }

    async fn fetch(
        &self,
        tenant: &TenantId,
        reference: &Reference,
        version: Option<&str>,
    ) -> Result<Vec<u8>, PullError> {
        if let Place::Bundled { name } = &reference.place {
            return self.bundled(name).map_err(PullError::Refused);
        }
        let helm = self.helm.as_ref().ok_or_else(|| {
            PullError::Refused(
                "it is pulled with the Helm binary, which this part of the control plane does not have: only the worker of the 'deploy-helm' queue pulls charts".to_owned(),
            )
        })?;
        let workspace = Workspace::new(helm)
            .map_err(|error| PullError::Unavailable(format!("no private directory can be made: {error}")))?;
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::WouldBlock => PullError::Queued(error.to_string()),
            _ => PullError::Unavailable(format!("Helm cannot be run: {error}")),
        };
        let mut arguments: Vec<OsString> = vec!["pull".into()];
        match &reference.place {
            // Packed above, without Helm.
            Place::Bundled { .. } => {}
            Place::Oci { host, path } => {
                let access = self.access(tenant, host).await?;
                access.write_registry_config(&workspace, host).map_err(failed)?;
                if let Some(ca) = &access.ca {
                    let file = workspace.write("ca.pem", ca.as_bytes()).map_err(failed)?;
                    arguments.extend(["--ca-file".into(), file.into()]);
                }
                let digest = reference.digest.as_ref().map(|digest| format!("@{digest}"));
                arguments.push(format!("oci://{host}/{path}{}", digest.unwrap_or_default()).into());
                if self.is_plain(host) {
                    arguments.push("--plain-http".into());
                }
            }
            Place::Archive { host, path } => {
                let url = format!("{}://{host}/{path}", self.scheme(host));
                let pinned = self.pinned(tenant, &workspace, host, &url).await?;
                arguments.extend(pinned);
            }
            Place::Repository { host, path, chart } => {
                let url = format!("{}://{host}/{path}", self.scheme(host));
                let access = self.access(tenant, host).await?;
                let file = access
                    .write_repositories(&workspace, url.trim_end_matches('/'))
                    .map_err(failed)?;
                let file = ["--repository-config".into(), OsString::from(file)];
                let mut update: Vec<OsString> = vec!["repo".into(), "update".into(), "source".into()];
                update.extend(file.clone());
                let finished = run(helm, &workspace, &update, TIME_LIMIT, TIME_LIMIT)
                    .await
                    .map_err(failed)?;
                if !finished.succeeded() {
                    // The reason stands in its output, its complaint says only that there was one.
                    let reason = String::from_utf8_lossy(&finished.stdout);
                    let reason = reason.lines().skip_while(|line| !line.starts_with("...Unable"));
                    let stderr = format!("Error: {}", reason.collect::<Vec<_>>().join("\n"));
                    return Err(classify(&Finished { stderr, ..finished }, "helm repo update"));
                }
                let index = fs::read_to_string(workspace.path().join(INDEX)).map_err(failed)?;
                let url = archive_url(&index, &url, chart, version).map_err(PullError::Refused)?;
                self.judge(host, &url).map_err(PullError::Refused)?;
                let place = authority(&url);
                if url.scheme() == "oci" {
                    let access = self.access(tenant, &place).await?;
                    access.write_registry_config(&workspace, &place).map_err(failed)?;
                    if let Some(ca) = &access.ca {
                        let file = workspace.write("ca.pem", ca.as_bytes()).map_err(failed)?;
                        arguments.extend(["--ca-file".into(), file.into()]);
                    }
                    if self.is_plain(&place) {
                        arguments.push("--plain-http".into());
                    }
                    arguments.push(url.as_str().into());
                } else {
                    let pinned = self.pinned(tenant, &workspace, &place, url.as_str()).await?;
                    arguments.extend(pinned);
                }
            }
        }
        let config = workspace.path().join("registry.json");
        arguments.extend(["--registry-config".into(), config.into()]);
        // Of a repository the version is chosen already.
        let takes_version = reference.digest.is_none() && matches!(reference.place, Place::Oci { .. });
        if let Some(version) = version.filter(|_| takes_version) {
            arguments.extend(["--version".into(), version.into()]);
        }
        let out = workspace.path().join("pulled");
        fs::create_dir(&out).map_err(failed)?;
        arguments.extend(["--destination".into(), out.clone().into()]);
        let finished = run(helm, &workspace, &arguments, TIME_LIMIT, TIME_LIMIT)
            .await
            .map_err(failed)?;
        if !finished.succeeded() {
            return Err(classify(&finished, "helm pull"));
        }
        let file = fs::read_dir(&out)
            .map_err(failed)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|end| end == "tgz"))
            .ok_or_else(|| PullError::Refused("what came is not a chart".to_owned()))?;
        let size = fs::metadata(&file).map_err(failed)?.len();
        if size > LARGEST_ARCHIVE as u64 {
            return Err(PullError::Refused(format!(
                "it has {} MiB packed: at most {} MiB",
                size >> 20,
                LARGEST_ARCHIVE >> 20
            )));
        }
        fs::read(file).map_err(failed)
    }

    /// What has Helm fetch one archive with the credentials of its host, none of which stand among the arguments: a
    /// repository whose index has nothing else.
    async fn pinned(
        &self,
        tenant: &TenantId,
        workspace: &Workspace,
        host: &str,
        url: &str,
    ) -> Result<[OsString; 3], PullError> {
        let failed = |error: std::io::Error| PullError::Unavailable(format!("Helm cannot be run: {error}"));
        let access = self.access(tenant, host).await?;
        let scheme = url.split_once("://").map_or("https", |(scheme, _)| scheme);
        let file = access
            .write_repositories(workspace, &format!("{scheme}://{host}"))
            .map_err(failed)?;
        let entry = json!({"apiVersion": "v2", "name": "chart", "version": "1.0.0", "urls": [url]});
        let index = json!({"apiVersion": "v1", "entries": {"chart": [entry]}});
        fs::create_dir_all(workspace.path().join("cache/repository")).map_err(failed)?;
        workspace
            .write(INDEX, index.to_string().as_bytes())
            .map_err(failed)?;
        Ok(["source/chart".into(), "--repository-config".into(), file.into()])
    }

    /// Whether an archive may be fetched from where the index of a repository of `host` has it.
    fn judge(&self, host: &str, url: &Url) -> Result<(), String> {
        let place = authority(url);
        let own = url.scheme() == self.scheme(host) && place == host;
        if own {
            return Ok(());
        }
        let sent = format!(
            "the repository at {host} has the chart at {}://{place}",
            url.scheme()
        );
        let is_plain = match &self.hosts {
            Some(rule) => rule(&place).map_err(|refused| format!("{sent}: {refused}"))?,
            None => return Err(format!("{sent}, another host than its own")),
        };
        if url.scheme() == "http" && !is_plain {
            return Err(format!(
                "{sent}, which is without TLS; an administrator allows that with SLIPWAY_CHART_HOSTS=http://{place}"
            ));
        }
        Ok(())
    }

    fn is_plain(&self, host: &str) -> bool {
        self.plain_http.contains(host) || self.hosts.as_ref().is_some_and(|rule| rule(host) == Ok(true))
    }

    fn scheme(&self, host: &str) -> &'static str {
        if self.is_plain(host) { "http" } else { "https" }
    }
}

enum PullError {
    Refused(String),
    Unavailable(String),
    Queued(String),
}

fn classify(finished: &Finished, doing: &str) -> PullError {
    let error = to_error(finished, doing, &Redactor::default());
    let message = error.to_string();
    let lower = message.to_lowercase();
    if error.class() == FailureClass::Permanent && REFUSALS.iter().any(|word| lower.contains(word)) {
        let advice = if ["401", "403", "unauthorized", "denied", "forbidden"]
            .iter()
            .any(|word| lower.contains(word))
        {
            "; store credentials of the host, or check that those stored may read it"
        } else {
            "; check name and version"
        };
        return PullError::Refused(format!("{message}{advice}"));
    }
    PullError::Unavailable(format!("{message}; check that the host can be reached from here"))
}

#[async_trait]
impl ChartSource for Charts {
    async fn pull(
        &self,
        tenant: &TenantId,
        reference: &str,
        version: Option<&str>,
    ) -> Result<PulledChart, ChartError> {
        let refused = |reason: String| ChartError::Refused {
            reference: reference.to_owned(),
            reason,
        };
        let parsed = Reference::parse(reference).map_err(refused)?;
        let archive = self
            .fetch(tenant, &parsed, version)
            .await
            .map_err(|error| match error {
                PullError::Refused(reason) => refused(reason),
                PullError::Unavailable(reason) => ChartError::Unavailable {
                    reference: reference.to_owned(),
                    reason,
                },
                PullError::Queued(reason) => ChartError::Queued {
                    reference: reference.to_owned(),
                    reason,
                },
            })?;
        let checked = check_archive(&archive).map_err(|error| refused(crate::chain(&error)))?;
        if let Some(constraint) = version {
            let version = chart_version(&checked.version).ok_or_else(|| {
                refused(format!(
                    "its version '{}' is not a semantic version",
                    checked.version
                ))
            })?;
            if !constraint::meets(constraint, &version).map_err(refused)? {
                return Err(refused(format!(
                    "it has version {}, which does not meet '{constraint}'",
                    checked.version
                )));
            }
        }
        // A registry's digest is that of its own manifest, which Helm has compared.
        let own_digest = parsed
            .digest
            .filter(|_| !matches!(parsed.place, Place::Oci { .. }));
        if let Some(wanted) = own_digest.filter(|wanted| *wanted != checked.digest) {
            return Err(refused(format!("its digest is {}, not {wanted}", checked.digest)));
        }
        Ok(PulledChart {
            name: checked.name,
            version: checked.version,
            digest: checked.digest,
            archive,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(stderr: &str) -> PullError {
        let finished = Finished {
            code: Some(1),
            stdout: Vec::new(),
            overflowed: false,
            stderr: stderr.to_owned(),
            timed_out: false,
        };
        classify(&finished, "helm pull")
    }

    #[tokio::test]
    async fn without_helm_bundled_charts_are_there_and_others_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("demo")).unwrap();
        let chart = "apiVersion: v2\nname: demo\nversion: 1.2.3\n";
        fs::write(folder.path().join("demo/Chart.yaml"), chart).unwrap();
        let charts = Charts::without_helm(BundledCharts::Directory(folder.path().to_owned()));
        let tenant = TenantId::local();
        let pulled = charts.pull(&tenant, "charts/demo", Some("^1")).await.unwrap();
        assert_eq!((pulled.name.as_str(), pulled.version.as_str()), ("demo", "1.2.3"));
        let error = charts
            .pull(&tenant, "oci://r.example/demo", None)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, ChartError::Refused { reason, .. } if reason.contains("Helm binary")),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_there_is_refused_and_what_does_not_answer_may_be_asked_again() {
        assert!(matches!(
            failed("Error: r.example/demo:1.0.0: not found"),
            PullError::Refused(_)
        ));
        assert!(matches!(
            failed("Error: response status code 401: Unauthorized"),
            PullError::Refused(reason) if reason.contains("credentials")
        ));
        assert!(matches!(
            failed(
                "Error: Get \"https://r.example/v2/\": dial tcp 10.0.0.1:443: connect: connection refused"
            ),
            PullError::Unavailable(_)
        ));
        assert!(matches!(
            failed("Error: 503 Service Unavailable"),
            PullError::Unavailable(_)
        ));
    }
}
