//! URLs of Services and Ingresses.

use serde_json::Value;

use super::{Found, name};
use crate::manifest::text_at;

/// Where a release is reached: its Ingress (with the cluster's own URL if the Ingress names no host), else a load
/// balancer, else its first Service inside the cluster, else empty.
pub(super) fn endpoint(found: &Found, namespace: &str, ingress_url: Option<&str>) -> String {
    let ingress = found
        .ingresses
        .iter()
        .find_map(|ingress| ingress_address(ingress, ingress_url));
    let balancer = || found.services.iter().find_map(balancer_address);
    // A headless Service has no address of its own, so it is taken last.
    let inside = || {
        let is_headless = |service: &&Value| text_at(service, "/spec/clusterIP") == "None";
        found
            .services
            .iter()
            .filter(|service| !is_headless(service))
            .chain(found.services.iter().filter(is_headless))
            .find_map(|service| service_address(service, namespace, None))
    };
    ingress.or_else(balancer).or_else(inside).unwrap_or_default()
}

/// The URL of an Ingress's first rule.
pub(super) fn ingress_address(ingress: &Value, ingress_url: Option<&str>) -> Option<String> {
    let rule = ingress.pointer("/spec/rules/0");
    let host = rule.map(|rule| text_at(rule, "/host")).unwrap_or_default();
    let path = rule
        .map(|rule| text_at(rule, "/http/paths/0/path"))
        .unwrap_or_default();
    // A pattern is no path that a client could ask for.
    let path = match path.find(['*', '(', '$']) {
        Some(at) => path.get(..at).unwrap_or_default(),
        None => path,
    };
    let path = path.trim_end_matches('/');
    let tls = ingress
        .pointer("/spec/tls")
        .and_then(Value::as_array)
        .is_some_and(|tls| !tls.is_empty());
    let scheme = if tls { "https" } else { "http" };
    if !host.is_empty() && !host.starts_with('*') {
        return Some(format!("{scheme}://{host}{path}"));
    }
    if let Some(base) = ingress_url.filter(|base| !base.is_empty()) {
        return Some(format!("{}{path}", base.trim_end_matches('/')));
    }
    let given = ingress.pointer("/status/loadBalancer/ingress/0")?;
    Some(format!("{scheme}://{}{path}", outer_host(given)?))
}

fn balancer_address(service: &Value) -> Option<String> {
    if text_at(service, "/spec/type") != "LoadBalancer" {
        return None;
    }
    let host = outer_host(service.pointer("/status/loadBalancer/ingress/0")?)?;
    let port = service.pointer("/spec/ports/0")?;
    Some(format!("{}://{host}:{}", scheme(port), port.get("port")?))
}

fn outer_host(given: &Value) -> Option<String> {
    match (text_at(given, "/hostname"), text_at(given, "/ip")) {
        ("", "") => None,
        ("", ip) if ip.contains(':') => Some(format!("[{ip}]")),
        ("", ip) => Some(ip.to_owned()),
        (host, _) => Some(host.to_owned()),
    }
}

/// `http://<service>.<namespace>.svc:<port>`; `port` is a name or a number, the first port if absent.
pub(super) fn service_address(service: &Value, namespace: &str, port: Option<&str>) -> Option<String> {
    let ports = service.pointer("/spec/ports")?.as_array()?;
    let port = match port {
        None => ports.first(),
        Some(wanted) => ports.iter().find(|port| {
            text_at(port, "/name") == wanted
                || wanted.parse().ok() == port.get("port").and_then(Value::as_u64)
        }),
    }?;
    let number = port.get("port")?;
    Some(format!(
        "{}://{}.{namespace}.svc:{number}",
        scheme(port),
        name(service)
    ))
}

fn scheme(port: &Value) -> &'static str {
    let says_https = ["/appProtocol", "/name"]
        .iter()
        .any(|pointer| text_at(port, pointer).eq_ignore_ascii_case("https"));
    if says_https || port.get("port").and_then(Value::as_u64) == Some(443) {
        "https"
    } else {
        "http"
    }
}
