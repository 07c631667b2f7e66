//! TEMP
use crate::Pipeline;
pub fn dot(_: &Pipeline) -> String { todo!() }
pub fn text(_: &Pipeline) -> String { todo!() }
