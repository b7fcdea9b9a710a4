//! Requests as events of the payload format 2.0, and answers of that format as responses.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::routes::Found;
use crate::clock;
use crate::template::ACCOUNT;

/// Types of bodies that events carry as text; others are carried as base64.
const TEXT_TYPES: [&str; 3] = ["application/json", "application/javascript", "application/xml"];

/// The event of a request. `claims` are those of its token, where its route wants one.
pub(super) fn request(
    parts: &Parts,
    body: &[u8],
    caller: SocketAddr,
    found: &Found<'_>,
    claims: Option<Map<String, Value>>,
) -> Value {
    let now = clock::now();
    let header = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let host = header(header::HOST).unwrap_or("localhost");
    let route = format!("{} {}", found.route.method, found.route.path);
    let path = parts.uri.path();
    let mut event = json!({
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": parts.uri.query().unwrap_or_default(),
        "headers": headers(parts),
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "local",
            "domainName": host,
            "domainPrefix": host.split(['.', ':']).next(),
            "http": {
                "method": parts.method.as_str(),
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": caller.ip().to_string(),
                "userAgent": header(header::USER_AGENT).unwrap_or_default(),
            },
            "requestId": clock::random_hex(15),
            "routeKey": route,
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
            "timeEpoch": now.as_millisecond(),
        },
        "isBase64Encoded": false,
    });
    if let Some(claims) = claims {
        event["requestContext"]["authorizer"] = json!({"jwt": {"claims": claims, "scopes": null}});
    }
    let cookies: Vec<_> = parts
        .headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split("; "))
        .collect();
    if !cookies.is_empty() {
        event["cookies"] = json!(cookies);
    }
    if let Some(query) = parts.uri.query().filter(|query| !query.is_empty()) {
        event["queryStringParameters"] = json!(query_parameters(query));
    }
    if !found.parameters.is_empty() {
        let decoded = found
            .parameters
            .iter()
            .map(|(name, value)| (name.clone(), decoded(value, false)));
        event["pathParameters"] = json!(decoded.collect::<BTreeMap<_, _>>());
    }
    if !body.is_empty() {
        let is_text = header(header::CONTENT_TYPE).is_none_or(is_text_type);
        match std::str::from_utf8(body) {
            Ok(text) if is_text => event["body"] = Value::from(text),
            _ => {
                event["body"] = Value::from(STANDARD.encode(body));
                event["isBase64Encoded"] = Value::Bool(true);
            }
        }
    }
    event
}

fn is_text_type(content_type: &str) -> bool {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence.starts_with("text/")
        || TEXT_TYPES.contains(&essence.as_str())
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
}

/// Headers by their names in small letters; several of one name are joined. Cookies stand apart.
fn headers(parts: &Parts) -> BTreeMap<&str, String> {
    let mut joined: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in &parts.headers {
        if name == header::COOKIE {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        joined
            .entry(name.as_str())
            .and_modify(|all| {
                all.push(',');
                all.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    joined
}

/// Several values of one name are joined.
fn query_parameters(query: &str) -> BTreeMap<String, String> {
    let mut joined: BTreeMap<String, String> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value, true);
        joined
            .entry(decoded(name, true))
            .and_modify(|all| {
                all.push(',');
                all.push_str(&value);
            })
            .or_insert(value);
    }
    joined
}

/// A text without its percent signs; what is no escape stays as it is.
fn decoded(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut result = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (escape, bytes[at]) {
            (Some(byte), _) => {
                result.push(byte);
                at += 2;
            }
            (None, b'+') if plus_is_space => result.push(b' '),
            (None, byte) => result.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&result).into_owned()
}

/// What a function's answer says; none when it is malformed.
pub(super) fn response(answer: &[u8]) -> Option<Response<Body>> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let Some(status) = answer.get("statusCode") else {
        // The short form: the answer as a whole is the body.
        let mut response = Response::new(Body::from(answer.to_string()));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        return Some(response);
    };
    let status = StatusCode::from_u16(u16::try_from(status.as_u64()?).ok()?).ok()?;
    let body = answer["body"].as_str().unwrap_or_default();
    let body = if answer["isBase64Encoded"] == true {
        STANDARD.decode(body).ok()?
    } else {
        body.as_bytes().to_vec()
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let single = answer["headers"].as_object().into_iter().flatten();
    let multiple = answer["multiValueHeaders"].as_object().into_iter().flatten();
    let multiple = multiple.flat_map(|(name, values)| {
        values
            .as_array()
            .into_iter()
            .flatten()
            .map(move |value| (name, value))
    });
    for (name, value) in single {
        add(&mut response, name, value, false)?;
    }
    for (name, value) in multiple {
        // The same header may stand in both.
        let is_new = answer["headers"].get(name) != Some(value);
        if is_new {
            add(&mut response, name, value, true)?;
        }
    }
    for cookie in answer["cookies"].as_array().into_iter().flatten() {
        add(&mut response, "set-cookie", cookie, true)?;
    }
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().entry(header::CONTENT_TYPE).or_insert(json);
    Some(response)
}

fn add(response: &mut Response<Body>, name: &str, value: &Value, append: bool) -> Option<()> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    // The length is that of the body as it is sent.
    if name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING || name == header::CONNECTION {
        return Some(());
    }
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let value = HeaderValue::from_bytes(text.as_bytes()).ok()?;
    if append {
        response.headers_mut().append(name, value);
    } else {
        response.headers_mut().insert(name, value);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_and_joined() {
        let parameters = query_parameters("status=RUNNING&status=FAILED&q=a%20b+c&flag&cut=%4");
        assert_eq!(parameters["status"], "RUNNING,FAILED");
        assert_eq!(parameters["q"], "a b c");
        assert_eq!(parameters["flag"], "");
        assert_eq!(parameters["cut"], "%4");
    }

    #[test]
    fn an_answer_becomes_a_response() {
        let answer = json!({
            "statusCode": 201,
            "headers": {"content-type": "text/plain", "location": "/x"},
            "multiValueHeaders": {"location": ["/x"], "vary": ["a", "b"]},
            "cookies": ["one=1", "two=2"],
            "body": STANDARD.encode("hello"),
            "isBase64Encoded": true,
        });
        let response = response(answer.to_string().as_bytes()).unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        let all = |name: &str| response.headers().get_all(name).iter().count();
        assert_eq!((all("location"), all("vary"), all("set-cookie")), (1, 2, 2));
    }

    #[test]
    fn a_malformed_answer_is_none() {
        assert!(response(b"no JSON").is_none());
        assert!(response(br#"{"statusCode": 99999}"#).is_none());
        assert!(response(br#"{"statusCode": 200, "body": "%", "isBase64Encoded": true}"#).is_none());
    }

    #[test]
    fn bodies_of_text_types_are_text() {
        assert!(is_text_type("application/json; charset=utf-8"));
        assert!(is_text_type("application/problem+json"));
        assert!(is_text_type("text/yaml"));
        assert!(!is_text_type("application/octet-stream"));
        assert!(!is_text_type("application/x-www-form-urlencoded"));
    }
}
