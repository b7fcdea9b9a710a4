//! The HTTP client of the commands.

use std::{
    io::{BufRead as _, BufReader},
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::Value;
use slipway_model::Problem;
use ureq::{
    Agent, Body,
    http::{Request, Response},
    tls::{RootCerts, TlsConfig},
};

use crate::failure::Failure;

/// Most bytes of an answer.
const LARGEST_ANSWER: u64 = 64 * 1024 * 1024;

/// A Slipway control plane, local or on AWS.
pub(crate) struct Client {
    agent: Agent,
    streaming: Agent,
    url: String,
    token: Option<String>,
}

impl Client {
    /// A client of the control plane at `url`.
    pub(crate) fn new(url: &str, token: Option<String>) -> Result<Self, Failure> {
        let url = url.trim_end_matches('/').to_owned();
        let known = url.starts_with("https://") || url.starts_with("http://");
        if !known {
            return Err(Failure::misuse(format!(
                "'{url}' is not the address of a control plane: expected http://… or https://…"
            )));
        }
        if url.starts_with("http://") && token.is_some() && !is_loopback(&url) {
            return Err(Failure::misuse(format!(
                "the token is not sent to {url}, because everybody on the way could read it"
            ))
            .next("use the https:// address"));
        }
        let agent = |limit| -> Agent {
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::PlatformVerifier)
                .build();
            let mut builder = Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .tls_config(tls)
                .timeout_connect(Some(Duration::from_secs(10)))
                .timeout_global(limit);
            if is_loopback(&url) {
                builder = builder.proxy(None);
            }
            builder.build().into()
        };
        Ok(Self {
            agent: agent(Some(Duration::from_secs(60))),
            streaming: agent(None),
            url,
            token,
        })
    }

    /// What stands at `path`, below `/api/v1`.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        let request = self.request("GET", path).header("Accept", "application/json");
        self.answer(
            self.agent
                .run(request.body(()).map_err(|error| bad_request(&error))?),
        )
    }

    /// As [`get`](Self::get), as text.
    pub(crate) fn get_text(&self, path: &str) -> Result<String, Failure> {
        let request = self
            .request("GET", path)
            .body(())
            .map_err(|error| bad_request(&error))?;
        self.text(self.agent.run(request))
    }

    /// Every item of a list.
    pub(crate) fn get_all(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let go_on = cursor
                .as_deref()
                .map(|cursor| format!("&cursor={}", encode(cursor)));
            let page = self.get(&format!(
                "{path}{separator}limit=200{}",
                go_on.unwrap_or_default()
            ))?;
            items.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(items),
            }
        }
    }

    /// Posts JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(path, "application/json", body.to_string(), None)
    }

    /// Posts a creation, which the control plane does at most once.
    pub(crate) fn create(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(
            path,
            "application/json",
            body.to_string(),
            Some(crate::random::hexadecimal::<16>()?),
        )
    }

    fn send(&self, path: &str, media: &str, body: String, key: Option<String>) -> Result<Value, Failure> {
        let mut request = self.request("POST", path).header("Content-Type", media);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        self.answer(
            self.agent
                .run(request.body(body).map_err(|error| bad_request(&error))?),
        )
    }

    /// Deletes what stands at `path`.
    pub(crate) fn delete(&self, path: &str) -> Result<Value, Failure> {
        let request = self
            .request("DELETE", path)
            .body(())
            .map_err(|error| bad_request(&error))?;
        self.answer(self.agent.run(request))
    }

    /// Follows an event stream from `after` on and hands the data of each event to `take`, until the stream ends or
    /// `take` says no.
    pub(crate) fn follow(
        &self,
        path: &str,
        after: Option<&str>,
        mut take: impl FnMut(&str) -> bool,
    ) -> Result<(), Failure> {
        let mut request = self.request("GET", path).header("Accept", "text/event-stream");
        if let Some(after) = after {
            request = request.header("Last-Event-ID", after);
        }
        let answer = self
            .streaming
            .run(request.body(()).map_err(|error| bad_request(&error))?);
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer));
        }
        for line in BufReader::new(answer.into_body().into_reader()).lines() {
            let Ok(line) = line else { return Ok(()) };
            if let Some(data) = line.strip_prefix("data:")
                && !take(data.trim_start())
            {
                return Ok(());
            }
        }
        Ok(())
    }

    fn request(&self, method: &str, path: &str) -> ureq::http::request::Builder {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v1{path}", self.url));
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn answer(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Value, Failure> {
        let text = self.text(answer)?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|_| {
            Failure::failed(format!("{} answered with something that is not JSON", self.url))
                .next("check that the address is a Slipway control plane")
        })
    }

    fn text(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<String, Failure> {
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer));
        }
        let body = answer.body_mut().with_config().limit(LARGEST_ANSWER);
        body.read_to_string().map_err(|error| self.unreachable(&error))
    }

    fn refusal(&self, mut answer: Response<Body>) -> Failure {
        let status = answer.status();
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => Failure::of_problem(problem),
            Err(_) => Failure::failed(format!("{} answered {status}", self.url))
                .next("check that the address is a Slipway control plane"),
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let failure = Failure::failed(format!("no control plane answers at {}: {error}", self.url));
        if is_loopback(&self.url) {
            failure.next("start one with `slipway serve`, or name another with --url or SLIPWAY_URL")
        } else {
            failure.next("check the address in --url or SLIPWAY_URL")
        }
    }
}

fn bad_request(error: &ureq::http::Error) -> Failure {
    Failure::misuse(format!("this cannot be asked over HTTP: {error}"))
        .next("check --url and --token for characters that do not belong there")
}

fn is_loopback(url: &str) -> bool {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
        .unwrap_or(url);
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1" || host == "[::1]"
}

/// A path or query part with everything escaped that could be taken for something else.
pub(crate) fn encode(part: &str) -> String {
    let mut encoded = String::new();
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    // A path of dots alone would be resolved away on the way.
    if encoded.bytes().all(|byte| byte == b'.') {
        encoded = encoded.replace('.', "%2E");
    }
    encoded
}

/// Reads what the control plane answered as what it should be.
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Failure> {
    T::deserialize(value).map_err(|error| {
        Failure::failed(format!(
            "the control plane answered in a shape that this program does not know: {error}"
        ))
        .next("use a `slipway` of the control plane's version")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_parts_cannot_change_the_path() {
        assert_eq!(encode("my-agent_1"), "my-agent_1");
        assert_eq!(encode("../x?y#z"), "..%2Fx%3Fy%23z");
        assert_eq!(encode(".."), "%2E%2E");
        assert_eq!(encode("ü"), "%C3%BC");
    }

    #[test]
    fn a_token_is_never_sent_in_the_clear_over_a_network() {
        let token = || Some("t".to_owned());
        assert!(Client::new("http://127.0.0.1:7070/", token()).is_ok());
        assert!(Client::new("http://[::1]:7070", token()).is_ok());
        assert!(Client::new("https://slipway.example.com", token()).is_ok());
        assert!(Client::new("http://slipway.example.com", token()).is_err());
        assert!(Client::new("http://localhost.example.com", token()).is_err());
        assert!(Client::new("slipway.example.com", None).is_err());
    }
}
