#!/usr/bin/env python3
"""Tagflow and its peers on the same rows, one after another.

    python3 benches/peers/run.py [--events N] [--rounds N] [--skip SYSTEM] [WORKLOAD ...]

Builds Tagflow with the profile `dist`, or uses the binary that `TAGFLOW` names. Installs
DuckDB and Flink from PyPI under `target/peers` (about 300 MB), and generates the events.
Then runs every system of a workload in turn, once per round. A time counts only if all
answers are equal. The table shows medians. CPU is the user and system time of the whole
process; for DuckDB, Python's start is excluded.

| workload | content |
| --- | --- |
| W1 | a file of JSON → counts, filtered counts and a sum by minute and campaign → Parquet |
| W1d | the same with an exact count of distinct users |
| W2 | a file of events of 100,000, 1 and 10 million users → the tags of `examples/user_tags.yaml` → all its tables |
| W3 | W1 from a Kafka topic of 8 partitions, full before the start |
| W4 | the same topic → a filter → Parquet with zstd by day, all columns |
| W6 | 50,000 events a second from Kafka: from an event to the tag that it changes |
| W7 | 1 GiB of totals by user, of which 1 % change between commits that follow each other at once; the peer has no commits |
| W8 | a file of one event: from start to exit |
| W8s | the same with the state of W7 |
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "examples" / "broker"))
import tansu  # noqa: E402

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
PEERS = TARGET / "peers"
DUCKDB, FLINK = "duckdb==2.0.0", "apache-flink-libraries==2.3.0"
PARTITIONS = 8

MEASURES = """
           count(*) AS events,
           count(*) FILTER (WHERE event_type = 'impression') AS impressions,
           count(*) FILTER (WHERE event_type = 'click') AS clicks,
           sum(amount) FILTER (WHERE event_type = 'purchase') AS revenue"""
REACH = ", count(DISTINCT user_id) AS reach"
COLUMNS = {
    "event_id": ("string", "VARCHAR"),
    "user_id": ("string", "VARCHAR"),
    "event_type": ("string", "VARCHAR"),
    "campaign_id": ("string?", "VARCHAR"),
    "channel": ("string", "VARCHAR"),
    "product_id": ("string?", "VARCHAR"),
    "category": ("string?", "VARCHAR"),
    "amount": ("decimal(18,2)?", "DECIMAL(18,2)"),
    "utm_source": ("string?", "VARCHAR"),
    "occurred_at": ("timestamp(ms)", "BIGINT"),
}
MEASURED = ["event_type", "campaign_id", "amount", "occurred_at"]


class NotRun(Exception):
    """The reason that a system cannot be run here."""


def tagflow_file(folder, source, columns, rest):
    declared = "".join(f"\n      {name}: {COLUMNS[name][0]}" for name in columns)
    path = folder / "pipeline.yaml"
    path.write_text(f"""name: bench
sources:
  events:
    {source}
    format: {{json: {{}}}}
    columns:{declared}
    time: {{event_time: occurred_at, delay: 5s}}
{rest}
parallelism: 2
""")
    return path


def metrics(reach):
    return f"""queries:
  metrics: |
    SELECT tumble(occurred_at, INTERVAL '1 minute') AS "window", campaign_id,{MEASURES}{REACH if reach else ""}
    FROM events GROUP BY 1, 2
sinks:
  table:
    from: metrics
    parquet: {{url: ./lake/table}}"""


ARCHIVE = """steps:
  kept: {from: events, where: "event_type <> 'impression' or campaign_id is not null"}
