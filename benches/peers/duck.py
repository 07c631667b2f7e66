"""One query by DuckDB, in a separate process: `duck.py SQL` prints its cost from the
connection to the answer, without Python's start."""

import json
import resource
import sys
import time

import duckdb


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


begun, before = time.monotonic(), cpu_s()
duckdb.connect(config={"threads": 2}).execute(sys.argv[1])
wall, cpu = time.monotonic() - begun, cpu_s() - before
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"cpu_s": cpu, "wall_s": wall, "peak_mib": peak}))
