"""The answers, kept for as long as they are true.

What is loaded changes rarely and says so by its version. So the version is asked every other second at most, whoever looks,
and everything else once for each version. When the database is away, what was answered last is shown, and said to be old.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from database import Connection, Database, Problem
from queries import Coverage, Day, Map, Sum, Version, Views

FRESH_SECONDS = 2.0
ANSWERS = 600  # kept; a map is about 100 kB in memory, so this is at most 60 MB

log = logging.getLogger("dash.data")

Key = tuple[str | int, ...]
T = TypeVar("T")

EMPTY = Problem("empty", "The lightning tables are empty.", "Run duoetl run; this page shows the data as soon as the first chunk is loaded.")


class Data:
    """Asks the database at most once for the same thing."""

    def __init__(self, database: Database, views: Views) -> None:
        self._database, self._views = database, views
        self._answers: OrderedDict[Key, tuple[Version, Any]] = OrderedDict()
        self._asking: dict[Key, threading.Lock] = {}
        self._lock = threading.Lock()
        self._version_lock = threading.Lock()
        self._version: Version | Problem | None = None
        self._asked = float("-inf")
        self.answered: datetime | None = None  # when the database answered last

    def version(self) -> Version:
        """Return the version of what is loaded, or raise the Problem; neither is older than FRESH_SECONDS."""
        with self._version_lock:
            if time.monotonic() - self._asked > FRESH_SECONDS:
                self._version = self._ask_version()
                self._asked = time.monotonic()
        assert self._version is not None
        if isinstance(self._version, Problem):
            raise self._version
        return self._version

    def _ask_version(self) -> Version | Problem:
        try:
            version = self._database.ask(self._views.version)
        except Problem as problem:
            if not isinstance(self._version, Problem) or self._version.code != problem.code:
                log.warning("%s %s", problem.words, problem.advice)
            return problem
        if isinstance(self._version, Problem):
            log.warning("the database answers again")
        self.answered = datetime.now(UTC)
        return version

    def coverage(self) -> Coverage:
        """Return which days are known."""
        found = self._get(("coverage",), self._views.coverage)
        if found is None:
            raise EMPTY
        return found

    def daily(self, year: int) -> list[Day]:
        """Return the days of a year."""
        return self._known(("daily", year), lambda c, coverage: self._views.daily(c, coverage, year))

    def monthly(self, month: int) -> list[Sum]:
        """Return a month over the years."""
        return self._known(("monthly", month), lambda c, coverage: self._views.monthly(c, coverage, month))

    def day_of_month(self, day: int) -> list[Sum]:
        """Return a day of the month over the years."""
        return self._known(("day_of_month", day), lambda c, coverage: self._views.day_of_month(c, coverage, day))

    def cells(self, year: int, month: int) -> Map:
        """Return a month's map."""
        return self._known(("cells", year, month), lambda c, _: self._views.cells(c, year, month))

    def _known(self, key: Key, question: Callable[[Connection, Coverage], T]) -> T:
        coverage = self.coverage()
        return self._get(key, lambda connection: question(connection, coverage))

    def _get(self, key: Key, question: Callable[[Connection], T]) -> T:
        kept = self._answers.get(key)
        try:
            version = self.version()
            if kept and kept[0] == version:
                return cast(T, kept[1])
            return self._ask(key, version, question)
        except Problem as problem:
            if kept and problem.code in ("away", "slow"):
                return cast(T, kept[1])
            raise

    def _ask(self, key: Key, version: Version, question: Callable[[Connection], T]) -> T:
        with self._lock:
            asking = self._asking.setdefault(key, threading.Lock())
        with asking:  # who comes second finds the answer
            kept = self._answers.get(key)
            if kept and kept[0] == version:
                return cast(T, kept[1])
            answer = self._database.ask(question)
            with self._lock:
                self._answers[key] = (version, answer)
                self._answers.move_to_end(key)
                while len(self._answers) > ANSWERS:
                    self._asking.pop(self._answers.popitem(last=False)[0], None)
            return answer
