//! `bucket(key, n)`: the folder of a key in a snapshot.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, StringArray},
    datatypes::{DataType, Int64Type},
};
use datafusion::{
    common::{Result, ScalarValue, plan_err},
    logical_expr::{
        ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility,
    },
};

/// `bucket(key, n)` of a string or an integer: the bucket transform of Apache Iceberg (Murmur3 of
/// 32 bits, without its sign, modulo `n`), as digits of equal number.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Bucket {
    signature: Signature,
}

impl Bucket {
    pub(crate) fn new() -> Self {
        let of = |key| TypeSignature::Exact(vec![key, DataType::Int64]);
        let signatures = vec![of(DataType::Utf8), of(DataType::Int64)];
        Self {
            signature: Signature::one_of(signatures, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Bucket {
    fn name(&self) -> &'static str {
        "bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ColumnarValue::Scalar(ScalarValue::Int64(Some(buckets))) = args.args[1] else {
            return plan_err!("the second argument of `bucket` is a constant");
        };
        let Some(buckets) = u32::try_from(buckets).ok().filter(|buckets| *buckets > 0) else {
            return plan_err!("`bucket` spreads keys over 1 bucket or more, got {buckets}");
        };
        let keys = args.args[0].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(Arc::new(self::buckets(
            &keys, buckets,
        ))))
    }
}

fn buckets(keys: &ArrayRef, buckets: u32) -> StringArray {
    let digits = (buckets - 1).to_string().len();
    let bucket = |hash: u32| format!("{:0digits$}", (hash & i32::MAX as u32) % buckets);
    if let Some(keys) = keys.as_string_opt::<i32>() {
        let keys = keys.iter();
        keys.map(|key| key.map(|key| bucket(murmur3(key.as_bytes()))))
            .collect()
    } else {
        let keys = keys.as_primitive::<Int64Type>().iter();
        keys.map(|key| key.map(|key| bucket(murmur3(&key.to_le_bytes()))))
            .collect()
    }
}

/// `MurmurHash3_x86_32` with seed 0, by Austin Appleby (public domain).
fn murmur3(bytes: &[u8]) -> u32 {
    let scramble = |block: u32| {
        block
            .wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593)
    };
    let blocks = bytes.chunks_exact(4);
    let mut tail = [0; 4];
    tail[..blocks.remainder().len()].copy_from_slice(blocks.remainder());
    let mut hash = 0_u32;
    for block in blocks {
        let block = u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
        hash = (hash ^ scramble(block))
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }
    hash ^= scramble(u32::from_le_bytes(tail));
    hash ^= bytes.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, Int64Array};

    use super::*;

    #[test]
    fn hashes_are_those_of_iceberg() {
        // From the specification of Iceberg's tables, appendix B.
        assert_eq!(murmur3("iceberg".as_bytes()), 1_210_000_089);
        assert_eq!(murmur3(&34_i64.to_le_bytes()), 2_017_239_379);
        assert_eq!(murmur3(&[0, 1, 2, 3]), (-188_683_207_i32) as u32);
    }

    #[test]
    fn all_buckets_have_equally_many_digits() {
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![Some(34), None]));
        let found = buckets(&keys, 1000);
        assert_eq!(found.value(0), "379");
        assert!(found.is_null(1));
        let keys: ArrayRef = Arc::new(StringArray::from_iter_values(
            (0..500).map(|key| key.to_string()),
        ));
        let found = buckets(&keys, 16);
        let mut names: Vec<_> = found.iter().flatten().collect();
        names.sort_unstable();
        names.dedup();
        let expected: Vec<_> = (0..16).map(|bucket| format!("{bucket:02}")).collect();
        assert_eq!(names, expected);
    }
}
