//! The HTTP client under every AWS client: TLS is set up when the first `https` address is called, not before.

use std::sync::{Arc, OnceLock};

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

/// Chooses by the scheme of each request.
///
/// The SDK's own client reads and parses the machine's root certificates for each service client that is made. That
/// is a good part of a cold start, so that all clients share this one, and it does so once and late.
#[derive(Debug, Clone, Default)]
pub(crate) struct BySchemeClient {
    plain: Arc<OnceLock<SharedHttpClient>>,
    secure: Arc<OnceLock<SharedHttpClient>>,
}

impl BySchemeClient {
    fn plain(&self) -> &SharedHttpClient {
        self.plain.get_or_init(|| Builder::new().build_http())
    }

    fn secure(&self) -> &SharedHttpClient {
        self.secure.get_or_init(|| {
            Builder::new()
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .build_https()
        })
    }
}

impl HttpClient for BySchemeClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(BySchemeConnector {
            client: self.clone(),
            settings: settings.clone(),
            components: components.clone(),
        })
    }
}

#[derive(Debug)]
struct BySchemeConnector {
    client: BySchemeClient,
    settings: HttpConnectorSettings,
    components: RuntimeComponents,
}

impl HttpConnector for BySchemeConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = if request.uri().starts_with("http://") {
            self.client.plain()
        } else {
            self.client.secure()
        };
        client
            .http_connector(&self.settings, &self.components)
            .call(request)
    }
}
