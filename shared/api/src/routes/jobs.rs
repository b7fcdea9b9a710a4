//! `/jobs`.

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::header,
    response::IntoResponse,
};
use slipway_app::{Caller, NewJob, Page};
use slipway_model::{Job, JobId, JobStatus};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Created, accepted, created};
use crate::{Api, body::Sent, lists::JobFilter, problem::Failed};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(show))
        .routes(routes!(execute))
        .routes(routes!(cancel))
        .routes(routes!(logs))
}

/// Create a job
#[utoipa::path(
    post,
    path = "/jobs",
    tag = "jobs",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes repeating the call safe for 24 hours")),
    request_body = NewJob,
    responses((status = 201, body = Job, headers(("Location" = String, description = "The new job"))))
)]
async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Result<Created<Job>, Failed> {
    let new: NewJob = sent.typed()?;
    let once = sent.idempotent("POST /jobs")?;
    let job = api
        .app
        .create_once(&caller, once, |id| api.app.create_job_as(&caller, JobId(id), new))
        .await?;
    Ok(created(format!("/api/v1/jobs/{}", job.id), job))
}

/// Jobs, newest first
#[utoipa::path(get, path = "/jobs", tag = "jobs", params(JobFilter), responses((status = 200, body = Page<Job>)))]
async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<JobFilter>,
) -> Result<Json<Page<Job>>, Failed> {
    Ok(Json(api.app.jobs(&caller, &filter.query::<JobStatus>()?).await?))
}

/// A job
#[utoipa::path(
    get,
    path = "/jobs/{id}",
    tag = "jobs",
    params(("id" = String, Path)),
    responses((status = 200, body = Job))
)]
async fn show(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Job>, Failed> {
    Ok(Json(api.app.job(&caller, &id).await?))
}

/// Run a Helm job
#[utoipa::path(
    post,
    path = "/jobs/{id}/execute",
    tag = "jobs",
    params(("id" = String, Path)),
    responses((status = 202, body = Job))
)]
async fn execute(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failed> {
    Ok(accepted(api.app.execute_job(&caller, &id).await?))
}

/// Cancel a job
#[utoipa::path(
    post,
    path = "/jobs/{id}/cancel",
    tag = "jobs",
    params(("id" = String, Path)),
    responses((status = 202, body = Job))
)]
async fn cancel(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failed> {
    Ok(accepted(api.app.cancel_job(&caller, &id).await?))
}

/// The last lines of a job's pods
#[utoipa::path(
    get,
    path = "/jobs/{id}/logs",
    tag = "jobs",
    params(("id" = String, Path)),
    responses((status = 200, body = String, content_type = "text/plain"))
)]
async fn logs(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failed> {
    let text = api.app.job_logs(&caller, &id).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text))
}
