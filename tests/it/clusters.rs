//! A pipeline whose `brokers` name another cluster.

use crate::{
    broker::Broker,
    lake::assert_holds,
    process::Folder,
    rows::{pipeline, rows, rows_from},
};

/// The second cluster has more rows than were read in the first, so that no end shows it.
/// Nothing is counted from the middle of it, and nothing twice.
#[test]
fn regression_rows_of_another_cluster_are_not_read_from_the_middle() {
    let folder = Folder::new();
    let clusters = [Broker::new("sales", 2), Broker::new("sales", 2)];
    let read_before = rows(1000, 21);
    let others = rows_from(1000, 3000, 22);
    clusters[0].send_rows("sales", 2, &read_before);
    clusters[1].send_rows("sales", 2, &others);
    let point_at = |cluster: &Broker| {
        let source = format!(
            "kafka: {{brokers: \"{}\", topics: [sales]}}",
            cluster.address()
        );
        folder.write("p.yaml", pipeline(&source));
    };
    let run = ["run", "p.yaml", "--once", "--drain", "--admin", "off"];
    point_at(&clusters[0]);
    folder.tagflow(&run).expect(0);
    // The same cluster again: its id is known.
    folder.tagflow(&run).expect(0);

    point_at(&clusters[1]);
    let refused = folder.tagflow(&run).expect(3);
    let message = format!("but `{}` belongs to cluster `", clusters[1].address());
    for expected in [
        "the pipeline has read topic `sales` in Kafka cluster `",
        &message,
        "if `brokers` is wrong, correct it",
        "`--reset`",
    ] {
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }

    // Back at the first cluster, nothing has happened.
    point_at(&clusters[0]);
    folder.tagflow(&run).expect(0);
    assert_holds(&folder, &read_before);

    point_at(&clusters[1]);
    let again = [&run[..], &["--reset", "events", "--replace-tables"]].concat();
    folder.tagflow(&again).expect(0);
    assert_holds(&folder, &others);
    folder.tagflow(&run).expect(0);
    assert_holds(&folder, &others);
}
