//! Settings of the AWS SDK, and one client per service.

use std::{
    collections::BTreeMap,
    env,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_smithy_runtime_api::client::interceptors::{Intercept, SharedInterceptor};

use crate::{error::SetupError, http::BySchemeClient};

/// Attempts of one call, the first included.
const ATTEMPTS: u32 = 6;
/// The greatest first pause between attempts; it doubles from attempt to attempt, and a random part of it is waited.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(2);
/// Until the first byte of an answer, and between any two.
const READ: Duration = Duration::from_secs(10);
/// Of one call with all its attempts: shorter than a function of the HTTP API runs.
const CALL: Duration = Duration::from_secs(25);
/// Of one call to S3, which may carry megabytes.
const TRANSFER: Duration = Duration::from_secs(120);

/// Services whose endpoint may be set, as the SDK's variables `AWS_ENDPOINT_URL_…` name them.
const SERVICES: [&str; 7] = ["DYNAMODB", "SQS", "SNS", "SECRETS_MANAGER", "S3", "STS", "EKS"];

/// Region, credentials and endpoints, checked before any call.
#[derive(Debug, Clone)]
pub struct AwsConfig {
    region: String,
    credentials: Credentials,
    endpoints: BTreeMap<&'static str, String>,
}

impl AwsConfig {
    /// Reads the environment of the process, which Lambda fills.
    ///
    /// # Errors
    /// As [`AwsConfig::from_variables`].
    pub fn from_environment() -> Result<Self, SetupError> {
        Self::from_variables(|name| env::var(name).ok())
    }

    /// Reads `AWS_REGION` (or `AWS_DEFAULT_REGION`), `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_SESSION_TOKEN`, and the endpoints `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_…` of local parts.
    ///
    /// # Errors
    /// [`SetupError::Missing`] without region or credentials, [`SetupError::Invalid`] for an endpoint that is no URL.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SetupError> {
        let read = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let need = |name: &str, expected| {
            read(name).ok_or_else(|| SetupError::Missing {
                variable: name.to_owned(),
                expected,
            })
        };
        let region = read("AWS_REGION")
            .or_else(|| read("AWS_DEFAULT_REGION"))
            .ok_or_else(|| SetupError::Missing {
                variable: "AWS_REGION".to_owned(),
                expected: "the region of the table and the queues, such as us-east-1 (Lambda sets it itself)",
            })?;
        let credentials = Credentials::new(
            need(
                "AWS_ACCESS_KEY_ID",
                "the access key of the function's role (Lambda sets it itself; elsewhere use `aws configure export-credentials --format env`)",
            )?,
            need(
                "AWS_SECRET_ACCESS_KEY",
                "the secret that belongs to AWS_ACCESS_KEY_ID",
            )?,
            read("AWS_SESSION_TOKEN"),
            None,
            "Environment",
        );
        let mut endpoints = BTreeMap::new();
        for service in SERVICES {
            let own = format!("AWS_ENDPOINT_URL_{service}");
            let found = read(&own)
                .map(|url| (own, url))
                .or_else(|| Some(("AWS_ENDPOINT_URL".to_owned(), read("AWS_ENDPOINT_URL")?)));
            let Some((name, url)) = found else { continue };
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(SetupError::Invalid {
                    variable: name,
                    reason: format!("'{url}' is no address: it begins with http:// or https://"),
                });
            }
            endpoints.insert(service, url);
        }
        Ok(Self {
            region,
            credentials,
            endpoints,
        })
    }
}

#[derive(Debug, Default)]
struct Cells {
    dynamodb: OnceLock<aws_sdk_dynamodb::Client>,
    sqs: OnceLock<aws_sdk_sqs::Client>,
    /// By region.
    sns: Mutex<BTreeMap<String, aws_sdk_sns::Client>>,
    secrets_manager: OnceLock<aws_sdk_secretsmanager::Client>,
    s3: OnceLock<aws_sdk_s3::Client>,
}

/// One client per service, and of topics per region, made when first asked for. Clones share them.
#[derive(Debug, Clone)]
pub struct Clients {
    sdk: SdkConfig,
    config: Arc<AwsConfig>,
    interceptors: Vec<SharedInterceptor>,
    cells: Arc<Cells>,
}

/// The settings of one service's client: the SDK's builders have these methods, and no trait says so.
macro_rules! service {
    ($self:ident, $crate_name:ident, $service:literal) => {{
        let mut builder = $crate_name::config::Builder::from(&$self.sdk);
        builder.set_endpoint_url($self.config.endpoints.get($service).cloned());
        for interceptor in &$self.interceptors {
            builder.push_interceptor(interceptor.clone());
        }
        builder
    }};
}

impl Clients {
    /// Clients of the process's environment.
    ///
    /// # Errors
    /// As [`AwsConfig::from_environment`].
    pub async fn from_environment() -> Result<Self, SetupError> {
        Ok(Self::new(AwsConfig::from_environment()?).await)
    }