sinks:
  table:
    from: kept
    parquet: {url: ./lake/table, partition_by: {dt: "date(occurred_at)"}}"""


def run(command, folder, **variables):
    """The cost of a whole process."""
    begun = time.monotonic()
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            list(map(str, command)), cwd=folder, stdout=log, stderr=log,
            env={**os.environ, "RUST_LOG": "error", **variables},
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}:\n"
                           + (folder / "log").read_text()[-2000:])
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "wall_s": time.monotonic() - begun,
            "peak_mib": usage.ru_maxrss / 1024}


class Systems:
    """The built and installed systems."""

    def __init__(self):
        command = os.environ.get("TAGFLOW")
        if not command:
            subprocess.run(["cargo", "build", "--profile", "dist"], cwd=ROOT, check=True)
        self.tagflow = pathlib.Path(command or TARGET / "dist" / "tagflow").resolve()
        self.python = tansu.environment(PEERS / "duckdb", DUCKDB)
        try:
            self.flink = self.install_flink()
        except (NotRun, subprocess.CalledProcessError, OSError) as why:
            self.flink = why

    @staticmethod
    def install_flink():
        if not shutil.which("javac"):
            raise NotRun("there is no JDK")
        tansu.environment(PEERS / "flink", FLINK)
        jars = next((PEERS / "flink").glob("**/pyflink/lib"))
        classes = PEERS / "classes"
        subprocess.run(["javac", "-cp", f"{jars}/*", "-d", classes, HERE / "Flink.java"], check=True)
        opens = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("lang", "time", "util")]
        return ["java", "-Xmx4g", *opens, "-cp", f"{classes}:{jars}/*", "Flink"]

    def run_tagflow(self, folder, pipeline, *arguments, **variables):
        command = [self.tagflow, "run", pipeline, "--admin", "off", *arguments]
        return run(command, folder, **variables)

    def run_duckdb(self, folder, query):
        run([self.python, HERE / "duck.py", query], folder)
        return json.loads((folder / "log").read_text())

    def same(self, ours, theirs):
        subprocess.run([self.python, HERE / "different.py", ours, theirs], check=True)


def events_file(count):
    """The events of W1, as a file."""
    path = TARGET / "tmp" / f"w1-{count}.ndjson"
    if not path.exists():
        command = ["cargo", "bench", "--workspace", "--bench", "w1", "--"]
        subprocess.run([*command, "--input-only", "--events", str(count)], cwd=ROOT, check=True)
    return path


def read_json(path, columns):
    declared = ", ".join(f"{name}: '{COLUMNS[name][1]}'" for name in columns)
    return f"read_json('{path}', format='newline_delimited', columns={{{declared}}})"


def duckdb_metrics(path, reach, output):
    columns = MEASURED + ["user_id"] * reach
    return f"""COPY (
    SELECT time_bucket(INTERVAL '1 minute', make_timestamp(occurred_at * 1000)) AS window_start,
           campaign_id,{MEASURES}{REACH if reach else ""}
    FROM {read_json(path, columns)} GROUP BY 1, 2) TO '{output}' (FORMAT parquet)"""


def answer(rows, reach, start="epoch(window_start)"):
    columns = "campaign_id, events, impressions, clicks, CAST(revenue AS DECIMAL(38,2))"
    return (f"SELECT CAST({start} AS BIGINT), {columns}{', reach' if reach else ''} FROM {rows}")


class Metrics:
    """W1 and W1d."""

    FLINK_COLUMNS = [{
        "window_start": "BIGINT", "campaign_id": "VARCHAR", "events": "BIGINT",
        "impressions": "BIGINT", "clicks": "BIGINT", "revenue": "DECIMAL(38,2)", **more,
    } for more in ({}, {"reach": "BIGINT"})]

    def __init__(self, systems, events, reach):
        self.systems, self.events, self.reach = systems, events, reach
        self.files = {count: events_file(count) for count in (events, events // 5)}

    def runs(self):
        yield "Tagflow", self.events, lambda folder: self.tagflow(folder, 2)
        yield "Tagflow, 1 lane", self.events, lambda folder: self.tagflow(folder, 1)
        yield "DuckDB", self.events, self.duckdb
        for count in (self.events, self.events // 5):
            yield "Flink", count, lambda folder, count=count: self.run_flink(folder, count)

    def tagflow(self, folder, lanes):
        source = f"files: {{url: '{self.files[self.events]}'}}"
        columns = MEASURED + ["user_id"] * self.reach
        pipeline = tagflow_file(folder, source, columns, metrics(self.reach))
        cost = self.systems.run_tagflow(folder, pipeline, "--parallelism", lanes)
        return cost, answer(f"'{folder}/lake/table/**/*.parquet'", self.reach)

    def duckdb(self, folder):
        output = folder / "answer.parquet"
        query = duckdb_metrics(self.files[self.events], self.reach, output)
        return self.systems.run_duckdb(folder, query), answer(f"'{output}'", self.reach)

    def run_flink(self, folder, count):
        if isinstance(self.systems.flink, Exception):
            raise NotRun(self.systems.flink)
        words = [self.files[count], folder / "answer", "reach" if self.reach else "all"]
        cost = run([*self.systems.flink, *words], folder)
        rows = f"read_csv('{folder}/answer/*', header = false, columns = {self.FLINK_COLUMNS[self.reach]})"
        return cost, answer(rows, self.reach, "window_start") if count == self.events else None


class Tags:
    """W2: every user has an event, and half of the events have users by Zipf's law, over 60
    days. The last snapshot is compared with DuckDB's lifetimes."""

    # In the largest case, active users are in memory and the others on disk.
    MEMORY = {10_000_000: "1000MiB"}
    PIPELINE = ROOT / "examples" / "user_tags.yaml"
    KAFKA = 'kafka: {brokers: "${env:KAFKA_BROKERS:-localhost:9092}", topics: [behaviour-events]}'

    def __init__(self, systems, events):
        self.systems = systems
        self.events = {users: max(events, 2 * users) for users in (100_000, 1_000_000, 10_000_000)}

    def file(self, users):
        path = TARGET / "tmp" / f"w2-{users}-{self.events[users]}.ndjson"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            share = f"{60 * 86_400_000} * range // {self.events[users]}"
            query = f"""COPY (
                SELECT 'e' || range AS event_id, 'user-' || who AS user_id,
                       CASE WHEN kind < 70 THEN 'impression' WHEN kind < 90 THEN 'click'
                            WHEN kind < 96 THEN 'cart' ELSE 'purchase' END AS event_type,
                       'campaign-' || chance % 100 AS campaign_id, 'product-' || chance % 5000 AS product_id,
                       'category-' || chance % 20 AS category,
                       CASE WHEN kind >= 96 THEN chance % 20000 / 100.0 END AS amount,
                       'channel-' || chance % 8 AS utm_source, 1767225600000 + {share} AS occurred_at
                FROM (SELECT range, hash(range) AS chance, hash(range + 1) % 100 AS kind,
                             CASE range % 2 WHEN 0 THEN range // 2 * 7919 % {users}
                                  ELSE CAST(pow({users}, hash(range + 2) / 18446744073709551616.0) AS BIGINT) - 1
                             END AS who
                      FROM range({self.events[users]})))
                TO '{path}.part' (FORMAT json)"""
            self.systems.run_duckdb(PEERS, query)
            os.rename(f"{path}.part", path)
        return path

    def runs(self):
        for users in self.events:
            yield f"Tagflow, {users:,} users", self.events[users], lambda folder, users=users: self.run(folder, users)

    def run(self, folder, users):
        path = self.file(users)
        text = self.PIPELINE.read_text()
        assert self.KAFKA in text
        text = text.replace(self.KAFKA, f"files: {{url: '{path}'}}")
        if users in self.MEMORY:
            memory = f"{{limit: {self.MEMORY[users]}, spill: {folder}/spill}}"
            text = text.replace("  key: user_id", f"  key: user_id\n  memory: {memory}")
        pipeline = folder / "pipeline.yaml"
        pipeline.write_text(text)
        cost = self.systems.run_tagflow(folder, pipeline, "--parallelism", 2)
        ours = f"""SELECT user_id, orders_lifetime, spend_lifetime::DECIMAL(38, 2), epoch_ms(last_order_at)
                   FROM '{folder}/lake/user_profile/**/*.parquet'"""
        columns = ["user_id", "event_type", "amount", "occurred_at"]
        bought = "FILTER (WHERE event_type = 'purchase')"
        theirs = f"""SELECT user_id, count(*) {bought}, coalesce(sum(amount) {bought}, 0)::DECIMAL(38, 2),
                            max(occurred_at) {bought}
                     FROM {read_json(path, columns)} GROUP BY 1"""
        self.systems.same(ours, theirs)
        return cost, None

    def rows(self, name, costs):
        for (system, events), of in costs.items():
            cpu, wall, peak = (median(of, what) for what in ("cpu_s", "wall_s", "peak_mib"))
            yield [name, f"{system}, {events / wall / 1e3:.0f} K events/s", f"{cpu / events * 1e6:.3f}", f"{wall:.2f}",
                   f"{peak:.0f}", "", "", ""]


