//! The routes of an HTTP API, which SAM writes as one OpenAPI document and CDK as a resource each.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The operation that stands for all methods.
const ANY: &str = "x-amazon-apigateway-any-method";
const INTEGRATION: &str = "x-amazon-apigateway-integration";
const AUTHORIZER: &str = "x-amazon-apigateway-authorizer";

/// Resources in canonical form, by logical id.
pub(super) type Resources = BTreeMap<String, Value>;

/// Puts one entry per route in the place of what either way of writing has: `route GET /path`, with its integration
/// and its authorizer in it. What no route uses stays where it is, and so shows up as a difference.
pub(super) fn expand(resources: &mut Resources) {
    let documents: Vec<_> = resources
        .iter()
        .filter(|(_, resource)| {
            resource["Type"] == "AWS::ApiGatewayV2::Api" && !resource["Properties"]["Body"].is_null()
        })
        .map(|(id, resource)| (id.clone(), resource["Properties"].clone()))
        .collect();
    for (id, properties) in documents {
        resources.extend(of_document(&id, &properties["Body"]));
        let api = resources.get_mut(&id).expect("it was just found there");
        api["Properties"] = described(&properties);
    }
    of_resources(resources);
}

/// The properties of an API whose routes stand elsewhere.
fn described(properties: &Value) -> Value {
    let mut result = Map::new();
    let info = &properties["Body"]["info"];
    result.insert("Name".to_owned(), info["title"].clone());
    result.insert("Description".to_owned(), info["description"].clone());
    result.insert("ProtocolType".to_owned(), json!("HTTP"));
    for (name, value) in properties.as_object().into_iter().flatten() {
        if name != "Body" {
            result.insert(name.clone(), value.clone());
        }
    }
    let endpoint = &properties["Body"]["servers"][0]["x-amazon-apigateway-endpoint-configuration"];
    if let Some(disabled) = endpoint.get("disableExecuteApiEndpoint") {
        result.insert("DisableExecuteApiEndpoint".to_owned(), disabled.clone());
    }
    Value::Object(result)
}

fn of_document(api: &str, body: &Value) -> Resources {
    let mut routes = Resources::new();
    for (path, operations) in body["paths"].as_object().into_iter().flatten() {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            let method = if method == ANY {
                "ANY".to_owned()
            } else {
                method.to_uppercase()
            };
            let integration = &operation[INTEGRATION];
            let scheme = operation["security"][0]
                .as_object()
                .and_then(|security| security.keys().next())
                .filter(|name| *name != "NONE");
            let authorizer = scheme.map(|name| {
                let declared = &body["components"]["securitySchemes"][name][AUTHORIZER];
                (name.clone(), declared)
            });
            let route = Route {
                api: format!("${{{api}}}"),
                function: function_of(integration["uri"].as_str().unwrap_or_default()),
                kind: integration["type"].as_str().unwrap_or_default().to_uppercase(),
                payload: integration["payloadFormatVersion"].clone(),
                authorizer: authorizer.map(|(name, declared)| {
                    json!({
                        "Name": name,
                        "Source": declared["identitySource"],
                        "Issuer": declared["jwtConfiguration"]["issuer"],
                        "Audience": declared["jwtConfiguration"]["audience"],
                    })
                }),
            };
            routes.insert(format!("route {method} {path}"), route.into_value());
        }
    }
    routes
}

fn of_resources(resources: &mut Resources) {
    let found: Vec<_> = resources
        .iter()
        .filter(|(_, resource)| resource["Type"] == "AWS::ApiGatewayV2::Route")
        .map(|(id, resource)| (id.clone(), resource["Properties"].clone()))
        .collect();
    let mut used = Vec::new();
    for (id, properties) in found {
        let text = |name: &str| properties[name].as_str().unwrap_or_default();
        let integration_id = referred(text("Target").trim_start_matches("integrations/"));
        let authorizer_id = referred(text("AuthorizerId"));
        let property = |id: &str, name: &str| -> Value {
            resources
                .get(id)
                .map_or(Value::Null, |resource| resource["Properties"][name].clone())
        };
        let integration = |name: &str| property(integration_id, name);
        let route = Route {
            api: text("ApiId").to_owned(),
            function: function_of(integration("IntegrationUri").as_str().unwrap_or_default()),
            kind: integration("IntegrationType")
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            payload: integration("PayloadFormatVersion"),
            authorizer: (text("AuthorizationType") == "JWT").then(|| {
                let authorizer = |name: &str| property(authorizer_id, name);
                json!({
                    "Name": authorizer("Name"),
                    "Source": authorizer("IdentitySource")[0],
                    "Issuer": authorizer("JwtConfiguration")["Issuer"],
                    "Audience": authorizer("JwtConfiguration")["Audience"],
                })
            }),
        };
        used.extend([id.clone(), integration_id.to_owned(), authorizer_id.to_owned()]);
        let key = format!("route {}", text("RouteKey"));
        resources.insert(key, route.into_value());
    }
    for id in used {
        resources.remove(&id);
    }
}

