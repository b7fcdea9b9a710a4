//! A local stand-in for the AWS services that Slipway runs on.
//!
//! It reads `infra/template.yaml`, makes the table, the queues, the bucket and the key of it in DynamoDB Local,
//! ElasticMQ and moto, and plays what those lack: Lambda with its runtime API, the event sources of the queues, the
//! schedule, and API Gateway with its authorizer. So what is tested is what is deployed.

mod clock;
mod control;
mod events;
mod gateway;
mod lambda;
mod part;
mod provision;
mod proxy;
mod schedule;
mod stack;
mod template;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Runs Slipway's functions as AWS would, on this machine. When it serves, it prints one line of JSON, and writes the
/// same into stack.json in its data folder: where the API and the controls are, and a token for an administrator.
#[derive(Debug, Parser)]
#[command(name = "aws-local")]
struct Arguments {
    /// The SAM template.
    #[arg(long, value_name = "FILE")]
    template: PathBuf,
    /// The name of the stack, which the names of queues and tables begin with: small letters, digits and dashes.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The folder of the functions' programs.
    #[arg(long, value_name = "FOLDER")]
    functions: PathBuf,
    /// The folder that stands for /opt, where Lambda puts layers.
    #[arg(long, value_name = "FOLDER")]
    layers: PathBuf,
    /// The folder for logs and for what is remembered between two runs.
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Where DynamoDB Local answers.
    #[arg(long, value_name = "URL")]
    dynamodb: String,
    /// Where ElasticMQ answers.
    #[arg(long, value_name = "URL")]
    elasticmq: String,
    /// Where moto answers.
    #[arg(long, value_name = "URL")]
    moto: String,
    /// Where the API is served; it must be a loopback address.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A parameter of the template.
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = pair)]
    parameters: Vec<(String, String)>,
    /// A variable that every function gets beside those of the template, or instead.
    #[arg(long = "environment", value_name = "NAME=VALUE", value_parser = pair)]
    environment: Vec<(String, String)>,
    /// Seconds after which an unacknowledged message comes again, for all queues, instead of what the template says.
    #[arg(long, value_name = "SECONDS")]
    visibility: Option<u32>,
    /// Most processes of one function, whatever concurrency the template allows.
    #[arg(long, value_name = "N", default_value_t = 8)]
    sandboxes: usize,
    /// How many in a hundred calls of the functions to AWS fail.
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    fail_percent: f64,
    /// Decides which calls fail, and how.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Leave the schedule to the control `POST /control/schedule`.
    #[arg(long)]
    no_schedule: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` has no `=`; write NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let stack = stack::Stack::start(arguments).await?;
    writeln!(std::io::stdout(), "{}", stack.announcement())?;
    stack.serve().await
}
