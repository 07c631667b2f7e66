//! The status of each pipeline: from its process if it answers, otherwise from the last record of
//! its commit log.

mod live;
mod row;
mod table;

pub(crate) use live::{Live, Silence, ask_owner};
pub(crate) use row::Row;
pub(crate) use table::table;
