//! The functions of SQL: DataFusion's, and a few of our dialect.
//!
//! | ours | meaning |
//! | --- | --- |
//! | `tumble(ts, interval)` and similar | the window that contains a time: a struct of `start` and `end` |
//! | `date(x)` | the calendar day (UTC) of a time, or of a `YYYY-MM-DD` text |
//! | `date_part(part, x)` | DataFusion's, with the fraction of seconds between two times |
//! | `bucket(key, n)` | the folder of a key in a snapshot |
//! | `is_bot(text)` | whether a user agent is that of a known bot |
//! | `theta_estimate(sketch)` | the number of distinct values in a theta sketch |
//! | `theta_sketch(x, lg_k)` and similar | aggregates, see [`tagflow_operators::aggregate`] |

mod bucket;
mod date;
mod date_part;
mod foreign;
mod is_bot;
mod theta_estimate;
mod window;

use std::{collections::HashMap, sync::Arc};

use datafusion::{
    execution::SessionStateDefaults,
    logical_expr::{
        AggregateUDF, HigherOrderUDF, ScalarUDF, Volatility, WindowUDF, planner::ExprPlanner,
    },
};

use tagflow_operators::aggregate;

pub(crate) use foreign::{names as foreign_names, written_here};
pub(crate) use window::{WindowKind, time_zone};

/// The only supported window function.
pub(crate) const ROW_NUMBER: &str = "row_number";

/// The functions of our dialect, for a DataFusion session that runs the same
/// texts over files.
pub fn batch_functions() -> Vec<ScalarUDF> {
    let windows = WindowKind::ALL.map(window::WindowFunction::new);
    let windows = windows.into_iter().map(ScalarUDF::new_from_impl);
    windows
        .chain([
            ScalarUDF::new_from_impl(bucket::Bucket::new()),
            ScalarUDF::new_from_impl(date::Date::new()),
            ScalarUDF::new_from_impl(date_part::DatePart::new()),
            ScalarUDF::new_from_impl(is_bot::IsBot::new()),
            ScalarUDF::new_from_impl(theta_estimate::ThetaEstimate::new()),
        ])
        .collect()
}

/// The planners of operators, of field accesses and of functions with their own syntax in SQL.
pub fn planners() -> Vec<Arc<dyn ExprPlanner>> {
    let ours: Arc<dyn ExprPlanner> = Arc::new(date_part::ExtractPlanner::new());
    let mut planners = vec![ours];
    planners.extend(SessionStateDefaults::default_expr_planners());
    planners
}

/// Functions by name, aliases included.
pub struct Functions {
    scalar: HashMap<String, Arc<ScalarUDF>>,
    higher_order: HashMap<String, Arc<HigherOrderUDF>>,
    aggregate: HashMap<String, Arc<AggregateUDF>>,
    window: HashMap<String, Arc<WindowUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

impl Functions {
    /// DataFusion's functions and ours.
    pub fn new() -> Self {
        let ours = batch_functions().into_iter().map(Arc::new);
        let scalar = SessionStateDefaults::default_scalar_functions()
            .into_iter()
            .chain(ours);
        Self {
            scalar: by_name(scalar, ScalarUDF::name, ScalarUDF::aliases),
            higher_order: by_name(
                SessionStateDefaults::default_higher_order_functions(),
                HigherOrderUDF::name,
                HigherOrderUDF::aliases,
            ),
            aggregate: by_name(
                SessionStateDefaults::default_aggregate_functions()
                    .into_iter()
                    .chain(aggregate::functions().map(Arc::new)),
                AggregateUDF::name,
                AggregateUDF::aliases,
            ),
            window: by_name(
                SessionStateDefaults::default_window_functions(),
                WindowUDF::name,
                WindowUDF::aliases,
            ),
            planners: planners(),
        }
    }

    /// The scalar function `name`.
    pub fn scalar(&self, name: &str) -> Option<&Arc<ScalarUDF>> {
        self.scalar.get(name)
    }

    /// The function over lambdas `name`.
    pub fn higher_order(&self, name: &str) -> Option<&Arc<HigherOrderUDF>> {
        self.higher_order.get(name)
    }

    /// The aggregate function `name`.
    pub fn aggregate(&self, name: &str) -> Option<&Arc<AggregateUDF>> {
        self.aggregate.get(name)
    }

    /// The window function `name`.
    pub fn window(&self, name: &str) -> Option<&Arc<WindowUDF>> {
        self.window.get(name)
    }

    /// The planners of operators and field accesses.
    pub fn planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    /// Whether a function `name` of any kind exists.
    pub fn knows(&self, name: &str) -> bool {
        self.scalar.contains_key(name)
            || self.higher_order.contains_key(name)
            || self.aggregate.contains_key(name)
            || self.window.contains_key(name)
    }

    /// Whether `name` returns another value on each call. With such a function a replay differs
    /// from the original run.
    pub fn is_volatile(&self, name: &str) -> bool {
        self.scalar(name)
            .is_some_and(|function| function.signature().volatility != Volatility::Immutable)
    }

    /// The names of the functions of every kind.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.scalar
            .keys()
            .chain(self.higher_order.keys())
            .chain(self.aggregate.keys())
            .chain(self.window.keys())
            .map(String::as_str)
    }

    /// The names of the scalar functions.
    pub fn scalar_names(&self) -> Vec<String> {
        self.scalar.keys().cloned().collect()
    }

    /// The names of the functions over lambdas.
    pub fn higher_order_names(&self) -> Vec<String> {
        self.higher_order.keys().cloned().collect()
    }

    /// The names of the aggregate functions.
    pub fn aggregate_names(&self) -> Vec<String> {
        self.aggregate.keys().cloned().collect()
    }

    /// The names of the window functions.
    pub fn window_names(&self) -> Vec<String> {
        self.window.keys().cloned().collect()
    }
}

impl Default for Functions {
    fn default() -> Self {
        Self::new()
    }
}

fn by_name<F>(
    functions: impl IntoIterator<Item = Arc<F>>,
    name: impl Fn(&F) -> &str,
    aliases: impl Fn(&F) -> &[String],
) -> HashMap<String, Arc<F>> {
    let mut map = HashMap::new();
    for function in functions {
        for alias in aliases(&function) {
            map.insert(alias.clone(), Arc::clone(&function));
        }
        map.insert(name(&function).to_owned(), function);
    }
    map
}
