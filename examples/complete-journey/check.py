#!/usr/bin/env python3
"""Compares the written tables with DuckDB over the package's own files.

    python3 check.py LAKE

Every row of every table must be equal, and none may be missing, extra or written
twice. The tables must also show the published numbers of the data. Otherwise it
prints the differences and exits with 1.
"""

import sys

from events import database

SHOWN = 10

# The expected content of each table. Times are UTC; `new_york` converts from the
# local time there.
EXPECTED = {
    "spend": """
        with days as (
            select household_id, basket_id, sum(cents) as cents,
                   date_trunc('day', transaction_timestamp)::timestamp as day
            from sales group by all
        ), windows as (
            select *, unnest(range(30)) as age from days
        )
        select day - to_days(age::integer) as window_start,
               day - to_days(age::integer) + to_days(30) as window_end, household_id,
               count(distinct basket_id) as baskets, sum(cents)::bigint as cents
        from windows group by all
    """,
    # The data numbers its weeks, from Monday to Sunday. The first contains only a Sunday.
    "weeks": """
        select new_york(timestamp '2016-12-26' + to_days(7 * (week - 1)::integer)) as window_start,
               new_york(timestamp '2016-12-26' + to_days(7 * week::integer)) as window_end,
               week as first_week, week as last_week, count(*) as lines,
               count(distinct basket_id) as baskets, sum(cents)::bigint as cents,
               max(quantity) as highest_quantity,
               count(*) filter (transaction_timestamp::time = time '00:00') as lines_at_midnight
        from sales group by week
    """,
    "best_products": """
        with months as (
            select date_trunc('month', transaction_timestamp at time zone 'UTC'
                              at time zone 'America/New_York') as month,
                   product_id, sum(cents)::bigint as cents
            from sales group by all
        )
        select new_york(month) as window_start, new_york(month + interval 1 month) as window_end,
               row_number() over (partition by month order by cents desc, product_id) as rank,
               product_id, department, product_category, cents
        from months left join products using (product_id)
        qualify rank <= 10
    """,
    "campaigns": """
        with redeemed as (
            select campaign_id, count(distinct household_id) as redeemers,
                   count(*) as redemptions, max(redemption_date) as latest
            from coupon_redemptions group by all
        )
        select start_date as window_start,
               coalesce(latest, start_date) + to_days(60) as window_end, campaign_id,
               (select count(*) from campaigns c where c.campaign_id = d.campaign_id) as targeted,
               coalesce(redeemers, 0) as redeemers, coalesce(redemptions, 0) as redemptions
        from campaign_descriptions d left join redeemed using (campaign_id)
    """,
    "answers": """
        select redemption_date, campaign_id, campaign_type, household_id, coupon_upc,
               (select count(*) from coupons k where k.coupon_upc = r.coupon_upc
                and k.campaign_id = r.campaign_id) as products
        from coupon_redemptions r
        join campaigns using (campaign_id, household_id)
        join campaign_descriptions using (campaign_id)
        where redemption_date between start_date and end_date
    """,
}

# Published numbers of the data, and their place in the tables.
GOLDEN = {
    "sales in cents, baskets, lines at midnight, highest quantity": (
        "select sum(cents), sum(baskets), sum(lines_at_midnight), max(highest_quantity) from weeks",
        (459_603_958, 155_848, 71, 89_638)),
    "30 days from June 1: households, sales in cents, baskets, most baskets": (
        "select count(*), sum(cents), sum(baskets), max(baskets) from spend "
        "where window_start = '2017-06-01'",
        (2_027, 37_351_259, 13_015, 88)),
    **{f"campaign {campaign}: targeted, redeemers, redemptions": (
        f"select targeted, redeemers, redemptions from campaigns where campaign_id = {campaign}",
        numbers)
       for campaign, numbers in {18: (1_133, 214, 653), 13: (1_077, 196, 629),
                                 8: (1_076, 158, 372), 24: (12, 0, 0)}.items()},
    "redemptions in time by targeted households": ("select count(*) from answers", (2_102,)),
}

# Rows that one side has more often than the other.
DIFFERENCES = """
select 'missing' as what, * from (from expected except all from written)
union all by name
select 'extra' as what, * from (from written except all from expected)
order by all
"""


def load_written(tables, lake):
    """The written tables, with times as in the package: UTC without a zone."""
    tables.execute("create schema lake")
    for name in EXPECTED:
        columns = tables.execute(
            f"describe from read_parquet('{lake}/{name}/**/*.parquet')").fetchall()
        times = [f"{column} at time zone 'UTC' as {column}"
                 for column, kind, *_ in columns if kind == "TIMESTAMP WITH TIME ZONE"]
        tables.execute(f"create table lake.{name} as select * replace ({', '.join(times)}) "
                       f"from read_parquet('{lake}/{name}/**/*.parquet')")


def main(lake):
    tables = database()
    tables.execute("create view sales as select *, round(sales_value * 100)::bigint as cents "
                   "from transactions")
    tables.execute("create macro new_york(wall) as "
                   "wall at time zone 'America/New_York' at time zone 'UTC'")
    load_written(tables, lake)
    wrong = 0
    for name, expected in EXPECTED.items():
        tables.execute(f"create or replace temp table expected as {expected}")
        tables.execute(f"create or replace temp view written as from lake.{name}")
        differences = tables.execute(DIFFERENCES).fetchall()
        for row in differences[:SHOWN]:
            print(f"{name} differs:", *row, file=sys.stderr)
        wrong += len(differences)
        rows = tables.execute("select count(*) from expected").fetchone()[0]
        print(f"{name}: {rows:,} rows, {len(differences):,} differ from DuckDB's")
    tables.execute("use lake")
    for what, (query, expected) in GOLDEN.items():
        found = tables.execute(query).fetchone()
        if found != expected:
            wrong += 1
            print(f"{what}: expected {expected}, got {found}", file=sys.stderr)
    print("every row equals DuckDB's, and the known numbers are there" if not wrong
          else "NOT equal")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
