//! Kubeconfigs that someone sends: what they may hold.
//!
//! A kubeconfig can start programs and read files on the machine that uses it. Only credentials that stand in it
//! are taken, and it is kept as the JSON that was checked, so that no other reader can see something else in it.

use serde_json::Value;

use crate::FieldError;

/// The longest kubeconfig, in bytes: what a secrets store holds under one name.
const LONGEST: usize = 64 * 1024;

/// What no kubeconfig may hold, by its letters in lower case, and what to do instead.
const REFUSED: [(&str, &str); 6] = [
    (
        "exec",
        "it starts a program; use a client certificate, a token, or a cluster of type eks",
    ),
    (
        "authprovider",
        "it starts a program; use a client certificate, a token, or a cluster of type eks",
    ),
    (
        "clientcertificate",
        "it is a path on your machine; put the content under client-certificate-data",
    ),
    (
        "clientkey",
        "it is a path on your machine; put the content under client-key-data",
    ),
    (
        "tokenfile",
        "it is a path on your machine; put the content under token",
    ),
    (
        "certificateauthority",
        "it is a path on your machine; put the content under certificate-authority-data",
    ),
];

/// Checks a kubeconfig (YAML or JSON) and returns it as JSON, which is YAML too, whose `current-context` is
/// `context` if one is given.
///
/// # Errors
/// Everything that is wrong, all at once: not readable, `exec`, `auth-provider`, file paths, a context that is not
/// there or does not lead to a server. No error repeats what stands in the kubeconfig beyond names.
pub fn check_kubeconfig(text: &str, context: Option<&str>) -> Result<String, Vec<FieldError>> {
    let mut config = read(text).map_err(|message| vec![error("", message)])?;
    let mut errors = Vec::new();
    for (list, below) in [
        ("users", "user"),
        ("clusters", "cluster"),
        ("contexts", "context"),
    ] {
        check_list(&config, list, below, &mut errors);
    }
    let current = config
        .get("current-context")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty())
        .map(str::to_owned);
    match context.map(str::to_owned).or(current) {
        None => errors.push(error(
            "current-context",
            "there is none; set it, or name the context to use",
        )),
        Some(name) => match server_of(&config, &name) {
            Ok(()) => config["current-context"] = Value::String(name),
            Err(found) => errors.push(found),
        },
    }
    if errors.is_empty() {
        Ok(config.to_string())
    } else {
        Err(errors)
    }
}

fn error(path: &str, message: impl Into<String>) -> FieldError {
    FieldError {
        path: path.to_owned(),
        message: message.into(),
    }
}

/// The parser's own messages are left out: they may repeat a piece of a key or token.
fn read(text: &str) -> Result<Value, String> {
    if text.len() > LONGEST {
        return Err(format!(
            "it has {} bytes; at most {LONGEST} are allowed",
            text.len()
        ));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_documents: 1,
            // A kubeconfig needs neither, and what is not expanded cannot explode.
            max_aliases: 0,
            max_anchors: 0,
        },
        with_snippet: false,
    };
    let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        error.location().map_or_else(
            || "it is not YAML or JSON".to_owned(),
            |place| {
                format!(
                    "it is not YAML or JSON that can be read; see line {}, column {}",
                    place.line(),
                    place.column()
                )
            },
        )
    })?;
    match value {
        Value::Object(_) => Ok(value),
        _ => Err("it must be a map with clusters, users and contexts".to_owned()),
    }
}

fn check_list(config: &Value, list: &str, below: &str, errors: &mut Vec<FieldError>) {
    let Some(entries) = config.get(list).and_then(Value::as_array) else {
        errors.push(error(list, "it must be a list"));
        return;
    };
    for (index, entry) in entries.iter().enumerate() {
        let at = format!("{list}[{index}]");
        if entry.get("name").and_then(Value::as_str).is_none() {
            errors.push(error(&format!("{at}.name"), "it must be a text"));
        }
        if entry
            .get(below)
            .is_some_and(|found| !found.is_object() && !found.is_null())
        {
            errors.push(error(&format!("{at}.{below}"), "it must be a map"));
        }
        // At any depth, extensions included: a reader that merges maps finds them there too.
        refuse(entry, &at, errors);
    }
}

