//! How values, times, lengths and short lists are written.

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use tagflow_engine::{Error, Result};

/// Bytes at the end of others: postcard's own goes through an iterator for each byte.
struct Bytes<'a>(&'a mut Vec<u8>);

impl Flavor for Bytes<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Writes what postcard can read.
pub(super) fn put(bytes: &mut Vec<u8>, value: &impl Serialize) -> Result<()> {
    postcard::serialize_with_flavor(value, Bytes(bytes))
        .map_err(|error| Error::internal("a user cannot be encoded").with_source(error))
}

/// Writes how long a list is: seven bits a byte, the low ones first (LEB128).
pub(super) fn put_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

/// Takes a length off the front of `bytes`.
pub(super) fn take_length(bytes: &mut &[u8]) -> Option<usize> {
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(length);
        }
        shift += 7;
    }
}

/// Writes times: a bit for each that says whether it is there, then those that are.
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

/// Takes `count` times off the front of `bytes`, and gives them to `put` by their place.
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

/// Lists that mostly are so short that they need no memory of their own, for
/// `#[serde(with = "short")]`.
pub(super) mod short {
    use std::{fmt, marker::PhantomData};

    use serde::{
        Deserialize, Deserializer, Serialize, Serializer,
        de::{SeqAccess, Visitor},
    };
    use smallvec::{Array, SmallVec};

    pub(in super::super) fn serialize<A: Array<Item: Serialize>, S: Serializer>(
        list: &SmallVec<A>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        list.as_slice().serialize(serializer)
    }

    pub(in super::super) fn deserialize<
        'de,
        A: Array<Item: Deserialize<'de>>,
        D: Deserializer<'de>,
    >(
        deserializer: D,
    ) -> Result<SmallVec<A>, D::Error> {
        deserializer.deserialize_seq(Items(PhantomData))
    }

    struct Items<A>(PhantomData<A>);

    impl<'de, A: Array<Item: Deserialize<'de>>> Visitor<'de> for Items<A> {
        type Value = SmallVec<A>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<I: SeqAccess<'de>>(self, mut items: I) -> Result<SmallVec<A>, I::Error> {
            // What a length says is not believed further than this.
            let mut list = SmallVec::with_capacity(items.size_hint().unwrap_or(0).min(1024));
            while let Some(item) = items.next_element()? {
                list.push(item);
            }
            Ok(list)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            lengths in vec(any::<usize>(), 0..5),
            times in vec(option::of(any::<i64>()), 0..40),
        ) {
            let mut bytes = Vec::new();
            for length in &lengths {
                put_length(&mut bytes, *length);
            }
            put_times(&mut bytes, times.iter().copied());
            bytes.push(7);
            let mut rest = bytes.as_slice();
            for length in lengths {
                prop_assert_eq!(take_length(&mut rest), Some(length));
            }
            let mut read = vec![None; times.len()];
            take_times(&mut rest, times.len(), |place, time| read[place] = Some(time)).unwrap();
            prop_assert_eq!(read, times);
            prop_assert_eq!(rest, &[7]);
        }

        #[test]
        fn nothing_is_read_behind_the_end(bytes in vec(any::<u8>(), 0..20), count in 0_usize..100) {
            let mut rest = bytes.as_slice();
            while take_length(&mut rest).is_some() {}
            let mut rest = bytes.as_slice();
            let _ = take_times(&mut rest, count, |_, _| {});
        }
    }
}
