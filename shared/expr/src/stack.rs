//! The stack that untrusted expressions are parsed and evaluated on.

/// What the deepest expression that the caps let through may need, with a wide margin; `tests/hostile.rs` runs
/// the worst ones on a quarter of it.
const NEEDED: usize = 1 << 20;

/// Runs `work` with at least [`NEEDED`] bytes of stack: on the caller's where that much is left, else on one of
/// its own.
pub(crate) fn on_known_stack<R>(work: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(NEEDED, 2 * NEEDED, work)
}
