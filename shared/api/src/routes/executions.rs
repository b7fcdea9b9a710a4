//! `/executions`.

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    response::IntoResponse,
};
use serde::{Deserialize, Serialize};
use slipway_app::{Approval, Caller, Page};
use slipway_model::{
    Dag, Execution, ExecutionId, ExecutionProgress, ExecutionStatus, Problem, ProblemType, StepProgress,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Created, accepted, created};
use crate::{Api, body::Sent, lists::StatusFilter, problem::Failed};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(show))
        .routes(routes!(progress))
        .routes(routes!(step))
        .routes(routes!(cancel))
        .routes(routes!(approve))
}

/// An execution that was created.
#[derive(Debug, Serialize, ToSchema)]
struct CreatedExecution {
    /// The execution's id, by the name that everything that refers to it uses.
    execution_id: ExecutionId,
    #[serde(flatten)]
    execution: Execution,
}

/// Run a DAG
#[utoipa::path(
    post,
    path = "/executions",
    tag = "executions",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes repeating the call safe for 24 hours")),
    request_body(content((Dag = "application/json"), (Dag = "application/yaml"))),
    responses((status = 201, body = CreatedExecution, headers(("Location" = String, description = "The new execution"))))
)]
async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    sent: Sent<4>,
) -> Result<Created<CreatedExecution>, Failed> {
    let dag = sent.json_or_yaml()?;
    let once = sent.idempotent("POST /executions")?;
    let execution = api
        .app
        .create_once(&caller, once, |id| {
            api.app.create_execution_as(&caller, ExecutionId(id), dag)
        })
        .await?;
    Ok(created(
        format!("/api/v1/executions/{}", execution.id),
        CreatedExecution {
            execution_id: execution.id,
            execution,
        },
    ))
}

/// Executions, newest first
#[utoipa::path(
    get,
    path = "/executions",
    tag = "executions",
    params(StatusFilter),
    responses((status = 200, body = Page<Execution>))
)]
async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<StatusFilter>,
) -> Result<Json<Page<Execution>>, Failed> {
    Ok(Json(
        api.app
            .executions(&caller, &filter.query::<ExecutionStatus>()?)
            .await?,
    ))
}

/// An execution
#[utoipa::path(
    get,
    path = "/executions/{id}",
    tag = "executions",
    params(("id" = String, Path)),
    responses((status = 200, body = Execution))
)]
async fn show(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Execution>, Failed> {
    Ok(Json(api.app.execution(&caller, &id).await?))
}

/// How much of it is told.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Detail {
    /// `steps` lists every step.
    #[param(pattern = "^steps$")]
    detail: Option<String>,
}

/// How far an execution is
#[utoipa::path(
    get,
    path = "/executions/{id}/progress",
    tag = "executions",
    params(("id" = String, Path), Detail),
    responses((status = 200, body = ExecutionProgress))
)]
async fn progress(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(detail): Query<Detail>,
) -> Result<Json<ExecutionProgress>, Failed> {
    let steps = match detail.detail.as_deref() {
        None => false,
        Some("steps") => true,
        Some(_) => {
            return Err(Problem::new(
                ProblemType::Malformed,
                "detail: expected 'steps', or no detail at all",
            )
            .into());
        }
    };
    Ok(Json(api.app.execution_progress(&caller, &id, steps).await?))
}

/// How far a step is, with all of its outputs
#[utoipa::path(
    get,
    path = "/executions/{id}/steps/{step}",
    tag = "executions",
    params(("id" = String, Path), ("step" = String, Path)),
    responses((status = 200, body = StepProgress))
)]
async fn step(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((id, step)): Path<(String, String)>,
) -> Result<Json<StepProgress>, Failed> {
    Ok(Json(api.app.execution_step(&caller, &id, &step).await?))
}

/// Why an execution is cancelled.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Cancel {
    /// For people.
    #[serde(default)]
    reason: Option<String>,
}

/// Cancel an execution
#[utoipa::path(
    post,
    path = "/executions/{id}/cancel",
    tag = "executions",
    params(("id" = String, Path)),
    request_body = Option<Cancel>,
    responses((status = 202, body = Execution))
)]
async fn cancel(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    sent: Sent,
) -> Result<impl IntoResponse, Failed> {
    let cancel: Cancel = sent.typed()?;
    let reason = cancel
        .reason
        .unwrap_or_else(|| format!("cancelled by {}", caller.user_id));
    Ok(accepted(api.app.cancel_execution(&caller, &id, &reason).await?))
}

/// Approve or reject a step that waits for a person
#[utoipa::path(
    post,
    path = "/executions/{id}/steps/{step}/approve",
    tag = "executions",
    params(("id" = String, Path), ("step" = String, Path)),
    request_body = Option<Approval>,
    responses((status = 200, body = StepProgress))
)]
async fn approve(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((id, step)): Path<(String, String)>,
    sent: Sent,
) -> Result<Json<StepProgress>, Failed> {
    let approval: Approval = sent.typed()?;
    Ok(Json(api.app.approve_step(&caller, &id, &step, approval).await?))
}
