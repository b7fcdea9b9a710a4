//! Log lines as JSON on standard output: one object per line, flat, with request, function and trace on each.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Map, Value};
use slipway_ports::{Clock, chain};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id},
    subscriber::Interest,
};
use tracing_subscriber::{
    Layer,
    filter::{ParseError, Targets},
    layer::Context,
    registry::LookupSpan,
};

/// The variable that says what is logged, such as `info` or `warn,slipway_app=debug`.
pub(crate) const FILTER: &str = "SLIPWAY_LOG";

const DEFAULT_FILTER: &str = "info";

/// What spans of the shell are called: they carry what stands on every line.
pub(crate) const SHELL: &str = "slipway_lambda_shell";

/// The filter of a text such as `warn,slipway_app=debug`; `info` if there is none.
pub(crate) fn filter(text: Option<&str>) -> Result<Targets, ParseError> {
    text.filter(|text| !text.trim().is_empty())
        .unwrap_or(DEFAULT_FILTER)
        .parse()
}

/// Writes a line per event.
pub(crate) struct JsonLines<W> {
    filter: Targets,
    clock: Arc<dyn Clock>,
    /// Stands on every line.
    function: String,
    to: Mutex<W>,
}

impl JsonLines<io::Stdout> {
    pub(crate) fn to_stdout(filter: Targets, clock: Arc<dyn Clock>, function: impl Into<String>) -> Self {
        Self::new(filter, clock, function, io::stdout())
    }
}

impl<W: Write> JsonLines<W> {
    pub(crate) fn new(filter: Targets, clock: Arc<dyn Clock>, function: impl Into<String>, to: W) -> Self {
        Self {
            filter,
            clock,
            function: function.into(),
            to: Mutex::new(to),
        }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        // Whatever is logged carries what the shell's spans know.
        (metadata.is_span() && metadata.target() == SHELL)
            || (may_speak(metadata) && self.filter.would_enable(metadata.target(), metadata.level()))
    }
}

/// Whether what is said is ours, or not about details: libraries write whole requests and events at their finer levels,
/// and in those stand secrets.
fn may_speak(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("slipway") || *metadata.level() <= Level::INFO
}

/// What a span knows, kept with the span.
struct Known(Map<String, Value>);

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: Write + Send + 'static,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let wanted = self
            .filter
            .iter()
            .map(|(_, level)| level)
            .chain(self.filter.default_level())
            .max();
        // The shell's spans are errors, so that nothing but silence leaves them out.
        wanted.max(Some(LevelFilter::ERROR))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Known(fields.0));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), self.clock.now().to_string().into());
        line.insert("level".to_owned(), level(*event.metadata().level()).into());
        line.insert("function".to_owned(), self.function.as_str().into());
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(Known(fields)) = span.extensions().get::<Known>() {
                line.extend(fields.clone());
            }
        }
        line.insert("target".to_owned(), event.metadata().target().into());
        let mut fields = Fields::default();
        event.record(&mut fields);
        for (name, value) in fields.0 {
            // A field of an event must not pass for what the shell says.
            line.entry(name).or_insert(value);
        }
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody is left to tell when the log cannot be written.
        let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

/// Fields as JSON.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.insert(field, chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }
}

/// The id of a trace in the value of `X-Amzn-Trace-Id`, such as `1-5759e988-bd862e3fe1be46a994272793`.
pub(crate) fn trace_id(header: &str) -> &str {
    header
        .split(';')
        .find_map(|part| part.trim().strip_prefix("Root="))
        .unwrap_or(header)
}

#[cfg(test)]
mod tests;
