//! The rules of segments.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::{
    common::{
        DFSchema, DFSchemaRef, ScalarValue,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, Operator},
};
use tagflow_config::diagnostic::Diagnostics;
use tagflow_operators::{
    expr::condition as physical_condition,
    row_errors::RowErrors,
    tags::{self, Rule, Score, Segment, Segments, Tag, TagKind, Thresholds},
};

use crate::{
    spec::{Spec, SqlText},
    sql::{Catalog, SqlError, resolve},
};

/// The segments of `spec` over `tags`, whose input is `input`.
pub(super) fn segments(
    spec: &Spec,
    tags: &[Tag],
    input: &SchemaRef,
    catalog: &Catalog,
    diagnostics: &mut Diagnostics,
) -> Option<Segments> {
    let block = spec.tags.as_ref()?;
    let fields = match tags::Tags::fields(tags, input) {
        Ok(fields) => fields,
        Err(error) => {
            diagnostics.error(block.from.at(), "tags", error.chain());
            return None;
        }
    };
    let schema = DFSchema::try_from(Schema::new(fields.clone())).ok()?;
    let schema = Arc::new(schema);
    let mut rules: Vec<Planned<'_>> = Vec::new();
    let mut is_sound = true;
    for (name, segment) in spec.segments.iter() {
        let (entry, text) = segment.entry();
        let texts = [(entry, Some(text)), ("exit", segment.exit.as_ref())];
        for (part, text) in texts {
            let Some(text) = text else {
                continue;
            };
            match condition(text, &schema, catalog) {
                Ok(expr) => rules.push(Planned { text, expr }),
                Err(errors) => {
                    for error in errors {
                        report(text, &format!("segments.{name}.{part}"), error, diagnostics);
                    }
                    is_sound = false;
                }
            }
        }
    }
    if !is_sound {
        return None;
    }
    let mut read: BTreeSet<usize> = rules.iter().flat_map(|rule| rule.reads(tags)).collect();
    read.extend(timed(&read, tags));
    let read: Vec<usize> = read.into_iter().collect();
    let columns: Vec<_> = read.iter().map(|tag| fields[*tag].clone()).collect();
    let columns = DFSchema::try_from(Schema::new(columns)).ok()?;
    let mut rules = rules.into_iter().map(|rule| {
        let condition = physical_condition(&rule.expr, &columns);
        let time_triggers = time_triggers(&rule.expr, tags);
        let place = |tag: &usize| read.binary_search(tag).expect("what a rule reads is there");
        let time_triggers = time_triggers.into_iter();
        condition.map(|condition| Rule {
            condition,
            text: Arc::from(rule.text.text().trim()),
            time_triggers: time_triggers
                .map(|(tag, values)| (place(&tag), values))
                .collect(),
        })
    });
    let mut segments = Vec::new();
    for (name, segment) in spec.segments.iter() {
        let rule = |it: tagflow_engine::Result<Rule>, diagnostics: &mut Diagnostics| {
            it.map_err(|error| {
                diagnostics.error(name.at(), format!("segments.{name}"), error.chain());
            })
            .ok()
        };
        let enter = rule(rules.next()?, diagnostics)?;
        let exit = match &segment.exit {
            None => None,
            Some(_) => Some(rule(rules.next()?, diagnostics)?),
        };
        segments.push(Segment {
            name: Arc::from(&**name),
            enter,
            exit,
            hold_at_least: *segment.hold_at_least,
        });
    }
    Some(Segments {
        tags: read,
        segments,
        errors: RowErrors::default(),
    })
}

struct Planned<'a> {
    text: &'a SqlText,
    expr: Expr,
}

impl Planned<'_> {
    /// The tags that it reads.
    fn reads(&self, tags: &[Tag]) -> Vec<usize> {
        let columns = self.expr.column_refs();
        let place = |name: &str| tags.iter().position(|tag| tag.name == name);
        columns.iter().filter_map(|it| place(&it.name)).collect()
    }
}

