#!/usr/bin/env python3
"""Compares the written tags with DuckDB over the package's files.

    python3 check_tags.py LAKE

As of every fourth midnight, each household's exact tags must be equal to the cent, and so
must lifetime tags. For tags in tiles of an hour, it prints how many counts differ from
those without tiles. The published numbers of the data must appear. Otherwise it prints
the differences and exits with 1.
"""

import sys

from events import database

SHOWN = 10

# The events of the package, as `events.py` writes them.
EVENTS = """
create table events as
    select household_id, transaction_timestamp as moment, 'basket' as kind,
           (sum(round(sales_value * 100)::bigint) * 0.01::decimal(3,2))::decimal(18,2) as amount
    from transactions group by household_id, basket_id, transaction_timestamp
    union all
    select household_id, redemption_date, 'redemption', null from coupon_redemptions
"""

# The tags of each household as of each time T, over its events in (T - W, T].
EXPECTED = """
create table expected as
    with times as (select distinct as_of from written),
    known as (select household_id, min(moment) as first from events group by all)
    select times.as_of, known.household_id,
        count(*) filter (kind = 'basket' and moment > as_of - interval 30 day) as exact_baskets_30d,
        coalesce(sum(amount) filter (moment > as_of - interval 30 day), 0) as exact_spend_30d,
        count(*) filter (kind = 'basket') as baskets_lifetime,
        count(*) filter (kind = 'redemption' and moment > as_of - interval 30 day) as redemptions_30d,
        count(*) filter (kind = 'redemption') as redemptions_lifetime,
        max(moment) filter (kind = 'basket') as last_basket_at,
        floor(epoch(any_value(times.as_of) - max(moment) filter (kind = 'basket')) / 86400)::bigint as days_since_basket
    from times join known on first <= as_of
    join events on events.household_id = known.household_id and moment <= as_of
    group by all
"""

# The same for windows in tiles.
TILED = {
    "baskets_7d": "count(*) filter (kind = 'basket' and moment > as_of - interval 7 day)",
    "baskets_30d": "count(*) filter (kind = 'basket' and moment > as_of - interval 30 day)",
    "baskets_90d": "count(*) filter (kind = 'basket' and moment > as_of - interval 90 day)",
}

DIFFERENCES = """
select 'missing' as what, * from (from expected except all select {columns} from written)
union all by name
select 'extra' as what, * from (select {columns} from written except all from expected)
order by all
"""

GOLDEN = ("households, spend, baskets and most baskets in the 30 days before July", """
    select count(*) filter (exact_baskets_30d > 0), sum(exact_spend_30d)::varchar,
           sum(exact_baskets_30d), max(exact_baskets_30d)
    from written where as_of = '2017-07-01'""", (2_027, "373512.59", 13_015, 88))


def main(lake):
    tables = database()
    tables.execute("set timezone = 'UTC'")
    tables.execute("create table written as select * replace (as_of at time zone 'UTC' as as_of, "
                   "last_basket_at at time zone 'UTC' as last_basket_at) "
                   f"from read_parquet('{lake}/household_days/**/*.parquet')")
    tables.execute(EVENTS)
    tables.execute(EXPECTED)
    columns = ", ".join(row[0] for row in tables.execute("describe expected").fetchall())
    differences = tables.execute(DIFFERENCES.format(columns=columns)).fetchall()
    for row in differences[:SHOWN]:
        print("household_days differs:", *row, file=sys.stderr)
    rows, days = tables.execute("select count(*), count(distinct as_of) from expected").fetchone()
    print(f"household_days: {rows:,} rows as of {days} days, {len(differences):,} differ from DuckDB's")
    wrong = len(differences) + (rows == 0)
    what, query, expected = GOLDEN
    found = tables.execute(query).fetchone()
    print(f"{what}: {found}")
    if found != expected:
        wrong += 1
        print(f"{what}: expected {expected}, got {found}", file=sys.stderr)
    for tag, value in TILED.items():
        off, known = tables.execute(f"""
            with exact as (
                select as_of, w.household_id, any_value(w.{tag}) as tiled, {value} as exact
                from written w join events using (household_id) where moment <= as_of group by all
            )
            select count(*) filter (tiled <> exact), count(*) from exact
            where tiled > 0 or exact > 0""").fetchone()
        print(f"{tag}: {off:,} of {known:,} counts ({off / known:.2%}) are off by their tiles")
        wrong += off > known / 50
    print("the tags equal DuckDB's" if not wrong else "NOT equal")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
