"""What the dashboard asks, of the views only, and what it makes of the answers.

Unknown is not zero: a day without a row is a gap, and whatever is added up over days says how many of them are known.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from psycopg import sql

from database import Connection

WHOLE, PARTIAL, MISSING, NOT_LOADED = "whole", "partial", "missing", "not loaded"
MONTHS = list(calendar.month_name)[1:]


@dataclass(frozen=True)
class Version:
    """Changes whenever a chunk is loaded or taken out, and tells when that was."""

    loads: int
    strikes: int
    loaded: datetime | None

    @property
    def key(self) -> str:
        """Return it as text, for the page."""
        return f"{self.loads}-{self.strikes}-{self.loaded.isoformat() if self.loaded else ''}"


@dataclass(frozen=True)
class Month:
    """What is known of one month."""

    year: int
    month: int
    state: str
    days: frozenset[int]  # of the month, with data
    strikes: int | None
    synthetic: bool

    @property
    def length(self) -> int:
        """Count the month's days."""
        return calendar.monthrange(self.year, self.month)[1]

    @property
    def missing(self) -> list[date]:
        """List the days without data."""
        return [date(self.year, self.month, d) for d in range(1, self.length + 1) if d not in self.days]


@dataclass(frozen=True)
class Era:
    """A time in which the network measured with the same means."""

    number: int
    name: str
    first: date


@dataclass(frozen=True)
class Coverage:
    """Everything that is loaded, month by month from January of the first year to December of the last."""

    months: dict[tuple[int, int], Month]
    years: dict[int, str]  # whole, partial or not loaded
    eras: list[Era]
    source: str  # in words, from the comment that the pipeline keeps

    @property
    def first(self) -> int:
        """Return the first year."""
        return min(self.years)

    @property
    def last(self) -> int:
        """Return the last year."""
        return max(self.years)

    @property
    def span(self) -> range:
        """Return all years from the first to the last."""
        return range(self.first, self.last + 1)

    def absent(self, year: int, month: int) -> str:
        """Say why a day of this month is not there."""
        known = self.months.get((year, month))
        return NOT_LOADED if known is None or known.state == NOT_LOADED else MISSING

    @property
    def synthetic_years(self) -> list[int]:
        """List the years with data that were made up."""
        return sorted({m.year for m in self.months.values() if m.synthetic and m.days})

    @property
    def measured(self) -> bool:
        """Tell whether any data were observed."""
        return any(m.days and not m.synthetic for m in self.months.values())

    @property
    def last_day(self) -> date:
        """Return the last day with data."""
        return max(date(m.year, m.month, max(m.days)) for m in self.months.values() if m.days)


@dataclass(frozen=True)
class Day:
    """One day; strikes is None where nothing is known."""

    day: date
    state: str  # whole, missing or not loaded
    strikes: int | None = None
    tiles: int | None = None
    synthetic: bool = False


@dataclass(frozen=True)
class Sum:
    """What some days of a year add up to; strikes is None where none of them is known."""

    year: int
    known: int  # days with data
    expected: int  # days there are
    state: str
    strikes: int | None = None
    tiles: int | None = None
    synthetic: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a month's map. The middle is where lat and lon are."""

    lat10: int
    lon10: int
    lat: float
    lon: float
    strikes: int
    tiles: int


@dataclass(frozen=True)
class Map:
    """The cells of a month with strikes. Where there is none, none was seen on the days that are known."""

    cells: list[Cell]
    cell10: int  # edge of a cell in tenths of a degree


def add_up(year: int, row: tuple[int, int, int, int, bool] | None, expected: int, absent: str) -> Sum:
    """Make a sum of (year, days, strikes, tiles, synthetic), and say how much of the expected days is in it."""
    if row is None:
        return Sum(year, 0, expected, absent)
    return Sum(year, row[1], expected, WHOLE if row[1] >= expected else PARTIAL, *row[2:])


