//! Everything that one can do with a pipeline, as functions that a command line or a server calls:
//! start it ([`start`]), test it ([`mod@test`]), look at its rows ([`preview`]), compare it with its
//! last run ([`diff`]), check its tables ([`audit`]), and query them ([`query`]).
//!
//! [`http`] is the endpoint of a running pipeline. Nothing here prints or reads arguments.

pub mod audit;
pub mod demo;
pub mod describe;
pub mod diff;
pub mod http;
pub mod metrics;
pub mod preview;
pub mod produce;
pub mod profiles;
pub mod query;
pub mod start;
pub mod state_folder;
pub mod status;
pub mod test;
pub mod time;
