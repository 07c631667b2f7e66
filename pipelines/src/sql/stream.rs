//! The stream plan: the few shapes that can run on a stream.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use arrow::datatypes::FieldRef;
use datafusion::{
    common::{Column, DFSchema, DFSchemaRef, JoinType, TableReference},
    logical_expr::{Expr, SortExpr as Sort},
    prelude::col,
};
use tagflow_operators::{
    join::lookup::Missing,
    window::{Emission, Windows},
};

use super::{
    OrderedRule, Rows, SqlError,
    grain::{EVENT_GRAIN, EXACT, common_grain},
};

/// A relation as a tree of operations on its rows. Expressions are
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
    /// One row per window and key.
    Windowed(Windowed),
    /// Each row with the columns of the table row for its key.
    Lookup(Lookup),
    /// Matching rows of two streams.
    Join(Join),
    /// The best rows of each window.
    Top(Top),
}

/// The rows of a source, step or query.
#[derive(Debug, Clone)]
pub struct Scan {
    /// Its name.
    pub relation: String,
    /// The required columns.
    pub columns: Vec<String>,
    /// Their names, as this plan qualifies them, and types.
    pub schema: DFSchemaRef,
}

/// A filter, then a projection.
#[derive(Debug, Clone)]
pub struct Map {
    /// The input relation.
    pub input: Box<Stream>,
    /// The filter on rows; `None` keeps all rows.
    pub filter: Option<Expr>,
    /// The columns of the output; `None` keeps those of the input.
    pub columns: Option<Vec<Expr>>,
    /// The shape of the output.
    pub schema: DFSchemaRef,
}

/// All rows of the input that pass a rule, with the column that it adds last.
#[derive(Debug, Clone)]
pub struct Ordered {
    /// The input relation.
    pub input: Box<Stream>,
    /// The columns of the key.
    pub key: Vec<String>,
    /// The column with the event time.
    pub time: String,
    /// The rule for the rows of a key.
    pub rule: OrderedRule,
    /// The shape of the output.
    pub schema: DFSchemaRef,
}

/// All rows of all inputs; columns correspond by index.
#[derive(Debug, Clone)]
pub struct Union {
    /// The input relation.
    pub inputs: Vec<Stream>,
    /// The shape of the output.
    pub schema: DFSchemaRef,
}

/// An aggregate over windows. Without windows, keys expire ([`Emission::ttl`]), and an internal
/// window is as wide as the interval between changes. Output: the group expressions in their order
/// with the window at [`Windowed::window`], then the aggregates, and the [`Emission::columns`].
#[derive(Debug, Clone)]
pub struct Windowed {
    /// The input relation.
    pub input: Box<Stream>,
    /// The column with the event time, or with a window: a window counts at its
    /// last instant.
    pub time: Expr,
    /// The windows of event time.
    pub windows: Windows,
    /// When results are emitted.
    pub emission: Emission,
    /// The index of the window among the group expressions.
    pub window: usize,
    /// The other group expressions.
    pub keys: Vec<Expr>,
    /// The aggregates.
    pub aggregates: Vec<Expr>,
    /// The shape of the output.
    pub schema: DFSchemaRef,
}

/// A join with a table. Output: the columns of the input, then those of the
/// table.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// The input relation.
    pub input: Box<Stream>,
    /// The table.
    pub table: String,
    /// Its key, over the input.
    pub key: Vec<Expr>,
    /// The emitted columns of the table.
    pub columns: Vec<String>,
    /// Over the input and all columns of the table: a row matches only where this is true.
    pub condition: Option<Expr>,
    /// How to treat a row without a match.
    pub missing: Missing,
    /// The name of the table in expressions.
    pub alias: Option<TableReference>,
    /// The shape of the output.
    pub schema: DFSchemaRef,
}

/// A join of two streams. Output: the columns of the left side, then those of
/// the right one.
#[derive(Debug, Clone)]
pub struct Join {
    /// The left side.
    pub left: Box<Stream>,
    /// The right side.
    pub right: Box<Stream>,
    /// Inner, left, right or full.
    pub kind: JoinType,
    /// The equal expressions, over the left and over the right side.
    pub on: Vec<(Expr, Expr)>,
    /// The remaining condition, over the output.
    pub condition: Option<Expr>,
    /// The bound on the time between matching rows.
    pub bound: JoinBound,
    /// The shape of the output.
    pub schema: DFSchemaRef,
}