class Views:
    """The views of one schema."""

    def __init__(self, schema: str) -> None:
        self._schema = schema

    def _of(self, view: str) -> sql.Identifier:
        return sql.Identifier(self._schema, view)

    def version(self, connection: Connection) -> Version:
        """Ask when what was loaded."""
        text = sql.SQL("SELECT count(*), coalesce(sum(strikes), 0)::bigint, max(loaded) FROM {}").format(self._of("lightning_loads"))
        row = connection.execute(text).fetchone()
        assert row is not None
        return Version(*row)

    def coverage(self, connection: Connection) -> Coverage | None:
        """Ask which days are known; None when nothing is loaded."""
        months = sql.SQL("""SELECT year, month, min(month_state), min(year_state), sum(strikes)::bigint, coalesce(bool_or(synthetic), false),
            coalesce(array_agg(extract(day FROM day)::integer) FILTER (WHERE state = 'present'), '{{}}') FROM {} GROUP BY year, month ORDER BY year, month""")
        rows = connection.execute(months.format(self._of("lightning_coverage"))).fetchall()
        if not rows:
            return None
        known = {(r[0], r[1]): Month(r[0], r[1], r[2], frozenset(r[6]), r[4], r[5]) for r in rows}
        years = {r[0]: str(r[3]) for r in rows}
        loads = connection.execute(sql.SQL("SELECT first_day, last_day FROM {}").format(self._of("lightning_loads"))).fetchall()
        for key in ((y, m) for y in years for m in range(1, 13)):
            if key not in known:  # the view ends at the last day with data
                known[key] = Month(*key, MISSING if loaded_at(loads, *key) else NOT_LOADED, frozenset(), None, False)
        return Coverage(known, years, self._eras(connection), self._source(connection))

    def _eras(self, connection: Connection) -> list[Era]:
        text = sql.SQL("SELECT era, era_name, min(day) FROM {} GROUP BY era, era_name ORDER BY era").format(self._of("lightning_coverage"))
        return [Era(*row) for row in connection.execute(text)]

    def _source(self, connection: Connection) -> str:
        name = self._of("lightning").as_string(connection)
        row = connection.execute("SELECT split_part(obj_description(%s::regclass, 'pg_class'), ' Source: ', 2)", [name]).fetchone()
        return str(row[0] or "") if row else ""

    def daily(self, connection: Connection, coverage: Coverage, year: int) -> list[Day]:
        """Ask for each day of a year, 29 February among them where there is one."""
        text = sql.SQL("SELECT day, strikes, tiles, synthetic FROM {} WHERE day BETWEEN %s AND %s").format(self._of("lightning_daily"))
        rows = {row[0]: row for row in connection.execute(text, [date(year, 1, 1), date(year, 12, 31)])}
        return [Day(day, WHOLE, *rows[day][1:]) if day in rows else Day(day, coverage.absent(year, day.month)) for day in days_of(year)]

    def monthly(self, connection: Connection, coverage: Coverage, month: int) -> list[Sum]:
        """Ask for one month of all years."""
        text = sql.SQL("SELECT year, days, strikes, tiles, synthetic FROM {} WHERE month = %s").format(self._of("lightning_monthly"))
        rows = {row[0]: row for row in connection.execute(text, [month])}
        expected = {year: calendar.monthrange(year, month)[1] for year in coverage.span}
        absent = {year: coverage.absent(year, month) for year in coverage.span}
        return [add_up(year, rows.get(year), expected[year], absent[year]) for year in coverage.span]

    def day_of_month(self, connection: Connection, coverage: Coverage, day: int) -> list[Sum]:
        """Ask for one day of the month, added up over the months of each year.

        Not every month has a 29th, 30th or 31st, so each year says how many such days it has and how many are known.
        """
        text = sql.SQL(
            "SELECT year, count(*), sum(strikes)::bigint, sum(tiles)::bigint, bool_or(synthetic) FROM {} WHERE extract(day FROM day) = %s GROUP BY year"
        )
        rows = {row[0]: row for row in connection.execute(text.format(self._of("lightning_daily")), [day])}
        absent = {year: NOT_LOADED if coverage.years.get(year, NOT_LOADED) == NOT_LOADED else MISSING for year in coverage.span}
        return [add_up(year, rows.get(year), months_with(year, day), absent[year]) for year in coverage.span]

    def cells(self, connection: Connection, year: int, month: int) -> Map:
        """Ask for a month's map."""
        text = sql.SQL("SELECT lat10, lon10, lat, lon, strikes, tiles, cell10 FROM {} WHERE year = %s AND month = %s ORDER BY lat10, lon10")
        rows = connection.execute(text.format(self._of("lightning_cell_month")), [year, month]).fetchall()
        return Map([Cell(*row[:6]) for row in rows], rows[0][6] if rows else 0)


def days_of(year: int) -> Iterable[date]:
    """Go through the days of a year."""
    first = date(year, 1, 1)
    return (first + timedelta(days=n) for n in range(366 if calendar.isleap(year) else 365))


def months_with(year: int, day: int) -> int:
    """Count the months of a year that have such a day."""
    return sum(day <= calendar.monthrange(year, month)[1] for month in range(1, 13))


def loaded_at(loads: list[tuple[date, date]], year: int, month: int) -> bool:
    """Tell whether some chunk has any day of the month."""
    first, last = date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])
    return any(a <= last and b >= first for a, b in loads)
