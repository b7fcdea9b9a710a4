//! Failures on purpose, in an order that a seed decides.

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The service says that it is asked too often.
    Throttled,
    /// The service says that it is broken.
    Broken,
    /// The connection is cut, and nothing was done.
    ResetBefore,
    /// The connection is cut after the call took effect.
    ResetAfter,
}

const ALL: [Fault; 4] = [
    Fault::Throttled,
    Fault::Broken,
    Fault::ResetBefore,
    Fault::ResetAfter,
];

/// Decides call by call.
#[derive(Debug)]
pub(crate) struct Faults {
    percent: f64,
    state: u64,
}

impl Faults {
    /// That share of the calls fails, of a hundred.
    pub(crate) fn new(percent: f64, seed: u64) -> Self {
        Self { percent, state: seed }
    }

    /// What is to become of the next call.
    pub(crate) fn next(&mut self) -> Option<Fault> {
        if self.percent <= 0.0 {
            return None;
        }
        let number = self.random();
        // The upper half decides whether, the lower one how.
        let share = f64::from(u32::try_from(number >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        let index = usize::try_from(number % 4).unwrap_or(0);
        (share * 100.0 < self.percent).then_some(ALL[index])
    }

    /// SplitMix64: small, and good enough to pick calls.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The answer of a service that is asked too often.
pub(super) fn throttled(service: &str) -> Response<Full<Bytes>> {
    match service {
        "dynamodb" => json(
            StatusCode::BAD_REQUEST,
            "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
        ),
        "s3" => xml(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
        "sns" | "sts" => xml(StatusCode::BAD_REQUEST, "Throttling"),
        _ => json(StatusCode::BAD_REQUEST, "ThrottlingException"),
    }
}

/// The answer of a service that is broken.
pub(super) fn broken(service: &str) -> Response<Full<Bytes>> {
    match service {
        "dynamodb" => json(
            StatusCode::INTERNAL_SERVER_ERROR,
            "com.amazonaws.dynamodb.v20120810#InternalServerError",
        ),
        "s3" | "sns" | "sts" => xml(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        _ => json(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure"),
    }
}

fn json(status: StatusCode, kind: &str) -> Response<Full<Bytes>> {
    let body = format!("{{\"__type\":\"{kind}\",\"message\":\"made to fail\"}}");
    let mut answer = answer(status, body, "application/x-amz-json-1.0");
    // REST services look for the kind here.
    if let Ok(kind) = HeaderValue::from_str(kind) {
        answer.headers_mut().insert("x-amzn-errortype", kind);
    }
    answer
}

fn xml(status: StatusCode, code: &str) -> Response<Full<Bytes>> {
    let error =
        format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>made to fail</Message></Error>");
    let body = if code == "SlowDown" || code == "InternalError" {
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{error}")
    } else {
        format!("<ErrorResponse>{error}<RequestId>local</RequestId></ErrorResponse>")
    };
    answer(status, body, "application/xml")
}

fn answer(status: StatusCode, body: String, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn drawn(percent: f64, seed: u64, calls: usize) -> Vec<Option<Fault>> {
        let mut faults = Faults::new(percent, seed);
        (0..calls).map(|_| faults.next()).collect()
    }

    #[test]
    fn the_share_is_kept_and_every_fault_has_its_part() {
        let mut counts = BTreeMap::new();
        for fault in drawn(5.0, 7, 20_000).into_iter().flatten() {
            *counts.entry(fault).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 4);
        let all: i32 = counts.values().sum();
        assert!((900..1100).contains(&all), "{counts:?}");
        assert!(counts.values().all(|count| *count > 180), "{counts:?}");
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        assert_eq!(drawn(20.0, 1, 500), drawn(20.0, 1, 500));
        assert_ne!(drawn(20.0, 1, 500), drawn(20.0, 2, 500));
    }

    #[test]
    fn without_a_share_nothing_fails() {
        assert!(drawn(0.0, 1, 1000).iter().all(Option::is_none));
        assert!(drawn(100.0, 1, 1000).iter().all(Option::is_some));
    }
}
