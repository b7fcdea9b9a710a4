//! `/deployments`: plans, progress and history.

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use slipway_app::{
    Caller, DeploymentPlan, DeploymentProgress, LookRequested, Page, PlanRequested, UpgradeRequest,
};
use slipway_model::{HistoryEntry, Problem, ProblemType};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::accepted;
use crate::{Api, body::Sent, lists::Paging, problem::Failed, stream};

/// Longest entry id that anybody was given.
const LONGEST_ID: usize = 256;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(request_plan, plan))
        .routes(routes!(request_drift))
        .routes(routes!(progress))
        .routes(routes!(events))
}

/// Ask for a plan: what a start or retry would do, or the upgrade in the body; nothing is changed
#[utoipa::path(
    post,
    path = "/deployments/{id}/plan",
    tag = "deployments",
    params(("id" = String, Path, description = "Name or id")),
    request_body = Option<UpgradeRequest>,
    responses((status = 202, body = PlanRequested, description = "It is being made; read it with GET"))
)]
async fn request_plan(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    sent: Sent,
) -> Result<impl IntoResponse, Failed> {
    let upgrade: UpgradeRequest = sent.typed()?;
    let upgrade = (upgrade != UpgradeRequest::default()).then_some(upgrade);
    Ok(accepted(api.app.request_plan(&caller, &id, upgrade).await?))
}

/// The plan that was asked for last
#[utoipa::path(
    get,
    path = "/deployments/{id}/plan",
    tag = "deployments",
    params(("id" = String, Path, description = "Name or id")),
    responses((status = 200, body = DeploymentPlan))
)]
async fn plan(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<DeploymentPlan>, Failed> {
    Ok(Json(api.app.plan(&caller, &id).await?))
}

/// Have what runs compared with what was applied now, instead of within the hour; nothing is corrected
#[utoipa::path(
    post,
    path = "/deployments/{id}/drift",
    tag = "deployments",
    params(("id" = String, Path, description = "Name or id")),
    responses((
        status = 202,
        description = "It is being looked at; what was found stands in the deployment's `drift`",
        body = LookRequested
    ))
)]
async fn request_drift(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failed> {
    Ok(accepted(api.app.request_drift(&caller, &id).await?))
}

/// How far a deployment is, and what its components wait for
#[utoipa::path(
    get,
    path = "/deployments/{id}/progress",
    tag = "deployments",
    params(("id" = String, Path, description = "Name or id")),
    responses((status = 200, body = DeploymentProgress))
)]
async fn progress(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<DeploymentProgress>, Failed> {
    Ok(Json(api.app.deployment_progress(&caller, &id).await?))
}

/// A deployment's history, oldest first; with `Accept: text/event-stream` as a stream that goes on
#[utoipa::path(
    get,
    path = "/deployments/{id}/events",
    tag = "deployments",
    params(
        ("id" = String, Path, description = "Name or id"),
        ("Last-Event-ID" = Option<String>, Header, description = "The stream goes on after this entry"),
        Paging
    ),
    responses((
        status = 200,
        description = "The history after the cursor",
        content((Page<HistoryEntry> = "application/json"), (String = "text/event-stream"))
    ))
)]
async fn events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(paging): Query<Paging>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let limit = paging.limit()?;
    let after = match headers.get("last-event-id") {
        Some(value) => Some(String::from_utf8_lossy(value.as_bytes()).into_owned()),
        None => paging.cursor,
    };
    let after = after.map(check_entry).transpose()?;
    if wants_stream(&headers) {
        return stream::history(api, caller, id, after).await;
    }
    let items = api
        .app
        .deployment_events(&caller, &id, after.as_deref(), limit)
        .await?;
    let next_cursor = (items.len() == limit)
        .then(|| items.last().map(|entry| entry.id.clone()))
        .flatten();
    Ok(Json(Page { items, next_cursor }).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|text| text.contains("text/event-stream"))
    })
}

fn check_entry(id: String) -> Result<String, Failed> {
    let possible = !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic());
    if possible {
        return Ok(id);
    }
    Err(Problem::new(
        ProblemType::Malformed,
        "the cursor or Last-Event-ID is not the id of an entry: send the 'id' of the last entry as it was",
    )
    .into())
}