/// The bound on the time between two matching rows.
#[derive(Debug, Clone)]
pub enum JoinBound {
    /// The same window: the columns of the left and of the right side.
    Window([Column; 2]),
    /// The time from the left event to the right one is within bounds.
    Interval {
        /// The event times of the left and of the right side.
        columns: [Column; 2],
        /// At least, in microseconds.
        min_us: i64,
        /// At most, in microseconds.
        max_us: i64,
    },
}

/// The best rows of each window and partition. Output: the columns of the input, then the rank.
#[derive(Debug, Clone)]
pub struct Top {
    /// The input relation.
    pub input: Box<Stream>,
    /// The column of the window.
    pub window: usize,
    /// The columns that partition the rows of a window; each partition has its own ranking.
    pub partition: Vec<usize>,
    /// The sort order of the ranking.
    pub order: Vec<Sort>,
    /// The number of rows of each ranking; `None` before the filters are read.
    pub limit: Option<u64>,
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
            Self::Windowed(windowed) => &windowed.schema,
            Self::Lookup(lookup) => &lookup.schema,
            Self::Join(join) => &join.schema,
            Self::Top(top) => &top.schema,
        }
    }

    /// The shape of the output, to replace its qualifiers.
    pub(crate) fn schema_mut(&mut self) -> &mut DFSchemaRef {
        match self {
            Self::Scan(scan) => &mut scan.schema,
            Self::Map(map) => &mut map.schema,
            Self::Ordered(ordered) => &mut ordered.schema,
            Self::Union(union) => &mut union.schema,
            Self::Windowed(windowed) => &mut windowed.schema,
            Self::Lookup(lookup) => &mut lookup.schema,
            Self::Join(join) => &mut join.schema,
            Self::Top(top) => &mut top.schema,
        }
    }

    /// The nodes that this one reads.
    pub fn inputs(&self) -> Vec<&Self> {
        match self {
            Self::Scan(_) => Vec::new(),
            Self::Map(map) => vec![&map.input],
            Self::Ordered(ordered) => vec![&ordered.input],
            Self::Union(union) => union.inputs.iter().collect(),
            Self::Windowed(windowed) => vec![&windowed.input],
            Self::Lookup(lookup) => vec![&lookup.input],
            Self::Join(join) => vec![&join.left, &join.right],
            Self::Top(top) => vec![&top.input],
        }
    }

    /// Emits results according to `emission`, with additional columns that identify revisions;
    /// returns these.
    ///
    /// # Errors
    /// It ends in anything except the columns of a single aggregate.
    pub(crate) fn revise(&mut self, emission: Emission) -> Result<Vec<FieldRef>, SqlError> {
        match self {
            Self::Windowed(windowed) => {
                emission.check(&windowed.windows).map_err(SqlError::new)?;
                windowed.emission = emission;
                let more = emission.columns(&windowed.windows);
                windowed.schema = with_columns(&windowed.schema, &more)?;
                Ok(more)
            }
            Self::Map(map) if map.filter.is_some() => Err(SqlError::new(
                "HAVING cannot take back a row that it once let pass, and this query corrects rows",
            )
            .help("leave HAVING out, and filter where the result is read")),
            Self::Map(map) => {
                let more = map.input.revise(emission)?;
                if let Some(columns) = &mut map.columns {
                    columns.extend(more.iter().map(|column| col(column.name())));
                }
                map.schema = with_columns(&map.schema, &more)?;
                Ok(more)
            }
            Self::Scan(_)
            | Self::Union(_)
            | Self::Ordered(_)
            | Self::Lookup(_)
            | Self::Join(_)
            | Self::Top(_) => Err(SqlError::new(
                "only a query that is one aggregate and nothing more emits more than once",
            )
            .help("say it where the aggregate is")),
        }
    }

    /// The nodes that this one reads, to change them.
    pub(crate) fn inputs_mut(&mut self) -> Vec<&mut Self> {
        match self {
            Self::Scan(_) => Vec::new(),
            Self::Map(map) => vec![&mut map.input],
            Self::Union(union) => union.inputs.iter_mut().collect(),
            Self::Windowed(windowed) => vec![&mut windowed.input],
            Self::Ordered(ordered) => vec![&mut ordered.input],
            Self::Lookup(lookup) => vec![&mut lookup.input],
            Self::Join(join) => vec![&mut join.left, &mut join.right],
            Self::Top(top) => vec![&mut top.input],
        }
    }

    /// The same rows with `columns`. Other columns are kept only where the rows depend on
    /// them, so the definition of the rows is the same whichever columns others read.
    pub(crate) fn narrowed(&self, columns: &BTreeSet<usize>) -> Self {
        let part = |schema: &DFSchemaRef| part(schema, columns);
        match self {
            Self::Scan(scan) => Self::Scan(Scan {
                relation: scan.relation.clone(),
                columns: columns.iter().map(|it| scan.columns[*it].clone()).collect(),
                schema: part(&scan.schema),
            }),
            Self::Map(map) => {
                let kept: Vec<Expr> = match &map.columns {
                    Some(exprs) => columns.iter().map(|it| exprs[*it].clone()).collect(),
                    None => part(&map.schema)
                        .columns()
                        .into_iter()
                        .map(Expr::Column)
                        .collect(),
                };
                let read = places(kept.iter().chain(&map.filter), map.input.schema());
                let is_column = |expr: &Expr| matches!(expr, Expr::Column(_));
                if map.filter.is_none() && kept.iter().all(is_column) {
                    // It only drops columns, so the input is narrowed instead.
                    return map.input.narrowed(&read);
                }
                Self::Map(Map {
                    input: Box::new(map.input.narrowed(&read)),
                    filter: map.filter.clone(),
                    columns: Some(kept),
                    schema: part(&map.schema),
                })
            }
            Self::Union(union) => Self::Union(Union {
                inputs: union.inputs.iter().map(|it| it.narrowed(columns)).collect(),
                schema: part(&union.schema),
            }),
            Self::Lookup(lookup) => Self::Lookup(lookup.narrowed(columns)),
            Self::Join(join) => Self::Join(join.narrowed(columns)),
            other => other.clone(),
        }
    }

    /// Whether it buffers rows anywhere: in windows, joins or rankings.
    pub fn holds_rows(&self) -> bool {
        matches!(self, Self::Windowed(_) | Self::Join(_) | Self::Top(_))
            || self.inputs().iter().any(|input| input.holds_rows())
    }

    /// Whether it aggregates anywhere.
    pub fn aggregates(&self) -> bool {
        matches!(self, Self::Windowed(_)) || self.inputs().iter().any(|input| input.aggregates())
    }

    /// Calls `visit` with each scan, and the grain of the windows that read its
    /// rows; without a window it is `outside`.
    pub fn scans(&self, outside: Duration, visit: &mut impl FnMut(&Scan, Duration)) {
        match self {
            Self::Scan(scan) => visit(scan, outside),
            Self::Windowed(windowed) => windowed.input.scans(windowed.grain(), visit),
            Self::Ordered(ordered) => ordered.input.scans(EXACT, visit),
            Self::Join(Join {
                bound: JoinBound::Interval { .. },
                left,
                right,
                ..
            }) => {
                left.scans(EVENT_GRAIN, visit);
                right.scans(EVENT_GRAIN, visit);
            }
            Self::Map(_) | Self::Union(_) | Self::Lookup(_) | Self::Join(_) | Self::Top(_) => {
                for input in self.inputs() {
                    input.scans(outside, visit);
                }
            }
        }
    }
}

