//! Kubeconfigs: only those that hold everything in themselves may be used.

use serde_json::{Map, Value, json};

use crate::manifest;

/// Keys of a user that run a program or name a plugin.
const PROGRAMS: &[&str] = &["exec", "auth-provider"];

/// Keys that name a file, with the key that holds the same in line.
const FILES: &[(&str, &str)] = &[
    ("certificate-authority", "certificate-authority-data"),
    ("client-certificate", "client-certificate-data"),
    ("client-key", "client-key-data"),
    ("tokenFile", "token"),
];

/// Checks a kubeconfig: no programs, no files, and the context (its current one if none is given) leads to a server.
/// The errors are sentences for people and hold no secret.
pub fn check_kubeconfig(text: &str, context: Option<&str>) -> Result<(), Vec<String>> {
    reduce(text, context).map(|_| ())
}

/// The kubeconfig with nothing but what `context` needs.
pub(super) fn reduce(text: &str, context: Option<&str>) -> Result<Value, Vec<String>> {
    // The parser's own error would show the line, which may hold a token.
    let config: Value = manifest::read(text).map_err(|_| {
        vec!["it is not valid YAML: expected what 'kubectl config view --raw --flatten' prints".to_owned()]
    })?;
    let mut errors = Vec::new();
    for (list, key) in [("clusters", "cluster"), ("users", "user")] {
        for entry in entries(&config, list) {
            let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
            if let Some(fields) = entry.get(key).and_then(Value::as_object) {
                refuse(fields, &format!("{key} '{name}'"), &mut errors);
            }
        }
    }
    match chosen(&config, context) {
        Ok(reduced) if errors.is_empty() => Ok(reduced),
        Ok(_) => Err(errors),
        Err(error) => {
            errors.push(error);
            Err(errors)
        }
    }
}

fn entries<'a>(config: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    config.get(list).and_then(Value::as_array).into_iter().flatten()
}

fn refuse(fields: &Map<String, Value>, place: &str, errors: &mut Vec<String>) {
    for key in PROGRAMS.iter().filter(|key| is_set(fields, key)) {
        errors.push(format!(
            "{place} has '{key}', which runs a program: use a token or a client certificate instead"
        ));
    }
    for (key, instead) in FILES.iter().filter(|(key, _)| is_set(fields, key)) {
        errors.push(format!(
            "{place} has '{key}', which names a file: use '{instead}' instead ('kubectl config view --raw --flatten' writes it)"
        ));
    }
}

fn is_set(fields: &Map<String, Value>, key: &str) -> bool {
    fields
        .get(key)
        .is_some_and(|value| !value.is_null() && value != "")
}

fn chosen(config: &Value, context: Option<&str>) -> Result<Value, String> {
    let names = || {
        let names: Vec<_> = entries(config, "contexts")
            .filter_map(|entry| entry.get("name")?.as_str())
            .collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    let current = config
        .get("current-context")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let name = context.unwrap_or(current);
    if name.is_empty() {
        return Err(format!(
            "it has no current context: name one of its contexts ({})",
            names()
        ));
    }
    let find = |list: &str, key: &str, name: &str| {
        entries(config, list)
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))
            .and_then(|entry| entry.get(key))
            .cloned()
    };
    let context = find("contexts", "context", name)
        .ok_or_else(|| format!("it has no context '{name}'; there are: {}", names()))?;
    let part = |list: &str, key: &str| {
        let part = context.get(key).and_then(Value::as_str).unwrap_or_default();
        find(list, key, part)
            .map(|fields| (part.to_owned(), fields))
            .ok_or_else(|| format!("context '{name}' names the {key} '{part}', which it does not have"))
    };
    let (cluster_name, cluster) = part("clusters", "cluster")?;
    let (user_name, user) = part("users", "user")?;
    let server = cluster.get("server").and_then(Value::as_str).unwrap_or_default();
    if !server.starts_with("https://") && !server.starts_with("http://") {
        return Err(format!(
            "cluster '{cluster_name}' has no server: expected an address such as https://10.0.0.1:6443"
        ));
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster_name, "cluster": cluster}],
        "users": [{"name": user_name, "user": user}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
apiVersion: v1
kind: Config
current-context: b
clusters:
- {name: one, cluster: {server: "https://10.0.0.1:6443", certificate-authority-data: Q0E=}}
- {name: two, cluster: {server: "https://10.0.0.2:6443"}}
users:
- {name: u, user: {token: s3cr3t}}
contexts:
- {name: a, context: {cluster: one, user: u}}
- {name: b, context: {cluster: two, user: u, namespace: n}}
- {name: c, context: {cluster: three, user: u}}
"#;

    #[test]
    fn only_what_the_context_needs_is_kept() {
        let reduced = reduce(GOOD, Some("a")).unwrap();
        assert_eq!(
            reduced["clusters"][0]["cluster"]["server"],
            "https://10.0.0.1:6443"
        );
        assert_eq!(reduced["clusters"].as_array().unwrap().len(), 1);
        assert_eq!(reduce(GOOD, None).unwrap()["current-context"], "b");
    }

    #[test]
    fn a_context_that_leads_nowhere_is_named() {
        let unknown = check_kubeconfig(GOOD, Some("x")).unwrap_err();
        assert_eq!(unknown, ["it has no context 'x'; there are: a, b, c"]);
        let dangling = check_kubeconfig(GOOD, Some("c")).unwrap_err();
        assert!(dangling[0].contains("cluster 'three'"), "{dangling:?}");
        let empty = check_kubeconfig("{}", None).unwrap_err();
        assert!(empty[0].contains("no current context"), "{empty:?}");
    }

    #[test]
    fn programs_and_files_are_refused_wherever_they_stand_and_all_at_once() {
        let bad = GOOD
            .replace(
                "{token: s3cr3t}",
                "{exec: {command: sh}, client-key: /k, tokenFile: /t}",
            )
            .replace("certificate-authority-data: Q0E=", "certificate-authority: /ca");
        let errors = check_kubeconfig(&bad, None).unwrap_err();
        assert_eq!(errors.len(), 4, "{errors:?}");
    }

    #[test]
    fn an_error_shows_nothing_of_the_text() {
        let errors = check_kubeconfig("users: [{token: s3cr3t", None).unwrap_err();
        assert!(!errors.concat().contains("s3cr3t"), "{errors:?}");
    }
}
