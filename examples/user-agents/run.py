#!/usr/bin/env python3
"""Flags the sample user agents of `crawler-user-agents`, and the check.

    python3 examples/user-agents/run.py [--cache FOLDER]

Installs the package and DuckDB into a virtual environment under the cache folder
(default: $XDG_CACHE_HOME/tagflow), runs `user_agents.yaml` over the package's
2,123 sample strings, over pieces of them and over strings of browsers, and
compares the flags with what the package itself says (`is_crawler`). Exits with 0
if all are equal and every sample is flagged.

`TAGFLOW` names the command that runs Tagflow (default: `cargo run --release
--quiet --`).
"""

import argparse
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "broker"))
import tansu  # noqa: E402

REQUIREMENTS = ("crawler-user-agents==1.67.0", "duckdb==1.3.2")


def run_all(folder, cache):
    python = tansu.environment(cache / "user-agents", *REQUIREMENTS)
    tagflow = shlex.split(os.environ.get("TAGFLOW", "cargo run --release --quiet --"))
    environment = {
        **os.environ,
        "EVENTS_URL": str(folder),
        "LAKE_URL": str(folder / "lake"),
        "TAGFLOW_STATE": str(folder / "state"),
    }
    agents = HERE / "agents.py"
    subprocess.run([python, agents, "write", folder / "requests.ndjson"], check=True)
    subprocess.run([*tagflow, "run", str(HERE / "user_agents.yaml")], cwd=REPOSITORY,
                   env=environment, check=True)
    return subprocess.run([python, agents, "check", folder / "lake"]).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", help="where to install (default: $XDG_CACHE_HOME/tagflow)")
    arguments = parser.parse_args()
    cache = pathlib.Path(arguments.cache or tansu.default_cache()).resolve()
    try:
        with tempfile.TemporaryDirectory(prefix="tagflow-user-agents-") as folder:
            return run_all(pathlib.Path(folder), cache)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
