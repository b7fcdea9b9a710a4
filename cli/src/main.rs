//! The `slipway` program: a client of any Slipway control plane, and the embedded control plane itself.

mod arguments;
mod client;
mod commands;
mod document;
mod failure;
mod output;
mod place;
mod random;
mod serve;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match commands::run(arguments) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::remark(&failure.to_string());
            failure.exit.into()
        }
    }
}
