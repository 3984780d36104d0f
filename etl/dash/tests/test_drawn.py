"""What is drawn equals SQL: plotly's own numbers, and where its marks stand, against the tables behind the views."""

from __future__ import annotations

import calendar
import operator
from datetime import date, timedelta
from functools import partial
from typing import Any

import pytest
from conftest import Dashboard, Runner, Watched, eventually
from world import World

Pairs = list[list[Any]]

VALUES = "return gd._fullData[0].x.map((x, i) => [x, gd._fullData[0].y[i] ?? null]);"
# How many marks there are, and how far the worst stands from where its value belongs, in pixels.
MARKS = """
const at = gd._fullLayout, known = a.filter(([, y]) => y !== null);
const place = p => /translate\\(([^,]+),([^)]+)\\)/.exec(p.getAttribute('transform')).slice(1).map(Number);
const marks = [...gd.querySelectorAll('.scatterlayer .trace .points path')].map(place);
const off = known.map(([x, y], i) => Math.hypot(at.xaxis.d2p(x) - marks[i][0], at.yaxis.d2p(y) - marks[i][1]));
return [marks.length, known.length, Math.max(...off)];"""
SEEN = """
const range = ax => ax.range.map(v => ax.r2l(v));
const t = gd._fullData[0], x = t.x.map(v => gd._fullLayout.xaxis.d2l(v));
const y = t.y.filter(v => v !== null && v !== undefined).map(v => gd._fullLayout.yaxis.d2l(v));
const within = (values, [lo, hi]) => Math.min(...values) >= lo && Math.max(...values) <= hi;
return [within(x, range(gd._fullLayout.xaxis)), within(y, range(gd._fullLayout.yaxis))];"""


def rows(world: World, text: str, *words: object, database: str = "postgres") -> list[tuple[Any, ...]]:
    """Ask the tables themselves, not the views."""
    with world.admin(database) as connection:
        return connection.execute(text.encode(), words).fetchall()


def expect(watched: Watched, name: str, want: Pairs) -> None:
    """Wait until a figure's numbers are these; then its marks must stand where they belong, and none be out of sight."""
    eventually(lambda: watched.graph(name, VALUES), lambda got: got == want, f"{name} equals SQL")

    def stand() -> list[Any]:
        return list(watched.graph(name, MARKS, want))

    known = sum(y is not None for _, y in want)
    eventually(stand, lambda got: got[0] == got[1] == known and got[2] < 0.5, f"{name}: marks where they belong")
    assert watched.graph(name, SEEN) == [True, True]


def days(world: World, year: int, database: str = "postgres") -> Pairs:
    """Return each day of a year and its strikes."""
    found = dict(rows(world, "SELECT day, strikes FROM lightning.day WHERE extract(year FROM day) = %s", year, database=database))
    first = date(year, 1, 1)
    return [[(first + timedelta(n)).isoformat(), found.get(first + timedelta(n))] for n in range(366 if calendar.isleap(year) else 365)]


def years(world: World, condition: str, number: int, database: str = "postgres") -> Pairs:
    """Return a sum of days for each year."""
    text = f"SELECT extract(year FROM day)::integer, sum(strikes)::bigint FROM lightning.day WHERE extract({condition} FROM day) = %s GROUP BY 1"
    found = dict(rows(world, text, number, database=database))
    return [[year, found.get(year)] for year in range(1987, 2021)]


@pytest.mark.parametrize(("year", "unknown"), [(2016, 0), (2018, 8), (2020, 172)])
def test_each_day_of_a_year(watched: Watched, dashboard: Dashboard, filled: World, year: int, unknown: int) -> None:
    """Draw 366 days, 29 February among them; leave gaps for unknown days; clip no peak; on both scales."""
    want = days(filled, year)
    assert sum(y is None for _, y in want) == unknown
    assert any(x.endswith("02-29") for x, _ in want) == (year % 4 == 0)
    watched.open(f"{dashboard.url}?year={year}")
    for scale in ("linear", "log"):
        watched.page.click(f"#scale-{scale}")
        eventually(lambda: watched.graph("daily", "return gd._fullLayout.yaxis.type;"), partial(operator.eq, scale), "the scale")
        expect(watched, "daily", want)
    shaded = watched.graph("daily", "return (gd._fullLayout.shapes || []).reduce((n, s) => n + (new Date(s.x1) - new Date(s.x0)) / 864e5, 0);")
    assert round(shaded) == unknown


@pytest.mark.parametrize("month", [2, 7])
def test_a_month_over_the_years(watched: Watched, dashboard: Dashboard, filled: World, month: int) -> None:
    """Draw a month of each year."""
    watched.open(f"{dashboard.url}?month={month}")
    expect(watched, "monthly", years(filled, "month", month))


