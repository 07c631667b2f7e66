#!/usr/bin/env python3
"""Flags the sample user agents of `crawler-user-agents`, and the check.

    python3 examples/user-agents/run.py [--keep FOLDER] [--cache FOLDER]

Installs the package and DuckDB into a virtual environment under the cache folder
(default: $XDG_CACHE_HOME/tagflow). Runs `user_agents.yaml` over the package's 2,123
sample strings, over their halves and over strings of browsers. Compares the flags with
the package's own (`is_crawler`). Exits with 0 if all are equal and every sample is
flagged.

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

REQUIREMENTS = ("crawler-user-agents==1.67.0", "duckdb==1.3.2")


def run_all(folder, cache):
    python = tansu.environment(cache / "user-agents", *REQUIREMENTS)
    variables = example.environment(folder, EVENTS_URL=str(folder))
    agents = HERE / "agents.py"
    say("writing the requests")
    subprocess.run([python, agents, "write", folder / "requests.ndjson"], check=True)
    say("running the pipeline")
    example.tagflow(variables, "run", HERE / "user_agents.yaml")
    say("checking")
    return subprocess.run([python, agents, "check", folder / "lake"]).returncode


if __name__ == "__main__":
    sys.exit(example.main("user-agents", __doc__, run_all))
