//! Column types of sources, the shapes of the tables that Tagflow defines ([`dead_letter`],
//! [`late`] and [`tags`]), and the masking of [`personal`] data.

pub mod column;
pub mod dead_letter;
pub mod late;
pub mod personal;
pub mod tags;

pub use column::{Column, ColumnType, ParseTypeError, TimeUnit};
