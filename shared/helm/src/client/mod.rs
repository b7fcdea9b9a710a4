//! The Kubernetes API: connecting with a kubeconfig, requests by path, and the cluster's health.

mod discovery;
mod health;
mod kubeconfig;
mod requests;

pub use kubeconfig::check_kubeconfig;
pub(crate) use requests::{PatchKind, Refusal, UnknownFields};
pub(crate) use slipway_ports::percent_encoded as encode;

use std::{sync::Arc, time::Duration};

use slipway_ports::TargetError;

/// How long connecting may take, so that a cluster out of reach is said soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one answer may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to one API server.
#[derive(Clone)]
pub(crate) struct Kubernetes {
    client: kube::Client,
    server: String,
    discovery: Arc<discovery::Discovery>,
}

impl Kubernetes {
    /// Connects with a kubeconfig, which is checked; nothing is sent yet. Returns also the kubeconfig reduced to the
    /// chosen context, for Helm.
    pub(crate) fn connect(kubeconfig: &str, context: Option<&str>) -> Result<(Self, Vec<u8>), TargetError> {
        let reduced = kubeconfig::reduce(kubeconfig, context).map_err(|errors| {
            TargetError::permanent(format!("the kubeconfig cannot be used: {}", errors.join("; ")))
        })?;
        let unusable =
            |error: String| TargetError::permanent(format!("the kubeconfig cannot be used: {error}"));
        // Several providers may be built into one program; the choice must be made before the first connection.
        // It fails only if it has been made.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let text = reduced.to_string();
        let kubeconfig: kube::config::Kubeconfig =
            serde_json::from_value(reduced).map_err(|error| unusable(error.to_string()))?;
        let server = kubeconfig
            .clusters
            .first()
            .and_then(|named| named.cluster.as_ref()?.server.clone())
            .unwrap_or_default();
        // What the kubeconfig holds in line needs no waiting: the future is ready when first polled.
        let config = futures::FutureExt::now_or_never(kube::Config::from_custom_kubeconfig(
            kubeconfig,
            &kube::config::KubeConfigOptions::default(),
        ));
        let mut config = match config {
            Some(config) => config.map_err(|error| unusable(crate::chain(&error)))?,
            None => return Err(unusable("it asks for something outside itself".to_owned())),
        };
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // A repeat of ours says what it waits for.
        config.default_retry = false;
        let client = kube::Client::try_from(config).map_err(|error| unusable(crate::chain(&error)))?;
        Ok((
            Self {
                client,
                server,
                discovery: Arc::default(),
            },
            text.into_bytes(),
        ))
    }
}
