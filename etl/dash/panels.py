"""From a state to what the panels show: the place where questions, figures and words meet."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

import figures
import words
from data import Data
from database import Problem
from page import Panel
from queries import MONTHS, Coverage
from state import State

Maker = Callable[[Data, Coverage, State], tuple[str, figures.Figure]]


def daily(data: Data, _: Coverage, state: State) -> tuple[str, figures.Figure]:
    """Show each day of the year."""
    days = data.daily(state.year)
    return words.daily(days), figures.daily(days, state.scale)


def monthly(data: Data, coverage: Coverage, state: State) -> tuple[str, figures.Figure]:
    """Show the month over the years."""
    sums = data.monthly(state.month)
    what = MONTHS[state.month - 1]
    return words.over_years(sums), figures.over_years(sums, coverage.eras, state.scale, chosen=state.year, what=what, month=state.month)


def day_of_month(data: Data, coverage: Coverage, state: State) -> tuple[str, figures.Figure]:
    """Show the day of the month over the years."""
    sums = data.day_of_month(state.day)
    figure = figures.over_years(sums, coverage.eras, state.scale, chosen=state.year, what=f"{words.ordinal(state.day)} of all months of")
    return words.times_a_year(state.day) + words.over_years(sums), figure


def month_map(data: Data, coverage: Coverage, state: State) -> tuple[str, figures.Figure]:
    """Show the month's map."""
    found = data.cells(state.year, state.month)
    known = coverage.months.get((state.year, state.month))
    said = words.month_map(found, coverage, state.year, state.month)
    if not found.cells:
        return said, figures.said(said)
    return said, figures.month_map(found, state.scale, synthetic=bool(known and known.synthetic))


def coverage_strip(_: Data, coverage: Coverage, state: State) -> tuple[str, figures.Figure]:
    """Show what is known."""
    return words.coverage(coverage), figures.coverage(coverage, year=state.year, month=state.month)


MAKERS: dict[str, Maker] = {"daily": daily, "monthly": monthly, "dayofmonth": day_of_month, "map": month_map, "coverage": coverage_strip}


def heading(name: str, state: State) -> str:
    """Head a panel."""
    month = MONTHS[state.month - 1]
    return {
        "daily": f"Each day of {state.year}",
        "monthly": f"{month} of each year",
        "dayofmonth": f"The {words.ordinal(state.day)} of all months, by year",
        "map": f"Map of {month} {state.year}",
        "coverage": "What is known",
    }[name]


def csv_address(name: str, state: State, prefix: str) -> str:
    """Return where a panel's numbers are."""
    query = {
        "daily": {"year": state.year},
        "monthly": {"month": state.month},
        "dayofmonth": {"day": state.day},
        "map": {"year": state.year, "month": state.month},
        "coverage": {},
    }[name]
    return f"{prefix}csv/{name}.csv" + (f"?{urlencode(query)}" if query else "")


def panel(name: str, data: Data, state: State, prefix: str) -> Panel:
    """Return a panel; when its data cannot be had, one that says so."""
    try:
        coverage = data.coverage()
        state = state.within(coverage.first, coverage.last)
        caption, figure = MAKERS[name](data, coverage, state)
    except Problem as problem:
        caption, figure = problem.words, figures.said("nothing to show yet", meta="lacking")
    return Panel(name, heading(name, state), caption, figure, csv_address(name, state, prefix))
