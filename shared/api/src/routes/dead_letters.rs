//! `/dead-letters`.

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    response::IntoResponse,
};
use slipway_app::{Caller, DeadLetterSummary, DeadLetterView, Page};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::accepted;
use crate::{Api, lists::QueueFilter, problem::Failed};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(redrive))
}

/// Dead letters, oldest first
///
/// Of all queues unless one is named: `plan-dag`, `execute-step`, `deploy-helm`, `budpipelineEvents` or
/// `budusecasesEvents`. Needs the role `admin`.
#[utoipa::path(
    get,
    path = "/dead-letters",
    tag = "dead_letters",
    params(QueueFilter),
    responses((status = 200, body = Page<DeadLetterSummary>))
)]
async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<QueueFilter>,
) -> Result<Json<Page<DeadLetterSummary>>, Failed> {
    let (queue, query) = filter.query()?;
    Ok(Json(
        api.app.dead_letters(&caller, queue.as_deref(), &query).await?,
    ))
}

/// A dead letter with its text
#[utoipa::path(
    get,
    path = "/dead-letters/{queue}/{id}",
    tag = "dead_letters",
    params(("queue" = String, Path, description = "Such as `execute-step`"), ("id" = String, Path)),
    responses((status = 200, body = DeadLetterView))
)]
async fn show(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((queue, id)): Path<(String, String)>,
) -> Result<Json<DeadLetterView>, Failed> {
    Ok(Json(api.app.dead_letter(&caller, &queue, &id).await?))
}

/// Put a dead letter back on its queue
///
/// It is received as if for the first time. What it was about has ended as failed, and stays so: a deployment goes on
/// with `POST /deployments/{id}/retry`.
#[utoipa::path(
    post,
    path = "/dead-letters/{queue}/{id}/redrive",
    tag = "dead_letters",
    params(("queue" = String, Path, description = "Such as `execute-step`"), ("id" = String, Path)),
    responses((status = 202, body = DeadLetterSummary))
)]
async fn redrive(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((queue, id)): Path<(String, String)>,
) -> Result<impl IntoResponse, Failed> {
    Ok(accepted(api.app.redrive_dead_letter(&caller, &queue, &id).await?))
}
