//! Places in a JSON value.

use std::fmt;

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathSegment {
    /// A member of an object.
    Key(String),
    /// An item of a list, counted from 0.
    Index(usize),
}

/// A place in a JSON value; prints as `values.env[2].value`.
///
/// A key that holds a dot, a bracket or a quote, or is empty, prints as `["a.b"]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(Vec<PathSegment>);

impl Path {
    /// The value itself; prints as the empty text.
    pub fn root() -> Path {
        Path::default()
    }

    /// A member of the value, which is how a caller names what it passes: `Path::of("values")`.
    pub fn of(key: impl Into<String>) -> Path {
        Path(vec![PathSegment::Key(key.into())])
    }

    /// The same path with a member's key added.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Path {
        self.0.push(PathSegment::Key(key.into()));
        self
    }

    /// The same path with an item's place added.
    #[must_use]
    pub fn index(mut self, index: usize) -> Path {
        self.0.push(PathSegment::Index(index));
        self
    }

    /// The steps, outermost first.
    pub fn segments(&self) -> &[PathSegment] {
        &self.0
    }

    pub(crate) fn push(&mut self, segment: PathSegment) {
        self.0.push(segment);
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                PathSegment::Index(index) => write!(f, "[{index}]")?,
                PathSegment::Key(key) if key.is_empty() || key.contains(['.', '[', ']', '"']) => {
                    write!(f, "[\"{}\"]", key.escape_debug())?;
                }
                PathSegment::Key(key) if position == 0 => f.write_str(key)?,
                PathSegment::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

/// An error and the place in the JSON value where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {error}")]
pub struct Located<E: std::error::Error> {
    /// Where.
    pub path: Path,
    /// What.
    pub error: E,
}
