//! The commands, one per file: each takes its arguments and returns its exit.

mod audit;
mod demo;
mod diff;
mod explain;
mod preview;
mod produce;
mod query;
mod run;
mod schema;
mod segments;
mod status;
mod tables;
mod tags;
mod test;
mod validate;

use crate::{cli::Command, exit::Exit};

/// Runs one command; commands with large state are boxed.
///
/// # Errors
/// The error for [`crate::exit::report`].
pub(crate) async fn execute(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Run(args) => Box::pin(run::execute(args)).await,
        Command::Status(args) => status::execute(args).await,
        Command::Audit(args) => audit::execute(args).await,
        Command::Validate(args) => validate::execute(args),
        Command::Test(args) => test::execute(args).await,
        Command::Preview(args) => Box::pin(preview::execute(args)).await,
        Command::Diff(args) => diff::execute(args).await,
        Command::Explain(args) => explain::execute(args),
        Command::Tables(args) => tables::execute(args),
        Command::Tags(args) => tags::execute(args).await,
        Command::Segments(args) => segments::execute(args).await,
        Command::Query(args) => query::execute(args).await,
        Command::Produce(args) => produce::execute(args).await,
        Command::Demo(args) => Box::pin(demo::execute(args)).await,
        Command::Schema => schema::execute(),
    }
}
