"""Answers SQL by ClickHouse in this process, for the tests in `funnels.rs`.

Each line of the input is `{"sql": text}`. Each line of the output is `{"rows": [[text]]}` or
`{"error": text}`; the first is `{"version": text}`.
"""

import csv
import io
import json
import sys

import chdb

print(json.dumps({"version": chdb.__version__}), flush=True)
for line in sys.stdin:
    try:
        result = chdb.query(json.loads(line)["sql"], "CSV")
        reply = {"rows": list(csv.reader(io.StringIO(result.data())))}
    except Exception as error:
        reply = {"error": str(error)}
    print(json.dumps(reply), flush=True)
