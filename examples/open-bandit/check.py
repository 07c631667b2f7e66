#!/usr/bin/env python3
"""Compares the written table with DuckDB over the package's own files.

    python3 check.py LAKE/ad_hours

Every cell (campaign, policy, hour) must have the same impressions and clicks,
and no cell may be missing, extra or written twice. Otherwise it prints the
differences and exits with 1.
"""

import pathlib
import sys

import duckdb

from events import CAMPAIGNS, POLICIES, csv_path

# Clicks of 10,000 impressions, as published with the data.
GOLDEN_CLICKS = {
    ("men", "random"): 46, ("men", "bts"): 69,
    ("all", "random"): 38, ("all", "bts"): 42,
    ("women", "random"): 46, ("women", "bts"): 46,
}
SHOWN = 20

EXPECTED = """
create table expected as
select campaign_id, policy,
       date_trunc('hour', "timestamp" at time zone 'UTC') as hour,
       count(*) as impressions,
       count(*) filter (where click = 1) as clicks
from source group by all
"""

WRITTEN = """
create table written as
select campaign_id, policy, window_start at time zone 'UTC' as hour, impressions, clicks
from read_parquet(?, hive_partitioning = false, union_by_name = true)
"""

DIFFERENCES = """
select coalesce(e.campaign_id, w.campaign_id) as campaign,
       coalesce(e.policy, w.policy) as policy,
       coalesce(e.hour, w.hour) as hour,
       e.impressions, w.impressions, e.clicks, w.clicks
from expected e full join written w
  on e.campaign_id = w.campaign_id and e.policy = w.policy and e.hour = w.hour
where (e.impressions, e.clicks) is distinct from (w.impressions, w.clicks)
order by all
"""


def load_expected(database):
    """The sample, from the package's files."""
    parts = " union all ".join(
        f"select '{campaign}' as campaign_id, '{policy}' as policy, \"timestamp\", click "
        f"from read_csv('{csv_path(policy, campaign)}', "
        "types = {'timestamp': 'TIMESTAMPTZ', 'click': 'INTEGER'})"
        for policy in POLICIES for campaign in CAMPAIGNS
    )
    database.execute(f"create view source as {parts}")
    database.execute(EXPECTED)


def load_written(database, folder):
    """The written table. Files of a commit that is not published are under `_staging`,
    and their names do not end in `.parquet`."""
    files = [str(path) for path in sorted(folder.rglob("*.parquet"))]
    if not files:
        raise SystemExit(f"error: no Parquet file under `{folder}`")
    database.execute(WRITTEN, [files])
    return len(files)


def problems(database):
    """The errors, one per line."""
    found = []
    for row in database.execute(
        "select campaign_id, policy, hour, count(*) from written group by all "
        "having count(*) > 1 order by all"
    ).fetchall():
        found.append(f"{row[0]}/{row[1]} {row[2]}: written {row[3]} times")
    for row in database.execute(DIFFERENCES).fetchall():
        campaign, policy, hour, impressions, got_impressions, clicks, got_clicks = row
        cell = f"{campaign}/{policy} {hour}"
        if got_impressions is None:
            found.append(f"{cell}: missing ({impressions} impressions, {clicks} clicks)")
        elif impressions is None:
            found.append(f"{cell}: not in the data ({got_impressions} impressions)")
        else:
            found.append(f"{cell}: expected {impressions} impressions and {clicks} clicks, "
                         f"got {got_impressions} and {got_clicks}")
    totals = database.execute(
        "select campaign_id, policy, sum(impressions)::bigint, sum(clicks)::bigint "
        "from written group by all"
    ).fetchall()
    totals = {(campaign, policy): tuple(counts) for campaign, policy, *counts in totals}
    for (campaign, policy), clicks in GOLDEN_CLICKS.items():
        got = totals.get((campaign, policy), (0, 0))
        if got != (10_000, clicks):
            found.append(f"{campaign}/{policy} in all: expected 10000 impressions and {clicks} "
                         f"clicks, got {got[0]} and {got[1]}")
    return found


def main():
    if len(sys.argv) != 2:
        raise SystemExit("usage: check.py FOLDER")
    database = duckdb.connect()
    database.execute("set timezone = 'UTC'")
    load_expected(database)
    files = load_written(database, pathlib.Path(sys.argv[1]))
    found = problems(database)
    for line in found[:SHOWN]:
        print(f"wrong: {line}", file=sys.stderr)
    if len(found) > SHOWN:
        print(f"wrong: and {len(found) - SHOWN} more", file=sys.stderr)
    if found:
        return 1
    cells, impressions, clicks = database.execute(
        "select count(*), sum(impressions), sum(clicks) from written"
    ).fetchone()
    print(f"ok: {cells} cells in {files} files equal DuckDB's "
          f"({impressions} impressions, {clicks} clicks)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
