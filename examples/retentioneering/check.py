#!/usr/bin/env python3
"""Compares what the pipelines found with the package's own sessions, and with DuckDB.

    python3 check.py LAKE

Each event must be there once; two events must share a session in what was
written exactly if they share one in the package's file, which has 3,605; and
each day must have as many events and sessions as DuckDB counts there. Each cart add
that no purchase of its user followed within 30 minutes must have been found, with the
time at which that was known. Exits with 1 and says what differs otherwise.
"""

import sys

import duckdb

from events import source

EVENTS, SESSIONS = 31_106, 3_605
CARTS_ADDED, CARTS_LEFT = 1_346, 986

EXPECTED = """
create table expected as
select user_id, event, 'e' || (row_number() over () - 1) as event_id, session_id, "timestamp" as occurred_at
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


# Cart adds without a purchase by the same user from then on until 30 minutes later, by when
# that is known.
ABANDONED = """
create table abandoned as
select user_id, occurred_at + interval 30 minute as known_at
from expected as added
where event = 'add_to_cart' and not exists (
    from expected as bought
    where bought.user_id = added.user_id and bought.event = 'purchase'
      and bought.occurred_at between added.occurred_at and added.occurred_at + interval 30 minute)
"""

FOUND = """
create table found as
select user_id, effective_at at time zone 'UTC' as known_at
from read_parquet(?) where tag = 'abandoned' and new = 'true'
"""

CARTS = """
select 'missing' as what, * from (from abandoned except all from found)
union all select 'extra', * from (from found except all from abandoned)
order by all limit 20
"""

# How many cart adds there are, and after how many no purchase of a later second came.
STRICT = """
select count(*), count(*) filter (not exists (
    from expected as bought
    where bought.user_id = added.user_id and bought.event = 'purchase'
      and bought.occurred_at > added.occurred_at
      and bought.occurred_at <= added.occurred_at + interval 30 minute))
from expected as added where event = 'add_to_cart'
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
    return 0 if right and carts(database, lake) else 1


def carts(database, lake):
    database.execute(ABANDONED)
    database.execute(FOUND, [f"{lake}/abandoned_carts/**/*.parquet"])
    wrong = database.execute(CARTS).fetchall()
    for row in wrong:
        print("differs:", *row)
    found = database.execute("select count(*) from found").fetchone()[0]
    strict = database.execute(STRICT).fetchone()
    # A purchase in the very second of a cart add ends the wait too: one of the 986.
    print(f"{strict[0]:,} cart adds, after {strict[1]} of them no purchase within 30 minutes; "
          f"{found} found, as {strict[1] - found} was bought in the same second")
    return not wrong and (*strict, found) == (CARTS_ADDED, CARTS_LEFT, CARTS_LEFT - 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
