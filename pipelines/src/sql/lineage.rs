//! Follows the lineage of columns through a plan.

use datafusion::{common::DFSchema, logical_expr::Expr};
use tagflow_operators::window::Windows;

use super::{Catalog, Lineage, Stream};

impl Stream {
    /// The lineage of each column of the output.
    pub fn lineage(&self, catalog: &Catalog) -> Vec<Lineage> {
        match self {
            Self::Scan(scan) => {
                let of = |name: &String| {
                    catalog
                        .relation(&scan.relation)
                        .map_or(Lineage::Plain, |relation| relation.lineage_of(name))
                };
                scan.columns.iter().map(of).collect()
            }
            Self::Map(map) => {
                let input = map.input.lineage(catalog);
                match &map.columns {
                    None => input,
                    Some(columns) => columns
                        .iter()
                        .map(|column| carried(column, map.input.schema(), &input))
                        .collect(),
                }
            }
            Self::Ordered(ordered) => {
                let mut lineage = ordered.input.lineage(catalog);
                lineage.resize(ordered.schema.fields().len(), Lineage::Plain);
                lineage
            }
            Self::Union(union) => {
                let inputs: Vec<_> = union
                    .inputs
                    .iter()
                    .map(|input| input.lineage(catalog))
                    .collect();
                (0..union.schema.fields().len())
                    .map(|index| {
                        let mut of_column = inputs.iter().filter_map(|input| input.get(index));
                        match of_column.next() {
                            Some(first) if of_column.all(|other| other == first) => *first,
                            _ => Lineage::Plain,
                        }
                    })
                    .collect()
            }
            Self::Join(join) => join.lineage(catalog),
            Self::Top(top) => {
                let mut lineage = top.input.lineage(catalog);
                lineage.push(Lineage::Plain);
                lineage
            }
            Self::Lookup(lookup) => {
                let mut lineage = lookup.input.lineage(catalog);
                lineage.resize(lookup.schema.fields().len(), Lineage::Plain);
                lineage
            }
            Self::Windowed(windowed) => {
                let mut lineage = vec![Lineage::Plain; windowed.schema.fields().len()];
                lineage[windowed.window] = match windowed.windows {
                    Windows::Session { .. } => Lineage::Session,
                    _ => Lineage::Window,
                };
                lineage
            }
        }
    }
}

/// The lineage of `column`, computed over `input`.
pub(crate) fn carried(column: &Expr, input: &DFSchema, lineage: &[Lineage]) -> Lineage {
    match column {
        Expr::Alias(alias) => carried(&alias.expr, input, lineage),
        Expr::Column(column) => input
            .maybe_index_of_column(column)
            .and_then(|index| lineage.get(index).copied())
            .unwrap_or(Lineage::Plain),
        _ => Lineage::Plain,
    }
}
