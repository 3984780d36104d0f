"""Reading Postgres: one place where a session is opened, watched, and its errors put into words.

The dashboard only reads. Its sessions are read-only, and a role that may write is refused: a page that everybody may open
should not be a way to the data.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import psycopg
from psycopg import errors

Row = tuple[Any, ...]
Connection = psycopg.Connection[Row]
T = TypeVar("T")

CONNECT_SECONDS = 3
STATEMENT_SECONDS = 5
HANG_SECONDS = 7.0  # a server that is frozen answers nothing, not even that a statement took too long
KEPT = 4  # idle sessions

SESSION = f"SET default_transaction_read_only = on; SET statement_timeout = '{STATEMENT_SECONDS}s'; SET TimeZone = 'UTC'"

# What the role may do beyond reading: the name of one thing is enough.
WRITES = """
SELECT current_user, r.rolsuper, (
  SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_t%'
    AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') LIMIT 1)
FROM pg_roles r WHERE r.rolname = current_user"""


class Problem(Exception):
    """Something is in the way of the data: what it is, and what a person can do about it."""

    def __init__(self, code: str, words: str, advice: str) -> None:
        super().__init__(words)
        self.code, self.words, self.advice = code, words, advice


def configured(env: Mapping[str, str]) -> str | None:
    """Return the connection string, which may be empty when libpq's own variables say it all; None: nothing is said."""
    if url := env.get("DATABASE_URL"):
        return url
    named = ("PGSERVICE", "PGHOST", "PGHOSTADDR", "PGDATABASE")
    return "" if any(env.get(name) for name in named) else None


REFUSALS = ("authentication", "does not exist", "pg_hba", "not permitted to log in")

SETTING = Problem("setting", "The connection settings cannot be read.", "Check DATABASE_URL, or PGSERVICE and the file that PGSERVICEFILE names.")


def explain(error: psycopg.Error) -> Problem:
    """Put an error into words. Only words of our own: libpq's may repeat a connection string, password and all."""
    state = error.sqlstate or ""
    if isinstance(error, errors.QueryCanceled):
        return Problem("slow", "The database took too long to answer.", "It is tried again by itself. If it stays so, look at the load of the database.")
    if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn | errors.InvalidSchemaName):
        return Problem(
            "missing",
            "The database has no lightning tables, or older ones.",
            "Run duoetl init in it, then duoetl run. Schema and database must be those of this page.",
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return Problem(
            "rights", "The role may not read the lightning views.", "Name the role under load.readers in duoetl's configuration and run duoetl init."
        )
    if isinstance(error, psycopg.ProgrammingError | psycopg.OperationalError) and not state and ("service" in str(error) or "connection option" in str(error)):
        return SETTING
    if "FATAL" in str(error) and any(word in str(error) for word in REFUSALS):  # libpq tells no SQLSTATE of a login
        return Problem(
            "refused", "The database refused the login, or does not exist.", "Check user, password and database in the service file or in DATABASE_URL."
        )
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Problem(
            "away",
            "The database does not answer.",
            "Nothing to do here: it is tried again every few seconds. Is it running, and are address and password right?",
        )
    if isinstance(error, psycopg.ProgrammingError) and not state:
        return SETTING
    return Problem("failed", f"The database reported an error (SQLSTATE {state or 'unknown'}).", "Look at the log of the database.")


def refuse_writer(connection: Connection) -> None:
    """Raise a Problem when the role may do more than read."""
    row = connection.execute(WRITES).fetchone()
    assert row is not None
    role, root, relation = row
    if root or relation:
        what = "is a superuser" if root else f"may write to {relation}"
        raise Problem(
            "writer",
            f"The dashboard's role {role} {what}. It must be one that may only read.",
            "CREATE ROLE dashboard LOGIN; name it under load.readers in duoetl's configuration, run duoetl init, and connect as it.",
        )


@contextlib.contextmanager
def no_longer_than(seconds: float, connection: Connection) -> Iterator[None]:
    """Cut the connection when the server says nothing for so long; the statement then ends with an OperationalError."""
    wire = socket.socket(fileno=os.dup(connection.fileno()))

    def cut() -> None:
        with contextlib.suppress(OSError):
            wire.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        wire.close()


class Database:
    """A few sessions, opened when they are needed and kept for the next question."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._idle: list[Connection] = []
        self._lock = threading.Lock()

    def ask(self, question: Callable[[Connection], T]) -> T:
        """Answer a question in one read-only transaction. Raises Problem and nothing else of the database's."""
        kept = self._take()
        if kept is not None:
            try:
                return self._answer(kept, question)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if isinstance(error, errors.QueryCanceled):
                    raise explain(error) from None
                self._drop()  # the server was restarted, or a failover has ended the session: all of them
            except psycopg.Error as error:
                raise explain(error) from None
        try:
            return self._answer(self._open(), question)
        except psycopg.Error as error:
            raise explain(error) from None

    def close(self) -> None:
        """End the idle sessions."""
        self._drop()

    def _answer(self, connection: Connection, question: Callable[[Connection], T]) -> T:
        try:
            with no_longer_than(HANG_SECONDS, connection), connection.transaction():
                answer = question(connection)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if len(self._idle) < KEPT:
                self._idle.append(connection)
                return answer
        connection.close()
        return answer

    def _open(self) -> Connection:
        connection = psycopg.connect(self._conninfo, connect_timeout=CONNECT_SECONDS, application_name="duoflow-dash", prepare_threshold=None, autocommit=True)
        try:
            with no_longer_than(HANG_SECONDS, connection):
                connection.execute(SESSION)
                refuse_writer(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _take(self) -> Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _drop(self) -> None:
        with self._lock:
            dropped, self._idle = self._idle, []
        for connection in dropped:
            connection.close()
