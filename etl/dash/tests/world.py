"""A world for the dashboard: a Postgres of its own, filled by the pipeline itself from the sandbox's synthetic tiles.

The tests run in it. By hand, `python etl/dash/tests/world.py` keeps one up until Ctrl-C and says how to reach it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parents[3]
FIRST_YEAR, LAST_YEAR = 1987, 2020
READER = "dashboard"
PATIENCE = 120.0  # seconds until a server that does not come up has failed


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def postgres_bin() -> Path:
    """Find the folder of Postgres's programs: DUOFLOW_PG_BIN, else Debian's newest."""
    if named := os.environ.get("DUOFLOW_PG_BIN"):
        return Path(named)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    if not found:
        raise SystemExit("no Postgres found: run scripts/setup services")
    return found[-1].parent


def ends_with_us(number: str, account: str | None = None) -> list[str]:
    """Return the beginning of a command that gets a signal when we are killed, so that nothing is left behind."""
    return ["setpriv", "--pdeathsig", number, *(["--reuid", account, "--regid", account, "--clear-groups"] if account else [])]


@dataclass
class Postgres:
    """One server in a folder of its own. Postgres refuses to run as root, so root lends it another account."""

    folder: Path
    port: int
    password: str

    def __post_init__(self) -> None:
        self.bin = postgres_bin()
        self.account = "postgres" if os.geteuid() == 0 else None
        self.process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Run initdb."""
        self.folder.mkdir(mode=0o700)
        words = self.folder.with_suffix(".password")
        words.write_text(self.password)
        if self.account:
            shutil.chown(self.folder, self.account)
            shutil.chown(words, self.account)
        command = [str(self.bin / "initdb"), "-D", str(self.folder), "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={words}", "--no-sync", "-E", "UTF8"]
        subprocess.run(command, check=True, user=self.account, cwd="/", stdout=subprocess.DEVNULL)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = [
            "-c",
            "fsync=off",
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            f"port={self.port}",
            "-c",
            "unix_socket_directories=",
            "-c",
            "max_connections=60",
        ]
        with (self.folder.parent / "postgres.log").open("ab") as log:
            command = [*ends_with_us("INT", self.account), str(self.bin / "postgres"), "-D", str(self.folder), *options]
            self.process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(self.dsn(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        """End the server, its sessions with it."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PATIENCE)
        self.process = None

    def dsn(self, user: str = "postgres", database: str = "postgres", password: str | None = None) -> str:
        """Say how to connect."""
        return f"postgresql://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"


@dataclass
class World:
    """Everything that a test needs to know."""

    folder: Path
    postgres: Postgres
    programs: Path

    def admin(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """Connect as the administrator, to look at the tables behind the views or to change them."""
        return psycopg.connect(self.postgres.dsn(database=database), autocommit=True)

    def reader(self, database: str = "postgres") -> str:
        """Return the DSN that the dashboard gets."""
        return self.postgres.dsn(READER, database)

    def database(self, name: str, template: str = "template0") -> None:
        """Make another database; with template postgres it is a copy of the filled one."""
        deadline = time.monotonic() + PATIENCE
        with self.admin("template1") as connection:
            while True:
                connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [template])
                try:
                    connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
                    return
                except psycopg.errors.ObjectInUse:  # somebody who looks at the filled one has come back, or is slow to go
                    if time.monotonic() > deadline:
                        raise

    def duoetl(self, config: Path, database: str, *words: str) -> str:
        """Run duoetl and return what it says."""
        env = os.environ | {"WORLD_DSN": self.postgres.dsn(database=database), "WORLD_KEY": "key", "WORLD_SECRET": "secret-of-the-sandbox"}
        done = subprocess.run([self.programs / "duoetl", "--config", config, *words], env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"duoetl {' '.join(words)}: code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def setup(self, database: str) -> Path:
        """Make the pipeline's tables and views, empty."""
        config = self.folder / f"{database}.yaml"
        config.write_text(self.config("http://127.0.0.1:1", "http://127.0.0.1:1", "http://127.0.0.1:1"))
        self.duoetl(config, database, "init")
        return config

    def config(self, bigquery: str, gcs: str, s3: str) -> str:
        """Return a configuration of duoetl."""
        return f"""
pipeline: lightning
source: {{kind: bigquery, project: payer, table: "bigquery-public-data.noaa_lightning.lightning_%d", endpoint: "{bigquery}",
  window: {{from: {FIRST_YEAR}, to: {LAST_YEAR}}}, synthetic: true}}
stages:
  gcs: {{bucket: lightning-staging, prefix: nldn, endpoint: "{gcs}"}}
  s3: {{bucket: lightning, prefix: nldn, endpoint: "{s3}", access_key_env: WORLD_KEY, secret_key_env: WORLD_SECRET, part_size: 5MiB}}
  work: {self.folder / "work"}
load: {{dsn_env: WORLD_DSN, readers: [{READER}]}}
"""

    def fill(self, scale: float) -> None:
        """Load all 34 years through the pipeline, from BigQuery's tables of the sandbox."""
        env = os.environ | {"DUOSANDBOX_ACCESS_KEY": "key", "DUOSANDBOX_SECRET_KEY": "secret-of-the-sandbox"}
        command = [
            *ends_with_us("TERM"),
            str(self.programs / "duosandbox"),
            "--dir",
            str(self.folder / "sandbox"),
            "--years",
            f"{FIRST_YEAR}-{LAST_YEAR}",
            "--scale",
            str(scale),
            "-o",
            "json",
        ]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as sandbox:
            try:
                assert sandbox.stdout is not None
                ends = json.loads(sandbox.stdout.readline())
                config = self.folder / "etl.yaml"
                config.write_text(self.config(ends["bigquery"], ends["gcs"], ends["s3"]))
                self.duoetl(config, "postgres", "init")
                self.duoetl(config, "postgres", "run")
            finally:
                sandbox.terminate()
        shutil.rmtree(self.folder / "sandbox", ignore_errors=True)


def build(programs: Path) -> None:
    """Build the pipeline's programs, as `make build` does."""
    subprocess.run(["go", "build", "-o", f"{programs}/", "./cmd/duoetl", "./cmd/duosandbox"], cwd=ROOT, check=True)


@contextlib.contextmanager
def world(scale: float) -> Iterator[World]:
    """Make a filled world, and take it away again."""
    folder = Path(tempfile.mkdtemp(prefix="duoflow-dash-"))
    folder.chmod(0o755)  # Postgres's account has to pass
    postgres = Postgres(folder / "postgres", free_port(), secrets.token_hex(12))
    try:
        programs = Path(os.environ.get("DUOFLOW_ETL_BIN", folder / "bin"))
        if "DUOFLOW_ETL_BIN" not in os.environ:
            build(programs)
        postgres.create()
        postgres.start()
        made = World(folder, postgres, programs)
        with made.admin() as connection:
            connection.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{postgres.password}'".encode())
        made.fill(scale)
        yield made
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Keep a world up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.01, help="part of the real number of strikes; 1 takes minutes")
    parser.add_argument("--dashboard", metavar="HOST:PORT", help="serve the dashboard of it there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt), world(options.scale) as made:
        print(f"DATABASE_URL={made.reader()}", flush=True)
        if not options.dashboard:
            signal.pause()
        command = [sys.executable, str(ROOT / "etl" / "dash" / "app.py"), "--listen", options.dashboard]
        with subprocess.Popen(command, env=os.environ | {"DATABASE_URL": made.reader()}) as dashboard:
            try:
                dashboard.wait()
            finally:
                dashboard.terminate()


if __name__ == "__main__":
    main()