    /// Clients of these settings. Calls nobody.
    pub async fn new(config: AwsConfig) -> Self {
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_initial_backoff(FIRST_PAUSE)
            .with_max_backoff(LONGEST_PAUSE);
        // Built by hand: the SDK's own loader carries profiles, single sign-on and metadata services into every
        // function, a tenth of its size, for settings that are all known here.
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(config.region.clone()))
            .credentials_provider(SharedCredentialsProvider::new(config.credentials.clone()))
            .http_client(BySchemeClient::default())
            .retry_config(retries)
            .timeout_config(timeouts(READ, CALL))
            .build();
        Self {
            sdk,
            config: Arc::new(config),
            interceptors: Vec::new(),
            cells: Arc::default(),
        }
    }

    /// The same, with an interceptor in every client, such as one that counts calls or lets some fail.
    #[must_use]
    pub fn with_interceptor(mut self, interceptor: impl Intercept + 'static) -> Self {
        self.interceptors.push(SharedInterceptor::new(interceptor));
        self.cells = Arc::default();
        self
    }

    /// What clients of regions and roles of their own are made from.
    pub fn sdk_config(&self) -> &SdkConfig {
        &self.sdk
    }

    /// The region of everything but clusters.
    pub fn region(&self) -> &str {
        &self.config.region
    }

    /// What requests are signed with.
    pub fn credentials(&self) -> &Credentials {
        &self.config.credentials
    }

    /// The state's table.
    pub fn dynamodb(&self) -> &aws_sdk_dynamodb::Client {
        self.cells.dynamodb.get_or_init(|| {
            let builder = service!(self, aws_sdk_dynamodb, "DYNAMODB");
            aws_sdk_dynamodb::Client::from_conf(builder.build())
        })
    }

    /// The queues.
    pub fn sqs(&self) -> &aws_sdk_sqs::Client {
        self.cells.sqs.get_or_init(|| {
            let builder = service!(self, aws_sdk_sqs, "SQS");
            aws_sdk_sqs::Client::from_conf(builder.build())
        })
    }

    /// Topics of a region that are no queues: each is known in its own region only.
    pub fn sns_in(&self, region: &str) -> aws_sdk_sns::Client {
        let mut made = self.cells.sns.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let builder = service!(self, aws_sdk_sns, "SNS")
                .region(aws_sdk_sns::config::Region::new(region.to_owned()));
            aws_sdk_sns::Client::from_conf(builder.build())
        };
        made.entry(region.to_owned()).or_insert_with(make).clone()
    }

    /// The secrets.
    pub fn secrets_manager(&self) -> &aws_sdk_secretsmanager::Client {
        self.cells.secrets_manager.get_or_init(|| {
            let builder = service!(self, aws_sdk_secretsmanager, "SECRETS_MANAGER");
            aws_sdk_secretsmanager::Client::from_conf(builder.build())
        })
    }

    /// The blobs. At an endpoint that is set, buckets are named in the path.
    pub fn s3(&self) -> &aws_sdk_s3::Client {
        self.cells.s3.get_or_init(|| {
            let local = self.config.endpoints.contains_key("S3");
            let builder = service!(self, aws_sdk_s3, "S3")
                .force_path_style(local)
                .timeout_config(timeouts(READ, TRANSFER));
            aws_sdk_s3::Client::from_conf(builder.build())
        })
    }

    /// Tokens and roles for a cluster: STS of the cluster's own region.
    pub fn sts(&self, region: &str) -> aws_sdk_sts::Client {
        let builder =
            service!(self, aws_sdk_sts, "STS").region(aws_sdk_sts::config::Region::new(region.to_owned()));
        aws_sdk_sts::Client::from_conf(builder.build())
    }

    /// The clusters of a region, with the role that was assumed for them if there is one.
    pub fn eks(&self, region: &str, assumed: Option<Credentials>) -> aws_sdk_eks::Client {
        let mut builder =
            service!(self, aws_sdk_eks, "EKS").region(aws_sdk_eks::config::Region::new(region.to_owned()));
        if let Some(credentials) = assumed {
            builder.set_credentials_provider(Some(SharedCredentialsProvider::new(credentials)));
            // The shared cache would keep an entry per call for as long as the process lives.
            builder.set_identity_cache(aws_sdk_eks::config::IdentityCache::no_cache());
        }
        aws_sdk_eks::Client::from_conf(builder.build())
    }

    /// The address that is set for a service, such as `STS`; absent where the SDK knows it.
    pub fn endpoint(&self, service: &str) -> Option<&str> {
        self.config.endpoints.get(service).map(String::as_str)
    }
}

pub(crate) fn timeouts(read: Duration, call: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .read_timeout(read)
        .operation_timeout(call)
        .build()
}
