#!/usr/bin/env python3
"""Sessions and abandoned carts of a clickstream, and the checks.

    python3 examples/retentioneering/run.py [--keep FOLDER] [--cache FOLDER]

Installs the data and DuckDB into a virtual environment under the cache folder
(default: $XDG_CACHE_HOME/tagflow). Writes the events, and runs `retentioneering.yaml`
and `abandoned_carts.yaml`. Compares the sessions with the package's own and the carts
with DuckDB's, and exits with 0 if all are equal.

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

REQUIREMENTS = ("retentioneering==5.2.4", "duckdb==1.3.2")


def run_all(folder, cache):
    python = tansu.environment(cache / "retentioneering", *REQUIREMENTS)
    events = folder / "events"
    events.mkdir()
    say(f"writing the events to {events}")
    subprocess.run([python, HERE / "events.py", events], check=True)
    say("running the pipelines")
    variables = example.environment(folder, EVENTS_URL=str(events))
    example.tagflow(variables, "run", HERE / "retentioneering.yaml")
    example.tagflow(variables, "run", HERE / "abandoned_carts.yaml")
    say("checking")
    return subprocess.run([python, HERE / "check.py", folder / "lake"]).returncode


if __name__ == "__main__":
    sys.exit(example.main("retentioneering", __doc__, run_all))
