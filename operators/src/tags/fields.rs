//! The types of tags.

use arrow::datatypes::{Field, Schema};
use tagflow_engine::{Error, Result};

use super::definition::{Tag, TagsSpec};
use crate::expr::can_fail;

impl TagsSpec {
    /// Whether a rule of a segment can fail on the tags of a key.
    ///
    /// # Errors
    /// `Config` if a tag is invalid.
    pub fn can_fail(&self) -> Result<bool> {
        let fields = fields(&self.tags, &self.input)?;
        let read = self.segments.tags.iter();
        let read: Vec<_> = read.map(|tag| fields[*tag].clone()).collect();
        let schema = Schema::new(read);
        let rules = self.segments.segments.iter();
        let mut rules = rules
            .flat_map(|it| [Some(&it.enter), it.exit.as_ref()])
            .flatten();
        Ok(rules.any(|rule| can_fail(&rule.condition, &schema)))
    }
}

/// The fields of `tags` over rows of `input`, as in a profile.
///
/// # Errors
/// `Config` if a tag is invalid.
pub(super) fn fields(tags: &[Tag], input: &Schema) -> Result<Vec<Field>> {
    let mut fields: Vec<Field> = Vec::with_capacity(tags.len());
    for tag in tags {
        let wrong = |mistake| Error::config(format!("tag `{}`: {mistake}", tag.name));
        let other = tag.kind.reads();
        let of = other.map(|other| {
            let of = fields.get(other);
            of.ok_or_else(|| Error::internal(format!("tag `{}` reads one behind it", tag.name)))
        });
        let (data_type, is_nullable) = tag.kind.data_type(input, of.transpose()?).map_err(wrong)?;
        if tag.kind.quantiles().is_some()
            && let Some(other) = other
            && goes_by_quantiles(tags, other)
        {
            return Err(wrong(format!(
                "`{}` goes by quantiles itself; score the tag that it is of",
                tags[other].name
            )));
        }
        fields.push(Field::new(&tag.name, data_type, is_nullable));
    }
    Ok(fields)
}

/// Whether a tag, or its input, is a score by quantiles.
fn goes_by_quantiles(tags: &[Tag], tag: usize) -> bool {
    let kind = &tags[tag].kind;
    kind.quantiles().is_some() || kind.reads().is_some_and(|tag| goes_by_quantiles(tags, tag))
}