class Kafka:
    """The common part of W3 and W4: a full topic."""

    def __init__(self, systems, events, brokers):
        self.systems, self.events, self.brokers = systems, events, brokers
        self.path = events_file(events)

    def source(self):
        return f"kafka: {{brokers: '{self.brokers}', topics: [events]}}"


class KafkaMetrics(Kafka):
    """W3: its peer is W1 by the same binary."""

    def runs(self):
        yield "Tagflow", self.events, self.tagflow
        file = Metrics(self.systems, self.events, False)
        yield "Tagflow, W1", self.events, lambda folder: file.tagflow(folder, 2)

    def tagflow(self, folder):
        pipeline = tagflow_file(folder, self.source(), MEASURED, metrics(False))
        cost = self.systems.run_tagflow(folder, pipeline, "--once", "--drain")
        return cost, answer(f"'{folder}/lake/table/**/*.parquet'", False)


class Archive(Kafka):
    """W4."""

    def runs(self):
        yield "Tagflow", self.events, self.tagflow
        yield "DuckDB", self.events, self.duckdb

    def tagflow(self, folder):
        pipeline = tagflow_file(folder, self.source(), COLUMNS, ARCHIVE)
        cost = self.systems.run_tagflow(folder, pipeline, "--once")
        return cost, self.answer(f"{folder}/lake/table")

    def duckdb(self, folder):
        rows = f"""SELECT * REPLACE (make_timestamp(occurred_at * 1000) AS occurred_at),
                   CAST(make_timestamp(occurred_at * 1000) AS DATE) AS dt
            FROM {read_json(self.path, COLUMNS)}
            WHERE event_type <> 'impression' OR campaign_id IS NOT NULL"""
        output = folder / "answer"
        query = f"COPY ({rows}) TO '{output}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (dt))"
        return self.systems.run_duckdb(folder, query), self.answer(output)

    @staticmethod
    def answer(folder):
        time = "occurred_at"
        others = ", ".join(name for name in COLUMNS if name != time)
        return f"SELECT {others}, epoch_ms({time}) FROM read_parquet('{folder}/**/*.parquet')"


