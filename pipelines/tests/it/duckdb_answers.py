"""Answers SQL by DuckDB, for the tests in `duckdb.rs`.

Each line of the input is `{"tables": [{name, path, columns}], "sql"}`: a table's rows are
JSON, a line each, and `columns` are names with DuckDB's types; `ts` is in milliseconds.
Each line of the output is `{"rows": [[text]]}` or `{"error": text}`; the first is
`{"version": text}`.
"""

import datetime
import json
import sys

import duckdb

# What DataFusion has and DuckDB calls otherwise, or lacks.
MACROS = """
SET TimeZone = 'UTC';
SET default_null_order = 'nulls_last';
CREATE MACRO date_bin(width, t) AS time_bucket(width, t, TIMESTAMP '1970-01-01');
CREATE MACRO tumble(t, width) AS {'start': date_bin(width, t), 'end': date_bin(width, t) + width};
CREATE MACRO arrow_cast(t, kind) AS timezone(regexp_extract(kind, '"(.*)"', 1), timezone('UTC', t));
CREATE MACRO to_local_time(t) AS t;
CREATE MACRO approx_distinct(x) AS approx_count_distinct(x);
"""


def text(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        return value.isoformat() + "Z"
    return str(value)


def answer(request):
    with duckdb.connect() as connection:
        connection.execute(MACROS)
        for table in request["tables"]:
            types = dict(table["columns"])
            columns = ", ".join(
                "make_timestamp(ts * 1000) AS ts" if name == "ts" else name for name in types)
            connection.execute(
                f"CREATE TABLE {table['name']} AS SELECT {columns} FROM read_json($path, "
                f"format = 'newline_delimited', columns = {types})", {"path": table["path"]})
        rows = connection.execute(request["sql"]).fetchall()
    return [[text(value) for value in row] for row in rows]


print(json.dumps({"version": duckdb.__version__}), flush=True)
for line in sys.stdin:
    try:
        reply = {"rows": answer(json.loads(line))}
    except duckdb.Error as error:
        reply = {"error": str(error)}
    print(json.dumps(reply), flush=True)
