//! The functions that SQL may call: DataFusion's, and the few of our dialect.
//!
//! | ours | what it is |
//! | --- | --- |
//! | `tumble(ts, interval)` and its like | the window that a time lies in: a struct of `start` and `end` |
//! | `date(x)` | the calendar day (UTC) of a time, or of a `YYYY-MM-DD` text |
//! | `bucket(key, n)` | the folder of a key in a snapshot |
//! | `is_bot(text)` | whether a user agent is known to be of a bot |
//! | `theta_estimate(sketch)` | how many distinct values a theta sketch has seen |
//! | `theta_sketch(x, lg_k)` and its like | aggregates, see [`tagflow_operators::aggregate`] |

mod bucket;
mod date;
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

pub(crate) use window::{WindowKind, time_zone};

/// The functions of our dialect, for a DataFusion session that runs the same
/// texts over files.
pub fn batch_functions() -> Vec<ScalarUDF> {
    let windows = WindowKind::ALL.map(window::WindowFunction::new);
    let windows = windows.into_iter().map(ScalarUDF::new_from_impl);
    windows
        .chain([
            ScalarUDF::new_from_impl(bucket::Bucket::new()),
            ScalarUDF::new_from_impl(date::Date::new()),
            ScalarUDF::new_from_impl(is_bot::IsBot::new()),
            ScalarUDF::new_from_impl(theta_estimate::ThetaEstimate::new()),
        ])
        .collect()
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
    /// DataFusion's and ours.
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
            planners: SessionStateDefaults::default_expr_planners(),
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

    /// What plans operators and field accesses.
    pub fn planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    /// Whether there is any function `name`.
    pub fn knows(&self, name: &str) -> bool {
        self.scalar.contains_key(name)
            || self.higher_order.contains_key(name)
            || self.aggregate.contains_key(name)
            || self.window.contains_key(name)
    }

    /// Whether `name` gives another value each time that it is asked: such a
    /// function makes a replay disagree with the run that it repeats.
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
