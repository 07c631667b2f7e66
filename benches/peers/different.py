"""Exits with 1 and prints how many rows differ between the answers of two SQL
queries: `different.py QUERY QUERY`."""

import sys

import duckdb

ours, theirs = sys.argv[1:]
rows = duckdb.connect()
count = f"""
select (select count(*) from ({ours})),
       (select count(*) from (({ours}) except all ({theirs}))),
       (select count(*) from (({theirs}) except all ({ours})))
"""
total, more, fewer = rows.execute(count).fetchone()
if more or fewer or not total:
    sys.exit(f"of {total} rows {more} are not in the other answer, and {fewer} of that are missing")