class Start:
    """W8."""

    def __init__(self, systems):
        self.systems = systems

    def runs(self):
        yield "Tagflow", 1, self.tagflow

    def tagflow(self, folder):
        (folder / "one.ndjson").write_text('{"event_type":"click","occurred_at":1767571200000}\n')
        source = f"files: {{url: '{folder}/one.ndjson'}}"
        pipeline = tagflow_file(folder, source, MEASURED, metrics(False))
        cost = self.systems.run_tagflow(folder, pipeline)
        return cost, answer(f"'{folder}/lake/table/**/*.parquet'", False)


class State:
    """The common part of W7 and W8s: totals of users, 1 GiB in memory, filled once. Each run
    continues with a copy."""

    USERS = 6_000_000
    HOT = USERS // 100
    COLUMNS = ["user_id", "amount", "occurred_at"]
    QUERY = """queries:
  totals:
    sql: |
      SELECT user_id, count(*) AS events, sum(amount) AS spend, max(occurred_at) AS last_at
      FROM events GROUP BY 1
    emit: {every: 1m}
    ttl: 400d
sinks:
  table:
    from: totals
    parquet: {url: ./lake/table}
checkpoint: {every: EVERY}"""

    def __init__(self, systems):
        self.systems = systems
        self.filled = PEERS / f"totals-{self.USERS}"
        if not (self.filled / "done").exists():
            shutil.rmtree(self.filled, ignore_errors=True)
            (self.filled / "in").mkdir(parents=True)
            self.write(self.filled, 1, self.USERS, "range")
            self.run_tagflow(self.filled, "1h")
            (self.filled / "done").touch()

    def write(self, folder, file, count, user):
        """The events of a file, a millisecond apart."""
        rows = f"""SELECT 'user-' || ({user}) AS user_id, range % 97 / 4 AS amount,
                   1767571200000 + {file} * 100000000 + range AS occurred_at FROM range({count})"""
        path = folder / "in" / f"{file}.ndjson"
        self.systems.run_duckdb(folder, f"COPY ({rows}) TO '{path}' (FORMAT json)")

    def run_tagflow(self, folder, every):
        rest = self.QUERY.replace("EVERY", every)
        pipeline = tagflow_file(folder, "files: {url: './in/*.ndjson'}", self.COLUMNS, rest)
        return self.systems.run_tagflow(folder, pipeline)

    def go_on(self, folder, events, every):
        """Continues with as many events of a hundredth of the users."""
        shutil.copytree(self.filled, folder, dirs_exist_ok=True)
        # 7,919 is coprime to their number: each user in turn, far from the previous one.
        self.write(folder, 2, events, f"range * 7919 % {self.HOT} * 100")
        cost = self.run_tagflow(folder, every)
        newest = f"""SELECT user_id, arg_max(events, changed_at), arg_max(spend, changed_at)::DECIMAL(38, 2),
                     epoch_ms(max(last_at)) FROM '{folder}/lake/table/**/*.parquet' GROUP BY 1"""
        totals = f"""SELECT user_id, count(*), sum(amount)::DECIMAL(38, 2), max(occurred_at)
                     FROM {read_json(f"{folder}/in/*.ndjson", self.COLUMNS)} GROUP BY 1"""
        self.systems.same(newest, totals)
        return cost, None


