//! `/clusters`.

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::IntoResponse,
};
use slipway_app::{Caller, ClusterCredentials, ClusterHealthView, LookRequested, NewCluster, Page};
use slipway_model::{Cluster, ClusterId, Orphans};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Created, accepted, created};
use crate::{Api, body::Sent, lists::Paging, problem::Failed};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(show, delete))
        .routes(routes!(health))
        .routes(routes!(replace_credentials))
        .routes(routes!(request_orphans, orphans))
}

/// Register a cluster
#[utoipa::path(
    post,
    path = "/clusters",
    tag = "clusters",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes repeating the call safe for 24 hours")),
    request_body = NewCluster,
    responses((status = 201, body = Cluster, headers(("Location" = String, description = "The new cluster"))))
)]
async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Result<Created<Cluster>, Failed> {
    let new: NewCluster = sent.typed()?;
    let once = sent.idempotent("POST /clusters")?;
    let cluster = api
        .app
        .create_once(&caller, once, |id| {
            api.app.create_cluster_as(&caller, ClusterId(id), new)
        })
        .await?;
    Ok(created(format!("/api/v1/clusters/{}", cluster.id), cluster))
}

/// Registered clusters
#[utoipa::path(get, path = "/clusters", tag = "clusters", params(Paging), responses((status = 200, body = Page<Cluster>)))]
async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Cluster>>, Failed> {
    Ok(Json(api.app.clusters(&caller, &paging.query()?).await?))
}

/// A cluster
#[utoipa::path(
    get,
    path = "/clusters/{id}",
    tag = "clusters",
    params(("id" = String, Path, description = "Name or id")),
    responses((status = 200, body = Cluster))
)]
async fn show(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Cluster>, Failed> {
    Ok(Json(api.app.cluster(&caller, &id).await?))
}

/// Whether a cluster answers, and what it has free
#[utoipa::path(
    get,
    path = "/clusters/{id}/health",
    tag = "clusters",
    params(("id" = String, Path, description = "Name or id")),
    responses((status = 200, body = ClusterHealthView))
)]
async fn health(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<ClusterHealthView>, Failed> {
    Ok(Json(api.app.cluster_health(&caller, &id).await?))
}

/// Replace a cluster's credentials by others that lead to the same cluster; its deployments stay
#[utoipa::path(
    put,
    path = "/clusters/{id}/credentials",
    tag = "clusters",
    params(("id" = String, Path, description = "Name or id")),
    request_body = ClusterCredentials,
    responses((status = 200, body = Cluster))
)]
async fn replace_credentials(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    sent: Sent,
) -> Result<Json<Cluster>, Failed> {
    let new: ClusterCredentials = sent.typed()?;
    let replaced = api.app.replace_cluster_credentials(&caller, &id, new).await?;
    Ok(Json(replaced))
}

/// Have a cluster looked at now for what Slipway made there and nobody owns, instead of within the hour; nothing is
/// removed
#[utoipa::path(
    post,
    path = "/clusters/{id}/orphans",
    tag = "clusters",
    params(("id" = String, Path, description = "Name or id")),
    responses((status = 202, description = "It is being looked at; read it with GET", body = LookRequested))
)]
async fn request_orphans(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failed> {
    Ok(accepted(api.app.request_orphans(&caller, &id).await?))
}

/// What the last look at a cluster found that Slipway made and nobody owns
#[utoipa::path(
    get,
    path = "/clusters/{id}/orphans",
    tag = "clusters",
    params(("id" = String, Path, description = "Name or id")),
    responses((status = 200, body = Orphans))
)]
async fn orphans(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Orphans>, Failed> {
    Ok(Json(api.app.orphans(&caller, &id).await?))
}

/// Forget a cluster; nothing on it is touched
#[utoipa::path(
    delete,
    path = "/clusters/{id}",
    tag = "clusters",
    params(("id" = String, Path, description = "Name or id")),
    responses((status = 204))
)]
async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failed> {
    api.app.delete_cluster(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
