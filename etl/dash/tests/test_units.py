"""Small decisions, without a database or a browser."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path

import plotly.offline
import pytest
from dash import dcc, html

import figures
import queries
import words
from figure import Figure
from markup import markup
from queries import MISSING, WHOLE, Day
from state import State, parse


@pytest.mark.parametrize(
    ("query", "want"),
    [
        ({}, State()),
        ({"year": "2018", "month": "2", "day": "29", "scale": "log"}, State(2018, 2, 29, "log")),
        ({"year": "x", "month": "13", "day": "0", "scale": "cubic"}, State()),
        ({"year": "-5", "month": "٣", "day": "1e1", "scale": "<script>"}, State()),
        ({"year": "99999999999", "month": "", "day": " 7"}, State()),
    ],
)
def test_an_address_is_read_strictly(query: dict[str, str], want: State) -> None:
    """Whatever is typed, there is a page."""
    assert parse(query) == want


def test_a_year_that_is_not_there_is_the_nearest() -> None:
    """An old link still shows something."""
    assert [State(year=y).within(1987, 2020).year for y in (1900, 2000, 2999)] == [1987, 2000, 2020]


def test_not_every_month_has_a_31st() -> None:
    """Count how often a day of the month comes."""
    assert [queries.months_with(2019, d) for d in (1, 28, 29, 30, 31)] == [12, 12, 11, 11, 7]
    assert queries.months_with(2020, 29) == 12


def test_gaps_are_put_into_words() -> None:
    """Days that follow each other are one gap, over the ends of months too."""
    gone = [date(2019, 1, 3), date(2019, 1, 29), date(2019, 1, 30), date(2019, 1, 31), date(2019, 2, 1), date(2019, 2, 3)]
    points = [Day(d, MISSING) if d in gone else Day(d, WHOLE, 5, 1, True) for d in queries.days_of(2019)]
    assert [words.run_words(run) for run in figures.runs(points)] == ["3 Jan", "29 Jan - 1 Feb", "3 Feb"]


def test_numbers_are_put_into_words() -> None:
    """Write ordinals and ranges."""
    assert [words.ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 31)] == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "13th",
        "21st",
        "22nd",
        "23rd",
        "31st",
    ]
    assert figures.ranges([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"


@pytest.mark.parametrize(("values", "want"), [([10, 20], "D1"), ([1, 1000], "D2"), ([1, 10**6], 1), ([], "D1"), ([7], "D1")])
def test_labels_of_a_logarithm_have_room(values: list[int], want: int | str) -> None:
    """Choose fewer ticks for more decades."""
    assert figures.log_ticks(values) == want


def test_an_era_begins_at_the_first_whole_month() -> None:
    """The sum of November 2018 is of two eras, so the line stands after it; December's stands before."""
    eras = [queries.Era(3, "a", date(2015, 1, 1)), queries.Era(4, "b", date(2018, 11, 7))]
    years = list(range(1987, 2021))
    assert [figures.era_lines(eras, month, years)[0][0]["x0"] for month in (1, 11, 12)] == [2018.5, 2018.5, 2017.5]


@pytest.mark.parametrize(("values", "want"), [([1] * 50, 1), ([250] * 96 + [3] * 4, 100), ([3] * 6 + [250] * 94, 1), ([7], 1), ([], 1)])
def test_colours_begin_where_the_cells_are(values: list[int], want: int) -> None:
    """A logarithmic map is not all dark."""
    assert figures.lightest(values) == want


def test_a_map_without_cells_is_empty() -> None:
    """Have no grid for nothing."""
    assert figures.grid(queries.Map([], 0)) == ([], [], [])


def test_the_layout_is_written_as_html() -> None:
    """Nothing of the data is taken for HTML; what is only for Dash is left out."""
    given = html.Div(
        [
            html.Button("a<b", id="x", className="small", type="button", title='say "no"', n_clicks=0),
            html.Option(7, value="7", selected=True),
            html.Option(None, value="8", selected=False),
            html.I(style={"background": "#fff"}),
            dcc.Store(id="y", data="secret"),
            Figure(id="daily", figure={"data": []}, className="graph"),
        ],
        hidden=True,
    )
    assert markup(given) == (
        '<div hidden><button class="small" title="say &quot;no&quot;" type="button">a&lt;b</button><option selected value="7">7</option>'
        '<option value="8"></option><i style="background:#fff"></i><div class="graph" data-figure="daily"></div></div>'
    )


def test_what_draws_is_what_its_note_says() -> None:
    """The file is the one of the npm package, and of the version that dash's plotly has."""
    folder = Path(figures.__file__).parent / "plotly"
    script = (folder / "plotly-cartesian.min.js").read_bytes()
    assert f"{hashlib.sha256(script).hexdigest()}  plotly-cartesian.min.js" in (folder / "SOURCE.md").read_text()
    assert f"plotly.js (cartesian - minified) v{plotly.offline.get_plotlyjs_version()}\n".encode() in script[:200]
