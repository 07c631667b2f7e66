//! Rule 12: the results equal those of the batch, for any chunking, any order within the delay, any
//! stops and any number of lanes.

use proptest::{prelude::*, sample::subsequence};

use super::{
    aggregates::CASES,
    driver::Driver,
    oracle::{self, Tolerance, assert_same},
    rows::{Row, portion, rows},
};

const DELAY_US: i64 = 100;

/// An event after a chunk.
#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    Barrier,
    /// A barrier, then new operators on this number of lanes.
    Restart(usize),
    /// New operators from the last barrier, and its rows again.
    Crash(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => Just(Event::Nothing),
        3 => Just(Event::Barrier),
        1 => prop_oneof![Just(1), Just(3), Just(4)].prop_map(Event::Restart),
        1 => prop_oneof![Just(1), Just(4)].prop_map(Event::Crash),
    ]
}

fn run(driver: &mut Driver, rows: &[Row], chunk: usize, events: &[Event]) {
    let chunks: Vec<&[Row]> = rows.chunks(chunk).collect();
    let (mut next, mut committed) = (0, 0);
    let mut events = events.iter();
    while next < chunks.len() {
        driver.send(chunks[next]);
        next += 1;
        match events.next() {
            None | Some(Event::Nothing) => {}
            Some(Event::Barrier) => {
                driver.barrier();
                committed = next;
            }
            Some(Event::Restart(lanes)) => {
                driver.barrier();
                driver.restart(*lanes);
                // The next commit must contain the restored state again.
                driver.barrier();
                driver.restart(*lanes);
                committed = next;
            }
            Some(Event::Crash(lanes)) => {
                // A crash before the first commit starts from nothing.
                driver.restart(*lanes);
                next = committed;
            }
        }
    }
    driver.end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn windows_answer_as_in_batch(
        rows in rows(250, DELAY_US),
        chunk in prop_oneof![1..8_usize, 8..1000_usize],
        portion in portion(),
        lanes in prop_oneof![Just(1_usize), Just(4)],
        keys in prop_oneof![
            Just(vec![]),
            Just(vec!["campaign"]),
            Just(vec!["campaign", "item"]),
            Just(vec!["item % 2", "upper(campaign)"]),
        ],
        cases in subsequence((0..CASES.len()).collect::<Vec<_>>(), 0..4),
        events in proptest::collection::vec(event(), 0..60),
    ) {
        // With names, because two of the aggregates may have the same default name.
        let ours = cases.iter().map(|case| format!("{} AS a{case}", CASES[*case].sql));
        let ours: Vec<String> = ours.collect();
        let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
        let oracle: Vec<_> = cases.iter().map(|case| CASES[*case].oracle).collect();
        let tolerances: Vec<Tolerance> = cases.iter().map(|case| CASES[*case].tolerance).collect();
        let aggregation = oracle::plan(&keys, &ours).unwrap();
        let mut driver = Driver::new(&aggregation, lanes, DELAY_US).in_portions(portion);
        run(&mut driver, &rows, chunk, &events);

        let counts = driver.counts();
        prop_assert_eq!(counts.contributed, rows.len() as u64);
        prop_assert!(counts.balances());
        prop_assert!(driver.late().is_empty());
        prop_assert_eq!(driver.state_bytes(), 0);
        let expected = oracle::batch(&rows, &keys, &oracle);
        assert_same(driver.results(), &expected, keys.len(), &tolerances);
    }
}
