//! Lines as a log reader sees them.

use std::sync::{Arc, Mutex};

use slipway_testkit::ManualClock;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `log` wrote, line by line.
fn lines(filter_text: Option<&str>, log: impl FnOnce()) -> Vec<Value> {
    let sink = Sink::default();
    let layer = JsonLines::new(
        filter(filter_text).unwrap(),
        Arc::new(ManualClock::default()),
        "slipway-dev-plan-dag",
        sink.clone(),
    );
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn invocation() -> tracing::Span {
    tracing::error_span!(target: SHELL, "invocation", request_id = "req-1", trace_id = "1-outer")
}

#[test]
fn every_line_is_flat_and_says_function_request_and_trace() {
    let lines = lines(None, || {
        invocation().in_scope(|| {
            tracing::info!(count = 3, ok = true, name = "x", "work was done");
            tracing::error_span!(target: SHELL, "message", message_id = "m-1", trace_id = "1-inner")
                .in_scope(|| tracing::warn!("one\nline"));
        });
    });
    assert_eq!(
        lines,
        [
            serde_json::json!({
                "timestamp": "2026-01-01T00:00:00.000Z", "level": "INFO", "function": "slipway-dev-plan-dag",
                "request_id": "req-1", "trace_id": "1-outer", "target": module_path!(),
                "message": "work was done", "count": 3, "ok": true, "name": "x"
            }),
            serde_json::json!({
                "timestamp": "2026-01-01T00:00:00.000Z", "level": "WARN", "function": "slipway-dev-plan-dag",
                "request_id": "req-1", "trace_id": "1-inner", "message_id": "m-1", "target": module_path!(),
                "message": "one\nline"
            }),
        ]
    );
}

#[test]
fn a_filter_leaves_lines_out_and_never_what_stands_on_every_line() {
    let lines = lines(Some("warn,slipway_app=debug"), || {
        invocation().in_scope(|| {
            tracing::info!("too quiet");
            tracing::debug!(target: "slipway_app::steps", "wanted");
            tracing::error!("loud");
        });
    });
    let told: Vec<_> = lines
        .iter()
        .map(|line| (&line["message"], &line["request_id"]))
        .collect();
    assert_eq!(
        told,
        [
            (&"wanted".into(), &"req-1".into()),
            (&"loud".into(), &"req-1".into())
        ]
    );
}

#[test]
fn libraries_are_silent_about_details_whatever_the_filter_says() {
    let said = lines(Some("trace,aws_smithy_runtime=trace"), || {
        tracing::trace!(target: "aws_smithy_runtime::client", "the whole request");
        tracing::debug!(target: "lambda_runtime", "the whole event");
        tracing::info!(target: "lambda_runtime", "a fact");
        tracing::trace!(target: "slipway_app", "a detail of ours");
    });
    let messages: Vec<_> = said
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    assert_eq!(messages, ["a fact", "a detail of ours"]);
}

#[test]
fn a_field_does_not_pass_for_what_the_shell_says() {
    let lines = lines(None, || {
        invocation().in_scope(|| tracing::info!(level = "FATAL", request_id = "forged", "hello"));
    });
    assert_eq!(lines[0]["level"], "INFO");
    assert_eq!(lines[0]["request_id"], "req-1");
}

#[test]
fn errors_are_written_with_their_causes() {
    let error = crate::ShellError::Threads(io::Error::other("no threads left"));
    let lines = lines(None, || {
        tracing::error!(error = &error as &(dyn Error + 'static), "it failed");
    });
    assert_eq!(
        lines[0]["error"],
        "the function cannot start its runtime: no threads left"
    );
}

#[test]
fn a_filter_that_cannot_be_read_is_an_error() {
    assert!(filter(Some("slipway_app=chatty")).is_err());
}

#[test]
fn the_trace_is_found_in_the_header_wherever_it_stands() {
    assert_eq!(trace_id("Root=1-a-b;Parent=c;Sampled=1"), "1-a-b");
    assert_eq!(trace_id("Self=1-x; Root=1-a-b"), "1-a-b");
    assert_eq!(trace_id("1-a-b"), "1-a-b");
}
