//! The HTTP client under every AWS client: TLS is set up when the first `https` address is called, not before.

use std::sync::LazyLock;

use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::HttpRequest,
    runtime_components::RuntimeComponents,
};

/// The SDK's own client reads and parses the machine's root certificates for each service client that is made.
/// That is a good part of a cold start, so that all clients share this one, and it does so once and late.
static SECURE: LazyLock<SharedHttpClient> = LazyLock::new(|| {
    Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
});

static PLAIN: LazyLock<SharedHttpClient> = LazyLock::new(|| Builder::new().build_http());

/// Chooses by the scheme of each request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BySchemeClient;

impl HttpClient for BySchemeClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(BySchemeConnector {
            settings: settings.clone(),
            components: components.clone(),
        })
    }
}

#[derive(Debug)]
struct BySchemeConnector {
    settings: HttpConnectorSettings,
    components: RuntimeComponents,
}

impl HttpConnector for BySchemeConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = if request.uri().starts_with("http://") {
            &PLAIN
        } else {
            &SECURE
        };
        client
            .http_connector(&self.settings, &self.components)
            .call(request)
    }
}
