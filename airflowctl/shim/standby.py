"""Warm standby of an Airflow scheduler, run by duoflowd.

Everything of a scheduler start that needs no database is done at once: imports, providers,
plugins, the executor class, the mappers. Then the process waits, with no connection open, for one
line on fd 3 and becomes the scheduler. It talks in text lines:

    fd 4, to the daemon     warm <pid> <seconds>    ready for go
                            job <id>                the job row is committed
                            loop                    start-up adoption and the first loop are done
                            note <text>             something that costs speed or a report, no more
    fd 3, from the daemon   go <epoch>              be the scheduler of this epoch
                            end of file before go   exit 0
    signal DUMP             print the stacks of all threads to stderr and go on

A broker whose users are the epochs': DUOFLOW_BROKER_FILE names a file that holds the URL for Celery,
written before go, or not at all; then Celery connects as configured.

Traps, each met for real: a Job() built before go carries an old heartbeat; `app.backend` of Celery
connects when it is touched; a service file read while warm is the wrong one.
"""

import contextlib
import faulthandler
import gc
import importlib
import inspect
import os
import shlex
import shutil
import signal
import sys
import time

CONTROL, REPORT = 3, 4
DUMP = 50  # the signal, as in shim.go
STARTED = time.monotonic()

# What Airflow cannot do without: a failure to import one of these ends the standby.
NEEDED = (
    "airflow",
    "airflow.__main__",
    "airflow.jobs.job",
    "airflow.jobs.scheduler_job_runner",
    "airflow.cli.commands.scheduler_command",
    "airflow.executors.executor_loader",
)

# What Airflow 3.3 imports late, between the start and its tenth loop (found by comparing
# sys.modules, see DESIGN.md). A name that is missing elsewhere costs time, no more.
LATE = (
    "airflow.api_fastapi.auth.tokens",
    "airflow.callbacks.database_callback_sink",
    "airflow.executors.workloads",
    "airflow.listeners.listener",
    "airflow.providers.celery.executors.celery_executor",
    "airflow.providers.celery.executors.celery_executor_utils",
    "airflow.providers_manager",
    "airflow.serialization.definitions.mappedoperator",
    "airflow.serialization.serialized_objects",
    "airflow.utils.serve_logs",
    "celery.app.amqp",
    "celery.app.events",
    "celery.backends.database",
    "celery.result",
    "concurrent.futures.process",
    "cryptography.fernet",
    "cryptography.hazmat.backends.openssl.backend",
    "ctypes.util",
    "encodings.idna",
    "jwt",
    "kombu.transport.pyamqp",
    "opentelemetry.sdk.metrics.export",
    "psycopg2.extras",
    "redis.client",
    "sqlalchemy.dialects.postgresql.psycopg2",
)

# What leads Celery to a broker: the setting that we use, then those that would win over it.
BROKER_COMMAND = "AIRFLOW__CELERY__BROKER_URL_CMD"
BROKER_OTHERS = (
    "AIRFLOW__CELERY__BROKER_URL",
    "AIRFLOW__CELERY__BROKER_URL_SECRET",
    "CELERY_BROKER_URL",
    "CELERY_BROKER_READ_URL",
    "CELERY_BROKER_WRITE_URL",
)


def say(line):
    """Reports one line; a daemon that no longer reads is no reason to stop scheduling."""
    try:
        os.write(REPORT, (line + "\n").encode())
    except OSError:
        pass


def note(what, err):
    say(f"note {what}: {type(err).__name__}: {err}".replace("\n", " ")[:500])


def attempt(what, action):
    """Does something that only saves time later; a failure is noted, never fatal."""
    try:
        return action()
    except Exception as err:  # Airflow's internals may have moved: that must not stop a takeover
        note(what, err)
        return None


def answer_dumps():
    """Works in a busy loop and in a call of C too: the handler is in C and needs no turn."""
    faulthandler.register(DUMP, file=2, all_threads=True)


def warm():
    """Loads all that a scheduler loads, and opens no connection."""
    for name in NEEDED:
        importlib.import_module(name)
    for name in LATE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    attempt("load providers", load_providers)
    attempt("load plugins", load_plugins)
    attempt("build executors", build_executors)
    attempt("read the list of metrics", read_metrics)
    attempt("import models", import_models)
    gc.collect()
    gc.freeze()


def load_providers():
    from airflow.providers_manager import ProvidersManager

    ProvidersManager().initialize_providers_configuration()


def load_plugins():
    from airflow.listeners.listener import get_listener_manager

    get_listener_manager()


def build_executors():
    """Builds each executor once and drops it. A team's name would be looked up in the database."""
    from airflow.configuration import conf
    from airflow.executors.executor_loader import ExecutorLoader

    if conf.getboolean("core", "multi_team", fallback=False):
        return
    for executor in ExecutorLoader.init_executors():
        attempt("make the token generator", lambda made=executor: made.jwt_generator)


def read_metrics():
    """Parses a YAML file of 1,500 nodes that would else be parsed while the job row waits. Airflow 2 has none."""
    with contextlib.suppress(ModuleNotFoundError):
        from airflow._shared.observability.metrics import stats

        stats._get_registry()


def import_models():
    from sqlalchemy.orm import configure_mappers

    from airflow import models

    if hasattr(models, "import_all_models"):
        models.import_all_models()
    configure_mappers()


