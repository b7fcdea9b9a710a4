//! The routes, a file per resource.

mod actions;
mod catalog;
mod clusters;
mod dead_letters;
mod deployments;
mod executions;
mod jobs;
mod open;
mod templates;
mod watching;

use axum::{
    Json,
    http::{HeaderName, StatusCode, header},
};
use utoipa_axum::router::OpenApiRouter;

use crate::{Api, openapi};

pub(crate) use open::routes as open;

/// A part of the API that can be served on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// `/templates`
    Templates,
    /// `/catalog`
    Catalog,
    /// `/actions`
    Actions,
    /// `/deployments`
    Deployments,
    /// `/executions`
    Executions,
    /// `/jobs`
    Jobs,
    /// `/clusters`
    Clusters,
    /// `/dead-letters`
    DeadLetters,
}

impl Resource {
    /// The whole API.
    pub const ALL: [Self; 8] = [
        Self::Templates,
        Self::Catalog,
        Self::Actions,
        Self::Deployments,
        Self::Executions,
        Self::Jobs,
        Self::Clusters,
        Self::DeadLetters,
    ];

    /// The word that groups its calls in the OpenAPI document.
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::Templates => "templates",
            Self::Catalog => "catalog",
            Self::Actions => "actions",
            Self::Deployments => "deployments",
            Self::Executions => "executions",
            Self::Jobs => "jobs",
            Self::Clusters => "clusters",
            Self::DeadLetters => "dead_letters",
        }
    }

    /// What it is, for the OpenAPI document.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Templates => "Components, parameters and an order; immutable per name and version",
            Self::Catalog => "What can fill a slot of a template",
            Self::Actions => "What steps can do",
            Self::Deployments => "Templates being brought up on clusters",
            Self::Executions => "Runs of DAGs",
            Self::Jobs => "Pieces of work on a cluster",
            Self::Clusters => "Where deployments go",
            Self::DeadLetters => {
                "Messages that were received too often or that nobody could read. What they were about has ended as \
                 failed; they are kept for people. Administrators see those of their own tenant, and those of the \
                 tenant `local`, the operator's, also what cannot be read"
            }
        }
    }

    fn routes(self) -> OpenApiRouter<Api> {
        match self {
            Self::Templates => templates::routes(),
            Self::Catalog => catalog::routes(),
            Self::Actions => actions::routes(),
            Self::Deployments => deployments::routes(),
            Self::Executions => executions::routes(),
            Self::Jobs => jobs::routes(),
            Self::Clusters => clusters::routes(),
            Self::DeadLetters => dead_letters::routes(),
        }
    }
}

/// The routes of these resources under `/api/v1`.
pub(crate) fn of(resources: &[Resource]) -> OpenApiRouter<Api> {
    let routes = resources.iter().fold(OpenApiRouter::new(), |routes, resource| {
        routes.merge(resource.routes())
    });
    OpenApiRouter::with_openapi(openapi::base()).nest("/api/v1", routes)
}

/// A 201 with the address of what was created.
type Created<T> = (StatusCode, [(HeaderName, String); 1], Json<T>);

fn created<T>(address: String, body: T) -> Created<T> {
    (StatusCode::CREATED, [(header::LOCATION, address)], Json(body))
}

/// A 202: asked for, and not done yet.
fn accepted<T>(body: T) -> (StatusCode, Json<T>) {
    (StatusCode::ACCEPTED, Json(body))
}
