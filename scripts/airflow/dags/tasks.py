"""DAGs whose tasks keep a journal of their own, which Airflow knows nothing of.

A body appends a line when it begins and one when it ends, and waits for the disk each time. While it
runs it holds a lock on a file of its task, which the kernel gives back however the body ends: who finds
it taken runs beside another body of the same task, and says so. DUOFLOW_TASKS is the folder of both;
DUOFLOW_TASKS_START and DUOFLOW_TASKS_EVERY (seconds) are the first date of the DAG with a schedule, and
the distance to the next.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import uuid
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import chain, dag, get_current_context, task

FOLDER = Path(os.environ["DUOFLOW_TASKS"])
START = datetime.fromisoformat(os.environ["DUOFLOW_TASKS_START"])
EVERY = timedelta(seconds=int(os.environ["DUOFLOW_TASKS_EVERY"]))

# More tries than failovers can take: a run that fails has lost more than it should.
OPTIONS = {"retries": 12, "retry_delay": timedelta(seconds=1)}
COMMON = {"catchup": False, "is_paused_upon_creation": False, "max_active_runs": 64, "max_active_tasks": 64}


def note(line):
    """Append a line; it is on disk afterwards."""
    line |= {"at": time.clock_gettime_ns(time.CLOCK_BOOTTIME), "wall": time.time_ns()}
    file = os.open(FOLDER / "journal.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)


def alone(key):
    """Take the lock of a task, for as long as this process lives or the file is open."""
    file = os.open(FOLDER / "locks" / hashlib.sha256(key.encode()).hexdigest(), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def body(seconds, failures=0):
    """Be the body of the current task; the first tries fail as planned."""
    context = get_current_context()
    ti = context["ti"]
    mine = uuid.uuid4().hex
    lock = alone(f"{ti.dag_id} {ti.run_id} {ti.task_id} {ti.map_index}")
    date = context["dag_run"].logical_date
    note({
        "what": "begin", "body": mine, "dag": ti.dag_id, "run": ti.run_id, "task": ti.task_id, "map": ti.map_index,
        "try": ti.try_number, "instance": str(ti.id), "date": date.isoformat() if date else "", "pid": os.getpid(),
        "beside": lock is None,
    })  # fmt: skip
    outcome = "cut"
    try:
        time.sleep(seconds)
        outcome = "failed" if ti.try_number <= failures else "done"
    finally:
        note({"what": "end", "body": mine, "outcome": outcome})
        if lock is not None:
            os.close(lock)
    if outcome == "failed":
        raise RuntimeError("fails as planned")


@dag(schedule=None, default_args=OPTIONS, **COMMON)
def tasks_chain():
    """Chain short tasks, twice."""
    beat = task(body)
    for number in range(2):
        chain(*(beat.override(task_id=f"chain{number}_{step}")(0.1) for step in range(3)))


@dag(schedule=None, default_args=OPTIONS, **COMMON)
def tasks_mapped():
    """Map tasks, all of which fail once, between a task that says how many they are and one that waits for them."""

    @task
    def spread():
        body(0.1)
        return [0.1, 0.3, 0.5]

    @task
    def each(seconds):
        body(seconds, failures=1)

    @task
    def gather():
        body(0.1)

    each.expand(seconds=spread()) >> gather()


@dag(schedule=None, default_args=OPTIONS, **COMMON)
def tasks_long():
    """Chain a task that lasts longer than a failover and a short one."""
    beat = task(body)
    chain(beat.override(task_id="long")(15), beat.override(task_id="after")(0.1))


@dag(schedule=EVERY, start_date=START, default_args=OPTIONS, **(COMMON | {"catchup": True}))
def tasks_clock():
    """Chain two tasks for every date."""
    beat = task(body)
    chain(beat.override(task_id="tick")(0.2), beat.override(task_id="tock")(0.1))


tasks_chain()
tasks_mapped()
tasks_long()
tasks_clock()
