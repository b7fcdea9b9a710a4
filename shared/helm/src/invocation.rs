//! One invocation of Helm for a release: its files, its arguments, its gate, its errors.

use std::{ffi::OsString, io, time::Duration};

use slipway_model::JsonMap;
use slipway_ports::{Release, ReleaseRequest, TargetError};

use tokio::time::Instant;

use crate::{
    archive::{CheckedArchive, check_archive},
    binary::{Finished, Helm, Redactor, Workspace, run, to_error},
    gate::{Gatekeeper, PLUGIN, ReleaseGate},
};

/// How long a place for Helm is waited for before it is said that others have them all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Less time than this is not worth beginning with.
const SHORTEST: Duration = Duration::from_secs(5);

/// How long an operation may take that runs Helm more than once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    whole: Duration,
    until: Instant,
}

impl Budget {
    /// Begins now.
    pub(crate) fn of(whole: Duration) -> Self {
        Self {
            whole,
            until: Instant::now() + whole,
        }
    }

    /// What is left for what comes after Helm.
    pub(crate) fn rest(self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// What is left, or an error that it is too little to begin with: then another invocation goes on.
    pub(crate) fn left(self, release: &Release, operation: &str) -> Result<Duration, TargetError> {
        let left = self.rest();
        if left < SHORTEST.min(self.whole / 2) {
            return Err(TargetError::transient(format!(
                "no time was left for helm {operation} of {release}: the {} s of this invocation were spent on what comes before it",
                self.whole.as_secs()
            )));
        }
        Ok(left)
    }
}

/// How many revisions Helm keeps.
pub(crate) const HISTORY: &str = "10";

/// An invocation that is being put together.
pub(crate) struct Invocation<'a> {
    helm: &'a Helm,
    release: &'a Release,
    operation: &'static str,
    workspace: Workspace,
    arguments: Vec<OsString>,
    redactor: Redactor,
}

impl<'a> Invocation<'a> {
    /// Begins with `helm <operation>`.
    pub(crate) fn new(
        helm: Option<&'a Helm>,
        release: &'a Release,
        operation: &'static str,
    ) -> Result<Self, TargetError> {
        refuse_odd_names(release)?;
        let helm = require_helm(helm, release, operation)?;
        let workspace = Workspace::new(helm).map_err(|error| unusable(operation, &error))?;
        Ok(Self {
            helm,
            release,
            operation,
            workspace,
            arguments: operation.split(' ').map(OsString::from).collect(),
            redactor: Redactor::default(),
        })
    }

    /// Adds arguments.
    #[must_use]
    pub(crate) fn with<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds the release's name and namespace.
    #[must_use]
    pub(crate) fn with_release(self) -> Self {
        let (name, namespace) = (self.release.name.clone(), self.release.namespace.clone());
        self.with([name, "--namespace".to_owned(), namespace])
    }

    /// Adds the kubeconfig.
    pub(crate) fn with_kubeconfig(self, kubeconfig: &[u8]) -> Result<Self, TargetError> {
        self.workspace
            .write("kubeconfig", kubeconfig)
            .map_err(|error| unusable(self.operation, &error))?;
        Ok(self)
    }

    /// Adds name, namespace, chart and values of a request.
    pub(crate) fn with_request(self, request: &ReleaseRequest) -> Result<Self, TargetError> {
        self.with_chart(&request.chart, &request.values)
    }

    /// Adds name, namespace, a packaged chart and values.
    pub(crate) fn with_chart(mut self, chart: &[u8], values: &JsonMap) -> Result<Self, TargetError> {
        self.redactor = Redactor::of_values(values);
        let write = || -> io::Result<_> {
            let chart = self.workspace.write("chart.tgz", chart)?;
            Ok((chart, self.workspace.write_values(values)?))
        };
        let (chart, values) = write().map_err(|error| unusable(self.operation, &error))?;
        let release = self.release;
        Ok(self.with::<OsString>([
            release.name.clone().into(),
            chart.into(),
            "--namespace".into(),
            release.namespace.clone().into(),
            "--values".into(),
            values.into(),
        ]))
    }

