//! The members of segments.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, StringBuilder,
        TimestampMicrosecondArray, TimestampMicrosecondBuilder,
    },
    datatypes::{Field, Schema, SchemaRef},
};
use datafusion::physical_expr::utils::collect_columns;
use tagflow_engine::Result;

use super::{
    definition::{Rule, Segment, TagsSpec},
    key_state::KeyState,
    member::Member,
    plan::Plan,
    value::{self, Value},
};
use crate::{
    expr::{Failure, holds},
    row_errors::{FailedRow, attempt},
};

/// States of keys at which rules may have changed, each key in the order of time.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// The index of the key in the current batch.
    users: Vec<usize>,
    times: Vec<i64>,
    /// Whether the key is known, or was just forgotten.
    is_known: Vec<bool>,
    /// The values of the tags that rules read, by tag.
    values: Vec<Vec<Value>>,
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
    /// Adds the state of the key at index `place`.
    pub(super) fn push(&mut self, plan: &Plan, place: usize, user: &KeyState) {
        self.users.push(place);
        self.times.push(user.clock());
        self.is_known.push(user.is_known());
        self.values.resize_with(plan.rule_tags.len(), Vec::new);
        for (values, tag) in self.values.iter_mut().zip(&plan.rule_tags) {
            values.push(user.value(plan, *tag));
        }
    }

    /// Applies the rules, in bulk, and updates the memberships.
    pub(super) fn settle(
        &mut self,
        plan: &Plan,
        spec: &TagsSpec,
        users: &mut [Box<KeyState>],
        moves: &mut Moves,
        failed: &mut Vec<FailedRow>,
    ) -> Result<()> {
        let checks = std::mem::take(self);
        if checks.users.is_empty() {
            return Ok(());
        }
        let rows = checks.rows(plan)?;
        for (place, segment) in spec.segments.segments.iter().enumerate() {
            let mut verdicts = |rule: &Rule| checks.verdicts(spec, rule, &rows, users, failed);
            let enter = verdicts(&segment.enter)?;
            let exit = segment.exit.as_ref();
            let exit = exit.map(verdicts).transpose()?;
            let hold = plan.holds_us[place];
            for check in 0..checks.users.len() {
                let (of, at) = (checks.users[check], checks.times[check]);
                let user = &mut users[of];
                let mut member = std::mem::take(&mut user.members_mut()[place]);
                if let Some((may_leave, why)) = member.leave(hold, at) {
                    moves.push(&segment.name, user, LEFT, may_leave, &why);
                }
                let verdict = Verdict::of(enter[check], exit.as_ref().map(|exit| exit[check]));
                let Some(Verdict { enters, exits }) = verdict else {
                    // A rule failed, so the membership stays unchanged.
                    user.members_mut()[place] = member;
                    continue;
                };
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

    /// For each check whether `rule` is true; `None` if it fails.
    fn verdicts(
        &self,
        spec: &TagsSpec,
        rule: &Rule,
        rows: &RecordBatch,
        users: &[Box<KeyState>],
        failed: &mut Vec<FailedRow>,
    ) -> Result<Vec<Option<bool>>> {
        match holds(&rule.condition, rows) {
            Ok(holds) => return Ok(holds.iter().collect()),
            Err(Failure::Job(error)) => return Err(error),
            Err(Failure::Row(_)) => {}
        }
        let rows = self.with_keys(spec, rows, users)?;
        let attempt = attempt(&rows, |rows| holds(&rule.condition, rows))?;
        let mut known = attempt.parts.iter().flat_map(BooleanArray::iter);
        let mut gone = attempt.failed.iter().map(|row| row.place).peekable();
        let verdicts = (0..rows.num_rows()).map(|check| match gone.next_if_eq(&check) {
            Some(_) => None,
            None => known.next().flatten(),
        });
        let verdicts = verdicts.collect();
        failed.extend(attempt.failed);
        Ok(verdicts)
    }

    /// The rows, with the key and the instant of each check after the tags.
    fn with_keys(
        &self,
        spec: &TagsSpec,
        rows: &RecordBatch,
        users: &[Box<KeyState>],
    ) -> Result<RecordBatch> {
        let mut fields = rows.schema_ref().fields().to_vec();
        let mut columns = rows.columns().to_vec();
        let key = spec.input.field(spec.key);
        let mut keys = self.users.iter().map(|user| users[*user].key());
        columns.push(value::array(&mut keys, key.data_type())?);
        fields.push(Arc::new(key.clone()));
        let times = TimestampMicrosecondArray::from(self.times.clone()).with_timezone("UTC");
        fields.push(Arc::new(Field::new("at", times.data_type().clone(), false)));
        columns.push(Arc::new(times));
        Ok(RecordBatch::try_new(
            Arc::new(Schema::new(fields)),
            columns,
        )?)
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

    /// The text of a rule, with its input values.
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

    /// The reason for leaving a segment.
    fn why_left(&self, plan: &Plan, segment: &Segment, check: usize) -> String {
        match &segment.exit {
            _ if !self.is_known[check] => "all is forgotten, no event for so long".into(),
            Some(exit) => self.why(plan, exit, check),
            None => format!("no longer: {}", self.why(plan, &segment.enter, check)),
        }
    }
}

impl Moves {
    fn push(&mut self, segment: &str, user: &KeyState, op: &str, effective_at: i64, why: &str) {
        self.segments.append_value(segment);
        self.keys.push(user.key().clone());
        self.ops.append_value(op);
        self.effective.append_value(effective_at);
        self.whys.append_value(why);
    }

    /// Returns the rows, in `schema`, and resets them.
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

/// The decision of a segment's rules.
struct Verdict {
    enters: bool,
    exits: bool,
}

impl Verdict {
    /// The decision of the rule to enter and the optional rule to leave; `None` if a rule failed.
    #[expect(clippy::option_option)]
    fn of(enter: Option<bool>, exit: Option<Option<bool>>) -> Option<Self> {
        let enters = enter?;
        let exits = match exit {
            Some(exit) => exit?,
            None => !enters,
        };
        Some(Self { enters, exits })
    }
}
