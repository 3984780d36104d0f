"""sums.py SYSTEM OUT FILE...: adds up raw files of tiles by day, by month, and by month and cell of half a degree, and
writes three CSV files, spelled as duoetl spells them. No row is checked. The last line says how long it took."""

import datetime
import json
import pathlib
import sys
import time

CELL = 5  # tenths of a degree


def with_duckdb(files, out):
    import duckdb

    began = time.perf_counter()
    db = duckdb.connect()
    # One pass over the files: by day and cell first, of which all three are sums.
    db.execute(
        f"""CREATE TEMP TABLE base AS
        SELECT z, lat - ((lat % {CELL}) + {CELL}) % {CELL} AS lat10, lon - ((lon % {CELL}) + {CELL}) % {CELL} AS lon10,
          sum(n) AS strikes, count(*) AS tiles
        FROM (SELECT z, round(lat * 10)::INT AS lat, round(lon * 10)::INT AS lon, n FROM read_csv({files!r}, comment = '#', header = false,
          auto_detect = false, columns = {{'z': 'INTEGER', 'lon': 'DOUBLE', 'lat': 'DOUBLE', 'n': 'INTEGER'}}))
        GROUP BY ALL"""
    )
    day = "make_date(z // 10000, z // 100 % 100, z % 100)"
    for name, keys, values in (
        ("day", f"{day} AS day", ""),
        ("month", "z // 10000 AS year, z // 100 % 100 AS month", "count(DISTINCT z) AS days, "),
        ("cell_month", "z // 10000 AS year, z // 100 % 100 AS month, lat10, lon10", ""),
    ):
        db.execute(
            f"COPY (SELECT {keys}, {values}sum(strikes)::BIGINT AS strikes, sum(tiles)::BIGINT AS tiles FROM base GROUP BY ALL ORDER BY ALL)"
            f" TO '{out / name}.csv' (HEADER true)"
        )
    rows = db.execute("SELECT sum(tiles)::BIGINT FROM base").fetchone()[0]
    return began, rows, "duckdb " + duckdb.__version__


def with_polars(files, out):
    import polars as pl

    began = time.perf_counter()
    tiles = pl.scan_csv(
        files, has_header=False, comment_prefix="#", schema={"z": pl.Int32, "lon": pl.Float64, "lat": pl.Float64, "n": pl.Int32}
    )
    edge = [((pl.col(c) * 10).round().cast(pl.Int32)).floordiv(CELL).mul(CELL).alias(c + "10") for c in ("lat", "lon")]
    sums = [pl.col("n").cast(pl.Int64).sum().alias("strikes"), pl.len().alias("tiles")]
    base = tiles.select("z", "n", *edge).group_by("z", "lat10", "lon10").agg(sums).collect(engine="streaming")
    sums = [pl.col("strikes").sum(), pl.col("tiles").cast(pl.Int64).sum()]
    base = base.with_columns(year=pl.col("z") // 10000, month=pl.col("z") // 100 % 100)
    day = pl.date(pl.col("z") // 10000, pl.col("z") // 100 % 100, pl.col("z") % 100).alias("day")
    base.group_by("z").agg(sums).sort("z").select(day, "strikes", "tiles").write_csv(out / "day.csv")
    base.group_by("year", "month").agg(pl.col("z").n_unique().alias("days"), *sums).sort("year", "month").write_csv(out / "month.csv")
    keys = ["year", "month", "lat10", "lon10"]
    base.group_by(keys).agg(sums).sort(keys).write_csv(out / "cell_month.csv")
    return began, int(base["tiles"].cast(pl.Int64).sum()), "polars " + pl.__version__


def with_pandas(files, out):
    import pandas as pd

    began = time.perf_counter()
    rows, header = 0, True
    for file in files:  # one after the other, as the original program did
        t = pd.read_csv(file, skiprows=3, names=["z", "lon", "lat", "strikes"])
        rows += len(t)
        t["year"], t["month"] = t["z"] // 10000, t["z"] // 100 % 100
        for c in ("lat", "lon"):
            t[c + "10"] = (t[c] * 10).round().astype("int32") // CELL * CELL
        sums = {"strikes": ("strikes", "sum"), "tiles": ("strikes", "size")}
        day = t.groupby("z").agg(**sums)
        day.index = pd.Index([datetime.date(z // 10000, z // 100 % 100, z % 100).isoformat() for z in day.index], name="day")
        month = t.groupby(["year", "month"]).agg(days=("z", "nunique"), **sums)
        cell = t.groupby(["year", "month", "lat10", "lon10"]).agg(**sums)
        for name, frame in (("day", day), ("month", month), ("cell_month", cell)):
            frame.to_csv(out / f"{name}.csv", mode="w" if header else "a", header=header)
        header = False
    return began, rows, "pandas " + pd.__version__


def main():
    system, out, files = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
    began, rows, version = {"duckdb": with_duckdb, "polars": with_polars, "pandas": with_pandas}[system](files, out)
    print(json.dumps({"seconds": time.perf_counter() - began, "rows": rows, "version": version}))


main()
