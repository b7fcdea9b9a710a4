//! What a repeated creation gets while the first is at work, was interrupted, or is long gone.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use slipway_app::{App, AppError, Caller, IdempotentRequest, Role, Services, Settings};
use slipway_model::{Catalog, TenantId};
use slipway_ports::{BlobError, Blobs};
use slipway_testkit::{
    ManualClock, NoCharts, NoClusters, NoOutside, START, SequentialIds,
    memory::{SimpleBlobs, SimpleSecrets, SimpleStore},
};
use uuid::Uuid;

struct Bench {
    clock: Arc<ManualClock>,
    store: Arc<SimpleStore>,
    blobs: Arc<SimpleBlobs>,
    runs: AtomicU32,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(START));
        Self {
            store: Arc::new(SimpleStore::new(clock.clone(), 5)),
            clock,
            blobs: Arc::new(SimpleBlobs::default()),
            runs: AtomicU32::new(0),
        }
    }

    fn app(&self, epoch: &str) -> App {
        self.app_with(epoch, self.blobs.clone())
    }

    fn app_with(&self, epoch: &str, blobs: Arc<dyn Blobs>) -> App {
        App::new(Services {
            store: self.store.clone(),
            receiver: self.store.clone(),
            secrets: Arc::new(SimpleSecrets::default()),
            blobs,
            charts: Arc::new(NoCharts),
            connector: Arc::new(NoClusters),
            outside: Arc::new(NoOutside),
            clock: self.clock.clone(),
            ids: Arc::new(SequentialIds::new()),
            catalog: Catalog::default(),
            settings: Settings::new(epoch),
        })
    }

    /// Creates what is the number of the run.
    async fn create(&self) -> Result<u32, AppError> {
        Ok(self.runs.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Blobs that cannot be written.
struct Full;

#[async_trait]
impl Blobs for Full {
    async fn put(&self, key: &str, _: Vec<u8>) -> Result<(), BlobError> {
        Err(BlobError {
            key: key.to_owned(),
            operation: "written",
            source: "no space left".into(),
        })
    }

    async fn get(&self, _: &str) -> Result<Option<Vec<u8>>, BlobError> {
        Ok(None)
    }

    async fn delete(&self, _: &str) -> Result<(), BlobError> {
        Ok(())
    }
}

fn caller() -> Caller {
    Caller {
        tenant: TenantId::local(),
        user_id: "tester".to_owned(),
        role: Role::Admin,
    }
}

fn request(body: &[u8]) -> Option<IdempotentRequest<'_>> {
    Some(IdempotentRequest {
        key: "key",
        operation: "POST /things",
        body,
    })
}

/// Begins a creation that is cut off before it ends, as by a crash.
async fn interrupted(app: &App) {
    let caller = caller();
    let creation = app.create_once(&caller, request(b"x"), |_| pending::<Result<u32, AppError>>());
    let cut = tokio::time::timeout(Duration::ZERO, creation).await;
    assert!(cut.is_err(), "it ended: {cut:?}");
}

#[tokio::test(start_paused = true)]
async fn a_repeat_while_the_first_is_at_work_is_a_conflict_until_its_claim_expires() {
    let bench = Bench::new();
    let app = bench.app("1");
    interrupted(&app).await;
    let early = app
        .create_once(&caller(), request(b"x"), |_| bench.create())
        .await;
    assert_eq!(early.unwrap_err().to_problem().status, 409);
    bench
        .clock
        .advance(app.settings.invocation + Duration::from_secs(1));
    assert_eq!(
        app.create_once(&caller(), request(b"x"), |_| bench.create())
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        app.create_once(&caller(), request(b"x"), |_| bench.create())
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn a_creation_whose_answer_cannot_be_kept_may_be_repeated_at_once() {
    let bench = Bench::new();
    let large = |id: Uuid| async move { Ok((id, "x".repeat(300 * 1024))) };
    let full = bench.app_with("1", Arc::new(Full));
    let mut made = None;
    let failed = full
        .create_once(&caller(), request(b"x"), |id| {
            made = Some(id);
            large(id)
        })
        .await;
    assert_eq!(failed.unwrap_err().to_problem().status, 503);
    let (id, _) = bench
        .app("1")
        .create_once(&caller(), request(b"x"), large)
        .await
        .unwrap();
    assert_eq!(Some(id), made, "what was made is made again");
}

#[tokio::test(start_paused = true)]
async fn a_restart_frees_the_claims_of_the_process_before() {
    let bench = Bench::new();
    interrupted(&bench.app("1")).await;
    let restarted = bench.app("2");
    assert_eq!(
        restarted
            .create_once(&caller(), request(b"x"), |_| bench.create())
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn an_answer_is_forgotten_after_a_day() {
    let bench = Bench::new();
    let app = bench.app("1");
    assert_eq!(
        app.create_once(&caller(), request(b"x"), |_| bench.create())
            .await
            .unwrap(),
        1
    );
    let other = app
        .create_once(&caller(), request(b"y"), |_| bench.create())
        .await;
    assert_eq!(other.unwrap_err().to_problem().status, 422);
    bench.clock.advance(Duration::from_secs(25 * 3600));
    assert_eq!(
        app.create_once(&caller(), request(b"y"), |_| bench.create())
            .await
            .unwrap(),
        2
    );
}

#[tokio::test]
async fn an_answer_that_is_too_large_for_the_store_is_kept_whole() {
    let bench = Bench::new();
    let app = bench.app("1");
    let large = "x".repeat(1 << 20);
    let first = app
        .create_once(&caller(), request(b"x"), |_| async { Ok(large.clone()) })
        .await
        .unwrap();
    let again: String = app
        .create_once(&caller(), request(b"x"), |_| async { panic!("it ran again") })
        .await
        .unwrap();
    assert!(first == large && again == large);
    assert_eq!(bench.blobs.keys().len(), 1);
}

#[tokio::test]
async fn keys_belong_to_their_tenant_and_are_not_kept_in_the_clear() {
    let bench = Bench::new();
    let app = bench.app("1");
    let other = Caller {
        tenant: "other".parse().unwrap(),
        ..caller()
    };
    assert_eq!(
        app.create_once(&caller(), request(b"secret-body"), |_| bench.create())
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        app.create_once(&other, request(b"secret-body"), |_| bench.create())
            .await
            .unwrap(),
        2
    );
    for stored in bench.store.items() {
        assert!(
            !stored.body.contains("secret-body") && !stored.body.contains("\"key\""),
            "{stored:?}"
        );
    }
}
