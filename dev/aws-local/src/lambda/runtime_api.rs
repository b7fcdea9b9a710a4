//! The runtime API, which a function's process asks for events and answers to: one server per process, so that it is
//! known who asks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{Response, StatusCode};
use axum::routing::{get, post};
use hyper::body::Bytes;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::{Outcome, lock};
use crate::clock;

/// The largest answer of a synchronous invocation, in bytes.
const LARGEST_ANSWER: usize = 6 * 1024 * 1024;

/// One event for the function, and where its outcome goes.
#[derive(Debug)]
struct Event {
    request: String,
    payload: Bytes,
    deadline: i64,
    outcome: oneshot::Sender<Outcome>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    events: tokio::sync::Mutex<mpsc::Receiver<Event>>,
    current: Mutex<Option<(String, oneshot::Sender<Outcome>)>>,
    /// Whether the process has asked for its first event, or said why it cannot.
    state: watch::Sender<Init>,
}

/// How far a process has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Init {
    Starting,
    Ready,
    Failed(Outcome),
}

/// The server of one process; it ends when this value is dropped.
#[derive(Debug)]
pub(super) struct RuntimeApi {
    address: String,
    events: mpsc::Sender<Event>,
    state: watch::Receiver<Init>,
    server: JoinHandle<()>,
}

impl RuntimeApi {
    /// Serves on a free port for a function of this name.
    pub(super) async fn start(name: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("no free port for the runtime API")?;
        let address = listener.local_addr()?.to_string();
        let (events, receiver) = mpsc::channel(1);
        let (sender, state) = watch::channel(Init::Starting);
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            events: tokio::sync::Mutex::new(receiver),
            current: Mutex::default(),
            state: sender,
        });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route(
                "/2018-06-01/runtime/invocation/{request}/response",
                post(response),
            )
            .route("/2018-06-01/runtime/invocation/{request}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .layer(DefaultBodyLimit::disable())
            .with_state(shared);
        let server = tokio::spawn(async move {
            // It ends with this value, by being aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            events,
            state,
            server,
        })
    }

    /// Where it listens: `127.0.0.1:40123`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Waits until the process has asked for its first event, or has said why it cannot.
    pub(super) async fn init(&mut self) -> Init {
        match self.state.wait_for(|state| *state != Init::Starting).await {
            Ok(state) => state.clone(),
            Err(_) => Init::Failed(Outcome::failed(
                "Runtime.ExitError",
                "the runtime API ended".to_owned(),
            )),
        }
    }

    /// Hands an event over; what comes back is resolved once the process has answered.
    pub(super) async fn offer(&self, payload: Bytes, timeout: Duration) -> oneshot::Receiver<Outcome> {
        let (outcome, receiver) = oneshot::channel();
        let event = Event {
            request: clock::request_id(),
            payload,
            deadline: clock::now().as_millisecond() + i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX),
            outcome,
        };
        // When the server is gone the sender of the outcome is dropped, which the receiver notices.
        let _ = self.events.send(event).await;
        receiver
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> Response<Body> {
    shared.state.send_if_modified(|state| {
        let first = *state == Init::Starting;
        if first {
            *state = Init::Ready;
        }
        first
    });
    let event = shared.events.lock().await.recv().await;
    let Some(event) = event else {
        return answer(StatusCode::GONE, "the sandbox ends");
    };
    let response = Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", &event.request)
        .header("lambda-runtime-deadline-ms", event.deadline)
        .header(
            "lambda-runtime-invoked-function-arn",
            format!(
                "arn:aws:lambda:{}:{}:function:{}",
                crate::template::REGION,
                crate::template::ACCOUNT,
                shared.name
            ),
        )
        .header("lambda-runtime-trace-id", clock::new_trace())
        .body(Body::from(event.payload));
    *lock(&shared.current) = Some((event.request, event.outcome));
    response.unwrap_or_else(|error| answer(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))
}

async fn response(
    State(shared): State<Arc<Shared>>,
    Path(request): Path<String>,
    body: Bytes,
) -> Response<Body> {
    if body.len() > LARGEST_ANSWER {
        let message = format!("the answer has {} bytes, of at most {LARGEST_ANSWER}", body.len());
        finish(
            &shared,
            &request,
            Outcome::failed("Function.ResponseSizeTooLarge", message),
        );
        return answer(StatusCode::PAYLOAD_TOO_LARGE, "the answer is too large");
    }
    finish(&shared, &request, Outcome::Answered(body))
}

async fn error(
    State(shared): State<Arc<Shared>>,
    Path(request): Path<String>,
    body: Bytes,
) -> Response<Body> {
    finish(&shared, &request, failure(&body, "Unhandled"))
}

async fn init_error(State(shared): State<Arc<Shared>>, body: Bytes) -> Response<Body> {
    shared
        .state
        .send_replace(Init::Failed(failure(&body, "Runtime.InitError")));
    answer(StatusCode::ACCEPTED, "{\"status\":\"OK\"}")
}

fn finish(shared: &Shared, request: &str, outcome: Outcome) -> Response<Body> {
    let mut current = lock(&shared.current);
    match current.take_if(|(expected, _)| expected == request) {
        Some((_, sender)) => {
            // Nobody waits any more for an invocation that took too long.
            let _ = sender.send(outcome);
            answer(StatusCode::ACCEPTED, "{\"status\":\"OK\"}")
        }
        None => answer(
            StatusCode::BAD_REQUEST,
            "{\"errorMessage\":\"Invalid request ID\",\"errorType\":\"InvalidRequestID\"}",
        ),
    }
}

/// What a function says about a failure of its own.
fn failure(body: &[u8], otherwise: &str) -> Outcome {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    Outcome::Failed {
        kind: value["errorType"].as_str().unwrap_or(otherwise).to_owned(),
        message: value["errorMessage"]
            .as_str()
            .map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned),
    }
}

fn answer(status: StatusCode, body: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_owned()));
    *response.status_mut() = status;
    response
}
