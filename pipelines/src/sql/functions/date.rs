//! `date(x)`: the calendar day of a time.

use arrow::datatypes::DataType;
use datafusion::{
    common::Result,
    logical_expr::{
        ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility, cast,
        simplify::{ExprSimplifyResult, SimplifyContext},
    },
};

/// `date(x)` is `CAST(x AS DATE)`; times are taken in UTC. Every database except DataFusion has it,
/// and partitions by day need it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Date {
    signature: Signature,
}

impl Date {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Date {
    fn name(&self) -> &'static str {
        "date"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Date32)
    }

    fn simplify(&self, mut args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match args.pop() {
            Some(arg) => ExprSimplifyResult::Simplified(cast(arg, DataType::Date32)),
            None => ExprSimplifyResult::Original(args),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        args.args[0].cast_to(&DataType::Date32, None)
    }
}
