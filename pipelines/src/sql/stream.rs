//! The stream plan: the few shapes that can run on a stream.

use std::time::Duration;

use datafusion::{common::DFSchemaRef, logical_expr::Expr};

use super::OrderedRule;

/// A relation as a tree of what happens to its rows. Expressions are
/// DataFusion's logical ones, typed and simplified, over the schema of the
/// node's input.
#[derive(Debug, Clone)]
pub enum Stream {
    /// The rows of another relation.
    Scan(Scan),
    /// Row by row: a filter, then new columns.
    Map(Map),
    /// The rows of each key in the order of event time.
    Ordered(Ordered),
    /// The rows of all inputs, in no particular order.
    Union(Union),
    /// One row a window and key.
    Tumble(Tumble),
}

/// The rows of a source, step or query.
#[derive(Debug, Clone)]
pub struct Scan {
    /// Its name.
    pub relation: String,
    /// Which of its columns are needed.
    pub columns: Vec<String>,
    /// Their names, as this plan qualifies them, and types.
    pub schema: DFSchemaRef,
}

/// A filter, then a projection.
#[derive(Debug, Clone)]
pub struct Map {
    /// Where rows come from.
    pub input: Box<Stream>,
    /// Which rows go on; all, if there is none.
    pub filter: Option<Expr>,
    /// The columns of the output; those of the input, if there are none.
    pub columns: Option<Vec<Expr>>,
    /// The shape of the output.
    pub schema: DFSchemaRef,
}

/// All rows of the input but those that a rule keeps out, with the column that
/// it adds last.
#[derive(Debug, Clone)]
pub struct Ordered {
    /// Where rows come from.
    pub input: Box<Stream>,
    /// The columns of the key.
    pub key: Vec<String>,
    /// The column with the event time.
    pub time: String,
    /// What happens to the rows of a key.
    pub rule: OrderedRule,
    /// The shape of the output.
    pub schema: DFSchemaRef,
}

/// Whatever needs rows in their exact order needs an exact watermark.
pub(crate) const EXACT: Duration = Duration::from_micros(1);

/// All rows of all inputs; columns correspond by place.
#[derive(Debug, Clone)]
pub struct Union {
    /// Where rows come from.
    pub inputs: Vec<Stream>,
    /// The shape of the output.
    pub schema: DFSchemaRef,
}

/// An aggregate over tumbling windows. Output: the group expressions in their
/// order with the window at [`Tumble::window`], then the aggregates.
#[derive(Debug, Clone)]
pub struct Tumble {
    /// Where rows come from.
    pub input: Box<Stream>,
    /// The column with the event time.
    pub time: Expr,
    /// How wide each window is.
    pub width: Duration,
    /// The window's place among the group expressions.
    pub window: usize,
    /// The other group expressions.
    pub keys: Vec<Expr>,
    /// The aggregates.
    pub aggregates: Vec<Expr>,
    /// The shape of the output.
    pub schema: DFSchemaRef,
}

impl Stream {
    /// The shape of the output.
    pub fn schema(&self) -> &DFSchemaRef {
        match self {
            Self::Scan(scan) => &scan.schema,
            Self::Map(map) => &map.schema,
            Self::Ordered(ordered) => &ordered.schema,
            Self::Union(union) => &union.schema,
            Self::Tumble(tumble) => &tumble.schema,
        }
    }

    /// The shape of the output, to qualify it anew.
    pub(crate) fn schema_mut(&mut self) -> &mut DFSchemaRef {
        match self {
            Self::Scan(scan) => &mut scan.schema,
            Self::Map(map) => &mut map.schema,
            Self::Ordered(ordered) => &mut ordered.schema,
            Self::Union(union) => &mut union.schema,
            Self::Tumble(tumble) => &mut tumble.schema,
        }
    }

    /// The nodes that this one reads.
    pub fn inputs(&self) -> Vec<&Self> {
        match self {
            Self::Scan(_) => Vec::new(),
            Self::Map(map) => vec![&map.input],
            Self::Ordered(ordered) => vec![&ordered.input],
            Self::Union(union) => union.inputs.iter().collect(),
            Self::Tumble(tumble) => vec![&tumble.input],
        }
    }

    /// Whether it aggregates anywhere.
    pub fn aggregates(&self) -> bool {
        matches!(self, Self::Tumble(_)) || self.inputs().iter().any(|input| input.aggregates())
    }

    /// Calls `visit` with each scan, and the width of the window that its rows
    /// go into; without one it is `outside`.
    pub fn scans(&self, outside: Duration, visit: &mut impl FnMut(&Scan, Duration)) {
        match self {
            Self::Scan(scan) => visit(scan, outside),
            Self::Tumble(tumble) => tumble.input.scans(tumble.width, visit),
            Self::Ordered(ordered) => ordered.input.scans(EXACT, visit),
            Self::Map(_) | Self::Union(_) => {
                for input in self.inputs() {
                    input.scans(outside, visit);
                }
            }
        }
    }
}
