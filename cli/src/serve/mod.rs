//! `slipway serve`: the embedded control plane.

mod charts;
#[cfg(test)]
mod clock_tests;
mod consumers;
mod helm;
mod listen;
mod outside;
mod settings;
mod token;
mod web;

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use slipway_api::{Api, BearerToken, Resource, Streams};
use slipway_app::{App, Services};
use slipway_embedded::{Embedded, OpenError, Options};
use slipway_ports::{Clock, RandomIds, Receiver, SystemClock, chain};
use tokio::{
    net::TcpListener,
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::{Mutex, OnceCell, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{
    arguments::ServeArguments,
    document,
    failure::{Exit, Failure},
    output, place,
};
use helm::LazyHelm;
use outside::LazyOutside;
use settings::Environment;

/// How long work in progress may take to end when the control plane is asked to.
const GRACE: Duration = Duration::from_secs(10);

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(arguments: &ServeArguments, data: Option<&Path>) -> Result<Exit, Failure> {
    let address = listen::address(&arguments.listen)?;
    let data = place::data_folder(data)?;
    start_log()?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the control plane cannot start its threads: {error}")))?;
    let served = runtime.block_on(serve(address, &data));
    // What does not end by itself is repeated after the next start.
    runtime.shutdown_background();
    served.map(|()| Exit::Done)
}

fn start_log() -> Result<(), Failure> {
    let filter = std::env::var("SLIPWAY_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&filter).map_err(|error| {
        Failure::misuse(format!("SLIPWAY_LOG is '{filter}': {error}"))
            .next("set it to a level such as debug, or to parts such as slipway_app=debug")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // A line that cannot be written, as on a disk that is full, would end whatever wrote it.
        .log_internal_errors(false)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .init();
    Ok(())
}

/// A control plane that is wired up.
struct ControlPlane {
    app: App,
    embedded: Embedded,
    receiver: Arc<dyn Receiver>,
    helm: Arc<LazyHelm>,
}

/// Wires it up; its time begins with what `wall` shows.
fn wire(data: &Path, wall: Arc<dyn Clock>) -> Result<ControlPlane, Failure> {
    let environment = Environment::read();
    let options = Options {
        clock: wall,
        ..Options::default()
    };
    let embedded = Embedded::open(data, options).map_err(|error| {
        let failure = Failure::failed(format!(
            "the data folder {} cannot be opened: {}",
            data.display(),
            chain(&error)
        ));
        // The others say themselves what would help.
        match error {
            OpenError::Folder { .. } | OpenError::Database { .. } => {
                failure.next("choose another folder with --data DIR")
            }
            _ => failure,
        }
    })?;
    let settings = environment.settings(embedded.epoch())?;
    let secrets = embedded.secrets();
    let helm = Arc::new(LazyHelm {
        data: data.to_owned(),
        binary: environment.helm,
        hosts: settings.chart_hosts.clone(),
        secrets: Arc::clone(&secrets),
        found: OnceCell::new(),
        failed: Mutex::default(),
    });
    let receiver = embedded.receiver();
    let app = App::new(Services {
        store: embedded.store(),
        receiver: Arc::clone(&receiver),
        secrets,
        blobs: embedded.blobs(),
        charts: helm.clone(),
        connector: helm.clone(),
        outside: Arc::new(LazyOutside::default()),
        clock: embedded.clock(),
        ids: Arc::new(RandomIds),
        catalog: document::bundled_catalog(),
        settings,
    });
    Ok(ControlPlane {
        app,
        embedded,
        receiver,
        helm,
    })
}

async fn serve(address: SocketAddr, data: &Path) -> Result<(), Failure> {
    // Before the folder is taken: from then on clients believe what stands there.
    place::forget_killed(data)?;
    let plane = wire(data, Arc::new(SystemClock))?;
    let (token, token_file) = token::token(data)?;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(format!("the control plane cannot listen on {address}: {error}"))
            .next("choose another address with --listen, or a free port with --listen 127.0.0.1:0")
    })?;
    let address = listener.local_addr().map_err(|error| {
        Failure::failed(format!("the address that is listened on cannot be read: {error}"))
    })?;
    let mut interrupts = Interrupts::listen()?;
    let (stop, stopped) = watch::channel(false);

    let mut consumers = consumers::start(&plane.app, &plane.embedded, &plane.receiver, &stopped);
    let helm = Arc::clone(&plane.helm);
    tokio::spawn(async move { helm.report().await });
    let api = Api::new(
        plane.app.clone(),
        Arc::new(BearerToken::new(&*token)),
        Streams::FollowUntil(stopped.clone()),
    );
    let router = slipway_api::router(&api, &Resource::ALL)
        .merge(web::routes())
        .layer(axum::middleware::from_fn(slipway_api::require_loopback_host));
    let mut closing = stopped.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        let _ = closing.wait_for(|stop| *stop).await;
    });
    let server = tokio::spawn(async move { server.await });

    let url = format!("http://{address}");
    let announcement = token::Announcement::write(data, &url, token_file)?;
    output::say(&format!("address: {url}\ntoken:   {token}"));
    tracing::info!(url, data = %data.display(), "the control plane is up");

    let is_broken = tokio::select! {
        () = interrupts.next() => false,
        _ = consumers.join_next() => true,
    };
    tracing::info!(
        "ending: what is in progress has {} seconds to finish",
        GRACE.as_secs()
    );
    drop(announcement);
    stop.send_replace(true);
    if timeout(GRACE, ended(consumers, server)).await.is_err() {
        tracing::warn!("some work did not finish in time; it is repeated after the next start");
    }
    plane.embedded.sweep().await.map_err(|error| {
        Failure::failed(format!(
            "the last records could not be written: {}",
            chain(&error)
        ))
    })?;
    if is_broken {
        // Without it messages of a queue, or what is due, would lie there while everything seems to work.
        return Err(
            Failure::failed("a part of the control plane ended by itself").next(
                "start it again; what was in progress goes on. The lines before this one say what went wrong",
            ),
        );
    }
    Ok(())
}

async fn ended(mut consumers: JoinSet<()>, server: tokio::task::JoinHandle<io::Result<()>>) {
    while consumers.join_next().await.is_some() {}
    match server.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the HTTP server ended with an error"),
        Err(error) => tracing::error!(%error, "the HTTP server ended with a panic"),
    }
}

/// SIGINT and SIGTERM.
struct Interrupts {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupts {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::failed(format!("signals cannot be listened for: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
