//! A panic, of a handler or of the simulator itself, is something that did not hold, and no end of the program.

use std::{
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// Whether this thread plays, so that its panics are told by the run and not on the terminal.
    static PLAYS: Cell<bool> = const { Cell::new(false) };
    /// What the last panic of this thread said, and where it was.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has panics of threads that play kept. Those of all others are told as before.
fn listen() {
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if PLAYS.get() {
                SAID.set(Some(info.to_string().replace('\n', " ")));
            } else {
                before(info);
            }
        }));
    });
}

/// Plays to the end, or until something panics; what that said.
pub(super) fn caught(play: impl FnOnce()) -> Option<String> {
    listen();
    PLAYS.set(true);
    let ended = panic::catch_unwind(AssertUnwindSafe(play));
    PLAYS.set(false);
    ended.err().map(|_| SAID.take().unwrap_or_default())
}
