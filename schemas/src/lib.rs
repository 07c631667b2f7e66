//! Column types of sources, and the shapes of the tables that Tagflow writes by
//! itself: [`dead_letter`] and [`late`].

pub mod column;
pub mod dead_letter;
pub mod late;

pub use column::{Column, ColumnType, ParseTypeError, TimeUnit};
