//! The encoding of a key's state: every field in turn, without separators.

use std::collections::VecDeque;

use smallvec::{Array, SmallVec};

/// Encoding as bytes, and decoding. Idle keys are decoded and encoded for each of their
/// events, so they have a fast format. Hashes and times have a fixed width, while
/// postcard writes seven bits at a time.
pub(crate) trait Codec: Sized {
    /// Appends the value to `bytes`.
    fn put(&self, bytes: &mut Vec<u8>);

    /// Removes a value from the front of `bytes`; none if no valid value is there.
    fn take(bytes: &mut &[u8]) -> Option<Self>;
}

/// Implements [`Codec`] for a struct by its fields.
macro_rules! codec {
    ($($name:ident { $($field:tt),+ })+) => {
        $(impl $crate::tags::codec::Codec for $name {
            fn put(&self, bytes: &mut Vec<u8>) {
                $(self.$field.put(bytes);)+
            }

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: $crate::tags::codec::Codec::take(bytes)?),+ })
            }
        })+
    };
}
pub(super) use codec;

/// A hash.
impl Codec for u64 {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_le_bytes());
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (value, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(Self::from_le_bytes(*value))
    }
}

/// A time.
impl Codec for i64 {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.cast_unsigned().put(bytes);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        u64::take(bytes).map(u64::cast_signed)
    }
}

/// Most numbers have few digits.
impl Codec for i128 {
    fn put(&self, bytes: &mut Vec<u8>) {
        let zigzag = ((self << 1) ^ (self >> 127)).cast_unsigned();
        put_number(bytes, zigzag as u64);
        put_number(bytes, (zigzag >> 64) as u64);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let [low, high] = [take_number(bytes)?, take_number(bytes)?];
        let zigzag = u128::from(high) << 64 | u128::from(low);
        Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }
}

impl Codec for f64 {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.to_bits().put(bytes);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        u64::take(bytes).map(Self::from_bits)
    }
}

impl Codec for u32 {
    fn put(&self, bytes: &mut Vec<u8>) {
        put_number(bytes, u64::from(*self));
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        take_number(bytes)?.try_into().ok()
    }
}

impl Codec for u8 {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.push(*self);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        Some(*byte)
    }
}

impl Codec for bool {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.push((*self).into());
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        match u8::take(bytes)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<T: Codec> Codec for Option<T> {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.is_some().put(bytes);
        if let Some(value) = self {
            value.put(bytes);
        }
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        if bool::take(bytes)? {
            T::take(bytes).map(Some)
        } else {
            Some(None)
        }
    }
}

impl<T: Codec, U: Codec> Codec for (T, U) {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.0.put(bytes);
        self.1.put(bytes);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some((T::take(bytes)?, U::take(bytes)?))
    }
}

impl Codec for Box<str> {
    fn put(&self, bytes: &mut Vec<u8>) {
        put_text(bytes, self);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        take_text(bytes).map(Into::into)
    }
}

impl<T: Codec> Codec for Vec<T> {
    fn put(&self, bytes: &mut Vec<u8>) {
        put_list(bytes, self.iter());
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        take_list(bytes, Self::with_capacity, Self::push)
    }
}

impl<T: Codec> Codec for VecDeque<T> {
    fn put(&self, bytes: &mut Vec<u8>) {
        put_list(bytes, self.iter());
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        take_list(bytes, Self::with_capacity, Self::push_back)
    }
}

/// A list that is mostly so short that it needs no allocation.
impl<A: Array<Item: Codec>> Codec for SmallVec<A> {
    fn put(&self, bytes: &mut Vec<u8>) {
        put_list(bytes, self.iter());
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        take_list(bytes, Self::with_capacity, Self::push)
    }
}

fn put_list<'a, T: Codec + 'a>(bytes: &mut Vec<u8>, list: impl ExactSizeIterator<Item = &'a T>) {
    put_length(bytes, list.len());
    for item in list {
        item.put(bytes);
    }
}