/// The rule `text` over tags.
fn condition(
    text: &SqlText,
    schema: &DFSchemaRef,
    catalog: &Catalog,
) -> Result<Expr, Vec<SqlError>> {
    let expr = resolve::expression(text.text(), schema, catalog)?;
    let kind = expr.get_type(&**schema);
    match kind.map_err(|error| vec![SqlError::of_planner(&error)])? {
        DataType::Boolean => Ok(expr),
        kind => Err(vec![SqlError::new(format!(
            "the rule `{}` is a {kind}, neither true nor false",
            text.text().trim()
        ))]),
    }
}

/// The tags whose time the scores among `read` depend on.
fn timed(read: &BTreeSet<usize>, tags: &[Tag]) -> Vec<usize> {
    let scored = read.iter().filter_map(|tag| match tags[*tag].kind {
        TagKind::Score(Score { tag, .. }) => Some(tag),
        _ => None,
    });
    let is_timed = |tag: &usize| matches!(tags[*tag].kind, TagKind::TimeSince(_));
    scored.filter(is_timed).collect()
}

/// The values of time-counting tags at which the result of a rule can change. Empty if the rule
/// does more than compare a tag with numbers.
fn time_triggers(rule: &Expr, tags: &[Tag]) -> BTreeMap<usize, Vec<i64>> {
    let mut time_triggers: BTreeMap<usize, Option<BTreeSet<i64>>> = BTreeMap::new();
    let place = |expr: &Expr| match expr {
        Expr::Column(column) => tags.iter().position(|tag| tag.name == column.name),
        _ => None,
    };
    let mut looks = |tag: usize, values: Option<&[i64]>| {
        let known = time_triggers
            .entry(tag)
            .or_insert_with(|| Some(BTreeSet::new()));
        match (known.as_mut(), values) {
            (Some(known), Some(values)) => known.extend(values),
            _ => *known = None,
        }
    };
    let counts_time = |tag: &usize| matches!(tags[*tag].kind, TagKind::TimeSince(_));
    let visited = rule.apply(|part| {
        let compared = compared(part).and_then(|(tag, values)| Some((place(tag)?, values)));
        if let Some((tag, values)) = compared.filter(|(tag, _)| counts_time(tag)) {
            looks(tag, Some(&values));
            return Ok(TreeNodeRecursion::Jump);
        }
        match place(part).map(|tag| (tag, &tags[tag].kind)) {
            Some((tag, TagKind::TimeSince(_))) => looks(tag, None),
            Some((
                _,
                TagKind::Score(Score {
                    tag,
                    thresholds: cuts,
                    ..
                }),
            )) if counts_time(tag) => match cuts {
                Thresholds::At(cuts) => {
                    let values: Vec<i64> = cuts.iter().map(|cut| cut.ceil() as i64).collect();
                    looks(*tag, Some(&values));
                }
                Thresholds::Quantiles(_) => looks(*tag, None),
            },
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.expect("nothing fails on the way");
    let values = |values: Option<BTreeSet<i64>>| values.into_iter().flatten().collect();
    let time_triggers = time_triggers.into_iter();
    time_triggers
        .map(|(tag, known)| (tag, values(known)))
        .collect()
}

const COMPARISONS: [Operator; 6] = [
    Operator::Eq,
    Operator::NotEq,
    Operator::Lt,
    Operator::LtEq,
    Operator::Gt,
    Operator::GtEq,
];

/// The compared expression, with its whole numbers.
fn compared(part: &Expr) -> Option<(&Expr, Vec<i64>)> {
    let whole = |expr: &Expr| match expr {
        Expr::Literal(ScalarValue::Int64(value), _) => *value,
        _ => None,
    };
    match part {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if COMPARISONS.contains(op) => {
            match (whole(left), whole(right)) {
                (None, Some(value)) => Some((left, vec![value])),
                (Some(value), None) => Some((right, vec![value])),
                _ => None,
            }
        }
        Expr::Between(Between {
            expr, low, high, ..
        }) => Some((expr, vec![whole(low)?, whole(high)?])),
        _ => None,
    }
}

/// Adds an error in `text`.
pub(super) fn report(text: &SqlText, path: &str, error: SqlError, diagnostics: &mut Diagnostics) {
    let at = text.position(error.line.into(), error.column.into());
    diagnostics.error(at, path, error.message).help = error.help;
}
