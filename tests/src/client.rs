//! A small client of the HTTP API.

use std::io::Read as _;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Request, Response};

use crate::{EventStream, Platform};

/// Largest answer that is read.
const LARGEST: u64 = 64 << 20;

/// Speaks to one control plane with its token.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    url: String,
    /// What paths are below.
    base: String,
    token: String,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What was asked, for messages.
    pub call: String,
    /// HTTP status.
    pub status: u16,
    /// Headers, lower-case names.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The body as JSON, after checking the status.
    ///
    /// # Panics
    /// When the status is another one.
    #[track_caller]
    #[must_use]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.call, self.text);
        self.json()
    }

    /// A problem document, after checking that it is one of this status, without anything of our insides in it.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    #[must_use]
    pub fn expect_problem(&self, status: u16) -> Value {
        let problem = self.expect(status);
        if self.is_of_the_gateway() {
            return problem;
        }
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{}: {}",
            self.call,
            self.text
        );
        assert_eq!(problem["status"], status, "{problem}");
        for key in ["type", "title", "detail"] {
            assert!(
                problem[key].as_str().is_some_and(|text| !text.is_empty()),
                "{problem}"
            );
        }
        problem
    }

    /// Whether API Gateway gave the answer and no function did: strangers, paths that nobody has, and bodies that fit no
    /// function get one in its own words, which cannot be changed.
    fn is_of_the_gateway(&self) -> bool {
        Platform::of_this_run() == Platform::AwsLocal
            && [401, 403, 404, 413].contains(&self.status)
            && self.json().as_object().is_some_and(|answer| {
                answer.len() == 1 && answer.get("message").is_some_and(Value::is_string)
            })
    }

    /// A header, by lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Client {
    /// A client of the control plane at `url`.
    #[must_use]
    pub fn new(url: &str, token: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_global(Some(Duration::from_secs(120)))
            .build();
        let url = url.trim_end_matches('/').to_owned();
        Self {
            agent: config.into(),
            base: format!("{url}/api/v1"),
            url,
            token: token.to_owned(),
        }
    }

    /// A client of something else, whose paths are right below `url`.
    pub(crate) fn bare(url: &str) -> Self {
        let client = Self::new(url, "");
        Self {
            base: client.url.clone(),
            ..client
        }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it is asked with.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Any call, `path` below `/api/v1`.
    ///
    /// # Errors
    /// When there is no answer, as after a `kill -9`.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = match body {
            Some(body) => self.agent.run(request.body(body)?)?,
            None => self.agent.run(request.body(())?)?,
        };
        read(format!("{method} {path}"), response)
    }

    /// Reads.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        answered(self.try_get(path))
    }

    /// Reads from a control plane that may be gone.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn try_get(&self, path: &str) -> Result<Answer> {
        self.call("GET", path, &[], None)
    }

    /// Posts JSON.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, body, &[])
    }

    /// Posts JSON with further headers.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    #[must_use]
    pub fn post_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        answered(self.call("POST", path, &all, Some(body.to_string().as_bytes())))
    }

    /// Posts text of a media type.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    #[must_use]
    pub fn post_text(&self, path: &str, media: &str, text: &str) -> Answer {
        answered(self.call("POST", path, &[("content-type", media)], Some(text.as_bytes())))
    }

    /// Deletes.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    #[must_use]
    pub fn delete(&self, path: &str) -> Answer {
        answered(self.call("DELETE", path, &[], None))
    }

    /// A stream of server-sent events, from after the event `after` on.
    ///
    /// # Panics
    /// When it is not answered with 200.
    #[track_caller]
    pub fn stream(&self, path: &str, after: Option<&str>) -> EventStream {
        EventStream::open(self.clone(), path.to_owned(), after.map(str::to_owned))
    }

    /// The body of one answer with events.
    pub(crate) fn open_stream(&self, path: &str, after: Option<&str>) -> impl std::io::BufRead + use<> {
        let mut request = Request::builder()
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token))
            .header("accept", "text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = self.agent.run(request.body(()).unwrap()).unwrap();
        assert_eq!(response.status(), 200, "GET {path} as a stream");
        std::io::BufReader::new(response.into_body().into_reader())
    }
}

#[track_caller]
fn answered(answer: Result<Answer>) -> Answer {
    match answer {
        Ok(answer) => answer,
        Err(error) => panic!("the control plane does not answer: {error:#}"),
    }
}

fn read(call: String, response: Response<ureq::Body>) -> Result<Answer> {
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    let mut text = String::new();
    response
        .into_body()
        .into_with_config()
        .limit(LARGEST)
        .reader()
        .read_to_string(&mut text)?;
    Ok(Answer {
        call,
        status,
        headers,
        text,
    })
}
