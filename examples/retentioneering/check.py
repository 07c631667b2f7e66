#!/usr/bin/env python3
"""Compares the sessions that the pipeline found with the package's own.

    python3 check.py LAKE

Each event must be there once; two events must share a session in what was
written exactly if they share one in the package's file, which has 3,605; and
each day must have as many events and sessions as DuckDB counts there. Exits with
1 and says what differs otherwise.
"""

import sys

import duckdb

from events import source

EVENTS, SESSIONS = 31_106, 3_605

EXPECTED = """
create table expected as
select 'e' || (row_number() over () - 1) as event_id, session_id, "timestamp" as occurred_at
from read_csv(?, types = {'timestamp': 'TIMESTAMP'}, parallel = false)
"""

WRITTEN = "create table written as select * from read_parquet(?)"

# A session of one side that is not one of the other.
DIFFERENCES = """
with pairs as (
    select distinct e.session_id as theirs, w.session_id as ours
    from expected e full join written w using (event_id)
)
select * from pairs
where theirs is null or ours is null
   or theirs in (select theirs from pairs group by all having count(*) > 1)
   or ours in (select ours from pairs group by all having count(*) > 1)
order by all limit 20
"""

DAYS = """
select * from (
    select date_trunc('day', occurred_at) as day, count(*) as events,
           count(distinct session_id) as sessions
    from expected group by all
) e full join (
    select window_start at time zone 'UTC' as day, events, sessions from read_parquet(?)
) w using (day)
where (e.events, e.sessions) is distinct from (w.events, w.sessions)
order by day limit 20
"""


def main(lake):
    database = duckdb.connect()
    database.execute(EXPECTED, [str(source())])
    database.execute(WRITTEN, [f"{lake}/events_in_sessions/**/*.parquet"])
    count = database.execute(
        "select count(*), count(distinct event_id), count(distinct session_id) from written")
    found = count.fetchone()
    print(f"{found[0]:,} events, {found[1]:,} of them different, in {found[2]:,} sessions")
    wrong = database.execute(DIFFERENCES).fetchall()
    days = database.execute(DAYS, [f"{lake}/sessions_by_day/**/*.parquet"]).fetchall()
    for row in wrong + days:
        print("differs:", *row)
    right = found == (EVENTS, EVENTS, SESSIONS) and not wrong and not days
    print("every session equals the package's own" if right else "NOT equal")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