fn take_list<L, T: Codec>(
    bytes: &mut &[u8],
    with_capacity: impl FnOnce(usize) -> L,
    push: impl Fn(&mut L, T),
) -> Option<L> {
    let length = take_length(bytes)?;
    // A length is not trusted further than this.
    let mut list = with_capacity(length.min(1024));
    for _ in 0..length {
        push(&mut list, T::take(bytes)?);
    }
    Some(list)
}

/// Writes a text after its length.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_length(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

/// Removes a text from the front of `bytes`.
pub(super) fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = take_length(bytes)?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

/// Writes the length of a list.
pub(super) fn put_length(bytes: &mut Vec<u8>, length: usize) {
    put_number(bytes, length as u64);
}

/// Removes a length from the front of `bytes`.
pub(super) fn take_length(bytes: &mut &[u8]) -> Option<usize> {
    take_number(bytes)?.try_into().ok()
}

/// Writes a number that is mostly small: seven bits a byte, the low ones first (LEB128).
pub(super) fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Removes such a number from the front of `bytes`.
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0_u64, 0);
    loop {
        let byte = u8::take(bytes)?;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}

/// Writes times: a bit for each time that is present, then the present times.
pub(super) fn put_times(bytes: &mut Vec<u8>, times: impl Iterator<Item = Option<i64>> + Clone) {
    let mut bits = times
        .clone()
        .map(|time| u8::from(time.is_some()))
        .peekable();
    while bits.peek().is_some() {
        let byte = bits.by_ref().take(8).enumerate();
        bytes.push(byte.fold(0, |byte, (place, bit)| byte | (bit << place)));
    }
    for time in times.flatten() {
        bytes.extend_from_slice(&time.to_le_bytes());
    }
}

/// Removes `count` times from the front of `bytes`, and passes each to `put` by its
/// position.
pub(super) fn take_times(
    bytes: &mut &[u8],
    count: usize,
    mut put: impl FnMut(usize, i64),
) -> Option<()> {
    let (bits, mut times) = bytes.split_at_checked(count.div_ceil(8))?;
    for (byte, bits) in bits.iter().enumerate() {
        let mut bits = *bits;
        while bits != 0 {
            let place = byte * 8 + bits.trailing_zeros() as usize;
            let (time, rest) = times.split_first_chunk()?;
            put(place, i64::from_le_bytes(*time));
            times = rest;
            bits &= bits - 1;
        }
    }
    *bytes = times;
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            lengths in vec(any::<usize>(), 0..5),
            digits in vec(any::<i128>(), 0..5),
            texts in vec(option::of(".{0,3}"), 0..5),
            times in vec(option::of(any::<i64>()), 0..40),
        ) {
            let mut bytes = Vec::new();
            for length in &lengths {
                put_length(&mut bytes, *length);
            }
            put_times(&mut bytes, times.iter().copied());
            let few: Vec<(i128, bool)> = digits.iter().map(|it| (it >> 100, *it > 0)).collect();
            let texts: Vec<Option<Box<str>>> =
                texts.into_iter().map(|text| text.map(Into::into)).collect();
            (digits.clone(), (few.clone(), texts.clone())).put(&mut bytes);
            bytes.push(7);
            let mut rest = bytes.as_slice();
            for length in lengths {
                prop_assert_eq!(take_length(&mut rest), Some(length));
            }
            let mut read = vec![None; times.len()];
            take_times(&mut rest, times.len(), |place, time| read[place] = Some(time)).unwrap();
            prop_assert_eq!(read, times);
            prop_assert_eq!(Codec::take(&mut rest), Some((digits, (few, texts))));
            prop_assert_eq!(rest, &[7]);
        }

        #[test]
        fn nothing_is_read_behind_the_end(
            bytes in vec(prop_oneof![0_u8..8, any::<u8>()], 0..60),
            count in 0_usize..100,
        ) {
            let mut rest = bytes.as_slice();
            while take_length(&mut rest).is_some() {}
            let mut rest = bytes.as_slice();
            let _ = take_times(&mut rest, count, |_, _| {});
            let mut rest = bytes.as_slice();
            let _ = Vec::<(Box<str>, Option<i128>)>::take(&mut rest);
        }
    }
}
