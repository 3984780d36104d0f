"""The numbers of each figure as CSV, gaps and all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import date
from typing import Any

import words
from data import Data
from queries import MONTHS, WHOLE, Coverage, Day, Map, Month, Sum
from state import State

Table = tuple[list[str], Iterable[list[Any]]]


def flag(known: bool, value: bool) -> str:
    """Write the flag; of nothing nobody can tell."""
    return str(value).lower() if known else ""


def daily(days: list[Day]) -> Table:
    """Tabulate a year's days."""
    head = ["day", "day_of_year", "state", "strikes", "tiles", "synthetic"]
    return head, (
        [d.day, n, "present" if d.state == WHOLE else d.state, d.strikes, d.tiles, flag(d.state == WHOLE, d.synthetic)] for n, d in enumerate(days, 1)
    )


def over_years(sums: list[Sum], name: str, value: int) -> Table:
    """Tabulate sums, one a year."""
    head = ["year", name, "state", "strikes", "tiles", "days_known", "days", "synthetic"]
    return head, ([s.year, value, s.state, s.strikes, s.tiles, s.known, s.expected, flag(bool(s.known), s.synthetic)] for s in sums)


def month_map(found: Map, year: int, month: int, made: bool) -> Table:
    """Tabulate a month's cells."""
    head = ["year", "month", "lat", "lon", "cell_degrees", "strikes", "tiles", "synthetic"]
    return head, ([year, month, c.lat, c.lon, found.cell10 / 10, c.strikes, c.tiles, flag(True, made)] for c in found.cells)


def coverage(found: Coverage) -> Table:
    """Tabulate what is known, month by month."""
    head = ["year", "month", "state", "year_state", "days_known", "days", "days_unknown", "strikes", "synthetic"]
    return head, (
        [m.year, m.month, m.state, found.years[m.year], len(m.days), m.length, unknown(m), m.strikes, flag(bool(m.days), m.synthetic)]
        for _, m in sorted(found.months.items())
    )


def unknown(month: Month) -> str:
    """List a month's unknown days."""
    return " ".join(str(d.day) for d in month.missing)


def table(name: str, data: Data, state: State) -> tuple[str, Table]:
    """Return a panel's numbers and what to call the file. Raises KeyError for a name that is none, and Problem."""
    found = data.coverage()
    state = state.within(found.first, found.last)
    tag = "-synthetic" if words.badge(found) else ""
    if name == "daily":
        return f"lightning-{state.year}{tag}.csv", daily(data.daily(state.year))
    if name == "monthly":
        return f"lightning-{MONTHS[state.month - 1].lower()}{tag}.csv", over_years(data.monthly(state.month), "month", state.month)
    if name == "dayofmonth":
        return f"lightning-day-{state.day}{tag}.csv", over_years(data.day_of_month(state.day), "day_of_month", state.day)
    if name == "map":
        known = found.months.get((state.year, state.month))
        cells = data.cells(state.year, state.month)
        return f"lightning-map-{state.year}-{state.month:02}{tag}.csv", month_map(cells, state.year, state.month, bool(known and known.synthetic))
    if name == "coverage":
        return f"lightning-coverage{tag}.csv", coverage(found)
    raise KeyError(name)


def text(made: Table) -> str:
    """Write the table; dates as ISO, LF at line ends, empty where nothing is known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(made[0])
    writer.writerows([[v.isoformat() if isinstance(v, date) else v for v in row] for row in made[1]])
    return out.getvalue()
