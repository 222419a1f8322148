#!/usr/bin/env bash
# duckdb 2.0.1 and pyarrow 26.0.1: the sum of a bigint column is exact in the database (a 128-bit integer) and
# becomes a double in a Parquet file without a warning: 9007199254740993 comes back as 9007199254740992. With
# ::bigint it stays.
#
# Why it matters: Counters and hashes must be cast before they are written.
#
# Exits with 0 while this is so, and with 1 when it has changed. Python 3.11, CPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile duckdb==2.0.1 pyarrow==26.0.1
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import pathlib
import tempfile

import duckdb
import pyarrow.parquet as pq

query = "select sum(passes) as passes from (values (9007199254740993::bigint)) as cells(passes)"
exact = duckdb.sql(query).fetchall()[0][0]
with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder, "sum.parquet")
    duckdb.sql(f"copy ({query}) to '{file}' (format parquet)")
    kind = str(pq.read_schema(file).field("passes").type)
    back = pq.read_table(file)["passes"][0].as_py()
    cast = pathlib.Path(folder, "cast.parquet")
    duckdb.sql(f"copy (select passes::bigint as passes from ({query})) to '{cast}' (format parquet)")
    kept = pq.read_table(cast)["passes"][0].as_py()
print(f"sum in the database {exact}; in the Parquet file {back:.0f}, of type {kind}; with ::bigint {kept}")
assert exact == kept == 9007199254740993 and kind == "double" and back != exact
PYTHON
# Output seen on 2026-11-27:
# sum in the database 9007199254740993; in the Parquet file 9007199254740992, of type double; with ::bigint 9007199254740993