@pytest.mark.parametrize("day", [7, 29, 31])
def test_a_day_of_the_month_over_the_years(watched: Watched, dashboard: Dashboard, filled: World, day: int) -> None:
    """Draw a day of the month, added up; say how many such days there are, and which sums lack some."""
    watched.open(f"{dashboard.url}?day={day}")
    expect(watched, "dayofmonth", years(filled, "day", day))
    found = dict(rows(filled, "SELECT extract(year FROM day)::integer, count(*) FROM lightning.day WHERE extract(day FROM day) = %s GROUP BY 1", day))
    there = {y: sum(day <= calendar.monthrange(y, m)[1] for m in range(1, 13)) for y in range(1987, 2021)}
    assert watched.graph("dayofmonth", "return gd._fullData[0].customdata;") == [[found[y], there[y]] for y in sorted(there)]
    hollow = watched.graph("dayofmonth", "return gd._fullData[0].x.filter((x, i) => gd._fullData[0].marker.color[i] === '#ffffff');")
    assert hollow == [y for y in sorted(there) if found[y] < there[y]]
    assert 2020 in hollow


CELLS = """
const t = gd._fullData[0], out = [];
t.z.forEach((row, i) => row.forEach((z, j) => { if (z !== null && z !== undefined) out.push([t.y[i], t.x[j], t.customdata[i][j], z]); }));
return out;"""
WITHIN = """
const t = gd._fullData[0], [x0, x1] = gd._fullLayout.xaxis.range, [y0, y1] = gd._fullLayout.yaxis.range;
return Math.min(...t.x) >= x0 && Math.max(...t.x) <= x1 && Math.min(...t.y) >= y0 && Math.max(...t.y) <= y1;"""
PLACE = (
    "const b = gd.querySelector('.nsewdrag').getBoundingClientRect(); return [b.left + gd._fullLayout.xaxis.d2p(a[1]), b.top + gd._fullLayout.yaxis.d2p(a[0])];"
)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_the_map_of_a_month(watched: Watched, dashboard: Dashboard, filled: World, scale: str) -> None:
    """Draw each cell once, at its middle, with its strikes; what the mouse is told is that too."""
    found = rows(
        filled,
        "SELECT (lat10 + 2) / 10.0, (lon10 + 2) / 10.0, strikes FROM lightning.cell_month WHERE year = 2018 AND month = 8 ORDER BY strikes DESC, lat10, lon10",
    )
    want = [[float(lat), float(lon), strikes] for lat, lon, strikes in found]
    watched.open(f"{dashboard.url}?year=2018&month=8&scale={scale}")
    eventually(lambda: sorted(c[:3] for c in watched.graph("map", CELLS)), lambda got: got == sorted(want), "the map equals SQL")
    for _, _, strikes, z in watched.graph("map", CELLS):
        assert 10**z == pytest.approx(strikes) if scale == "log" else z == strikes
    assert watched.graph("map", WITHIN)
    for lat, lon, strikes in [want[0], want[len(want) // 2], want[-1]]:
        watched.page.mouse.move(*watched.graph("map", PLACE, [lat, lon]))
        told = f"{strikes:,} strikes"
        eventually(lambda: " ".join(watched.page.locator("#map .hovertext").all_text_contents()), partial(contains, told), f"the mouse at {lat}, {lon}")


def contains(part: str, text: str) -> bool:
    """Tell whether a text has a part."""
    return part in text


def test_what_is_known(watched: Watched, run: Runner, filled: World) -> None:
    """Tell whole, partial, missing and unloaded months apart, everywhere; nothing unknown is drawn as zero."""
    filled.database("holes", template="postgres")
    config = filled.folder / "etl.yaml"
    filled.duoetl(config, "holes", "reset", "--chunk", "1995", "--yes")
    with filled.admin("holes") as connection:
        connection.execute("DELETE FROM lightning.day WHERE day BETWEEN '2005-03-01' AND '2005-03-31'")
        connection.execute("DELETE FROM lightning.month WHERE year = 2005 AND month = 3")
        connection.execute("UPDATE lightning.day SET synthetic = false WHERE day < '2018-01-01'")
    watched.open(run(filled.reader("holes")).url + "?month=3&year=1995")
    grid = eventually(lambda: watched.graph("coverage", "return gd._fullData[0].z;"), bool, "the strip")
    state = {(1987 + i, month): ["whole", "partial", "missing", "not loaded"][z] for month, row in enumerate(grid) for i, z in enumerate(row)}
    want_state = dict.fromkeys(state, "whole") | {(1995, m): "not loaded" for m in range(13)}
    want_state |= {(2005, 3): "missing", (2005, 0): "partial"}
    want_state |= {(2018, m): "partial" for m in (6, 9, 12)}
    want_state |= {(2020, 0): "partial", (2020, 7): "partial"} | {(2020, m): "missing" for m in range(8, 13)}
    assert {k: s for k, s in state.items() if s != "whole"} == {k: s for k, s in want_state.items() if s != "whole"}
    want = years(filled, "month", 3, database="holes")
    assert [y for y, strikes in want if strikes is None] == [1995, 2005]
    expect(watched, "monthly", want)
    assert "No data: 1995, 2005." in watched.text("#monthly-caption")
    assert watched.text("#daily-caption") == "Nothing is known of this year: not loaded."
    assert watched.text("#map-caption") == "This month is not loaded."
    assert watched.text(".badge").lower() == "partly synthetic: 2018-2020"
