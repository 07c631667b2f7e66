//! The watermark of a source partition, computed from the event times of its rows.

use std::{ops::Range, time::Duration};

use crate::{EventTime, time::micros};

/// The watermark of a partition: the highest event time seen minus `delay`. It never decreases, and
/// is never behind the committed watermark of an earlier run.
///
/// Whether a row is late must not depend on the division of the input into batches. A batch is
/// therefore split before each row that is behind a watermark which has not been forwarded yet
/// ([`PartitionWatermark::advance`]). Windows close only at multiples of the granularity, so no
/// split is needed while the watermark stays within one multiple.
#[derive(Debug, Clone)]
pub struct PartitionWatermark {
    delay_us: i64,
    granularity_us: i64,
    watermark: i64,
    passed_on: i64,
    /// All rows so far are before this time.
    end: i64,
}

/// A run of rows, and the watermark to forward after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The rows.
    pub rows: Range<usize>,
    /// The watermark after them.
    pub watermark: EventTime,
}

impl PartitionWatermark {
    /// Continues from `restored`, the watermark of the last commit.
    pub fn new(delay: Duration, granularity: Duration, restored: EventTime) -> Self {
        Self {
            delay_us: micros(delay),
            granularity_us: micros(granularity).max(1),
            watermark: restored.as_micros(),
            passed_on: restored.as_micros(),
            end: i64::MIN,
        }
    }

    /// Processes the event times of the next rows, in microseconds, and splits the rows into
    /// segments; nearly always a single one.
    pub fn advance(&mut self, times: &[i64]) -> Vec<Segment> {
        let (Some(&lowest), Some(&highest)) = (times.iter().min(), times.iter().max()) else {
            return Vec::new();
        };
        self.end = self.end.max(highest.saturating_add(1));
        let last = self.watermark.max(highest.saturating_sub(self.delay_us));
        let mut segments = Vec::with_capacity(1);
        let mut start = 0;
        if lowest < last && self.closes_more(last) {
            for (row, &time) in times.iter().enumerate() {
                if time < self.watermark && self.closes_more(self.watermark) {
                    segments.push(self.segment(start..row));
                    self.passed_on = self.watermark;
                    start = row;
                }
                self.watermark = self.watermark.max(time.saturating_sub(self.delay_us));
            }
        }
        self.watermark = last;
        self.passed_on = last;
        segments.push(self.segment(start..times.len()));
        segments
    }

    /// Raises the watermark to a promise of the source, which is forwarded at once.
    pub fn raise(&mut self, promised: EventTime) {
        self.watermark = self.watermark.max(promised.as_micros());
        self.passed_on = self.watermark;
    }

    /// The watermark after all rows so far.
    pub fn current(&self) -> EventTime {
        EventTime::from_micros(self.watermark)
    }

    /// The time after the last row so far, or the watermark if it is later.
    pub fn end(&self) -> EventTime {
        EventTime::from_micros(self.end.max(self.watermark))
    }

    fn segment(&self, rows: Range<usize>) -> Segment {
        Segment {
            rows,
            watermark: EventTime::from_micros(self.watermark),
        }
    }

    /// Whether `watermark` closes windows that the forwarded one does not.
    fn closes_more(&self, watermark: i64) -> bool {
        watermark.div_euclid(self.granularity_us) > self.passed_on.div_euclid(self.granularity_us)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn generator(delay_us: u64, granularity_us: u64) -> PartitionWatermark {
        PartitionWatermark::new(
            Duration::from_micros(delay_us),
            Duration::from_micros(granularity_us),
            EventTime::MIN,
        )
    }

    /// The rows whose window of `size` had closed before they were read.
    fn late(batches: &[Vec<i64>], delay: u64, size: i64) -> Vec<bool> {
        let mut generator = generator(delay, size as u64);
        let mut watermark = i64::MIN;
        let mut late = Vec::new();
        for times in batches {
            for segment in generator.advance(times) {
                for &time in &times[segment.rows] {
                    late.push((time.div_euclid(size) + 1) * size <= watermark);
                }
                assert!(segment.watermark.as_micros() >= watermark, "went back");
                watermark = segment.watermark.as_micros();
            }
        }
        late
    }

    #[test]
    fn orderly_rows_are_one_segment() {
        let mut generator = generator(5, 10);
        let segments = generator.advance(&[100, 98, 103, 99, 140, 136]);
        assert_eq!(segments.len(), 1);
        assert_eq!(segments[0].watermark, EventTime::from_micros(135));
    }

    #[test]
    fn a_row_at_the_watermark_is_not_behind() {
        let mut generator = generator(0, 1);
        assert_eq!(generator.advance(&[100, 101, 101, 102]).len(), 1);
        assert_eq!(generator.advance(&[102, 103, 102]).len(), 2);
    }

    #[test]
    fn a_row_behind_comes_after_the_watermark() {
        let mut generator = generator(5, 10);
        let segments = generator.advance(&[100, 130, 101, 102, 131]);
        assert_eq!(segments.len(), 2);
        assert_eq!(
            (segments[0].rows.clone(), segments[0].watermark.as_micros()),
            (0..2, 125)
        );
        assert_eq!(
            (segments[1].rows.clone(), segments[1].watermark.as_micros()),
            (2..5, 126)
        );
    }

    #[test]
    fn a_promise_raises_and_never_lowers() {
        let mut generator = generator(5, 10);
        generator.advance(&[100]);
        generator.raise(EventTime::from_micros(50));
        assert_eq!(generator.current(), EventTime::from_micros(95));
        generator.raise(EventTime::from_micros(120));
        assert_eq!(
            generator.advance(&[110])[0].watermark,
            EventTime::from_micros(120)
        );
    }

    #[test]
    fn restored_watermark_is_kept() {
        let restored = EventTime::from_micros(500);
        let mut generator =
            PartitionWatermark::new(Duration::from_micros(5), Duration::from_micros(1), restored);
        assert_eq!(generator.advance(&[100])[0].watermark, restored);
        assert_eq!(generator.current(), restored);
    }

    proptest! {
        /// Rule 12: which rows are late does not depend on the batches.
        #[test]
        fn chunking_does_not_matter(
            times in prop::collection::vec(0..300i64, 1..80),
            cuts in prop::collection::vec(1..12usize, 1..40),
            delay in 0..40u64,
            size in 1..50i64,
        ) {
            let mut chunked = Vec::new();
            let mut rest = times.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                chunked.push(head.to_vec());
                rest = tail;
            }
            let single: Vec<Vec<i64>> = times.iter().map(|&time| vec![time]).collect();
            prop_assert_eq!(late(&chunked, delay, size), late(&single, delay, size));
            prop_assert_eq!(late(&[times], delay, size), late(&single, delay, size));
        }
    }
}