    /// Runs it; an exit code other than zero is an error.
    pub(crate) async fn run(
        self,
        limit: Duration,
        gate: Option<&ReleaseGate>,
    ) -> Result<Finished, TargetError> {
        let (finished, error) = self.finish(limit, gate).await?;
        error.map_or(Ok(finished), Err)
    }

    /// As `run`, with what Helm printed also when it failed.
    pub(crate) async fn finish(
        mut self,
        limit: Duration,
        gate: Option<&ReleaseGate>,
    ) -> Result<(Finished, Option<TargetError>), TargetError> {
        let failed = |error: &io::Error| unusable(self.operation, error);
        let mut refusal = None;
        let finished = match gate {
            None => run(self.helm, &self.workspace, &self.arguments, PATIENCE, limit).await,
            Some(gate) => {
                let keeper = Gatekeeper::prepare(&self.workspace).map_err(|error| failed(&error))?;
                self.arguments.extend(["--post-renderer".into(), PLUGIN.into()]);
                tokio::select! {
                    finished = run(self.helm, &self.workspace, &self.arguments, PATIENCE, limit) => finished,
                    () = keeper.keep(gate, self.release, &mut refusal) => {
                        Err(io::Error::other("the gate ended before Helm"))
                    }
                }
            }
        };
        let finished = finished.map_err(|error| failed(&error))?;
        if finished.succeeded() {
            return Ok((finished, None));
        }
        let doing = format!("helm {} of {}", self.operation, self.release);
        let error = match refusal {
            Some(reason) => TargetError::permanent(format!("{doing} was refused: {reason}")),
            None => to_error(&finished, &doing, &self.redactor),
        };
        Ok((finished, Some(error)))
    }
}

/// The binary, or an error that it is not here. Asked before anything is changed.
pub(crate) fn require_helm<'a>(
    helm: Option<&'a Helm>,
    release: &Release,
    operation: &str,
) -> Result<&'a Helm, TargetError> {
    helm.ok_or_else(|| {
        TargetError::permanent(format!(
            "helm {operation} of {release} needs the Helm binary, which this part of the control plane does not have: only the worker of the 'deploy-helm' queue runs Helm"
        ))
    })
}

/// Why Helm cannot run.
pub(crate) fn unusable(operation: &str, error: &io::Error) -> TargetError {
    if error.kind() == io::ErrorKind::WouldBlock {
        return TargetError::queued(error.to_string());
    }
    TargetError::transient(format!("helm {operation} cannot be run: {error}"))
}

/// Names reach Helm as arguments and the API server as paths.
pub(crate) fn refuse_odd_names(release: &Release) -> Result<(), TargetError> {
    let is_plain = |name: &str, most: usize| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        name.len() <= most
            && name.bytes().all(inner)
            && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
    };
    if !is_plain(&release.name, 53) {
        return Err(TargetError::permanent(format!(
            "'{}' is not a release name: expected 1 to 53 lower-case letters, digits and hyphens",
            release.name
        )));
    }
    if !is_plain(&release.namespace, 63) || release.namespace.contains('.') {
        return Err(TargetError::permanent(format!(
            "'{}' is not a namespace: expected 1 to 63 lower-case letters, digits and hyphens",
            release.namespace
        )));
    }
    Ok(())
}

/// The chart of a request, looked at once more: what was pulled before may have been kept elsewhere meanwhile.
pub(crate) fn checked_chart(request: &ReleaseRequest) -> Result<CheckedArchive, TargetError> {
    check_archive(&request.chart).map_err(|error| {
        TargetError::permanent(format!("the chart cannot be used: {}", crate::chain(&error)))
    })
}

/// `--labels` for the release record; our own mark goes along.
pub(crate) fn labels_argument(
    labels: &std::collections::BTreeMap<String, String>,
) -> Result<[String; 2], TargetError> {
    let is_plain = |text: &str| {
        !text.is_empty()
            && text.len() <= 63
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let mut text = "app.kubernetes.io/managed-by=slipway".to_owned();
    for (key, value) in labels {
        if !is_plain(key.rsplit('/').next().unwrap_or_default()) || !is_plain(value) {
            return Err(TargetError::permanent(format!(
                "'{key}={value}' is not a label: expected up to 63 letters, digits, '-', '_' and '.'"
            )));
        }
        text.push_str(&format!(",{key}={value}"));
    }
    Ok(["--labels".to_owned(), text])
}
