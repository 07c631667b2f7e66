//! Windows and panes against a search through all windows.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::*;

const HORIZON: i64 = 400;

fn us(width: i64) -> Duration {
    Duration::from_micros(width.unsigned_abs())
}

fn windows() -> impl Strategy<Value = Windows> {
    prop_oneof![
        (1..50_i64).prop_map(|size| Windows::Tumble(Period::Fixed(us(size)))),
        (1..20_i64, 0..60_i64).prop_map(|(slide, more)| Windows::Hop {
            slide: us(slide),
            size: us(slide + more),
        }),
        (1..10_i64, 1..8_i64).prop_map(|(step, steps)| Windows::Cumulate {
            step: us(step),
            within: Period::Fixed(us(step * steps)),
        }),
    ]
}

/// Every window that touches the horizon, by the definition of its kind.
fn all(windows: &Windows) -> BTreeSet<Span> {
    let mut all = BTreeSet::new();
    for start in -2 * HORIZON..2 * HORIZON {
        match windows {
            Windows::Tumble(Period::Fixed(size)) if start % micros(*size) == 0 => {
                all.insert(Span {
                    start,
                    end: start + micros(*size),
                });
            }
            Windows::Hop { slide, size } if start % micros(*slide) == 0 => {
                all.insert(Span {
                    start,
                    end: start + micros(*size),
                });
            }
            Windows::Cumulate {
                step,
                within: Period::Fixed(size),
            } if start % micros(*size) == 0 => {
                for end in (micros(*step)..=micros(*size)).step_by(micros(*step) as usize) {
                    all.insert(Span {
                        start,
                        end: start + end,
                    });
                }
            }
            _ => {}
        }
    }
    all
}

fn holds(window: Span, time: i64) -> bool {
    window.start <= time && time < window.end
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn panes_share_their_windows(windows in windows(), time in -HORIZON..HORIZON) {
        prop_assert!(windows.check().is_ok());
        let all = all(&windows);
        let of = |time| all.iter().filter(move |window| holds(**window, time)).collect::<Vec<_>>();
        let mine = of(time);
        let pane = windows.pane(time).unwrap();
        prop_assert!(holds(pane, time));
        prop_assert_eq!(&of(pane.start), &mine);
        prop_assert_eq!(&of(pane.end - 1), &mine);
        let ends: Vec<i64> = mine.iter().map(|window| window.end).collect();
        prop_assert_eq!(Some(windows.first_end(pane)), ends.iter().min().copied());
        prop_assert_eq!(Some(windows.last_end(pane)), ends.iter().max().copied());
        let first = mine.iter().min_by_key(|window| window.end);
        prop_assert_eq!(Some(&windows.first_window(pane)), first.copied());
        for window in mine {
            let (first, last, origin) = windows.numbers(*window);
            let starts: BTreeSet<i64> = (window.start..window.end)
                .map(|time| windows.pane(time).unwrap().start)
                .collect();
            if windows.share_panes() {
                let width = windows.pane_width();
                let numbered = (first..last).map(|number| origin + number * width);
                prop_assert_eq!(numbered.collect::<BTreeSet<_>>(), starts);
            }
        }
    }

    #[test]
    fn windows_come_in_the_order_of_their_ends(
        windows in windows(),
        times in proptest::collection::vec(-HORIZON..HORIZON, 0..10),
        after in -HORIZON..HORIZON,
    ) {
        let panes: BTreeSet<Span> = times.iter().map(|time| windows.pane(*time).unwrap()).collect();
        let from = |time| panes.iter().find(|pane| pane.start >= time).copied();
        let mut expected: Vec<Span> = all(&windows)
            .into_iter()
            .filter(|window| window.end > after)
            .filter(|window| panes.iter().any(|pane| holds(*window, pane.start)))
            .collect();
        expected.sort_by_key(|window| window.end);
        let mut found = Vec::new();
        let mut after = after;
        while let Some(window) = windows.next_after(after, from) {
            prop_assert!(window.end > after);
            after = window.end;
            found.push(window);
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn widths_must_make_sense() {
    let zero = Duration::ZERO;
    let hour = Duration::from_hours(1);
    for windows in [
        Windows::Tumble(Period::Fixed(zero)),
        Windows::Tumble(Period::Fixed(Duration::MAX)),
        Windows::Hop {
            slide: zero,
            size: hour,
        },
        Windows::Hop {
            slide: 2 * hour,
            size: hour,
        },
        Windows::Cumulate {
            step: 2 * hour,
            within: Period::Fixed(3 * hour),
        },
        Windows::Session { gap: zero },
    ] {
        assert!(windows.check().is_err(), "{windows}");
    }
}

#[test]
fn cumulative_windows_end_with_their_day() {
    // 23 hours, in steps of two.
    let zone = "Europe/Berlin".parse().unwrap();
    let windows = Windows::Cumulate {
        step: Duration::from_hours(2),
        within: Period::Calendar(CalendarUnit::Day, zone),
    };
    let start = 1_774_738_800_000_000; // 2026-03-28T23:00:00Z
    let hour = 3_600_000_000;
    let last = windows.pane(start + 22 * hour + 1).unwrap();
    assert_eq!(
        last,
        Span {
            start: start + 22 * hour,
            end: start + 23 * hour
        }
    );
    let window = windows.next_after(last.start, |_| Some(last)).unwrap();
    assert_eq!(
        window,
        Span {
            start,
            end: last.end
        }
    );
    assert_eq!(windows.numbers(window), (0, 12, start));
}

#[test]
fn cumulative_windows_step_from_midnight_whatever_the_zone() {
    // Its midnight is a quarter past an hour.
    let zone = "Asia/Kathmandu".parse().unwrap();
    let windows = Windows::Cumulate {
        step: Duration::from_hours(1),
        within: Period::Calendar(CalendarUnit::Day, zone),
    };
    let start = 1_767_550_500_000_000; // 2026-01-04T18:15:00Z
    let hour = 3_600_000_000;
    let pane = windows.pane(start + hour * 3 / 2).unwrap();
    assert_eq!(
        pane,
        Span {
            start: start + hour,
            end: start + 2 * hour
        }
    );
}
