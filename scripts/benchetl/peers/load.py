"""load.py SYSTEM TABLE FILE ROWS: puts the first ROWS lines of a CSV file of cells into a table of Postgres that has no index, from
memory; the connection is libpq's own (PGHOST and so on). The last line says how long it took."""

import io
import itertools
import json
import sys
import time


def with_psycopg(table, lines):
    import psycopg

    text = memoryview(b"".join(lines))
    with psycopg.connect() as db:
        began = time.perf_counter()
        with db.cursor().copy(f"COPY {table} FROM STDIN (FORMAT csv)") as copy:
            for at in range(0, len(text), 256 << 10):
                copy.write(text[at : at + (256 << 10)])
        db.commit()
        return time.perf_counter() - began, "psycopg " + psycopg.__version__


def with_pandas(table, lines):
    import pandas as pd
    import sqlalchemy

    names = ["year", "month", "lat10", "lon10", "strikes", "tiles"]
    frame = pd.read_csv(io.BytesIO(b"".join(lines)), names=names)
    engine = sqlalchemy.create_engine("postgresql+psycopg://")
    with engine.connect():  # so that the first connection is not measured
        pass
    began = time.perf_counter()
    frame.to_sql(table, engine, if_exists="append", index=False)
    return time.perf_counter() - began, f"pandas {pd.__version__}, sqlalchemy {sqlalchemy.__version__}"


def main():
    system, table, file, rows = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    with open(file, "rb") as f:
        lines = list(itertools.islice(f, 1, rows + 1))  # behind the header
    seconds, version = {"psycopg": with_psycopg, "pandas": with_pandas}[system](table, lines)
    print(json.dumps({"seconds": seconds, "rows": len(lines), "version": version}))


main()
