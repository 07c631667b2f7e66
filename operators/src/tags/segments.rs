//! Who is in which segment.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringBuilder,
        TimestampMicrosecondBuilder,
    },
    datatypes::{Field, Schema, SchemaRef},
};
use datafusion::physical_expr::utils::collect_columns;
use tagflow_engine::{Error, Result};

use super::{
    coding::coded,
    definition::{Rule, Segment, Segments},
    plan::Plan,
    user::User,
    value::{self, Value},
};
use crate::expr;

/// States of users at which rules may have changed, in the order of each user's
/// time.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Which user of those at hand.
    users: Vec<usize>,
    times: Vec<i64>,
    /// Whether the user is known, or was just forgotten.
    is_known: Vec<bool>,
    /// The values of the tags that rules read, by tag.
    values: Vec<Vec<Value>>,
}

/// What a key is to a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Member {
    /// When it entered, if it is in.
    pub(super) since: Option<i64>,
    /// Why it will leave as soon as it may, if it will.
    pub(super) leaving: Option<Box<str>>,
}

coded! {
    Member { since, leaving }
}

impl Member {
    /// When it leaves, if it is to.
    pub(super) fn may_leave(&self, hold_us: i64) -> Option<i64> {
        let since = self.since.filter(|_| self.leaving.is_some())?;
        Some(since.saturating_add(hold_us))
    }

    /// Leaves if it is to before all else at `at`: says when and why.
    pub(super) fn leave(&mut self, hold_us: i64, at: i64) -> Option<(i64, Box<str>)> {
        let may_leave = self.may_leave(hold_us).filter(|it| *it <= at)?;
        std::mem::take(self).leaving.map(|why| (may_leave, why))
    }
}

/// Rows of [`tagflow_schemas::tags::segments`].
#[derive(Debug, Default)]
pub(super) struct Moves {
    segments: StringBuilder,
    keys: Vec<Value>,
    ops: StringBuilder,
    effective: TimestampMicrosecondBuilder,
    whys: StringBuilder,
}

const ENTERED: &str = "entered";
const LEFT: &str = "left";

impl Checks {
    /// Adds the state of the user at place `place`.
    pub(super) fn push(&mut self, plan: &Plan, place: usize, user: &User) {
        self.users.push(place);
        self.times.push(user.clock());
        self.is_known.push(user.is_known());
        self.values.resize_with(plan.rule_tags.len(), Vec::new);
        for (values, tag) in self.values.iter_mut().zip(&plan.rule_tags) {
            values.push(user.value(plan, *tag));
        }
    }

    /// Applies the rules, in bulk, and moves the users in and out.
    pub(super) fn settle(
        &mut self,
        plan: &Plan,
        segments: &Segments,
        users: &mut [Box<User>],
        moves: &mut Moves,
    ) -> Result<()> {
        let checks = std::mem::take(self);
        if checks.users.is_empty() {
            return Ok(());
        }
        let rows = checks.rows(plan)?;
        for (place, segment) in segments.segments.iter().enumerate() {
            let enter = evaluate(&segment.enter, &rows)?;
            let exit = segment.exit.as_ref();
            let exit = exit.map(|rule| evaluate(rule, &rows)).transpose()?;
            let hold = plan.holds_us[place];
            for check in 0..checks.users.len() {
                let (of, at) = (checks.users[check], checks.times[check]);
                let user = &mut users[of];
                let mut member = std::mem::take(&mut user.members_mut()[place]);
                if let Some((may_leave, why)) = member.leave(hold, at) {
                    moves.push(&segment.name, user, LEFT, may_leave, &why);
                }
                let enters = is_true(&enter, check);
                let exits = exit.as_ref().map_or(!enters, |exit| is_true(exit, check));
                match member.since {
                    Some(since)
                        if !checks.is_known[check]
                            || (exits && since.saturating_add(hold) <= at) =>
                    {
                        member = Member::default();
                        let why = checks.why_left(plan, segment, check);
                        moves.push(&segment.name, user, LEFT, at, &why);
                    }
                    Some(_) if !exits => member.leaving = None,
                    Some(_) => {
                        let why = || checks.why_left(plan, segment, check).into();
                        member.leaving.get_or_insert_with(why);
                    }
                    None if enters && !exits && checks.is_known[check] => {
                        member.since = Some(at);
                        let why = checks.why(plan, &segment.enter, check);
                        moves.push(&segment.name, user, ENTERED, at, &why);
                    }
                    None => {}
                }
                user.members_mut()[place] = member;
            }
            for user in &mut *users {
                let clock = user.clock();
                if let Some((may_leave, why)) = user.members_mut()[place].leave(hold, clock) {
                    moves.push(&segment.name, user, LEFT, may_leave, &why);
                }
            }
        }
        Ok(())
    }

    fn rows(&self, plan: &Plan) -> Result<RecordBatch> {
        let mut fields = Vec::with_capacity(self.values.len());
        let mut columns = Vec::with_capacity(self.values.len());
        for (tag, values) in plan.rule_tags.iter().zip(&self.values) {
            let tag = &plan.tags[*tag];
            fields.push(Field::new(&tag.name, tag.data_type.clone(), true));
            columns.push(value::array(&mut values.iter(), &tag.data_type)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.users.len()));
        let schema = Arc::new(Schema::new(fields));
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }

    /// A rule with the values that it went by.
    fn why(&self, plan: &Plan, rule: &Rule, check: usize) -> String {
        let mut columns: Vec<usize> = collect_columns(&rule.condition)
            .iter()
            .map(datafusion::physical_expr::expressions::Column::index)
            .collect();
        columns.sort_unstable();
        let values = columns.into_iter().map(|column| {
            let tag = &plan.tags[plan.rule_tags[column]];
            let value = self.values[column][check].text(&tag.data_type);
            format!("{} = {}", tag.name, value.as_deref().unwrap_or("null"))
        });
        let values: Vec<String> = values.collect();
        format!("{} ({})", rule.text, values.join(", "))
    }

    /// Why a segment was left.
    fn why_left(&self, plan: &Plan, segment: &Segment, check: usize) -> String {
        match &segment.exit {
            _ if !self.is_known[check] => "all is forgotten, no event for so long".into(),
            Some(exit) => self.why(plan, exit, check),
            None => format!("no longer: {}", self.why(plan, &segment.enter, check)),
        }
    }
}

impl Moves {
    fn push(&mut self, segment: &str, user: &User, op: &str, effective_at: i64, why: &str) {
        self.segments.append_value(segment);
        self.keys.push(user.key().clone());
        self.ops.append_value(op);
        self.effective.append_value(effective_at);
        self.whys.append_value(why);
    }

    /// Takes the rows, in `schema`.
    pub(super) fn take(&mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        let keys = std::mem::take(&mut self.keys);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.segments.finish()),
            value::array(&mut keys.iter(), schema.field(1).data_type())?,
            Arc::new(self.ops.finish()),
            Arc::new(self.effective.finish().with_timezone("UTC")),
            Arc::new(self.whys.finish()),
        ];
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}

fn evaluate(rule: &Rule, rows: &RecordBatch) -> Result<BooleanArray> {
    let verdicts = expr::evaluate("segments", &rule.condition, rows)?;
    let verdicts = verdicts.as_boolean_opt().cloned();
    verdicts.ok_or_else(|| Error::internal(format!("`{}` is no condition", rule.text)))
}

fn is_true(verdicts: &BooleanArray, check: usize) -> bool {
    verdicts.is_valid(check) && verdicts.value(check)
}