class Commits(State):
    """W7: the same rows with commits that follow each other at once, and without commits. The
    cost of start and end is excluded by runs with fewer rows."""

    EVENTS = (10_000_000, 2_000_000)

    def runs(self):
        for system, every in (("Tagflow", "100ms"), ("Tagflow, no commits", "1h")):
            for events in self.EVENTS:
                yield system, events, lambda folder, events=events, every=every: self.go_on(folder, events, every)

    def rows(self, name, costs):
        most, fewest = self.EVENTS
        added = {system: {what: median(costs[system, most], what) - median(costs[system, fewest], what)
                          for what in ("cpu_s", "wall_s")}
                 for system, _ in costs}
        millions = (most - fewest) / 1e6
        for system, cost in added.items():
            ratios = [f"{added['Tagflow'][what] / cost[what]:.2f}" for what in cost]
            peak = median(costs[system, most], "peak_mib")
            yield [name, f"{system}, marginal", f"{cost['cpu_s'] / millions:.3f}", f"{cost['wall_s']:.2f}",
                   f"{peak:.0f}", *ratios, ""]


class StartWithState(State):
    """W8s."""

    def runs(self):
        yield "Tagflow", 1, lambda folder: self.go_on(folder, 1, "1h")


class Latency:
    """W6: a separate process sends the events, queries the tags and compares."""

    def __init__(self, systems):
        self.systems = systems

    def runs(self):
        yield "Tagflow", 1, self.run

    def run(self, folder):
        command = ["cargo", "bench", "--workspace", "--bench", "latency", "--", "--binary", self.systems.tagflow]
        said = subprocess.run(list(map(str, command)), cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(said.stdout.splitlines()[-1]), None

    def rows(self, name, costs):
        [of] = costs.values()
        latencies = ", ".join(f"{what} {median(of, f'{what}_ms'):.1f} ms" for what in ("p50", "p90", "p99", "max"))
        millions = median(of, "events") / 1e6
        yield [name, f"Tagflow: {latencies}", f"{median(of, 'cpu_s') / millions:.3f}", "", "", "", "", ""]


def measure(name, systems, workload, rounds, skip):
    costs, skipped = {}, {}
    for number in range(rounds):
        with tempfile.TemporaryDirectory(dir=PEERS, prefix=f"{name}-") as work:
            answers = {}
            for system, events, start in workload.runs():
                folder = pathlib.Path(work) / f"{system} {events}"
                folder.mkdir()
                try:
                    if system in skip:
                        raise NotRun("skipped")
                    cost, rows = start(folder)
                except NotRun as why:
                    skipped[system] = why
                    continue
                costs.setdefault((system, events), []).append(cost)
                if rows:
                    answers[system] = rows
                figures = ", ".join(f"{what} {figure:.2f}" for what, figure in cost.items())
                print(f"{name} {number + 1}/{rounds}: {system}, {events}: {figures}", file=sys.stderr)
            ours = answers.pop("Tagflow", None)
            for theirs in answers.values():
                systems.same(ours, theirs)
    return costs, skipped


def median(costs, what):
    return statistics.median(cost[what] for cost in costs)


def table(name, costs, skipped):
    """The rows of a workload; ratios are Tagflow's to the row's system."""
    most = max(events for _, events in costs)
    rows = {system: {what: median(of, what) for what in of[0]}
            for (system, events), of in costs.items() if events == most}
    millions = most / 1e6
    ours = rows["Tagflow"]
    for system, row in rows.items():
        ratios = [f"{ours[what] / row[what]:.2f}" if row is not ours else "" for what in row]
        cost = f"{row['cpu_s'] / millions:.3f}" if most > 1 else ""
        yield [name, system, cost, f"{row['wall_s']:.2f}",
               f"{row['peak_mib']:.0f}", *ratios]
    for (system, events), of in costs.items():
        if events < most:
            added = (rows[system]["cpu_s"] - median(of, "cpu_s")) / (most - events) * 1e6
            ratio = ours["cpu_s"] / millions / added
            yield [name, f"{system}, marginal", f"{added:.3f}", "", "", f"{ratio:.2f}", "", ""]
    for system, why in skipped.items():
        yield [name, system, f"NOT RUN: {why}", "", "", "", "", ""]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("workloads", nargs="*", default=["W1", "W1d", "W2", "W3", "W4", "W6", "W7", "W8", "W8s"])
    parser.add_argument("--skip", action="append", default=[], metavar="SYSTEM")
    arguments = parser.parse_args()
    systems = Systems()
    with contextlib.ExitStack() as stack:
        brokers = None
        if {"W3", "W4"} & set(arguments.workloads):
            brokers = stack.enter_context(tansu.broker())
            send = ["produce", events_file(arguments.events), "--topic", "events", "--brokers", brokers]
            subprocess.run([systems.tagflow, *send, "--partitions", str(PARTITIONS)], check=True)
        make = {
            "W1": lambda: Metrics(systems, arguments.events, False),
            "W1d": lambda: Metrics(systems, arguments.events, True),
            "W2": lambda: Tags(systems, arguments.events),
            "W3": lambda: KafkaMetrics(systems, arguments.events, brokers),
            "W4": lambda: Archive(systems, arguments.events, brokers),
            "W6": lambda: Latency(systems),
            "W7": lambda: Commits(systems),
            "W8": lambda: Start(systems),
            "W8s": lambda: StartWithState(systems),
        }
        head = ["", "system", "CPU-s/M", "wall s", "peak MiB", "CPU ×", "wall ×", "peak ×"]
        rows = [head, ["---"] * len(head)]
        for name in arguments.workloads:
            workload = make[name]()
            costs, skipped = measure(name, systems, workload, arguments.rounds, arguments.skip)
            rows.extend(workload.rows(name, costs) if hasattr(workload, "rows") else table(name, costs, skipped))
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
