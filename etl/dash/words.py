"""What the page says in words: captions below the figures' headings, and what a screen reader hears instead of a figure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from database import Problem
from figures import ranges, runs
from queries import MISSING, MONTHS, NOT_LOADED, PARTIAL, Coverage, Day, Map, Sum


def ordinal(n: int) -> str:
    """Write 1st, 2nd, 3rd, 11th."""
    suffix = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def day_words(day: date) -> str:
    """Write 29 August."""
    return f"{day.day} {MONTHS[day.month - 1]}"


def counted(n: int, one: str, many: str = "") -> str:
    """Write 1 day, 2 days."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def run_words(run: list[Day]) -> str:
    """Write days that follow each other: 19-22 Jun."""
    first, last = run[0].day, run[-1].day
    if first == last:
        return f"{first.day} {first:%b}"
    if first.month == last.month:
        return f"{first.day}-{last.day} {first:%b}"
    return f"{first.day} {first:%b} - {last.day} {last:%b}"


def daily(days: list[Day]) -> str:
    """Sum up a year's days."""
    known = {d.day: d.strikes for d in days if d.strikes is not None}
    if not known:
        return f"Nothing is known of this year: {days[0].state}."
    most = max(known, key=lambda day: known[day])
    text = f"{sum(known.values()):,} strikes on {len(known)} days; most {known[most]:,} on {most.day} {most:%b}."
    gaps = runs(days)
    if not gaps:
        return text
    return f"{text} No data: {', '.join(run_words(run) for run in gaps[:4])}{', and more' if len(gaps) > 4 else ''}."


def over_years(sums: list[Sum]) -> str:
    """Sum up sums."""
    known = {s.year: s.strikes for s in sums if s.strikes is not None}
    if not known:
        return "Nothing is known of any year."
    most = max(known, key=lambda year: known[year])
    text = f"Most in {most}: {known[most]:,}."
    partial = [s.year for s in sums if s.state == PARTIAL]
    absent = [s.year for s in sums if s.strikes is None]
    if partial:
        text += f" Open circles lack days: {ranges(partial)}."
    if absent:
        text += f" No data: {ranges(absent)}."
    return text


def times_a_year(day: int) -> str:
    """Say how often a year has such a day, where it is not twelve times."""
    return {29: "11 such days a year, 12 in leap years. ", 30: "11 such days a year. ", 31: "7 such days a year. "}.get(day, "")


def place(lat: float, lon: float) -> str:
    """Write 38.7° N, 85.3° W."""
    return f"{abs(lat):.1f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.1f}° {'E' if lon >= 0 else 'W'}"


def month_map(found: Map, coverage: Coverage, year: int, month: int) -> str:
    """Sum up a map."""
    known = coverage.months.get((year, month))
    if not found.cells or known is None:
        return "This month is not loaded." if known is None or known.state == NOT_LOADED else "No day of this month is known."
    most = max(found.cells, key=lambda c: c.strikes)
    text = f"{sum(c.strikes for c in found.cells):,} strikes in {counted(len(found.cells), 'cell')} of {found.cell10 / 10:g}°;"
    text += f" most at {place(most.lat, most.lon)}: {most.strikes:,}."
    if known.missing:
        text += f" {len(known.days)} of {known.length} days known."
    return text


def coverage(found: Coverage) -> str:
    """Say from when to when there are data, and what is missing."""
    days = sum(len(m.days) for m in found.months.values())
    missing = sum(len(m.missing) for m in found.months.values() if m.state in (PARTIAL, MISSING))
    text = f"{days:,} days known, until {day_words(found.last_day)} {found.last_day.year}; {missing:,} missing."
    partial = [y for y, state in found.years.items() if state == PARTIAL]
    text += f" Partial years: {ranges(sorted(partial))}." if partial else ""
    return f"{text} Eras of the network: " + ", ".join(f"{e.number} {e.name}" for e in found.eras) + "."


def badge(found: Coverage) -> str:
    """Say whether the data are made up; empty when they are observed."""
    if not found.synthetic_years:
        return ""
    return f"partly synthetic: {ranges(found.synthetic_years)}" if found.measured else "synthetic data"


@dataclass(frozen=True)
class Notice:
    """A banner."""

    words: str
    advice: str


def notice(problem: Problem, answered: datetime | None) -> Notice:
    """Say what is wrong, what to do, and how old what is shown may be."""
    kept = problem.code in ("away", "slow") and answered is not None
    age = f" What is shown was read before {answered.astimezone(UTC):%H:%M:%S} UTC." if kept and answered else ""
    return Notice(problem.words, f"{problem.advice}{age}")
