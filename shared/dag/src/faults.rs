//! The errors of a document.

use std::{collections::HashSet, fmt};

use slipway_model::FieldError;

/// More errors than that help nobody, and each costs something to find.
const MOST_ERRORS: usize = 200;
/// The longest place that is printed, in bytes.
const LONGEST_PLACE: usize = 2048;

/// The errors so far, and the places that were repaired.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    errors: Vec<FieldError>,
    repaired: HashSet<String>,
}

impl Faults {
    /// An error of the content; not reported where the shape is wrong already.
    pub(crate) fn add(&mut self, path: impl fmt::Display, message: impl Into<String>) {
        let path = path.to_string();
        if !self.is_repaired(&path) {
            self.push(path, message.into());
        }
    }

    fn push(&mut self, mut path: String, message: String) {
        if self.is_full() {
            return;
        }
        if path.len() > LONGEST_PLACE {
            path = path.chars().take(LONGEST_PLACE).chain(['…']).collect();
        }
        self.errors.push(FieldError::new(path, message));
    }

    /// Whether no further error is kept, so that looking for more is in vain.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() >= MOST_ERRORS
    }

    /// Whether the value at `path`, or one that it stands in, was repaired.
    pub(crate) fn is_repaired(&self, path: &str) -> bool {
        !self.repaired.is_empty()
            && (self.repaired.contains(path)
                || path
                    .char_indices()
                    .filter(|(_, character)| matches!(character, '.' | '['))
                    .any(|(end, _)| self.repaired.contains(&path[..end])))
    }

    /// Whether there is an error at exactly that place.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.errors.iter().any(|error| error.path == path)
    }

    /// Whether there is no error.
    pub(crate) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// The value if nothing is wrong.
    pub(crate) fn or<T>(self, value: T) -> Result<T, Vec<FieldError>> {
        if self.errors.is_empty() {
            Ok(value)
        } else {
            Err(self.into_errors())
        }
    }

    /// All errors.
    pub(crate) fn into_errors(mut self) -> Vec<FieldError> {
        if self.is_full() {
            self.errors.push(FieldError::new(
                "",
                format!("there may be more errors; these are the first {MOST_ERRORS}"),
            ));
        }
        self.errors
    }

    /// An error of the shape, at a place that is repaired.
    pub(crate) fn repair(&mut self, path: String, message: String) {
        self.push(path.clone(), message);
        self.repaired.insert(path);
    }

    /// The value at `path` is replaced because of an error inside it, which has been added.
    pub(crate) fn replace(&mut self, path: String) {
        self.repaired.insert(path);
    }
}

/// The printed path `inner` below `outer`.
pub(crate) fn below(outer: impl fmt::Display, inner: &str) -> String {
    let dot = if inner.starts_with('[') { "" } else { "." };
    format!("{outer}{dot}{inner}")
}