def wait_for_go():
    """Returns the epoch of the go line. Exits when the daemon is gone or SIGTERM comes."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    say(f"warm {os.getpid()} {time.monotonic() - STARTED:.3f}")
    text = b""
    while not text.endswith(b"\n"):
        piece = os.read(CONTROL, 256)
        if not piece:
            os._exit(0)
        text += piece
    words = text.decode("ascii", "replace").split()
    if len(words) != 2 or words[0] != "go" or not words[1].isdigit():
        sys.exit(f"duoflow standby: expected 'go <epoch>', got {text!r}")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return words[1]


def take_broker(path):
    """Makes Celery connect as the epoch's own user.

    Airflow reads the file by its own means, a _CMD setting, whenever it makes a Celery app, in this
    process and in those it starts. What was read while warm is put right. A scheduler that would
    send as anybody else, or nowhere, must not begin: its tasks would fail.
    """
    try:
        with open(path, encoding="utf-8") as file:
            url = file.read()
    except FileNotFoundError:
        return say("note no user for this epoch at the broker: connecting as configured")
    for name in BROKER_OTHERS:
        os.environ.pop(name, None)
    os.environ[BROKER_COMMAND] = shlex.join([shutil.which("cat") or "/bin/cat", path])
    from airflow.providers.celery.executors import celery_executor_utils, default_celery

    attempt("mend what was read while warm", lambda: mend(celery_executor_utils, default_celery, url))
    app = publishing_app(celery_executor_utils)
    if not app.conf.broker_write_url == app.conf.broker_read_url == url:
        sys.exit(
            "duoflow standby: Celery would not connect as the epoch's own user: a broker URL is set in"
            " extra_celery_config or celery_config_options; remove it there"
        )


def mend(utils, default_celery, url):
    """A celery_config_options of the operator's is as a rule a copy of the default one."""
    made = getattr(utils, "get_celery_configuration", dict)()
    for config in (default_celery.DEFAULT_CELERY_CONFIG, made):
        if isinstance(config, dict):
            config["broker_url"] = url
    utils.app.conf.broker_url = url


def publishing_app(utils):
    """The app that messages are sent over; older providers have one only."""
    make = getattr(utils, "_get_celery_app_for_workload", None)
    return make(None) if make else utils.app


def watch():
    """Wraps functions of Airflow so that the daemon hears how far the start is, and SIGTERM is not lost."""
    attempt("keep an order to leave", keep_order)
    attempt("report the job id", watch_job)
    attempt("report the first loop", watch_loop)


def keep_order():
    """Ends a loop that goes on after SIGTERM.

    Airflow raises SystemExit wherever the interpreter happens to be. Where that is a finalizer or a callback
    from C, Python prints the exception and goes on, and so did the scheduler, until it was killed.
    """
    from airflow.jobs import scheduler_job_runner as runner

    leave, beat, asked = runner.SchedulerJobRunner._exit_gracefully, runner.perform_heartbeat, []

    def leave_and_remember(self, *args):
        asked.append(args)
        return leave(self, *args)

    def leave_or_beat(*args, **kwargs):
        if asked:
            say("note the order to leave was lost in Airflow: leaving with its next loop")
            sys.exit(0)
        return beat(*args, **kwargs)

    runner.SchedulerJobRunner._exit_gracefully = leave_and_remember
    runner.perform_heartbeat = leave_or_beat


def watch_job():
    from airflow.jobs.job import Job

    prepare = Job.prepare_for_execution

    def prepare_and_tell(self, *args, **kwargs):
        result = prepare(self, *args, **kwargs)
        say(f"job {self.id}")
        return result

    Job.prepare_for_execution = prepare_and_tell


def watch_loop():
    from airflow.jobs import scheduler_job_runner as runner

    beat = runner.perform_heartbeat

    def beat_and_tell(*args, **kwargs):
        runner.perform_heartbeat = beat
        result = beat(*args, **kwargs)
        say("loop")
        return result

    runner.perform_heartbeat = beat_and_tell


def private_entry():
    """Airflow's own function behind `airflow scheduler`, with its arguments, if it is as known."""
    from airflow.cli import cli_parser
    from airflow.cli.commands import scheduler_command

    entry = scheduler_command._run_scheduler_job
    if list(inspect.signature(entry).parameters) != ["args"]:
        raise TypeError(f"unknown signature {inspect.signature(entry)}")
    args = cli_parser.get_parser().parse_args(["scheduler", "--skip-serve-logs"])
    for name in ("num_runs", "skip_serve_logs"):
        getattr(args, name)
    if not args.skip_serve_logs or args.daemon:
        raise ValueError("the command line was read otherwise than meant")
    return lambda: entry(args)


def public_entry():
    """The command line itself: slower, but the same in every version."""
    from airflow.__main__ import main

    sys.argv = ["airflow", "scheduler", "--skip-serve-logs"]
    main()


def name_connections(epoch):
    """Puts the epoch in place of the last part of PGAPPNAME, which libpq reads when it connects."""
    name = os.environ.get("PGAPPNAME", "")
    if name.startswith("duoflow/"):
        os.environ["PGAPPNAME"] = name.rsplit("/", 1)[0] + "/" + epoch


def main():
    del sys.path[0]  # this file's folder: a module there would hide one of Airflow's
    for number in (CONTROL, REPORT):
        os.set_inheritable(number, False)
    attempt("answer dumps", answer_dumps)
    warm()
    run = None if "--portable" in sys.argv else attempt("use the fast entry", private_entry)
    watch()
    epoch = wait_for_go()
    os.environ["DUOFLOW_EPOCH"] = epoch
    name_connections(epoch)
    if path := os.environ.get("DUOFLOW_BROKER_FILE"):
        take_broker(path)
    (run or public_entry)()


if __name__ == "__main__":
    main()
