//! `tagflow run`.

use std::sync::Arc;

use tagflow_engine::{
    SystemClock,
    runtime::{End, Until, supervise},
};
use tagflow_pipelines::{
    Pipeline, Spec,
    launch::{Launch, LaunchOptions, launch},
};

use crate::{
    admin::{Endpoint, IfTaken},
    cli::{AdminAddress, Run},
    exit::Exit,
    session::{self, Ended},
    summary,
};

/// How often a job is started again after a failure that may pass: a run that
/// should go on for good is more patient than one that should end.
const RESTARTS: u32 = 20;
const RESTARTS_ONCE: u32 = 3;

pub(crate) async fn execute(args: Run) -> anyhow::Result<Exit> {
    let pipeline = Pipeline::open(&args.pipeline.file, &args.pipeline.load_options())?;
    eprint!("{}", pipeline.spec.warnings.human());
    let state = pipeline.spec.checkpoint.url.value().clone();
    let endpoint = endpoint(args.admin, &pipeline.spec).await?;
    let (until, restarts) = if args.once {
        (Until::CaughtUp, RESTARTS_ONCE)
    } else {
        (Until::Stopped, RESTARTS)
    };
    let end = if args.drain { End::Drain } else { End::Keep };
    let options = LaunchOptions {
        lanes: args.parallelism.map(usize::from),
        until,
        end,
        reset: args.reset.into_iter().collect(),
        admin: endpoint.as_ref().map(Endpoint::address),
        restarts,
    };
    let Launch {
        supervised,
        tables,
        spec,
    } = launch(pipeline, options, Arc::new(SystemClock))?;
    let (control, job) = supervise(supervised);
    match session::run(control, Box::pin(job), endpoint, spec).await? {
        Ended::Aborted => Ok(Exit::Aborted),
        Ended::Stopped(outcome) => {
            eprint!("{}", summary::of(&outcome, end, &tables, &state));
            Ok(Exit::Success)
        }
    }
}

/// The admin endpoint: where the command line says, else where the file does,
/// else where there is room.
async fn endpoint(
    asked: Option<AdminAddress>,
    spec: &Spec,
) -> tagflow_engine::Result<Option<Endpoint>> {
    let listen = &spec.admin.listen;
    let (address, if_taken) = match asked {
        Some(AdminAddress::Off) => return Ok(None),
        Some(AdminAddress::At(address)) => (address, IfTaken::Fail),
        None if listen.is_default() => (*listen.value(), IfTaken::UseAnother),
        None => (*listen.value(), IfTaken::Fail),
    };
    Endpoint::bind(address, if_taken).await.map(Some)
}
