//! Detects expressions that can fail on a row.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::{
    logical_expr::Operator,
    physical_expr::{
        ScalarFunctionExpr,
        expressions::{
            BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr,
            LikeExpr, Literal, NegativeExpr, NotExpr, TryCastExpr,
        },
    },
    physical_plan::PhysicalExpr,
};

use super::guarded::Guarded;

/// Functions that have a result for every value of their arguments. Others may fail.
const TOTAL: &[&str] = &[
    "arrow_typeof",
    "bit_length",
    "btrim",
    "ceil",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "contains",
    "cos",
    "ends_with",
    "exp",
    "floor",
    "get_field",
    "is_bot",
    "isnan",
    "iszero",
    "lower",
    "ltrim",
    "md5",
    "named_struct",
    "nullif",
    "nvl",
    "nvl2",
    "octet_length",
    "reverse",
    "rtrim",
    "sha256",
    "signum",
    "sin",
    "starts_with",
    "strpos",
    "struct",
    "tan",
    "trunc",
    "upper",
];

/// Whether `expr` can fail on a row of `schema`: a division by zero, a cast, an overflow. True if
/// that is unknown.
pub fn can_fail(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let children = || {
        let mut children = expr.children().into_iter();
        children.any(|child| can_fail(child, schema))
    };
    if is_a::<Column>(expr) || is_a::<Literal>(expr) {
        return false;
    }
    if is_a::<IsNullExpr>(expr)
        || is_a::<IsNotNullExpr>(expr)
        || is_a::<NotExpr>(expr)
        || is_a::<InListExpr>(expr)
        || is_a::<TryCastExpr>(expr)
        || is_a::<CaseExpr>(expr)
        || is_a::<Guarded>(expr)
    {
        return children();
    }
    if let Some(like) = expr.downcast_ref::<LikeExpr>() {
        return !is_a::<Literal>(like.pattern()) || children();
    }
    if is_a::<NegativeExpr>(expr) {
        return !is_float(expr, schema) || children();
    }
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        return operation_can_fail(binary, schema) || children();
    }
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        let from = cast.expr().data_type(schema);
        let is_total = from.is_ok_and(|from| is_total_cast(&from, cast.cast_type()));
        return !is_total || children();
    }
    if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
        return !TOTAL.contains(&call.name()) || children();
    }
    true
}

fn is_a<T: PhysicalExpr + 'static>(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<T>().is_some()
}

fn is_float(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    expr.data_type(schema).is_ok_and(|kind| kind.is_floating())
}

fn operation_can_fail(binary: &BinaryExpr, schema: &Schema) -> bool {
    match binary.op() {
        Operator::Plus
        | Operator::Minus
        | Operator::Multiply
        | Operator::Divide
        | Operator::Modulo => !is_float(binary.left(), schema) || !is_float(binary.right(), schema),
        Operator::Eq
        | Operator::NotEq
        | Operator::Lt
        | Operator::LtEq
        | Operator::Gt
        | Operator::GtEq
        | Operator::IsDistinctFrom
        | Operator::IsNotDistinctFrom
        | Operator::And
        | Operator::Or
        | Operator::StringConcat
        | Operator::BitwiseAnd
        | Operator::BitwiseOr
        | Operator::BitwiseXor => false,
        Operator::RegexMatch
        | Operator::RegexIMatch
        | Operator::RegexNotMatch
        | Operator::RegexNotIMatch
        | Operator::LikeMatch
        | Operator::ILikeMatch
        | Operator::NotLikeMatch
        | Operator::NotILikeMatch => !is_a::<Literal>(binary.right()),
        _ => true,
    }
}

/// Whether every value of type `from` is a value of type `to`.
fn is_total_cast(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Boolean, Date32, Float16, Float32, Float64, Int8, Int16, Int32, Int64, LargeUtf8,
        Timestamp, UInt8, UInt16, UInt32, UInt64, Utf8, Utf8View,
    };
    let is_text = |kind: &DataType| matches!(kind, Utf8 | LargeUtf8 | Utf8View);
    let bits = |kind: &DataType| match kind {
        Int8 | UInt8 => Some(8),
        Int16 | UInt16 => Some(16),
        Int32 | UInt32 => Some(32),
        Int64 | UInt64 => Some(64),
        _ => None,
    };
    match (from, to) {
        _ if from == to => true,
        (DataType::Null, _) => true,
        (_, to) if is_text(to) => {
            is_text(from)
                || from.is_integer()
                || from.is_floating()
                || matches!(from, Boolean | Date32)
        }
        (from, Float32 | Float64) if from.is_integer() => true,
        (Float16, Float32 | Float64) | (Float32, Float64) => true,
        (Timestamp(from, _), Timestamp(to, _)) => {
            from == to || *to == TimeUnit::Microsecond && *from == TimeUnit::Nanosecond
        }
        (from, to) => match (bits(from), bits(to)) {
            (Some(less), Some(more)) if from.is_signed_integer() == to.is_signed_integer() => {
                less <= more
            }
            (Some(less), Some(more)) => from.is_unsigned_integer() && less < more,
            _ => false,
        },
    }
}
