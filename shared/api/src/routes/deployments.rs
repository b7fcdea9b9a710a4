//! `/deployments`: what they are, and what can be done to them.

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    response::IntoResponse,
};
use serde::Deserialize;
use slipway_app::{Caller, DeploymentView, NewDeployment, Page, RollbackRequest, Started, UpgradeRequest};
use slipway_model::{Deployment, DeploymentId, DeploymentStatus, Problem, ProblemType};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Created, accepted, created, watching};
use crate::{Api, body::Sent, lists::DeploymentFilter, problem::Failed};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(show, delete))
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(sync))
        .routes(routes!(retry))
        .routes(routes!(upgrade))
        .routes(routes!(rollback))
        .merge(watching::routes())
}

/// Create a deployment; nothing starts yet
#[utoipa::path(
    post,
    path = "/deployments",
    tag = "deployments",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes repeating the call safe for 24 hours")),
    request_body = NewDeployment,
    responses((status = 201, body = DeploymentView, headers(("Location" = String, description = "The new deployment"))))
)]
async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Result<Created<DeploymentView>, Failed> {
    let new: NewDeployment = sent.typed()?;
    let once = sent.idempotent("POST /deployments")?;
    let view = api
        .app
        .create_once(&caller, once, |id| {
            api.app.create_deployment_as(&caller, DeploymentId(id), new)
        })
        .await?;
    Ok(created(
        format!("/api/v1/deployments/{}", view.deployment.id),
        view,
    ))
}

/// Deployments, newest first
#[utoipa::path(
    get,
    path = "/deployments",
    tag = "deployments",
    params(DeploymentFilter),
    responses((status = 200, body = Page<Deployment>))
)]
async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<DeploymentFilter>,
) -> Result<Json<Page<Deployment>>, Failed> {
    Ok(Json(
        api.app
            .deployments(&caller, &filter.query::<DeploymentStatus>()?)
            .await?,
    ))
}

/// A deployment and its components
#[utoipa::path(
    get,
    path = "/deployments/{id}",
    tag = "deployments",
    params(("id" = String, Path, description = "Name or id")),
    responses((status = 200, body = DeploymentView))
)]
async fn show(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<DeploymentView>, Failed> {
    Ok(Json(api.app.deployment(&caller, &id).await?))
}

/// Bring a deployment up
#[utoipa::path(
    post,
    path = "/deployments/{id}/start",
    tag = "deployments",
    params(("id" = String, Path, description = "Name or id")),
    responses((status = 202, body = Started))
)]
async fn start(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failed> {
    Ok(accepted(api.app.start_deployment(&caller, &id).await?))
}

/// Stop what comes up; first installs in flight are uninstalled
#[utoipa::path(
    post,
    path = "/deployments/{id}/stop",
    tag = "deployments",
    params(("id" = String, Path, description = "Name or id")),
    responses((status = 202, body = Started))
)]
async fn stop(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failed> {
    Ok(accepted(api.app.stop_deployment(&caller, &id).await?))
}

/// Derive a deployment's status again from its execution or jobs
#[utoipa::path(
    post,
    path = "/deployments/{id}/sync",
    tag = "deployments",
    params(("id" = String, Path, description = "Name or id")),
    responses((status = 200, body = DeploymentView))
)]
async fn sync(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<DeploymentView>, Failed> {
    Ok(Json(api.app.sync_deployment(&caller, &id).await?))
}

/// Go on where a deployment failed or was stopped; what runs is kept
#[utoipa::path(
    post,
    path = "/deployments/{id}/retry",
    tag = "deployments",
    params(("id" = String, Path, description = "Name or id")),
    responses((status = 202, body = Started))
)]
async fn retry(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failed> {
    Ok(accepted(api.app.retry_deployment(&caller, &id).await?))
}

/// Bring up another version, other parameters, selections or values
#[utoipa::path(
    post,
    path = "/deployments/{id}/upgrade",
    tag = "deployments",
    params(("id" = String, Path, description = "Name or id")),
    request_body = Option<UpgradeRequest>,
    responses((status = 202, body = Started))
)]
async fn upgrade(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    sent: Sent,
) -> Result<impl IntoResponse, Failed> {
    let request: UpgradeRequest = sent.typed()?;
    Ok(accepted(api.app.upgrade_deployment(&caller, &id, request).await?))
}

/// Bring back what ran before
#[utoipa::path(
    post,
    path = "/deployments/{id}/rollback",
    tag = "deployments",
    params(("id" = String, Path, description = "Name or id")),
    request_body = Option<RollbackRequest>,
    responses((status = 202, body = Started))
)]
async fn rollback(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    sent: Sent,
) -> Result<impl IntoResponse, Failed> {
    let request: RollbackRequest = sent.typed()?;
    Ok(accepted(
        api.app.rollback_deployment(&caller, &id, &request).await?,
    ))
}

/// What of a deployment is deleted. A parameter of another name is refused: what was to be kept would be uninstalled.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Extent {
    /// `true` uninstalls nothing: the deployment is `DELETED` at once, and its releases stay as they are. For clusters
    /// that are gone. Takes an `admin`; 409 while something works on the deployment.
    #[param(value_type = Option<bool>)]
    keep_releases: Option<String>,
}

/// Uninstall a deployment, in reverse order
#[utoipa::path(
    delete,
    path = "/deployments/{id}",
    tag = "deployments",
    params(("id" = String, Path, description = "Name or id"), Extent),
    responses((status = 202, body = Started))
)]
async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(extent): Query<Extent>,
) -> Result<impl IntoResponse, Failed> {
    let started = match extent.keep_releases.as_deref() {
        None | Some("false") => api.app.delete_deployment(&caller, &id).await?,
        Some("true") => api.app.let_go_of_deployment(&caller, &id).await?,
        Some(_) => {
            return Err(Problem::new(
                ProblemType::Malformed,
                "keep_releases: expected true or false, or no keep_releases at all",
            )
            .into());
        }
    };
    Ok(accepted(started))
}
