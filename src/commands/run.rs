//! `tagflow run`.

use std::{sync::Arc, time::Duration};

use tagflow_engine::{
    SystemClock,
    runtime::{End, IfLive, OldFiles, Until, supervise},
};
use tagflow_pipelines::{Pipeline, Spec, spec::OPEN_TO_OTHERS};
use tagflow_service::{
    http::{Endpoint, IfTaken},
    start::{Launch, LaunchOptions, check, keep_failure, launch},
};
use tokio::time::timeout;

use crate::{
    cli::{AdminAddress, Run},
    exit::Exit,
    greeting,
    session::{self, Ended},
    summary,
    terminal::{Stream, Tone},
};

/// The most restarts after temporary failures. An endless run is more patient than one with an end.
const RESTARTS: u32 = 20;
const RESTARTS_ONCE: u32 = 3;

/// The time limit to store the reason of a failure.
const KEEPING: Duration = Duration::from_secs(3);

pub(crate) async fn execute(args: Run) -> anyhow::Result<Exit> {
    let pipeline = Pipeline::open(&args.pipeline.file, &args.pipeline.load_options())?;
    eprint!("{}", Stream::Err.problems(&pipeline.warnings()));
    let state = pipeline.spec.checkpoint.url.value().clone();
    let endpoint = endpoint(args.admin, &pipeline.spec).await?;
    let (until, restarts) = if args.once {
        (Until::CaughtUp, RESTARTS_ONCE)
    } else {
        (Until::Stopped, RESTARTS)
    };
    let end = if args.drain { End::Drain } else { End::Keep };
    let admin = endpoint.as_ref().map(Endpoint::address);
    let reset = args.reset.into_iter().collect();
    check(&pipeline, &reset).await?;
    let options = LaunchOptions {
        lanes: args.parallelism.map(usize::from),
        until,
        end,
        reset,
        old_files: if args.replace_tables {
            OldFiles::Replace
        } else {
            OldFiles::Keep
        },
        if_live: if args.take_over {
            IfLive::TakeOver
        } else {
            IfLive::Refuse
        },
        admin,
        restarts,
    };
    let Launch {
        supervised,
        tables,
        spec,
    } = launch(pipeline, options, Arc::new(SystemClock))?;
    eprint!("{}", greeting::of(&spec, &tables, admin));
    let (control, job) = supervise(supervised);
    let name = spec.name.value().clone();
    let ended = session::run(control, Box::pin(job), endpoint, spec).await;
    if let Err(error) = &ended {
        // The error itself is on standard error, so its copy must not delay the exit.
        let _ = timeout(KEEPING, keep_failure(&state, &name, error)).await;
    }
    match ended? {
        Ended::Aborted => Ok(Exit::Aborted),
        Ended::Stopped(outcome) => {
            eprint!("{}", summary::of(&outcome, &tables, &state));
            Ok(Exit::Success)
        }
    }
}

/// The admin endpoint: the address of the command line, otherwise the file's, otherwise a free one.
async fn endpoint(
    asked: Option<AdminAddress>,
    spec: &Spec,
) -> tagflow_engine::Result<Option<Endpoint>> {
    let listen = &spec.admin.listen;
    let (address, if_taken) = match asked {
        Some(AdminAddress::Off) => return Ok(None),
        Some(AdminAddress::At(address)) => {
            if !address.ip().is_loopback() {
                let warning = Stream::Err.paint(Tone::Odd, "warning:");
                eprintln!("{warning} {OPEN_TO_OTHERS} (`--admin {address}`)");
            }
            (address, IfTaken::Fail)
        }
        None if listen.is_default() => (*listen.value(), IfTaken::UseAnother),
        None => (*listen.value(), IfTaken::Fail),
    };
    Endpoint::bind(address, if_taken).await.map(Some)
}
