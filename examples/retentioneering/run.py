#!/usr/bin/env python3
"""A clickstream cut into sessions, and the check.

    python3 examples/retentioneering/run.py [--keep FOLDER] [--cache FOLDER]

Installs the data and DuckDB into a virtual environment under the cache folder
(default: $XDG_CACHE_HOME/tagflow), writes the events, runs
`retentioneering.yaml`, and compares the sessions that it found with the
package's own. Exits with 0 if all are equal.

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

REQUIREMENTS = ("retentioneering==5.2.4", "duckdb==1.3.2")


def say(text):
    print(f"== {text}", flush=True)


def run_all(folder, cache):
    python = tansu.environment(cache / "retentioneering", *REQUIREMENTS)
    tagflow = shlex.split(os.environ.get("TAGFLOW", "cargo run --release --quiet --"))
    events = folder / "events"
    events.mkdir()
    say(f"writing the events to {events}")
    subprocess.run([python, HERE / "events.py", events], check=True)
    say("running the pipeline")
    environment = {
        **os.environ,
        "EVENTS_URL": str(events),
        "LAKE_URL": str(folder / "lake"),
        "TAGFLOW_STATE": str(folder / "state"),
    }
    subprocess.run([*tagflow, "run", str(HERE / "retentioneering.yaml")], cwd=REPOSITORY,
                   env=environment, check=True)
    say("checking")
    return subprocess.run([python, HERE / "check.py", folder / "lake"]).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", help="work in this empty folder and leave it")
    parser.add_argument("--cache", help="where to install (default: $XDG_CACHE_HOME/tagflow)")
    arguments = parser.parse_args()
    cache = pathlib.Path(arguments.cache or tansu.default_cache()).resolve()
    try:
        if arguments.keep:
            folder = pathlib.Path(arguments.keep).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise RuntimeError(f"`{folder}` is not empty")
            return run_all(folder, cache)
        with tempfile.TemporaryDirectory(prefix="tagflow-retentioneering-") as folder:
            return run_all(pathlib.Path(folder), cache)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
