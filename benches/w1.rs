//! W1, end to end: an NDJSON file of behaviour events (about 200 bytes each,
//! 1,000 campaigns by Zipf) → counts, filtered counts and a sum a minute and
//! campaign → Parquet.
//!
//! `cargo bench --bench w1 -- --events 10000000` creates the file under `target/` once,
//! and runs the release binary on it as a process. It checks that the result equals
//! DataFusion's batch query over the same file. It prints events per second, CPU-seconds
//! per million events and peak memory, beside those of the batch query. With
//! `--input-only` it only creates the file. `peers/run.py` has more workloads and peers.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::{JsonReadOptions, ParquetReadOptions, SessionContext};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tagflow_connectors::generator::{Events, GeneratorConfig};

const QUERY: &str = "
    SELECT {window} AS window_start, campaign_id,
           count(*) AS events,
           count(*) FILTER (WHERE event_type = 'impression') AS impressions,
           count(*) FILTER (WHERE event_type = 'click') AS clicks,
           sum(amount) FILTER (WHERE event_type = 'purchase') AS revenue
    FROM events GROUP BY 1, 2";

fn main() -> Result<()> {
    let events = events()?;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let input = folder.join(format!("w1-{events}.ndjson"));
    if !input.exists() {
        generate(&input, events)?;
    }
    if std::env::args().any(|argument| argument == "--input-only") {
        return Ok(());
    }
    let bytes = input.metadata()?.len();
    println!("{events} events, {} bytes each", bytes / events);

    let work = tempfile::tempdir_in(&folder)?;
    let pipeline = work.path().join("w1.yaml");
    std::fs::write(&pipeline, pipeline_file(&input))?;

    let tagflow = measure(UsageWho::RUSAGE_CHILDREN, || {
        let status = Command::new(env!("CARGO_BIN_EXE_tagflow"))
            .args(["run", "w1.yaml", "--admin", "off"])
            .current_dir(work.path())
            .status()?;
        ensure!(status.success(), "tagflow ended with {status}");
        Ok(())
    })?;
    tagflow.print("tagflow", events);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let oracle = work.path().join("oracle.parquet");
    let batch = measure(UsageWho::RUSAGE_SELF, || {
        runtime.block_on(batch(&input, &oracle))
    })?;
    batch.print("datafusion, batch", events);
    println!(
        "tagflow / datafusion: CPU {:.2}, wall {:.2}",
        tagflow.cpu / batch.cpu,
        tagflow.wall / batch.wall
    );
    runtime.block_on(compare(&work.path().join("lake/metrics"), &oracle))
}

fn events() -> Result<u64> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "--events") {
        Some(place) => {
            let count = arguments
                .get(place + 1)
                .context("`--events` needs a number")?;
            Ok(count.replace('_', "").parse()?)
        }
        None => Ok(10_000_000),
    }
}

fn generate(path: &Path, events: u64) -> Result<()> {
    let config = GeneratorConfig::many(events);
    let mut events = Events::new(config)?;
    let partial = path.with_extension("partial");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&partial)?);
    let mut line = Vec::new();
    while events.write_line(&mut line).is_some() {
        file.write_all(&line)?;
        line.clear();
    }
    file.flush()?;
    Ok(std::fs::rename(partial, path)?)
}

fn pipeline_file(input: &Path) -> String {
    let query = QUERY
        .replace(
            "{window} AS window_start",
            "tumble(occurred_at, INTERVAL '1 minute') AS \"window\"",
        )
        .replace('\n', "\n    ");
    format!(
        "name: w1
sources:
  events:
    files: {{url: '{}'}}
    format: {{json: {{}}}}
    columns:
      event_type: string
      campaign_id: string?
      amount: decimal(18,2)?
      occurred_at: timestamp(ms)
    time: {{event_time: occurred_at, delay: 5s}}
queries:
  metrics: |{query}
sinks:
  metrics_table:
    from: metrics
    parquet: {{url: ./lake/metrics}}
parallelism: 2
",
        input.display()
    )
}

/// The same query by DataFusion's own reader and executor.
async fn batch(input: &Path, output: &Path) -> Result<()> {
    let context = SessionContext::new();
    let options = JsonReadOptions::default().file_extension(".ndjson");
    context
        .register_json("raw", &input.to_string_lossy(), options)
        .await?;
    context
        .sql("CREATE VIEW events AS SELECT *, CAST(amount AS DECIMAL(18,2)) AS money FROM raw")
        .await?;
    let window = "date_bin(INTERVAL '1 minute', to_timestamp_millis(occurred_at))";
    let query = QUERY
        .replace("{window}", window)
        .replace("sum(amount)", "sum(money)");
    let result = context.sql(&query).await?;
    result
        .write_parquet(
            &output.to_string_lossy(),
            DataFrameWriteOptions::default(),
            None,
        )
        .await?;
    Ok(())
}

/// Asserts that every cell of both tables is equal.
async fn compare(ours: &Path, oracle: &Path) -> Result<()> {
    let context = SessionContext::new();
    for (name, path) in [("ours", ours), ("oracle", oracle)] {
        let options = ParquetReadOptions::default();
        context
            .register_parquet(name, &path.to_string_lossy(), options)
            .await?;
    }
    let columns = "CAST(arrow_cast(window_start, 'Timestamp(Microsecond, None)') AS BIGINT), \
                   campaign_id, events, impressions, clicks, CAST(revenue AS DECIMAL(38,2))";
    let rows = context.sql("SELECT * FROM ours").await?.count().await?;
    for (left, right) in [("ours", "oracle"), ("oracle", "ours")] {
        let query =
            format!("SELECT {columns} FROM {left} EXCEPT ALL SELECT {columns} FROM {right}");
        let different = context.sql(&query).await?.count().await?;
        ensure!(
            different == 0,
            "{different} rows of `{left}` are not in `{right}`"
        );
    }
    println!("all {rows} rows equal the batch query's");
    Ok(())
}

struct Cost {
    wall: f64,
    cpu: f64,
    peak_mib: f64,
}

impl Cost {
    fn print(&self, name: &str, events: u64) {
        let millions = events as f64 / 1e6;
        println!(
            "{name:>18}: {:>9.0} events/s, {:.3} CPU-s/M, {:.1} s wall, {:.0} MiB peak",
            events as f64 / self.wall,
            self.cpu / millions,
            self.wall,
            self.peak_mib
        );
    }
}

fn measure(who: UsageWho, run: impl FnOnce() -> Result<()>) -> Result<Cost> {
    let cpu =
        |usage: &Usage| (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6;
    let before = cpu(&getrusage(who)?);
    let begun = Instant::now();
    run()?;
    let wall = begun.elapsed().as_secs_f64();
    let usage = getrusage(who)?;
    Ok(Cost {
        wall,
        cpu: cpu(&usage) - before,
        peak_mib: usage.max_rss() as f64 / 1024.0,
    })
}
