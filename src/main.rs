//! The `tagflow` command: parses the command line, runs one command, and ends with its exit code.
//! The crates below contain everything else.

#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "an allocator hands out memory, which only unsafe code can do"
)]
mod allocator;
mod cli;
mod commands;
#[expect(
    unsafe_code,
    reason = "only unsafe code can install a handler of a signal"
)]
mod crash;
mod exit;
mod greeting;
mod human;
mod output;
mod pipeline_files;
mod progress;
mod prompt;
mod session;
mod signals;
mod status_table;
mod summary;
mod telemetry;
mod terminal;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;
#[cfg(not(target_os = "linux"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    crash::report_crashes();
    let cli = cli::parse().unwrap_or_else(|error| error.exit());
    terminal::set_colors(cli.color);
    telemetry::init(cli.verbose);
    let rerun = cli.command.rerun();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&error.into(), rerun).into(),
    };
    let exit = runtime
        .block_on(commands::execute(cli.command))
        .unwrap_or_else(|error| exit::report(&error, rerun));
    // Do not wait for pending network or disk operations.
    runtime.shutdown_background();
    exit.into()
}
