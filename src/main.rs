//! The `tagflow` command: parses the command line, runs one command, and ends
//! with its exit code. How anything works is in the crates below.

mod admin;
mod cli;
mod commands;
mod exit;
mod figures;
mod output;
mod progress;
mod session;
mod signals;
mod status;
mod summary;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    telemetry::init(cli.verbose);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&error.into()).into(),
    };
    let exit = runtime
        .block_on(commands::execute(cli.command))
        .unwrap_or_else(|error| exit::report(&error));
    // Whatever still waits on a socket or a disk is not waited for.
    runtime.shutdown_background();
    exit.into()
}
