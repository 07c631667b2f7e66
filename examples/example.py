"""The common part of the examples: arguments, a working folder, and the command that
runs Tagflow.

`TAGFLOW` names that command. Default: `tagflow` if it is on the PATH, else
`cargo run --release --`, which builds it first.
"""

import argparse
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "broker"))
import tansu  # noqa: E402


def say(text):
    print(f"== {text}", flush=True)


def environment(folder, **more):
    """The variables that the examples' pipeline files refer to."""
    return {
        **os.environ,
        "LAKE_URL": str(folder / "lake"),
        "TAGFLOW_STATE": str(folder / "state"),
        **more,
    }


def command():
    """The command that runs Tagflow."""
    if "TAGFLOW" in os.environ:
        return shlex.split(os.environ["TAGFLOW"])
    if shutil.which("tagflow"):
        return ["tagflow"]
    return ["cargo", "run", "--release", "--"]


def tagflow(variables, *arguments):
    """Runs Tagflow in the repository."""
    subprocess.run([*command(), *map(str, arguments)], cwd=HERE.parent, env=variables, check=True)


def main(name, description, run_all):
    """Calls `run_all(folder, cache)` with an empty working folder. It returns the exit
    code."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
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
        with tempfile.TemporaryDirectory(prefix=f"tagflow-{name}-") as folder:
            return run_all(pathlib.Path(folder), cache)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
