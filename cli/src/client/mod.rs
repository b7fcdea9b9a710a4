//! The HTTP client of the commands.

mod address;

use std::{
    cell::Cell,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::{
    Agent, AsSendBody,
    http::Request,
    tls::{RootCerts, TlsConfig},
};

use crate::{
    failure::{Exit, Failure},
    place, random, watch,
};
use address::{Address, Unanswered};

/// Times that a creation is repeated of which nobody knows what became.
const REPEATS: u32 = 2;

/// How long a stream is listened to at once. A connection that has died says nothing either.
const LONGEST_STREAM: Duration = Duration::from_secs(120);

/// A Slipway control plane, local or on AWS.
pub(crate) struct Client {
    agent: Agent,
    streaming: Agent,
    whereabouts: Whereabouts,
    answered_at: Cell<Option<Instant>>,
}

/// Where the control plane is.
enum Whereabouts {
    /// At an address, always.
    Address(Address),
    /// Where the control plane of a data folder listens, as long as it runs; with another token than its own, if one
    /// was named.
    Folder { data: PathBuf, token: Option<String> },
}

impl Client {
    /// A client of the control plane at `url`.
    pub(crate) fn of_address(url: &str, token: Option<String>) -> Result<Self, Failure> {
        Self::new(Whereabouts::Address(Address::new(url, token)?))
    }

    /// A client of the control plane that runs on a data folder.
    ///
    /// # Errors
    /// When none does at the moment.
    pub(crate) fn of_folder(data: PathBuf, token: Option<String>) -> Result<Self, Failure> {
        Self::new(Whereabouts::Folder { data, token })
    }

    fn new(whereabouts: Whereabouts) -> Result<Self, Failure> {
        let is_loopback = whereabouts.address()?.is_loopback();
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
            if is_loopback {
                builder = builder.proxy(None);
            }
            builder.build().into()
        };
        Ok(Self {
            agent: agent(Some(Duration::from_secs(60))),
            // One that has gone silent is begun again where it was.
            streaming: agent(Some(LONGEST_STREAM)),
            whereabouts,
            answered_at: Cell::new(None),
        })
    }

    /// How long ago the control plane answered this client; nothing if it never did.
    pub(crate) fn silent_for(&self) -> Option<Duration> {
        self.answered_at.get().map(|at| at.elapsed())
    }

    /// What stands at `path`, below `/api/v1`.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        let address = self.whereabouts.address()?;
        let request = address
            .request("GET", path)
            .header("Accept", "application/json")
            .body(())
            .map_err(|error| bad_request(&error))?;
        self.looked(&address, request)
            .and_then(|text| address.json(&text))
    }

    /// As [`get`](Self::get), as text.
    pub(crate) fn get_text(&self, path: &str) -> Result<String, Failure> {
        let address = self.whereabouts.address()?;
        let request = address
            .request("GET", path)
            .body(())
            .map_err(|error| bad_request(&error))?;
        self.looked(&address, request)
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
        self.change("POST", path, body)
    }

    /// Puts JSON in the place of what stands at `path`.
    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.change("PUT", path, body)
    }

    fn change(&self, method: &str, path: &str, body: &Value) -> Result<Value, Failure> {
        let address = self.whereabouts.address()?;
        let request = address
            .request(method, path)
            .header("Content-Type", "application/json")
            .body(body.to_string())
            .map_err(|error| bad_request(&error))?;
        self.changed(&address, request)
    }

    /// Posts a creation, which the control plane does at most once. So it is asked again when nobody knows whether it
    /// was done.
    pub(crate) fn create(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let key = random::hexadecimal::<16>()?;
        let ask = || {
            let address = self.whereabouts.address()?;
            let request = address
                .request("POST", path)
                .header("Content-Type", "application/json")
                .header("Idempotency-Key", &key)
                .body(body.to_string())
                .map_err(|error| bad_request(&error))?;
            self.changed(&address, request)
        };
        let first = match ask() {
            Err(failure) if failure.may_be_done => failure,
            answer => return answer,
        };
        for _ in 0..REPEATS {
            watch::pause();
            match ask() {
                // The first is still at work, or nobody answers.
                Err(failure) if failure.exit == Exit::Failed => {}
                answer => return answer,
            }
        }
        Err(first)
    }

    /// Deletes what stands at `path`.
    pub(crate) fn delete(&self, path: &str) -> Result<Value, Failure> {
        let address = self.whereabouts.address()?;
        let request = address
            .request("DELETE", path)
            .body(())
            .map_err(|error| bad_request(&error))?;
        self.changed(&address, request)
    }

    /// Follows an event stream from `after` on and hands the data of each event to `take`, until the stream ends or
    /// `take` says no.
    pub(crate) fn follow(
        &self,
        path: &str,
        after: Option<&str>,
        mut take: impl FnMut(&str) -> bool,
    ) -> Result<(), Failure> {
        let address = self.whereabouts.address()?;
        let mut request = address.request("GET", path).header("Accept", "text/event-stream");
        if let Some(after) = after {
            request = request.header("Last-Event-ID", after);
        }
        let request = request.body(()).map_err(|error| bad_request(&error))?;
        let answer = self.streaming.run(request);
        let answer = answer.map_err(|error| address.unreachable(&error))?;
        if !answer.status().is_success() {
            return self.noted(Err(address.refusal(answer)));
        }
        for line in BufReader::new(answer.into_body().into_reader()).lines() {
            let Ok(line) = line else { break };
            if let Some(data) = line.strip_prefix("data:")
                && !take(data.trim_start())
            {
                break;
            }
        }
        self.noted(Ok(()))
    }

    /// The answer to a request that changes nothing.
    fn looked(&self, address: &Address, request: Request<()>) -> Result<String, Failure> {
        let answered = self.text(address, request);
        self.noted(answered.map_err(|unanswered| match unanswered {
            Unanswered::Refused(failure) => failure,
            Unanswered::Broken(error) => address.unreachable(&error),
        }))
    }

    /// The answer to a request that changes something.
    fn changed(&self, address: &Address, request: Request<impl AsSendBody>) -> Result<Value, Failure> {
        let answered = self.text(address, request);
        let text = self.noted(answered.map_err(|unanswered| match unanswered {
            Unanswered::Refused(failure) if failure.may_pass => failure.undecided(),
            Unanswered::Refused(failure) => failure,
            Unanswered::Broken(error) if address::is_unsent(&error) => address.unreachable(&error),
            Unanswered::Broken(error) => address.unknown_outcome(&error),
        }))?;
        address.json(&text).map_err(|failure| {
            let next = "check that the address is a Slipway control plane, and look how it stands there before you ask again";
            failure.next(next).undecided()
        })
    }

    fn text(&self, address: &Address, request: Request<impl AsSendBody>) -> Result<String, Unanswered> {
        let answer = self.agent.run(request).map_err(Unanswered::Broken)?;
        address.text(answer)
    }

    /// Remembers when the control plane answered.
    fn noted<T>(&self, answer: Result<T, Failure>) -> Result<T, Failure> {
        if !answer.as_ref().is_err_and(|failure| failure.may_pass) {
            self.answered_at.set(Some(Instant::now()));
        }
        answer
    }
}

impl Whereabouts {
    fn address(&self) -> Result<Address, Failure> {
        match self {
            Self::Address(address) => Ok(address.clone()),
            Self::Folder { data, token } => {
                let (url, own) = place::running(data)?;
                Address::new(&url, token.clone().or(own))
            }
        }
    }
}

fn bad_request(error: &ureq::http::Error) -> Failure {
    Failure::misuse(format!("this cannot be asked over HTTP: {error}"))
        .next("check --url and --token for characters that do not belong there")
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
}