fn refuse(value: &Value, at: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let letters: String = key
                    .chars()
                    .filter(|letter| !matches!(letter, '-' | '_'))
                    .flat_map(char::to_lowercase)
                    .collect();
                let path = format!("{at}.{key}");
                let refused = REFUSED.iter().find(|(name, _)| *name == letters);
                match refused {
                    Some((_, why)) if !is_empty(value) => errors.push(error(&path, *why)),
                    _ if key == "<<" => {
                        errors.push(error(&path, "merge keys are not taken; write the map out"));
                    }
                    _ => refuse(value, &path, errors),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                refuse(item, &format!("{at}[{index}]"), errors);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}

/// Whether the context leads to a server and a user.
fn server_of(config: &Value, context: &str) -> Result<(), FieldError> {
    let entry = |list: &str, name: &str| {
        config.get(list)?.as_array()?.iter().find(|entry| {
            entry
                .get("name")
                .and_then(Value::as_str)
                .is_some_and(|found| found == name)
        })
    };
    let text =
        |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let shown: String = context.chars().take(100).flat_map(char::escape_debug).collect();
    let at = "current-context";
    let found = entry("contexts", context)
        .ok_or_else(|| error(at, format!("there is no context '{shown}' in contexts")))?;
    let cluster = text(found, "/context/cluster")
        .and_then(|name| entry("clusters", &name))
        .ok_or_else(|| {
            error(
                at,
                format!("the context '{shown}' names no cluster that is in clusters"),
            )
        })?;
    text(found, "/context/user")
        .and_then(|name| entry("users", &name))
        .ok_or_else(|| {
            error(
                at,
                format!("the context '{shown}' names no user that is in users"),
            )
        })?;
    match text(cluster, "/cluster/server") {
        Some(server) if server.starts_with("https://") || server.starts_with("http://") => Ok(()),
        _ => Err(error(
            at,
            format!("the cluster of the context '{shown}' has no server such as https://10.0.0.1:6443"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
apiVersion: v1
kind: Config
clusters:
- name: dev
  cluster: {server: 'https://127.0.0.1:6443', certificate-authority-data: QUJD}
users:
- name: admin
  user: {token: t0ken}
contexts:
- name: dev
  context: {cluster: dev, user: admin}
- name: lost
  context: {cluster: prod, user: admin}
current-context: dev
";

    fn paths(text: &str, context: Option<&str>) -> Vec<String> {
        let errors = check_kubeconfig(text, context).unwrap_err();
        errors.into_iter().map(|error| error.path).collect()
    }

    #[test]
    fn credentials_in_the_file_are_taken_and_kept_as_json() {
        let kept: Value = serde_json::from_str(&check_kubeconfig(GOOD, None).unwrap()).unwrap();
        assert_eq!(kept["users"][0]["user"]["token"], "t0ken");
        assert_eq!(kept["current-context"], "dev");
    }

    #[test]
    fn programs_and_paths_are_refused_in_any_spelling_all_at_once() {
        let bad = GOOD.replace(
            "{token: t0ken}",
            "{exec: {command: sh}, auth-provider: {name: gcp}, client-certificate: /a, clientKey: /b, token-file: /c}",
        );
        let bad = bad.replace("certificate-authority-data: QUJD", "Certificate-Authority: /d");
        assert_eq!(
            paths(&bad, None),
            [
                "users[0].user.auth-provider",
                "users[0].user.client-certificate",
                "users[0].user.clientKey",
                "users[0].user.exec",
                "users[0].user.token-file",
                "clusters[0].cluster.Certificate-Authority",
            ]
        );
    }

    #[test]
    fn a_context_must_lead_to_a_server() {
        assert_eq!(paths(GOOD, Some("lost")), ["current-context"]);
        assert_eq!(paths(GOOD, Some("absent")), ["current-context"]);
        assert_eq!(
            paths(&GOOD.replace("https://", "unix://"), None),
            ["current-context"]
        );
        assert_eq!(
            paths(&GOOD.replace("current-context: dev", ""), None),
            ["current-context"]
        );
        assert_eq!(paths("just text", None), [""]);
    }

    #[test]
    fn aliases_duplicates_and_merge_keys_are_refused_and_nothing_secret_is_repeated() {
        let twice = GOOD.replace("{token: t0ken}", "{token: t0ken, token: t1ken}");
        let alias = GOOD.replace("user: {token: t0ken}", "user: &u {token: t0ken}");
        let merge = GOOD.replace("{token: t0ken}", "{'<<': {exec: {command: sh}}, token: t0ken}");
        for bad in [twice, alias, merge] {
            let errors = check_kubeconfig(&bad, None).unwrap_err();
            let text = format!("{errors:?}");
            assert!(!text.contains("t0ken") && !text.contains("t1ken"), "{text}");
        }
    }
}
