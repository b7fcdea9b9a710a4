//! What every adapter must do, in code: one function per sentence of the ports' documentation.
//!
//! An adapter's tests say `slipway_testkit::store_contract!(make);` with the path of an async function that makes a
//! fresh [`StoreSubject`]; every case becomes a test of its own. The cases use the ports only. They wait for
//! conditions and measure that nothing came too early, so that a slow machine does not fail them.

#![expect(
    missing_docs,
    clippy::unwrap_used,
    reason = "cases are tests: their names say what they show, and they fail by panicking"
)]

use std::{any::Any, fmt, sync::Arc, time::Duration};

use slipway_model::Queue;
use slipway_ports::{Blobs, Key, Receiver, Secrets, Store};

pub mod blobs;
pub mod queue;
pub mod secrets;
pub mod store;

/// A store under test.
pub struct StoreSubject {
    /// The adapter.
    pub store: Arc<dyn Store>,
    /// Begins every partition and list, so that cases can share one table.
    pub prefix: String,
    /// How long lists and the index of due items may lag behind; zero if they do not.
    pub index_lag: Duration,
    /// What must live as long as the adapter, such as a temporary folder.
    pub keep: Box<dyn Any + Send + Sync>,
}

impl StoreSubject {
    /// A key in the case's own partition.
    pub fn key(&self, sort: &str) -> Key {
        Key::new(self.name("partition"), sort)
    }

    /// A partition or list of the case's own.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }
}

/// Queues under test.
pub struct QueueSubject {
    /// Sends, through sessions.
    pub store: Arc<dyn Store>,
    /// Receives.
    pub receiver: Arc<dyn Receiver>,
    /// An empty queue of the case's own.
    pub queue: Queue,
    /// Another one.
    pub other: Queue,
    /// Times that a message is received before it becomes a dead letter, on both queues.
    pub max_receives: u32,
    /// The shortest delay and visibility time-out that the adapter keeps, such as a second.
    pub tick: Duration,
    /// What must live as long as the adapter, such as a temporary folder.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// A secrets store under test.
pub struct SecretsSubject {
    /// The adapter.
    pub secrets: Arc<dyn Secrets>,
    /// What must live as long as the adapter, such as a temporary folder.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// A blob store under test.
pub struct BlobsSubject {
    /// The adapter.
    pub blobs: Arc<dyn Blobs>,
    /// What must live as long as the adapter, such as a temporary folder.
    pub keep: Box<dyn Any + Send + Sync>,
}

macro_rules! opaque {
    ($($name:ident),+) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        })+
    };
}
opaque!(StoreSubject, QueueSubject, SecretsSubject, BlobsSubject);

/// Runs a case on threads of its own, in real time.
///
/// # Panics
/// If the case does, or no thread can be started.
pub fn run(case: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts")
        .block_on(case);
}

/// Runs a case in time that jumps on whenever everybody waits: for adapters whose clock is
/// [`crate::TokioClock`] and that start no threads.
///
/// # Panics
/// If the case does.
pub fn run_paused(case: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime starts")
        .block_on(case);
}

/// Makes a test of each case: `contract_cases!(module, runner, make: case, case, …)`.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_cases {
    ($module:path, $run:path, $make:path: $($case:ident),+ $(,)?) => {
        $(
            #[test]
            fn $case() {
                use $module as contract;
                $run(async {
                    let subject = $make().await;
                    contract::$case(&subject).await;
                });
            }
        )+
    };
}

