//! `is_bot(text)`: whether a user agent is that of a known bot.

use std::sync::Arc;

use arrow::{
    array::AsArray,
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::Result,
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
    },
};
use tagflow_operators::bots::are_bots;

/// `is_bot(text)` matches a user agent against the list of `crawler-user-agents`. It is never null:
/// an unknown user agent is no known bot.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct IsBot {
    signature: Signature,
}

impl IsBot {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::exact(vec![DataType::Utf8], Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for IsBot {
    fn name(&self) -> &'static str {
        "is_bot"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Boolean, false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let agents = args.args[0].to_array(args.number_rows)?;
        let flags = are_bots(agents.as_string());
        Ok(ColumnarValue::Array(Arc::new(flags)))
    }
}
