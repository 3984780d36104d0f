"""What the page shows is its address: ?year=2016&month=7&day=7&scale=linear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SCALES = ("linear", "log")


@dataclass(frozen=True)
class State:
    """The choices of a reader. The defaults are those of the original program."""

    year: int = 2016
    month: int = 7
    day: int = 7
    scale: str = "linear"

    def within(self, first: int, last: int) -> State:
        """Return the state with a year that there is."""
        return State(min(max(self.year, first), last), self.month, self.day, self.scale)


def number(text: str | None, first: int, last: int, otherwise: int) -> int:
    """Read a number of an address that anybody may have typed."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 4:
        return otherwise
    return int(text) if first <= int(text) <= last else otherwise


def parse(query: Mapping[str, str]) -> State:
    """Read an address; what makes no sense is as if it were not there."""
    scale = query.get("scale", "")
    return State(
        number(query.get("year"), 1900, 2999, State.year),
        number(query.get("month"), 1, 12, State.month),
        number(query.get("day"), 1, 31, State.day),
        scale if scale in SCALES else State.scale,
    )