/// Tests of a store: `store_contract!(make)`, where `make` is an async function that gives a
/// [`StoreSubject`]; `store_contract!(make, runner)` uses another runner than [`run`].
#[macro_export]
macro_rules! store_contract {
    ($make:path) => {
        $crate::store_contract!($make, $crate::contract::run);
    };
    ($make:path, $run:path) => {
        $crate::contract_cases!($crate::contract::store::items, $run, $make:
            what_is_absent_reads_as_nothing,
            the_first_put_makes_version_one,
            every_put_raises_the_version_by_one,
            absent_loses_against_what_stands_there,
            a_version_wins_only_while_it_is_current,
            a_version_loses_against_nothing,
            a_lost_put_changes_nothing,
            a_removal_is_guarded,
            removing_what_is_absent_wins_with_any,
            versions_begin_again_after_a_removal,
            a_body_at_the_limit_fits_and_a_larger_one_does_not,
            keys_of_any_printable_text_stay_apart,
            an_item_that_may_be_dropped_later_is_still_there,
        );
        $crate::contract_cases!($crate::contract::store::sessions, $run, $make:
            a_session_reads_its_own_writes,
            what_is_settled_is_read_by_everybody,
            a_session_without_writes_settles,
            a_session_sees_what_another_settled,
            a_dropped_session_leaves_a_prefix,
            many_calls_of_one_session_arrive_in_order,
            repeating_a_session_ends_in_the_same_state,
            of_concurrent_sessions_on_one_key_exactly_one_wins,
            concurrent_increments_lose_nothing,
            sessions_on_different_keys_do_not_disturb_each_other,
        );
        $crate::contract_cases!($crate::contract::store::joins, $run, $make:
            an_unknown_join_is_empty,
            arrivals_are_returned_with_what_came_before,
            a_repeated_arrival_changes_nothing,
            the_first_arrival_of_a_slot_counts,
            a_join_has_thirty_two_slots,
            arrivals_are_seen_by_later_sessions,
            a_join_is_no_item,
            of_concurrent_arrivals_exactly_one_completes_the_join,
        );
        $crate::contract_cases!($crate::contract::store::queries, $run, $make:
            a_partition_is_read_in_the_order_of_its_sort_keys,
            a_prefix_narrows_a_query,
            a_query_goes_on_after_a_sort_key,
            pages_of_a_query_give_everything_once,
            a_query_sees_what_was_replaced_and_removed,
        );
        $crate::contract_cases!($crate::contract::store::lists, $run, $make:
            a_list_is_read_from_the_greatest_position_down,
            a_list_goes_on_below_a_position,
            filters_must_all_match,
            pages_of_a_filtered_list_give_everything_once,
            a_put_moves_its_item_in_the_lists,
            an_item_is_due_from_its_time_on,
            due_items_come_earliest_first_and_within_the_limit,
            every_due_item_is_in_one_shard,
            a_put_moves_its_item_in_the_due_index,
        );
    };
}

/// Tests of queues: `queue_contract!(make)`, where `make` is an async function that gives a
/// [`QueueSubject`]; `queue_contract!(make, runner)` uses another runner than [`run`].
#[macro_export]
macro_rules! queue_contract {
    ($make:path) => {
        $crate::queue_contract!($make, $crate::contract::run);
    };
    ($make:path, $run:path) => {
        $crate::contract_cases!($crate::contract::queue, $run, $make:
            a_message_goes_out_when_its_session_settles,
            every_message_is_received,
            a_receive_gives_no_more_than_was_asked_for,
            queues_do_not_mix,
            an_empty_queue_answers_when_the_wait_is_over,
            a_waiting_receiver_wakes_when_a_message_comes,
            an_acknowledged_message_does_not_come_back,
            a_message_that_is_not_acknowledged_comes_back,
            a_stale_receipt_is_ignored,
            a_receipt_that_never_was_is_ignored,
            a_delayed_message_waits,
            a_delay_wakes_a_receiver_that_waits_already,
            a_released_message_comes_back_after_its_delay,
            a_message_released_too_often_is_a_dead_letter,
            a_message_never_acknowledged_is_a_dead_letter,
            a_buried_message_is_a_dead_letter_at_once,
            dead_letters_come_oldest_first_and_within_the_limit,
            a_redriven_message_begins_anew,
        );
    };
}

/// Tests of a secrets store: `secrets_contract!(make)`, where `make` is an async function that gives a
/// [`SecretsSubject`].
#[macro_export]
macro_rules! secrets_contract {
    ($make:path) => {
        $crate::contract_cases!($crate::contract::secrets, $crate::contract::run, $make:
            a_secret_is_read_back_to_the_letter,
            an_absent_secret_is_nothing,
            a_secret_is_replaced_as_a_whole,
            a_removed_secret_is_gone,
            removing_an_absent_secret_is_no_error,
            names_do_not_mix,
            tenants_do_not_see_each_other,
            the_longest_name_and_a_large_value_fit,
            other_names_are_refused,
        );
    };
}

/// Tests of a blob store: `blobs_contract!(make)`, where `make` is an async function that gives a
/// [`BlobsSubject`].
#[macro_export]
macro_rules! blobs_contract {
    ($make:path) => {
        $crate::contract_cases!($crate::contract::blobs, $crate::contract::run, $make:
            a_blob_is_read_back_to_the_byte,
            an_absent_blob_is_nothing,
            a_blob_is_replaced_as_a_whole,
            a_removed_blob_is_gone,
            removing_an_absent_blob_is_no_error,
            a_key_and_a_key_below_it_stay_apart,
            concurrent_writers_leave_one_whole_blob,
            keys_that_are_no_paths_are_refused,
        );
    };
}
