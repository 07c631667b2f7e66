//! A measure of a `metrics` block.

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Choice, Fields, Read, Reader, Setting, SqlText, yaml::Node};

/// One column of a `metrics` table: an aggregate over the rows of a source.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Measure {
    /// The source, step or query with the rows.
    pub from: Setting<String>,
    /// The aggregate function.
    pub agg: Setting<Agg>,
    /// The aggregated expression, in SQL. Without it, `count` counts rows.
    pub arg: Option<SqlText>,
    /// A SQL condition. Rows for which it is false or null do not count.
    #[serde(rename = "where")]
    pub filter: Option<SqlText>,
    /// For `distinct`: an estimate of bounded size in place of the exact number.
    pub sketch: Option<Sketch>,
    /// Whether the sketch is a column too, `<name>_sketch`, for later merging.
    #[schemars(extend("default" = false))]
    pub keep_sketch: Setting<bool>,
    /// For `per_user_histogram`: the lower bounds of its buckets.
    #[schemars(length(min = 1))]
    pub bounds: Option<Vec<Setting<u64>>>,
}

/// The aggregate function of a measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agg {
    /// The number of rows, or of rows where `arg` is not null.
    Count,
    /// The sum of `arg`.
    Sum,
    /// The least `arg`.
    Min,
    /// The greatest `arg`.
    Max,
    /// The mean of `arg`.
    Avg,
    /// The number of distinct `arg`.
    Distinct,
    /// The number of distinct `arg` by how often each occurs, in buckets of `bounds`.
    PerUserHistogram,
}

impl Choice for Agg {
    const EXPECTED: &'static str =
        "`count`, `sum`, `min`, `max`, `avg`, `distinct` or `per_user_histogram`";
    const NAMES: &'static [(&'static str, Self)] = &[
        ("count", Self::Count),
        ("sum", Self::Sum),
        ("min", Self::Min),
        ("max", Self::Max),
        ("avg", Self::Avg),
        ("distinct", Self::Distinct),
        ("per_user_histogram", Self::PerUserHistogram),
    ];
}

/// The estimator of distinct values.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Sketch {
    /// A theta sketch, in the byte format of Apache `DataSketches`.
    pub theta: Theta,
}

/// A theta sketch.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Theta {
    /// The sketch is exact up to 2 to the power of this, and takes 8 bytes for each of these
    /// values; from 5 to 26.
    #[schemars(extend("default" = 12))]
    pub lg_k: Setting<u64>,
}

impl Measure {
    /// The column of its sketch, if that is kept.
    pub fn sketch_column(&self, name: &str) -> Option<String> {
        self.keep_sketch.then(|| format!("{name}_sketch"))
    }

    /// Whether its keys fit together.
    fn check(&self, fields: &Fields<'_>, reader: &mut Reader<'_>) -> bool {
        let agg = *self.agg;
        let is_distinct = agg == Agg::Distinct;
        let is_histogram = agg == Agg::PerUserHistogram;
        let mut mistakes = Vec::new();
        if self.arg.is_none() && agg != Agg::Count {
            mistakes.push((self.agg.at(), "missing key `arg`: what is aggregated"));
        }
        if self.sketch.is_some() && !is_distinct {
            mistakes.push((fields.at, "`sketch` is for `agg: distinct` only"));
        }
        if *self.keep_sketch && self.sketch.is_none() {
            let message = "`keep_sketch` needs a `sketch`: write `sketch: {theta: {}}`";
            mistakes.push((self.keep_sketch.at(), message));
        }
        match &self.bounds {
            None if is_histogram => mistakes.push((
                self.agg.at(),
                "missing key `bounds`: where the buckets begin, such as `[1, 2, 3, 5, 10]`",
            )),
            Some(_) if !is_histogram => {
                mistakes.push((fields.at, "`bounds` is for `agg: per_user_histogram` only"));
            }
            Some(bounds) => {
                let mut least = 1;
                for bound in bounds {
                    if !(least..=i64::MAX as u64).contains(bound.value()) {
                        mistakes.push((bound.at(), "`bounds` go up, from 1 or more"));
                        break;
                    }
                    least = bound.value() + 1;
                }
                if bounds.is_empty() {
                    mistakes.push((fields.at, "`bounds` needs at least one"));
                }
            }
            None => {}
        }
        let place = reader.place();
        for (at, message) in &mistakes {
            reader.error(*at, format!("{message}{place}"));
        }
        mistakes.is_empty()
    }
}

impl Read for Measure {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let from = fields.required(reader, "from");
        let agg = fields.required(reader, "agg");
        let arg = fields.optional(reader, "arg");
        let filter = fields.optional(reader, "where");
        let sketch = fields.optional(reader, "sketch");
        let keep_sketch = fields.or(reader, "keep_sketch", false);
        let bounds = fields.optional(reader, "bounds");
        let measure = from.zip(agg).and_then(|(from, agg)| {
            Some(Self {
                from,
                agg,
                arg: arg?,
                filter: filter?,
                sketch: sketch?,
                keep_sketch: keep_sketch?,
                bounds: bounds?,
            })
        });
        let is_right = measure
            .as_ref()
            .is_some_and(|measure| measure.check(&fields, reader));
        fields.finish(reader);
        measure.filter(|_| is_right)
    }
}

impl Read for Sketch {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let theta = fields.settings(reader, "theta");
        fields.finish(reader);
        let Some(theta) = theta? else {
            let place = reader.place();
            reader.error(node.at, format!("missing key `theta`{place}"));
            return None;
        };
        Some(Self { theta })
    }
}

impl Read for Theta {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let lg_k = fields.or(reader, "lg_k", 12);
        fields.finish(reader);
        let lg_k = lg_k?;
        if !(5..=26).contains(lg_k.value()) {
            reader.error(lg_k.at(), format!("`lg_k` is from 5 to 26, got {}", *lg_k));
            return None;
        }
        Some(Self { lg_k })
    }
}
