//! `theta_estimate(sketch)`: the number of distinct values in a sketch.

use std::sync::Arc;

use arrow::{array::AsArray, datatypes::DataType};
use datafusion::{
    common::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};
use tagflow_operators::aggregate::estimate;

/// `theta_estimate(sketch)` of the bytes of `theta_sketch`: exact up to `2^lg_k`, and
/// an estimate beyond, rounded.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ThetaEstimate {
    signature: Signature,
}

impl ThetaEstimate {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::exact(vec![DataType::Binary], Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for ThetaEstimate {
    fn name(&self) -> &'static str {
        "theta_estimate"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let sketches = args.args[0].to_array(args.number_rows)?;
        let estimates = estimate(sketches.as_binary())?;
        Ok(ColumnarValue::Array(Arc::new(estimates)))
    }
}
