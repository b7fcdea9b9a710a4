//! Everything that a function is made of, made once.

use std::{sync::Arc, time::Duration};

use aws_lambda_events::{apigw::ApiGatewayV2httpRequest, sqs::SqsEvent};
use futures::future::join_all;
use lambda_runtime::{LambdaEvent, Runtime, service_fn};
use serde::de::IgnoredAny;
use slipway_api::Resource;
use slipway_app::{App, Services};
use slipway_aws::{
    AwsOutside, Clients, DynamoStore, EksClusters, S3Blobs, SecretsManagerSecrets, SqsReceiver,
};
use slipway_helm::{HelmConnector, RenderStore};
use slipway_model::Queue;
use slipway_ports::{Blobs, Clock, Connector, Outside, RandomIds, Secrets, SystemClock, chain};
use tokio::{sync::OnceCell, time::timeout};

use crate::{
    batch::Batches,
    budget::reserve,
    connector::AwsConnector,
    failure::ShellError,
    function::{Function, queue},
    helm::LateHelm,
    http::Gateway,
    nowhere::Nowhere,
    outside::LateHttp,
    schedule::Schedule,
    settings::{HelmPlaces, Settings},
    sqs::Consumer,
};

/// How long the table and the queues may take to answer at a start: Lambda ends one after ten seconds, and says nothing.
const LOOKS: Duration = Duration::from_secs(7);

/// Before the keys of blobs: nothing, because policies name them as `<tenant>/…`.
const BLOBS: &str = "";

/// Before the manifests of `render` targets, which have no tenant.
const RENDERS: &str = "renders/";

/// The clients and adapters of a function.
pub struct Shell {
    function: Function,
    settings: Settings,
    clients: Clients,
    store: DynamoStore,
    receiver: SqsReceiver,
    secrets: Arc<dyn Secrets>,
    blobs: Arc<dyn Blobs>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Shell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shell")
            .field("function", &self.function)
            .finish_non_exhaustive()
    }
}

impl Shell {
    /// Makes the clients, and looks whether the table and the queues are there, all at the same time.
    ///
    /// # Errors
    /// [`ShellError::Setup`] with each setting that names something that is not there.
    pub async fn open(function: Function, settings: Settings) -> Result<Self, ShellError> {
        let clients = Clients::new(settings.aws.clone()).await;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let table = DynamoStore::open(&clients, &settings.table, settings.queues.clone());
        let queues = function
            .sends_to
            .iter()
            .map(|name| look_at_queue(&clients, &settings, name));
        let looks = async { futures::join!(table, join_all(queues)) };
        let Ok((store, queues)) = timeout(LOOKS, looks).await else {
            return Err(ShellError::Setup {
                problems: vec![format!(
                    "the table of SLIPWAY_TABLE ('{}') and the queues of SLIPWAY_QUEUES did not answer within {} s: is \
                     there a way from the function's subnets to DynamoDB and SQS?",
                    settings.table,
                    LOOKS.as_secs()
                )],
            });
        };
        let mut problems: Vec<String> = queues.into_iter().flatten().collect();
        let store = match store {
            Ok(store) if problems.is_empty() => store,
            Ok(_) => return Err(ShellError::Setup { problems }),
            Err(error) => {
                problems.push(chain(&error));
                return Err(ShellError::Setup { problems });
            }
        };
        let receiver = SqsReceiver::new(
            &clients,
            settings.queues.clone(),
            settings.dead_letter_queues.clone(),
            settings.max_receives,
        );
        let secrets = SecretsManagerSecrets::new(
            clients.secrets_manager().clone(),
            &settings.secrets_prefix,
            settings.kms_key.clone(),
        );
        let blobs = S3Blobs::new(clients.s3().clone(), &settings.bucket, BLOBS);
        Ok(Self {
            store,
            receiver,
            secrets: Arc::new(secrets),
            blobs: Arc::new(blobs),
            clock,
            clients,
            settings,
            function,
        })
    }

    /// What use cases work with. Clusters, charts and the outside lead nowhere until the function says how they are
    /// reached, so that a function carries only what it needs.
    pub fn services(&self) -> Services {
        Services {
            store: Arc::new(self.store.clone()),
            receiver: Arc::new(self.receiver.clone()),
            secrets: Arc::clone(&self.secrets),
            blobs: Arc::clone(&self.blobs),
            charts: Arc::new(Nowhere),
            connector: Arc::new(Nowhere),
            outside: Arc::new(Nowhere),
            clock: Arc::clone(&self.clock),
            ids: Arc::new(RandomIds),
            catalog: slipway_dag::bundled_catalog(),
            settings: self.settings.app.clone(),
        }
    }

