"""Adds up chunks of lightning tiles, for duoetl, which starts this with spark-submit: job.py SOCKET.

Each line that comes from the Unix socket is a chunk to do, in JSON; each gets one line back. The program ends when the
socket does. Results go to the file that the chunk names: a line of JSON that describes it, then the columns one after
the other, 64-bit integers, little-endian; days are days since 1970-01-01.
"""

import array
import datetime
import json
import os
import platform
import queue
import socket
import sys
import threading

from pyspark.sql import SparkSession
from pyspark.sql.types import DateType, IntegerType, ShortType, StructField, StructType

TILES = StructType([
    StructField("day", DateType()),
    StructField("lat10", ShortType()),
    StructField("lon10", ShortType()),
    StructField("strikes", IntegerType()),
])
FIRST_DAY = datetime.date(1970, 1, 1).toordinal()


def column(rows, index, date):
    """One column as 64-bit integers. A value that is none, such as NULL, raises."""
    values = (row[index] for row in rows)
    return array.array("q", (v.toordinal() - FIRST_DAY for v in values) if date else values)


def add_up(spark, request):
    """Runs the queries of one chunk and writes the file with their results."""
    set_ = spark.conf.set
    set_("spark.sql.shuffle.partitions", request["partitions"])
    set_("spark.sql.files.minPartitionNum", request["partitions"])
    spark.read.schema(TILES).parquet(*request["inputs"]).createOrReplaceTempView("tiles")
    frames, columns = [], []
    for query in request["queries"]:
        # The group is how duoetl tells this chunk's jobs from the others'.
        spark.sparkContext.setJobGroup("duoetl-%d" % request["id"], query["name"], interruptOnCancel=False)
        answer = spark.sql(query["sql"])
        rows = answer.collect()
        dates = [isinstance(field.dataType, DateType) for field in answer.schema]
        columns += [column(rows, i, date) for i, date in enumerate(dates)]
        frames.append({"name": query["name"], "columns": answer.columns, "rows": len(rows)})
    write(request["out"], frames, columns)


def write(out, frames, columns):
    """The file comes into being once all of it is there."""
    part = out + ".part"
    with open(part, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(json.dumps({"frames": frames}).encode() + b"\n")
        for values in columns:
            if sys.byteorder != "little":
                values.byteswap()
            values.tofile(file)
    os.replace(part, out)


def reason(error):
    """What went wrong, and what was at the bottom of it, without Java's stack."""
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    texts = []
    while java is not None and len(texts) < 20:
        text = java.toString().split("\n")[0]
        if text not in texts:
            texts.append(text)
        java = java.getCause()
    return ": ".join(texts[:1] + texts[-1:] if len(texts) > 1 else texts) or "%s: %s" % (type(error).__name__, error)


def stopped(spark):
    try:
        return spark.sparkContext._jsc.sc().isStopped()
    except Exception:  # the JVM is gone
        return True


def listen(lines, requests, busy):
    """Hands requests on. When duoetl is gone, so is whoever wants the work that is on."""
    for line in lines:
        requests.put(json.loads(line))
    if busy.is_set():
        os._exit(1)  # the JVM ends with this process
    requests.put(None)


def main():
    link = socket.socket(socket.AF_UNIX)
    link.connect(sys.argv[1])
    requests, busy = queue.Queue(), threading.Event()
    busy.set()  # with the start of Spark
    threading.Thread(target=listen, args=(link.makefile("r", encoding="utf-8"), requests, busy), daemon=True).start()

    def say(answer):
        link.sendall(json.dumps(answer).encode() + b"\n")

    spark = SparkSession.builder.getOrCreate()
    context = spark.sparkContext
    say({
        "version": spark.version, "python": platform.python_version(), "application": context.applicationId,
        "java": context._jvm.java.lang.System.getProperty("java.version"), "ui": context.uiWebUrl,
    })
    while True:
        busy.clear()
        request = requests.get()
        if request is None:
            break
        busy.set()
        try:
            add_up(spark, request)
            say({"id": request["id"]})
        except Exception as error:
            say({"id": request["id"], "error": reason(error), "stopped": stopped(spark)})
    spark.stop()


main()