/// What a route is, however it is written.
struct Route {
    api: String,
    function: String,
    kind: String,
    payload: Value,
    /// Nothing where everybody may call it.
    authorizer: Option<Value>,
}

impl Route {
    fn into_value(self) -> Value {
        json!({
            "Type": "route",
            "Properties": {
                "Api": self.api,
                "Function": self.function,
                "IntegrationType": self.kind,
                "PayloadFormatVersion": self.payload,
                "Authorizer": self.authorizer,
            },
        })
    }
}

/// The name in `${Name}`.
fn referred(text: &str) -> &str {
    text.trim_start_matches("${").trim_end_matches('}')
}

/// The function's ARN, which either stands alone or in the path under which API Gateway invokes functions.
fn function_of(uri: &str) -> String {
    let inner = uri
        .split_once("/functions/")
        .and_then(|(_, rest)| rest.strip_suffix("/invocations"));
    inner.unwrap_or(uri).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        json!({"Type": "AWS::ApiGatewayV2::Api", "Properties": {"Body": {
            "info": {"title": "t", "description": "d"},
            "paths": {
                "/open": {"get": {(INTEGRATION): {"type": "aws_proxy", "payloadFormatVersion": "2.0",
                    "uri": "arn:x:lambda:path/2015-03-31/functions/${F.Arn}/invocations"},
                    "security": [{"NONE": []}]}},
                "/closed": {(ANY): {(INTEGRATION): {"type": "aws_proxy", "payloadFormatVersion": "2.0",
                    "uri": "arn:x:lambda:path/2015-03-31/functions/${F.Arn}/invocations"},
                    "security": [{"Jwt": []}]}},
            },
            "components": {"securitySchemes": {"Jwt": {(AUTHORIZER): {
                "identitySource": "$request.header.Authorization",
                "jwtConfiguration": {"issuer": "i", "audience": ["a"]}}}}},
        }}})
    }

    fn written_apart() -> Resources {
        let of = |kind: &str, properties: Value| json!({"Type": format!("AWS::ApiGatewayV2::{kind}"), "Properties": properties});
        Resources::from([
            (
                "Api".to_owned(),
                of(
                    "Api",
                    json!({"Name": "t", "Description": "d", "ProtocolType": "HTTP"}),
                ),
            ),
            (
                "I".to_owned(),
                of(
                    "Integration",
                    json!({"IntegrationUri": "${F.Arn}", "IntegrationType": "AWS_PROXY", "PayloadFormatVersion": "2.0"}),
                ),
            ),
            (
                "A".to_owned(),
                of(
                    "Authorizer",
                    json!({"Name": "Jwt", "IdentitySource": ["$request.header.Authorization"],
                        "JwtConfiguration": {"Issuer": "i", "Audience": ["a"]}}),
                ),
            ),
            (
                "R".to_owned(),
                of(
                    "Route",
                    json!({"ApiId": "${Api}", "RouteKey": "ANY /closed", "Target": "integrations/${I}",
                        "AuthorizationType": "JWT", "AuthorizerId": "${A}"}),
                ),
            ),
            (
                "O".to_owned(),
                of(
                    "Route",
                    json!({"ApiId": "${Api}", "RouteKey": "GET /open", "Target": "integrations/${I}",
                        "AuthorizationType": "NONE"}),
                ),
            ),
        ])
    }

    #[test]
    fn a_document_and_resources_of_the_same_routes_are_the_same() {
        let mut document = Resources::from([("Api".to_owned(), document())]);
        let mut apart = written_apart();
        expand(&mut document);
        expand(&mut apart);
        assert_eq!(document, apart);
        assert_eq!(document.len(), 3);
    }

    #[test]
    fn a_route_that_everybody_may_call_is_not_one_with_an_authorizer() {
        let mut open = written_apart();
        let route = open.get_mut("R").expect("it is there");
        route["Properties"]["AuthorizationType"] = json!("NONE");
        let mut apart = written_apart();
        expand(&mut open);
        expand(&mut apart);
        assert_ne!(open["route ANY /closed"], apart["route ANY /closed"]);
    }
}