    /// Webhooks, HTTP calls and SNS topics.
    pub fn outside(&self) -> Arc<dyn Outside> {
        let http = Arc::new(LateHttp::new(self.settings.loopback));
        Arc::new(AwsOutside::new(http, self.clients.clone()))
    }

    /// Clusters, to look at: nothing that Helm does.
    pub fn clusters(&self) -> Arc<dyn Connector> {
        let helm = HelmConnector::without_helm(self.renders());
        Arc::new(AwsConnector::new(helm, self.eks()))
    }

    /// Clusters and charts, with Helm. Needs [`Function::with_helm`].
    pub fn helm(&self) -> Arc<LateHelm> {
        let places = self.settings.helm.clone().unwrap_or_else(|| HelmPlaces {
            binary: "/opt/helm/helm".into(),
            charts: "/opt/charts".into(),
        });
        Arc::new(LateHelm {
            places,
            hosts: self.settings.app.chart_hosts.clone(),
            secrets: Arc::clone(&self.secrets),
            renders: self.renders(),
            eks: self.eks(),
            found: OnceCell::new(),
        })
    }

    fn renders(&self) -> RenderStore {
        RenderStore::Blobs(Arc::clone(&self.blobs), RENDERS.to_owned())
    }

    fn eks(&self) -> EksClusters {
        EksClusters::new(self.clients.clone(), Arc::clone(&self.clock))
    }

    /// Consumes a queue until Lambda ends the process.
    ///
    /// # Errors
    /// [`ShellError::Runtime`] when the runtime API does not answer.
    pub async fn consume(self, queue: Queue, app: App) -> Result<(), ShellError> {
        let batches = Batches::new(
            queue,
            app,
            Arc::new(self.receiver),
            self.settings.max_receives,
            reserve(self.function.time_out),
        );
        let consumer = Arc::new(Consumer {
            function: self.function,
            batches,
            clock: self.clock,
        });
        let handler = service_fn(move |event: LambdaEvent<SqsEvent>| {
            let consumer = Arc::clone(&consumer);
            async move { consumer.consume(event).await }
        });
        Runtime::new(handler).run().await.map_err(ShellError::Runtime)
    }

    /// Answers the calls of some resources of the API until Lambda ends the process.
    ///
    /// # Errors
    /// [`ShellError::Runtime`] when the runtime API does not answer.
    pub async fn answer(self, resources: &[Resource], app: App) -> Result<(), ShellError> {
        let gateway = Arc::new(Gateway::new(self.function, app, resources, self.settings.callers));
        let handler = service_fn(move |event: LambdaEvent<ApiGatewayV2httpRequest>| {
            let gateway = Arc::clone(&gateway);
            async move { gateway.answer(event).await }
        });
        Runtime::new(handler).run().await.map_err(ShellError::Runtime)
    }

    /// Makes the rounds of the schedule until Lambda ends the process.
    ///
    /// # Errors
    /// [`ShellError::Runtime`] when the runtime API does not answer.
    pub async fn tick(self, app: App) -> Result<(), ShellError> {
        let schedule = Arc::new(Schedule {
            function: self.function,
            rounds: app,
            clock: self.clock,
        });
        let handler = service_fn(move |event: LambdaEvent<IgnoredAny>| {
            let schedule = Arc::clone(&schedule);
            async move { schedule.tick(event).await }
        });
        Runtime::new(handler).run().await.map_err(ShellError::Runtime)
    }
}

/// What is wrong with a queue that the function sends to. Topics of SNS show it when they are published to.
async fn look_at_queue(clients: &Clients, settings: &Settings, name: &str) -> Option<String> {
    let url = settings.queues.url(&queue(name))?;
    let answer = clients.sqs().get_queue_attributes().queue_url(url).send().await;
    let error = answer.err()?;
    // SQS says it with the code of its older protocol, local parts with the newer one's.
    let absent = [
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
        "InvalidAddress",
    ];
    let is_absent = error.as_service_error().is_some_and(|error| {
        error.is_queue_does_not_exist() || error.meta().code().is_some_and(|code| absent.contains(&code))
    });
    Some(if is_absent {
        format!(
            "SLIPWAY_QUEUES names '{url}' for '{name}', which is no queue: name the queue that was deployed, or set AWS_REGION to its region"
        )
    } else {
        format!(
            "SLIPWAY_QUEUES names '{url}' for '{name}', which cannot be looked at: {}",
            chain(&error)
        )
    })
}