impl Lookup {
    fn narrowed(&self, columns: &BTreeSet<usize>) -> Self {
        let input = self.input.schema();
        let mut read = places(self.key.iter().chain(&self.condition), input);
        read.extend(columns.range(..input.fields().len()));
        let columns: BTreeSet<usize> = read
            .iter()
            .chain(columns.range(input.fields().len()..))
            .copied()
            .collect();
        let of_table = columns.range(input.fields().len()..);
        let of_table = of_table.map(|it| self.columns[*it - input.fields().len()].clone());
        Self {
            columns: of_table.collect(),
            input: Box::new(self.input.narrowed(&read)),
            schema: part(&self.schema, &columns),
            ..self.clone()
        }
    }
}

impl Join {
    /// The columns of the output that determine which rows belong together.
    pub(crate) fn reads(&self) -> BTreeSet<usize> {
        let left = self.left.schema().fields().len();
        let (of_left, of_right): (Vec<&Expr>, Vec<&Expr>) =
            self.on.iter().map(|(left, right)| (left, right)).unzip();
        let mut reads = places(of_left, self.left.schema());
        let of_right = places(of_right, self.right.schema());
        reads.extend(of_right.iter().map(|place| left + place));
        reads.extend(places(&self.condition, &self.schema));
        let (JoinBound::Window([of_left, of_right])
        | JoinBound::Interval {
            columns: [of_left, of_right],
            ..
        }) = &self.bound;
        reads.extend(self.left.schema().maybe_index_of_column(of_left));
        let of_right = self.right.schema().maybe_index_of_column(of_right);
        reads.extend(of_right.map(|place| left + place));
        reads
    }

