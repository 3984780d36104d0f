"""Chains of short tasks, each of which leaves one row behind.

A task that ran twice shows as two rows of one (run_id, task_id, map_index), so a takeover can be
judged by SQL alone. DUOFLOW_DEMO_DSN says where demo.demo_log is, DUOFLOW_DEMO_CHAINS and
DUOFLOW_DEMO_LENGTH how many chains of how many tasks a run has.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta

try:
    from airflow.sdk import chain, dag, get_current_context, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.models.baseoperator import chain
    from airflow.operators.python import get_current_context

CHAINS = int(os.environ.get("DUOFLOW_DEMO_CHAINS", "4"))
LENGTH = int(os.environ.get("DUOFLOW_DEMO_LENGTH", "20"))
SECONDS = float(os.environ.get("DUOFLOW_DEMO_SECONDS", "0.1"))

INSERT = """
INSERT INTO demo.demo_log (run_id, task_id, map_index, try_number, pid)
VALUES (%s, %s, %s, %s, %s)
"""


@dag(
    schedule=None,
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=16,
    max_active_tasks=32,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=1)},
    tags=["duoflow"],
)
def heartbeat_chain():
    """Chain the tasks."""

    @task
    def beat():
        import psycopg2  # noqa: PLC0415 not at the top: the DAG processor need not pay for it

        ti = get_current_context()["ti"]
        row = (ti.run_id, ti.task_id, ti.map_index, ti.try_number, os.getpid())
        with psycopg2.connect(os.environ["DUOFLOW_DEMO_DSN"]) as connection, connection.cursor() as cursor:
            cursor.execute(INSERT, row)
        time.sleep(SECONDS)

    for number in range(CHAINS):
        chain(*(beat.override(task_id=f"chain{number}_beat{step:03}")() for step in range(LENGTH)))


heartbeat_chain()
