"""Small decisions, without a database or a browser."""

from __future__ import annotations

import hashlib
import itertools
import math
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


# How people see who lack one kind of cones: Machado, Oliveira and Fernandes (2009), in linear light.
EYES = {
    "all three": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def lab(colour: str, eyes: str) -> tuple[float, float, float]:
    """Return where a colour is in CIE Lab, for these eyes."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    seen = [min(max(sum(m * v for m, v in zip(row, linear, strict=True)), 0), 1) for row in EYES[eyes]]
    to_xyz = ((0.4339, 0.3762, 0.1899), (0.2126, 0.7152, 0.0722), (0.0178, 0.1098, 0.8730))  # over the white of D65
    x, y, z = (sum(m * v for m, v in zip(row, seen, strict=True)) for row in to_xyz)
    fx, fy, fz = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


@pytest.mark.parametrize("eyes", EYES)
def test_colours_can_be_told_apart(eyes: str) -> None:
    """Whatever cones somebody has: the states of the strip, whole and open circles, and the map's scale, which gets darker all the way."""
    for colours in (list(figures.STATE_COLOURS.values()), [figures.BLUE, figures.VERMILION, figures.PAPER], [figures.SKY, figures.PAPER]):
        for one, other in itertools.combinations(colours, 2):
            assert math.dist(lab(one, eyes), lab(other, eyes)) > 15, (one, other)
    lightness = [lab(str(colour), eyes)[0] for _, colour in figures.CIVIDIS]
    assert all(light - dark > 4 for light, dark in itertools.pairwise(lightness)), lightness


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
