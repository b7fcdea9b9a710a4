//! Scenarios, played through the HTTP API of a real control plane. One program, because linking one takes a fraction
//! of the time that linking a dozen takes.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod actions;
mod agent_rag;
mod api;
mod bad_input;
mod blocked;
mod changes;
mod command_line;
mod dead_letters;
mod events;
mod hooks;
mod jobs;
mod killed;
mod legacy;
mod looking;
mod releases;
mod secrets;
mod sizes;
mod states;
mod stopped;
mod unready;