    pub(crate) fn narrowed(&self, columns: &BTreeSet<usize>) -> Self {
        let columns: BTreeSet<usize> = self.reads().union(columns).copied().collect();
        let left = self.left.schema().fields().len();
        let of_right = columns.range(left..).map(|place| place - left).collect();
        let of_left = columns.range(..left).copied().collect();
        Self {
            left: Box::new(self.left.narrowed(&of_left)),
            right: Box::new(self.right.narrowed(&of_right)),
            schema: part(&self.schema, &columns),
            ..self.clone()
        }
    }
}

impl Windowed {
    /// A width at whose multiples windows close, emit previews or expire.
    pub fn grain(&self) -> Duration {
        let Emission {
            previews, lateness, ..
        } = self.emission;
        let grain = common_grain(self.windows.grain(), lateness);
        common_grain(grain, previews.unwrap_or_default())
    }

    /// The columns of the input that its keys, its time and `aggregate` read.
    pub(crate) fn reads(&self, aggregate: Option<&Expr>) -> BTreeSet<usize> {
        let exprs = self.keys.iter().chain([&self.time]).chain(aggregate);
        places(exprs, self.input.schema())
    }

    /// The kind of its rows.
    pub(crate) fn rows(&self) -> Rows {
        match (self.emission.ttl, self.emission.revises()) {
            (Some(_), _) => Rows::Changes,
            (None, true) => Rows::Revisions,
            (None, false) => Rows::Windows,
        }
    }
}

/// Some columns of `schema`.
fn part(schema: &DFSchema, columns: &BTreeSet<usize>) -> DFSchemaRef {
    let fields = columns.iter().map(|place| {
        let (qualifier, field) = schema.qualified_field(*place);
        (qualifier.cloned(), Arc::clone(field))
    });
    let schema = DFSchema::new_with_metadata(fields.collect(), HashMap::new());
    Arc::new(schema.expect("names that differ in the whole differ in a part"))
}

/// The indexes in `schema` of the columns that `exprs` read.
fn places<'e>(exprs: impl IntoIterator<Item = &'e Expr>, schema: &DFSchema) -> BTreeSet<usize> {
    let columns = exprs.into_iter().flat_map(Expr::column_refs);
    columns
        .filter_map(|column| schema.maybe_index_of_column(column))
        .collect()
}

/// `schema` with additional columns.
pub(crate) fn with_columns(schema: &DFSchema, more: &[FieldRef]) -> Result<DFSchemaRef, SqlError> {
    let columns = schema.iter();
    let mut columns: Vec<_> = columns
        .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
        .collect();
    for column in more {
        let name = column.name();
        if schema.fields().iter().any(|field| field.name() == name) {
            return Err(SqlError::new(format!(
                "the column name `{name}` is Tagflow's own where results are corrected"
            ))
            .help("give it another: `… AS name`"));
        }
        columns.push((None, Arc::clone(column)));
    }
    let schema = DFSchema::new_with_metadata(columns, HashMap::new());
    schema
        .map(Arc::new)
        .map_err(|error| SqlError::of_planner(&error))
}
