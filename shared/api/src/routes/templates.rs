//! `/templates`.

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use slipway_app::{Caller, Page, TemplateVersions};
use slipway_model::Template;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Created, created};
use crate::{Api, body::Sent, lists::Paging, problem::Failed};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(publish, list))
        .routes(routes!(validate))
        .routes(routes!(show, delete))
        .routes(routes!(show_version, delete_version))
}

/// Publish a template
#[utoipa::path(
    post,
    path = "/templates",
    tag = "templates",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes repeating the call safe for 24 hours")),
    request_body(content((Template = "application/json"), (Template = "application/yaml"))),
    responses((status = 201, body = Template, headers(("Location" = String, description = "The new version"))))
)]
async fn publish(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Result<Created<Template>, Failed> {
    let document = sent.json_or_yaml()?;
    let once = sent.idempotent("POST /templates")?;
    let template = api
        .app
        .create_once(&caller, once, |_| api.app.publish_template(&caller, document))
        .await?;
    let address = format!(
        "/api/v1/templates/{}/versions/{}",
        template.name, template.version
    );
    Ok(created(address, template))
}

/// Check a template without publishing it
#[utoipa::path(
    post,
    path = "/templates/validate",
    tag = "templates",
    request_body(content((Template = "application/json"), (Template = "application/yaml"))),
    responses((status = 200, body = Template, description = "The template as it would be published"))
)]
async fn validate(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Result<Json<Template>, Failed> {
    Ok(Json(api.app.validate_template(&caller, sent.json_or_yaml()?)?))
}

/// The newest version of each template
#[utoipa::path(get, path = "/templates", tag = "templates", params(Paging), responses((status = 200, body = Page<Template>)))]
async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Template>>, Failed> {
    Ok(Json(api.app.templates(&caller, &paging.query()?).await?))
}

/// A template's newest version, and which others there are
#[utoipa::path(
    get,
    path = "/templates/{name}",
    tag = "templates",
    params(("name" = String, Path)),
    responses((status = 200, body = TemplateVersions))
)]
async fn show(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<TemplateVersions>, Failed> {
    Ok(Json(api.app.template(&caller, &name).await?))
}

/// One version of a template
#[utoipa::path(
    get,
    path = "/templates/{name}/versions/{version}",
    tag = "templates",
    params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = Template))
)]
async fn show_version(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<Template>, Failed> {
    Ok(Json(api.app.template_version(&caller, &name, &version).await?))
}

/// Delete a template with all its versions
#[utoipa::path(
    delete,
    path = "/templates/{name}",
    tag = "templates",
    params(("name" = String, Path)),
    responses((status = 204))
)]
async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failed> {
    api.app.delete_template(&caller, &name, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete one version of a template
#[utoipa::path(
    delete,
    path = "/templates/{name}/versions/{version}",
    tag = "templates",
    params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 204))
)]
async fn delete_version(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((name, version)): Path<(String, String)>,
) -> Result<StatusCode, Failed> {
    api.app.delete_template(&caller, &name, Some(&version)).await?;
    Ok(StatusCode::NO_CONTENT)
}
