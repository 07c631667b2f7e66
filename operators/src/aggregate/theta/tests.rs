use std::{collections::BTreeSet, sync::Arc};

use arrow::array::StringArray;
use proptest::prelude::*;

use super::*;

fn accumulator(of: Input, lg_k: u8) -> ThetaAccumulator {
    ThetaAccumulator {
        of,
        lg_k,
        seen: None,
        merged: None,
    }
}

fn numbers(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn sketch(lg_k: u8, values: ArrayRef) -> Vec<u8> {
    let mut accumulator = accumulator(Input::Values, lg_k);
    accumulator.update_batch(&[values]).unwrap();
    accumulator.bytes().unwrap()
}

fn estimated(bytes: &[u8]) -> i64 {
    let sketches = BinaryArray::from_vec(vec![bytes]);
    estimate(&sketches).unwrap().value(0)
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

/// The bytes are those of Apache `DataSketches` for Python 5.2.0, which is its C++
/// library: `update_theta_sketch(lg_k)`, `update`, `trim`, `compact().serialize()`.
#[test]
fn the_bytes_are_those_of_datasketches() {
    let texts = StringArray::from(vec!["a", "b", "user-1", "d\u{fc}r"]);
    assert_eq!(
        hex(&sketch(12, Arc::new(texts))),
        "02030300001acc930400000000000000200686edaad85618857f40b689c7e53417c11d528507017b3b21164f\
         2189467e"
    );
    assert_eq!(
        hex(&sketch(12, numbers(&[-1, 0, 1, 42]))),
        "02030300001acc93040000000000000015f97dcbbd86a1056cb2f30dc6cf7b0ee56b61eec88044200d5ee8e6\
         d7194048"
    );
    let thousand: Vec<i64> = (0..1000).collect();
    let estimating = sketch(5, numbers(&thousand));
    assert_eq!(
        hex(&estimating),
        "03030300001acc93200000000000000045a54733acacdd04d589edf2ba742a00deac6be1e1d96500fa74b34c\
         16b16e00c7c48185137f7300ff3edb4931fa96005167013eefe2dd004bbf7eee7e40f500e4c758129ac40601\
         af5f15a649924e010a22dbb71c875f0188655737d10a74017b7fec66ed787f01fb38798913248f01b9bf9fea\
         fa9eaa01783d46e37d7cd301efafaecf5bddf40194ded6c8a0752a02d1eeb5b119b493026df3fb88558d9602\
         7347a26e394d9902ae9ad119a4702703a5907be534f96d03b833b51ac36e72030f5d1190dc88b103393eeb16\
         13ceb303e662386e3d7fd303385da0f0663bd503736268de4b6bfc034962bb9062b6fc03e8a7bd68fe0b8604\
         9d43ffe25581a004e2dacf9fcdeabe04"
    );
    assert_eq!(estimated(&estimating), 842);
}

#[test]
fn nothing_is_an_empty_sketch_and_nulls_are_nothing() {
    let mut accumulator = accumulator(Input::Values, 12);
    let nulls: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>, None]));
    accumulator.update_batch(&[nulls]).unwrap();
    assert_eq!(estimated(&accumulator.bytes().unwrap()), 0);
    let empty: ArrayRef = Arc::new(StringArray::from(vec!["", ""]));
    accumulator.update_batch(&[empty]).unwrap();
    assert_eq!(estimated(&accumulator.bytes().unwrap()), 1);
}

#[test]
fn what_is_no_sketch_is_refused() {
    let error = estimate(&BinaryArray::from_vec(vec![b"no"])).unwrap_err();
    assert!(error.to_string().contains("no theta sketch"), "{error}");
}

proptest! {
    #[test]
    fn a_sketch_is_exact_up_to_k(values in prop::collection::vec(0..32_i64, 0..200)) {
        let distinct: BTreeSet<i64> = values.iter().copied().collect();
        prop_assert_eq!(estimated(&sketch(5, numbers(&values))), distinct.len() as i64);
    }

    /// In any order, in any chunks, merged in any tree.
    #[test]
    fn bytes_depend_on_the_values_alone(
        values in prop::collection::vec(0..300_i64, 1..400),
        cuts in prop::collection::vec((0..400_usize, any::<bool>()), 0..8),
        order in any::<prop::sample::Index>(),
    ) {
        let distinct: BTreeSet<i64> = values.iter().copied().collect();
        let distinct: Vec<i64> = distinct.into_iter().collect();
        let whole = sketch(5, numbers(&distinct));

        let mut values = values;
        let middle = order.index(values.len());
        values.rotate_left(middle);
        let mut rest = values.as_slice();
        let mut left = accumulator(Input::Values, 5);
        for (cut, through_state) in cuts {
            let (chunk, more) = rest.split_at(cut.min(rest.len()));
            rest = more;
            if through_state {
                let state = sketch(5, numbers(chunk));
                let state: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&state]));
                left.merge_batch(&[state]).unwrap();
            } else {
                left.update_batch(&[numbers(chunk)]).unwrap();
            }
        }
        left.update_batch(&[numbers(rest)]).unwrap();
        let left = left.bytes().unwrap();
        prop_assert_eq!(&left, &whole);

        let mut union = accumulator(Input::Sketches, 5);
        let parts: Vec<Vec<u8>> = values.chunks(7).map(|part| sketch(5, numbers(part))).collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let parts: ArrayRef = Arc::new(BinaryArray::from_vec(parts));
        union.update_batch(&[parts]).unwrap();
        prop_assert_eq!(&union.bytes().unwrap(), &whole);
    }
}
