//! The controls: what tests ask and order of this stand-in, on a port of their own.

use std::sync::Arc;

use anyhow::Result;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::gateway::Issuer;
use crate::lambda::{Function, Outcome, lock};
use crate::proxy::{Faults, Proxy};
use crate::schedule;

/// What the controls control.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) functions: Vec<Arc<Function>>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) proxy: Arc<Proxy>,
}

/// A refusal, with what would be right.
type Refused = (StatusCode, String);

impl Control {
    /// Serves for as long as this program runs.
    ///
    /// # Errors
    /// When the listener fails.
    pub(crate) async fn serve(self, listener: TcpListener) -> Result<()> {
        let router = Router::new()
            .route("/control/functions", get(functions))
            .route("/control/calls", get(calls).delete(forget_calls))
            .route("/control/faults", post(faults))
            .route("/control/kill", post(kill))
            .route("/control/cold", post(cold))
            .route("/control/init", post(init))
            .route("/control/schedule", post(run_schedule))
            .route("/control/token", post(token))
            .with_state(Arc::new(self));
        axum::serve(listener, router).await?;
        Ok(())
    }

    fn function(&self, program: &str) -> Result<&Arc<Function>, Refused> {
        self.functions
            .iter()
            .find(|function| function.definition().program == program)
            .ok_or_else(|| {
                let known: Vec<_> = self
                    .functions
                    .iter()
                    .map(|function| function.definition().program.as_str())
                    .collect();
                let message = format!("there is no function `{program}`; there are {}", known.join(", "));
                (StatusCode::NOT_FOUND, message)
            })
    }
}

/// State, inits, memory, invocations and errors of each function.
async fn functions(State(control): State<Arc<Control>>) -> Json<Value> {
    Json(
        control
            .functions
            .iter()
            .map(|function| function.report())
            .collect(),
    )
}

/// JSON lines.
async fn calls(State(control): State<Arc<Control>>) -> String {
    control.proxy.calls.lines()
}

async fn forget_calls(State(control): State<Arc<Control>>) -> StatusCode {
    control.proxy.calls.reset();
    StatusCode::NO_CONTENT
}

#[derive(Debug, Deserialize)]
struct FaultsOrder {
    percent: f64,
    #[serde(default)]
    seed: u64,
}

async fn faults(
    State(control): State<Arc<Control>>,
    Json(order): Json<FaultsOrder>,
) -> Result<StatusCode, Refused> {
    if !(0.0..=100.0).contains(&order.percent) {
        return Err((
            StatusCode::BAD_REQUEST,
            "percent is a number from 0 to 100".to_owned(),
        ));
    }
    *lock(&control.proxy.faults) = Faults::new(order.percent, order.seed);
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
struct FunctionOrder {
    function: String,
}

/// `killed` is the process that was in an invocation and is dead now; null when there was none.
async fn kill(
    State(control): State<Arc<Control>>,
    Json(order): Json<FunctionOrder>,
) -> Result<Json<Value>, Refused> {
    Ok(Json(json!({"killed": control.function(&order.function)?.kill()})))
}

/// Ends the idle processes of a function.
async fn cold(
    State(control): State<Arc<Control>>,
    Json(order): Json<FunctionOrder>,
) -> Result<StatusCode, Refused> {
    control.function(&order.function)?.forget_idle();
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
struct InitOrder {
    function: String,
    times: usize,
}

/// Starts processes of a function one after the other, and ends each as soon as it asks for an event: how long each
/// took, in milliseconds, and the most memory that one had.
async fn init(
    State(control): State<Arc<Control>>,
    Json(order): Json<InitOrder>,
) -> Result<Json<Value>, Refused> {
    let function = control.function(&order.function)?;
    match function.cold_starts(order.times).await {
        Ok((inits, memory)) => Ok(Json(json!({"inits_ms": inits, "peak_memory_kib": memory}))),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error)),
    }
}

/// Runs what is on the schedule now, and answers when it is done.
async fn run_schedule(State(control): State<Arc<Control>>) -> Json<Value> {
    let mut outcomes = Vec::new();
    for function in &control.functions {
        if function.definition().schedule.is_empty() {
            continue;
        }
        let error = match schedule::invoke(function).await {
            Outcome::Answered(_) => None,
            Outcome::Failed { kind, message } => Some(format!("{kind}: {message}")),
        };
        outcomes.push(json!({"function": function.definition().program, "error": error}));
    }
    Json(Value::Array(outcomes))
}

#[derive(Debug, Deserialize)]
struct TokenOrder {
    tenant: Option<String>,
    role: Option<String>,
}

async fn token(State(control): State<Arc<Control>>, Json(order): Json<TokenOrder>) -> Json<Value> {
    let token = control
        .issuer
        .token(order.tenant.as_deref(), order.role.as_deref());
    Json(json!({"token": token}))
}
