//! Theta sketches: distinct counts that can be merged, of a bounded size.
//!
//! A sketch keeps the `k = 2^lg_k` least hashes of its values, and the least of the other hashes
//! (Dasgupta et al., "A framework for estimating stream expression cardinalities", 2016). They
//! depend only on the set of values. The order of the values, their division and the order of
//! merges therefore do not change the bytes, if a sketch is trimmed to `k`.

use std::mem::size_of;

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array},
    datatypes::{DataType, Field, FieldRef, Int64Type},
};
use datafusion::{
    common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, plan_err},
    logical_expr::{
        Accumulator, AggregateUDFImpl, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::format_state_name,
    },
};
use datasketches::{
    error::Error,
    hash::value::raw_bytes,
    theta::{CompactThetaSketch, ThetaSketch, ThetaSketchBuilder, ThetaUnion, ThetaUnionBuilder},
};

use super::constant::constant;

/// `theta_sketch(x, lg_k)` and `theta_union(sketch, lg_k)`: a compact, ordered theta sketch in the
/// bytes of Apache `DataSketches`, for readers in other languages.
///
/// Strings are hashed as their UTF-8 bytes and integers as 64 bits, as in its Java library. An
/// empty string counts as a value here, but not in that library. Nulls do not count.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ThetaSketchFunction {
    of: Input,
    signature: Signature,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Input {
    Values,
    Sketches,
}

impl ThetaSketchFunction {
    /// `theta_sketch`.
    pub fn of_values() -> Self {
        Self::new(Input::Values)
    }

    /// `theta_union`.
    pub fn of_sketches() -> Self {
        Self::new(Input::Sketches)
    }

    fn new(of: Input) -> Self {
        Self {
            of,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl AggregateUDFImpl for ThetaSketchFunction {
    fn name(&self) -> &'static str {
        match self.of {
            Input::Values => "theta_sketch",
            Input::Sketches => "theta_union",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let input = match (self.of, types) {
            (Input::Values, [text, lg_k])
                if (text.is_string() || text.is_null()) && lg_k.is_integer() =>
            {
                DataType::Utf8
            }
            (Input::Values, [number, lg_k]) if number.is_integer() && lg_k.is_integer() => {
                DataType::Int64
            }
            (Input::Sketches, [bytes, lg_k]) if bytes.is_binary() && lg_k.is_integer() => {
                DataType::Binary
            }
            (Input::Values, _) => {
                return plan_err!("`theta_sketch` is of a string or an integer, and of `lg_k`");
            }
            (Input::Sketches, _) => {
                return plan_err!("`theta_union` is of the bytes of sketches, and of `lg_k`");
            }
        };
        Ok(vec![input, DataType::Int64])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let lg_k = match constant(&args)? {
            ScalarValue::Int64(Some(lg_k)) => u8::try_from(lg_k).unwrap_or(u8::MAX),
            _ => return plan_err!("`lg_k` of `{}` must be a number", args.name),
        };
        // The library checks the range.
        ThetaUnionBuilder::default()
            .lg_k(lg_k)
            .build()
            .map_err(|error| DataFusionError::Plan(error.to_string()))?;
        Ok(Box::new(ThetaAccumulator {
            of: self.of,
            lg_k,
            seen: None,
            merged: None,
        }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let name = format_state_name(args.name, "theta");
        Ok(vec![Field::new(name, DataType::Binary, false).into()])
    }
}

/// Allocates nothing until there is a value: an empty table takes a kilobyte, and there is an
/// accumulator for each key.
#[derive(Debug)]
struct ThetaAccumulator {
    of: Input,
    lg_k: u8,
    seen: Option<ThetaSketch>,
    merged: Option<ThetaUnion>,
}

impl ThetaAccumulator {
    fn seen(&mut self) -> Result<&mut ThetaSketch> {
        let sketch = match self.seen.take() {
            Some(sketch) => sketch,
            None => ThetaSketchBuilder::default()
                .lg_k(self.lg_k)
                .build()
                .map_err(failed)?,
        };
        Ok(self.seen.insert(sketch))
    }

    fn merge(&mut self, sketch: &CompactThetaSketch) -> Result<()> {
        let mut union = match self.merged.take() {
            Some(union) => union,
            None => union(self.lg_k)?,
        };
        union.update(sketch).map_err(failed)?;
        self.merged = Some(union);
        Ok(())
    }

    /// Trimmed to `k` hashes, as a union is and a sketch is not.
    fn bytes(&self) -> Result<Vec<u8>> {
        let mut all = union(self.lg_k)?;
        if let Some(seen) = &self.seen {
            all.update(seen).map_err(failed)?;
        }
        if let Some(merged) = &self.merged {
            all.update(&merged.to_sketch(true)).map_err(failed)?;
        }
        Ok(all.to_sketch(true).serialize())
    }
}

impl Accumulator for ThetaAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if self.of == Input::Sketches {
            return self.merge_batch(values);
        }
        let values = &values[0];
        if values.null_count() == values.len() {
            return Ok(());
        }
        let sketch = self.seen()?;
        match values.as_string_opt::<i32>() {
            Some(texts) => {
                for text in texts.iter().flatten() {
                    sketch.update(raw_bytes::from_str(text));
                }
            }
            None => {
                for number in values.as_primitive::<Int64Type>().iter().flatten() {
                    sketch.update(number);
                }
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for bytes in states[0].as_binary::<i32>().iter().flatten() {
            self.merge(&read(bytes)?)?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary(Some(self.bytes()?)))
    }

    fn size(&self) -> usize {
        let seen = self.seen.as_ref().map_or(0, ThetaSketch::estimated_size);
        let merged = self.merged.as_ref().map_or(0, ThetaUnion::estimated_size);
        size_of::<Self>() + seen + merged
    }
}

/// The number of distinct values of the sketches: exact up to `k`, an estimate beyond. Null stays
/// null.
///
/// # Errors
/// `Execution` if the bytes are no theta sketch.
pub fn estimate(sketches: &BinaryArray) -> Result<Int64Array> {
    let estimates = sketches.iter().map(|bytes| {
        let sketch = bytes.map(read).transpose()?;
        Ok(sketch.map(|sketch| sketch.estimate().round() as i64))
    });
    estimates.collect()
}

fn union(lg_k: u8) -> Result<ThetaUnion> {
    ThetaUnionBuilder::default()
        .lg_k(lg_k)
        .build()
        .map_err(failed)
}

fn read(bytes: &[u8]) -> Result<CompactThetaSketch> {
    CompactThetaSketch::deserialize(bytes)
        .map_err(|error| exec_datafusion_err!("the bytes are no theta sketch: {error}"))
}

fn failed(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[cfg(test)]
mod tests;
