#!/usr/bin/env python3
"""Compares the results with the package's own sessions, and with DuckDB.

    python3 check.py LAKE

Each event must be there once. Two events must share a session in the output exactly if
they share one in the package's file, which has 3,605. Each day must have as many events
and sessions as DuckDB counts. The tag must become true at each cart add without a purchase
by its user within 30 minutes, with the time at which that was known, unless it is true
already. Otherwise it prints the differences and exits with 1.
"""

import sys

import duckdb

from events import source

EVENTS, SESSIONS = 31_106, 3_605
CARTS_ADDED, CARTS_LEFT = 1_346, 986
TRUE_FOR = "interval 1 day"

EXPECTED = """
create table expected as
select user_id, event, 'e' || (row_number() over () - 1) as event_id, session_id, "timestamp" as occurred_at
from read_csv(?, types = {'timestamp': 'TIMESTAMP'}, parallel = false)
"""

WRITTEN = "create table written as select * from read_parquet(?)"

# A session that exists on one side only.
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


# Cart adds without a purchase by the same user until 30 minutes later, with the time at which
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

# The times at which the tag becomes true: it is not, from the abandoned carts before.
FIRED = f"""
create table fired as
select distinct user_id, known_at from abandoned as added where not exists (
    from abandoned as before
    where before.user_id = added.user_id and before.known_at < added.known_at
      and before.known_at >= added.known_at - {TRUE_FOR})
"""

FOUND = """
create table found as
select user_id, effective_at at time zone 'UTC' as known_at
from read_parquet(?) where tag = 'abandoned' and new = 'true'
"""

CARTS = """
select 'missing' as what, * from (from fired except all from found)
union all select 'extra', * from (from found except all from fired)
order by all limit 20
"""

# The number of cart adds, and of those without a purchase in a later second.
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
    database.execute(FIRED)
    database.execute(FOUND, [f"{lake}/abandoned_carts/**/*.parquet"])
    wrong = database.execute(CARTS).fetchall()
    for row in wrong:
        print("differs:", *row)
    count = lambda table: database.execute(f"select count(*) from {table}").fetchone()[0]  # noqa: E731
    left, found = count("abandoned"), count("found")
    strict = database.execute(STRICT).fetchone()
    # A purchase in the same second as the cart add also ends the wait, once among the 986.
    print(f"{strict[0]:,} cart adds, {left} of them abandoned for 30 minutes; "
          f"the tag became true {found} times")
    return not wrong and found > 0 and (*strict, left) == (CARTS_ADDED, CARTS_LEFT, CARTS_LEFT - 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
