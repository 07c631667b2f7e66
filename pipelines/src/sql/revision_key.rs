//! Follows the key of a window's revisions through a plan.

use std::time::Duration;

use datafusion::{common::DFSchema, logical_expr::Expr};
use tagflow_operators::window::Windows;

use super::{Catalog, Rows, Stream, Upsert};

impl Stream {
    /// How to match revisions among its rows; `None` if there are no revisions, columns are
    /// missing, or a newer one might be filtered out.
    pub fn upsert(&self, catalog: &Catalog) -> Option<Upsert> {
        match self {
            Self::Scan(scan) => {
                let relation = catalog.relation(&scan.relation)?;
                relation.upsert.as_ref()?.moved(|place| {
                    let name = relation.schema.field(place).name();
                    scan.columns.iter().position(|column| column == name)
                })
            }
            Self::Map(map) if map.filter.is_some() => None,
            Self::Map(map) => {
                let input = map.input.upsert(catalog)?;
                let Some(columns) = &map.columns else {
                    return Some(input);
                };
                input.moved(|place| {
                    let carries =
                        |column: &Expr| place_of(column, map.input.schema()) == Some(place);
                    columns.iter().position(carries)
                })
            }
            Self::Windowed(windowed) if windowed.rows() == Rows::Revisions => {
                let groups = windowed.keys.len() + 1;
                let revision = groups + windowed.aggregates.len();
                // A later session can merge with an emitted one. A preview of a session is
                // retracted by the next one when it has grown.
                let (retracted, reach) = match windowed.windows {
                    Windows::Session { gap } => {
                        let every = windowed.emission.previews.unwrap_or_default();
                        (
                            Some(revision + 2),
                            gap.saturating_mul(2).saturating_add(every),
                        )
                    }
                    _ => (None, Duration::ZERO),
                };
                Some(Upsert {
                    window: windowed.window,
                    keys: (0..groups)
                        .filter(|place| *place != windowed.window)
                        .collect(),
                    revision,
                    retracted,
                    lateness: windowed.emission.lateness.saturating_add(reach),
                })
            }
            Self::Windowed(_)
            | Self::Union(_)
            | Self::Ordered(_)
            | Self::Lookup(_)
            | Self::Join(_)
            | Self::Top(_) => None,
        }
    }
}

/// The index of the input column that `column` refers to.
fn place_of(column: &Expr, input: &DFSchema) -> Option<usize> {
    match column {
        Expr::Alias(alias) => place_of(&alias.expr, input),
        Expr::Column(column) => input.maybe_index_of_column(column),
        _ => None,
    }
}
