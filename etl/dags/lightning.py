"""The lightning pipeline, chunk by chunk: extract, copy, ingest, aggregate, load, checks, publish.

Every task is a call of `duoetl step`, so the steps are those of `duoetl run`; what Airflow adds is the order, the
retries, and the place where they run. duoflow's active node triggers the runs (`driver: airflow`). A run that is
triggered by hand asks `duoetl plan` what there is to do.

Each call has the epoch, and its login to the database, from a connection of Airflow's that the active node writes
anew at each failover. A call of an old epoch is refused by the database (exit code 4); the task then waits for the
next epoch's login and begins again. So nothing is written twice, and no worker has a login of its own.

On the workers: DUOETL_CONFIG names duoetl's configuration; the variables it names for the keys of S3 are set; DUOETL
is the program, unless it is on the PATH. DUOETL_DAG and DUOETL_CONNECTION, which the DAG processor reads too, are the
DAG's id and the connection's, as the configuration has them.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import socket
import subprocess
import time
from datetime import timedelta

from airflow.sdk import BaseSensorOperator, Connection, dag, get_current_context, task, task_group
from airflow.sdk.exceptions import AirflowException, AirflowFailException

log = logging.getLogger(__name__)

DAG = os.environ.get("DUOETL_DAG", "lightning")
CONNECTION = os.environ.get("DUOETL_CONNECTION", "duoflow_etl")

# Exit codes of duoetl, which never change.
USAGE, QUALITY, FENCED = 2, 3, 4

# How long a task whose epoch is over waits for the next one's login. Longer than a failover takes; then Airflow tries again.
PATIENCE = 120.0
PR_SET_PDEATHSIG = 1


def login() -> tuple[int, dict[str, str]]:
    """Return the epoch that the job has now, and an environment in which duoetl writes under it."""
    connection = Connection.get(CONNECTION)
    facts = json.loads(connection.extra or "{}")
    names = {"dbname": "PGDATABASE", "connect_timeout": "PGCONNECT_TIMEOUT"}  # the others are PG and the name without its underscores
    # What a worker has of its own could lead past the fence.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "DUOFLOW_"))}
    for name, value in (facts["libpq"] | {"user": connection.login, "password": connection.password}).items():
        environment[names.get(name, "PG" + name.replace("_", "").upper())] = value
    environment |= {
        "DUOFLOW_JOB": facts["job"],
        "DUOFLOW_EPOCH": str(facts["epoch"]),
        "DUOFLOW_NODE": socket.gethostname(),
    }
    return facts["epoch"], environment


def die_with_the_task() -> None:
    """Have duoetl end with its task, which Airflow may kill."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def call(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Run duoetl with its progress in the task's log; return its exit code and what it answers."""
    command = [os.environ.get("DUOETL", "duoetl"), *arguments, "-o", "json"]
    log.info("$ %s", " ".join(command))
    # The signal is sent when the thread ends that begins duoetl: it is the task's own, which waits here.
    done = subprocess.run(command, check=False, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_the_task)
    log.info("%s", done.stdout)
    return done.returncode, done.stdout


def duoetl(*arguments: str) -> str:
    """Call duoetl under the epoch of now, and under the next one if that is over before it is done."""
    over, deadline = 0, time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        epoch, environment = login()
        if epoch <= over:
            time.sleep(0.5)
            continue
        code, answer = call(list(arguments), environment)
        if code == 0:
            return answer
        if code in (USAGE, QUALITY):
            raise AirflowFailException(f"duoetl {arguments[0]} ended with {code}: no other try mends that")
        if code != FENCED:
            raise AirflowException(f"duoetl {arguments[0]} ended with {code}")
        log.warning("epoch %d is over; waiting for the next one's login", epoch)
        over, deadline = epoch, time.monotonic() + PATIENCE
    raise AirflowException(f"no epoch after {over} has lent its login within {PATIENCE:.0f} s")


def step(name: str, chunk: str, *more: str) -> None:
    """Do one step of a chunk."""
    duoetl("step", name, "--chunk", chunk, *more)


def asked(*names: str) -> list[str]:
    """Return the flags that whoever triggered the run has set in its conf."""
    conf = get_current_context()["dag_run"].conf or {}
    return ["--" + name for name in names if conf.get(name)]


class Manifest(BaseSensorOperator):
    """Wait for the manifest of ingest, for the source as it is now: readers trust nothing else.

    A class, because the decorator for sensors makes the parsing of every DAG that uses it warn (standard provider 1.21).
    """

    template_fields = ("chunk",)

    def __init__(self, *, chunk: str, **more):
        super().__init__(**more)
        self.chunk = chunk

    def poke(self, context) -> bool:
        """Look once."""
        code, _ = call(["step", "ingest", "--chunk", self.chunk, "--look"], login()[1])
        if code in (USAGE, QUALITY):
            raise AirflowFailException(f"duoetl step ingest --look ended with {code}: no other try mends that")
        return code == 0  # else not yet, or the epoch is over: the next look has the next one's login


@dag(
    dag_id=DAG,
    schedule=None,  # duoflow decides when
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(seconds=2), "retry_exponential_backoff": True},
    tags=["duoflow"],
    doc_md=__doc__,
)
def lightning():
    """Order the steps; a chunk does not wait for another."""

    @task
    def chunks() -> list[str]:
        """Return what the run is to do: what its conf says, or whatever is not up to date."""
        conf = get_current_context()["dag_run"].conf or {}
        if "chunks" in conf:
            return list(conf["chunks"])
        plan = json.loads(duoetl("plan"))
        return [chunk["chunk"] for chunk in plan["chunks"] if chunk["state"] != "unchanged"]

    @task
    def extract(chunk: str) -> None:
        """Have BigQuery write the chunk into Google Cloud Storage."""
        step("extract", chunk)

    @task
    def copy(chunk: str) -> None:
        """Copy from Google Cloud Storage to S3."""
        step("copy", chunk)

    @task
    def ingest(chunk: str) -> None:
        """Make canonical tiles of the lines, in S3 with a manifest."""
        step("ingest", chunk)

    @task
    def aggregate(chunk: str) -> None:
        """Add the tiles up, by Spark or DuckDB as the configuration says."""
        step("aggregate", chunk, *asked("force"))

    @task
    def load(chunk: str) -> None:
        """Put the sums into Postgres, in one fenced transaction."""
        step("load", chunk, *asked("force", "accept"))

    @task
    def checks(chunk: str) -> None:
        """Compare the tables with what was loaded, and the files in S3 with their manifest."""
        duoetl("verify", "--chunk", chunk)

    @task
    def publish(chunk: str) -> None:
        """Mark the chunk as up to date."""
        step("publish", chunk)

    @task_group
    def tiles(chunk: str) -> None:
        (
            extract(chunk)
            >> copy(chunk)
            >> ingest(chunk)
            >> Manifest(task_id="manifest", chunk=chunk, poke_interval=5, timeout=3600, mode="reschedule")
            >> aggregate(chunk)
            >> load(chunk)
            >> checks(chunk)
            >> publish(chunk)
        )

    tiles.expand(chunk=chunks())


lightning()
