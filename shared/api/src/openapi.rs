//! The OpenAPI document, made from the routes.

use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    ResponseBuilder,
    path::Operation,
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    tag::TagBuilder,
};

use crate::{problem::PROBLEM_JSON, routes};

/// The description of the whole API, as `/api/v1/openapi.json` serves it.
pub fn document() -> OpenApi {
    let (_, mut document) = routes::of(&routes::Resource::ALL).split_for_parts();
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.delete];
        operations.into_iter().flatten().for_each(complete);
    }
    document
}

/// What the routes are collected into.
pub(crate) fn base() -> OpenApi {
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "The token that `slipway serve` prints, or a JWT of the installation's issuer.",
        ))
        .build();
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Slipway")
                .description(Some(
                    "Deploys use cases, several parts that belong together, onto Kubernetes clusters in dependency \
                     order. Errors are problem documents (RFC 9457), except those of a gateway in front of it, which \
                     refuses by itself what never gets through.",
                ))
                .version(env!("CARGO_PKG_VERSION"))
                .license(Some(
                    LicenseBuilder::new()
                        .name("Apache-2.0")
                        .identifier(Some("Apache-2.0"))
                        .build(),
                ))
                .build(),
        )
        .tags(Some(routes::Resource::ALL.map(|resource| {
            TagBuilder::new()
                .name(resource.tag())
                .description(Some(resource.description()))
                .build()
        })))
        .components(Some(
            ComponentsBuilder::new()
                .schema_from::<slipway_model::Problem>()
                .schema_from::<slipway_model::FieldError>()
                .security_scheme("token", SecurityScheme::Http(token))
                .build(),
        ))
        .security(Some([SecurityRequirement::new("token", Vec::<String>::new())]))
        .build()
}

/// Makes an operation's name unique, says what each answer is, and that every call may answer with a problem.
fn complete(operation: &mut Operation) {
    let tag = operation.tags.iter().flatten().next().cloned();
    if let (Some(tag), Some(name)) = (tag, &operation.operation_id) {
        operation.operation_id = Some(format!("{tag}_{name}"));
    }
    for (status, answer) in &mut operation.responses.responses {
        if let RefOr::T(answer) = answer
            && answer.description.is_empty()
        {
            answer.description = match status.as_str() {
                "201" => "It was created",
                "202" => "It was accepted and is not done yet",
                "204" => "It is gone",
                _ => "It was found or done",
            }
            .to_owned();
        }
    }
    let problem = ResponseBuilder::new()
        .description("What is wrong, where, and what would be right")
        .content(
            PROBLEM_JSON,
            ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("Problem")))
                .build(),
        )
        .build();
    operation
        .responses
        .responses
        .entry("default".to_owned())
        .or_insert(RefOr::T(problem));
}
