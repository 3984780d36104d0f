"""The page as people use it: address, keyboard, names, downloads, looks."""

from __future__ import annotations

import csv
import io
import operator
import struct
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import PATIENCE, Dashboard, Watched, eventually
from playwright.sync_api import Route
from world import World


def query(watched: Watched) -> dict[str, str]:
    """Return what the address says."""
    return {k: v[0] for k, v in parse_qs(urlsplit(watched.page.url).query).items()}


def year_drawn(watched: Watched) -> str:
    """Return the year of the first figure."""
    return str(watched.graph("daily", "return gd._fullData[0].name;"))


def test_the_address_is_the_state(watched: Watched, dashboard: Dashboard) -> None:
    """Every choice is in the address; back and forward move through choices; an address shows the same to others."""
    watched.open(dashboard.url)
    assert (year_drawn(watched), watched.text("#monthly-heading")) == ("2016", "July of each year")
    watched.page.select_option("#month-select", label="February")
    watched.says("#monthly-heading", "February of each year")
    watched.page.select_option("#day-select", "29")
    watched.says("#dayofmonth-heading", "The 29th of all months, by year")
    watched.page.click("#scale-log")
    eventually(lambda: watched.graph("daily", "return gd._fullLayout.yaxis.type;"), lambda t: t == "log", "a logarithmic axis")
    assert query(watched) == {"year": "2016", "month": "2", "day": "29", "scale": "log"}
    shared = watched.page.url
    for heading, words in [("#dayofmonth-heading", "29th"), ("#dayofmonth-heading", "7th"), ("#monthly-heading", "July")]:
        watched.page.go_back()
        watched.says(heading, words)
    assert watched.page.get_attribute("#scale-linear", "aria-pressed") == "true"
    assert watched.page.input_value("#month-select") == "7"
    watched.page.go_forward()
    watched.says("#monthly-heading", "February of each year")
    watched.open(shared)
    assert watched.text("#dayofmonth-heading") == "The 29th of all months, by year"
    assert watched.graph("monthly", "return gd._fullLayout.yaxis.type;") == "log"


def test_an_address_that_makes_no_sense_still_shows_something(watched: Watched, dashboard: Dashboard) -> None:
    """Show what is nearest, and the defaults of the original."""
    watched.open(f"{dashboard.url}?year=2999&month=13&day=%22%3E&scale=cubic")
    assert year_drawn(watched) == "2020"
    assert watched.text("#monthly-heading") == "July of each year"


def test_the_first_look_costs_no_question(watched: Watched, dashboard: Dashboard) -> None:
    """The layout comes with its figures: nothing is asked for a second time."""
    watched.open(f"{dashboard.url}?year=2018&month=8&day=31&scale=log")
    assert year_drawn(watched) == "2018"
    eventually(lambda: watched.asked, lambda urls: any("/health" in u for u in urls), "the first poll")
    assert [u for u in watched.asked if "_dash-update-component" in u or "_dash-layout" in u] == []
    assert [u for u in watched.asked if "plotly.min.js" in u] == []  # all of plotly.js is three times as much as what draws here


def test_the_first_paint_has_the_numbers(watched: Watched, dashboard: Dashboard) -> None:
    """Before any script has run, the words are there."""
    watched.page.route("**/*.js*", lambda route: route.abort())
    watched.page.goto(f"{dashboard.url}?year=2018&month=6")
    text = watched.text("body")
    watched.complaints.clear()  # of the scripts that were withheld
    for part in ("Lightning strikes", "1987-2020", "SYNTHETIC DATA", "Each day of 2018", "No data: 19-22 Jun, 18-19 Sep, 1-2 Dec.", "Map of June 2018"):
        assert part in text
    assert watched.page.get_attribute(".daily a", "href") == "/csv/daily.csv?year=2018"


BOXES = """within => [...document.querySelectorAll('h1,h2,.caption,.small,.controls,.choice,.legend,.frame,.badge,.facts')]
  .filter(e => e.closest(within) && e.offsetParent)
  .map(e => [e.className || e.tagName, ...['x', 'y', 'width', 'height'].map(k => Math.round(e.getBoundingClientRect()[k]))])"""


def test_dash_takes_over_what_is_drawn(watched: Watched, dashboard: Dashboard) -> None:
    """All figures are drawn before Dash starts; it keeps them, and nothing moves."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    watched.page.route("**/dash_renderer*", hold)
    watched.page.goto(f"{dashboard.url}?year=2018&month=8", wait_until="commit")
    count = "() => [...document.querySelectorAll('#first .js-plotly-plot')].filter(g => g.calcdata && g.querySelector('.main-svg')).length"
    eventually(lambda: watched.page.evaluate(count), lambda n: n == 5, "figures drawn on the first page")
    before = watched.page.evaluate(BOXES, "#first")
    watched.page.evaluate("() => document.querySelectorAll('.js-plotly-plot').forEach(g => { g.marked = true; })")
    eventually(lambda: watched.page.evaluate("() => window.React !== undefined"), bool, "Dash's scripts before the one that is held")
    watched.page.unroute("**/dash_renderer*")
    for route in held:
        route.continue_()
    watched.drawn()
    assert watched.page.evaluate("() => [...document.querySelectorAll('.js-plotly-plot')].map(g => g.marked === true)") == [True] * 5
    assert watched.page.query_selector("#first") is None
    assert watched.page.evaluate(BOXES, "#dash") == before
    assert watched.page.title() == "Lightning strikes: August 2018"


def test_a_script_that_does_not_come_is_asked_for_again(watched: Watched, dashboard: Dashboard) -> None:
    """A browser drops what it asks for when a network comes or goes; the figures are drawn all the same."""
    dropped: list[str] = []

    def drop(route: Route) -> None:
        if route.request.resource_type == "script" and route.request.url not in dropped:
            dropped.append(route.request.url)
            route.abort()
        else:
            route.fallback()

    watched.page.route("**/plotly-cartesian*", drop)
    watched.page.route("**/react-dom*", drop)
    watched.open(dashboard.url)
    assert len(dropped) == 2
    watched.complaints.clear()  # of what was dropped


def test_the_keyboard_is_enough(watched: Watched, dashboard: Dashboard) -> None:
    """Reach everything by Tab, in the order of reading, with a focus that can be seen; step through years with the arrows."""
    watched.open(dashboard.url)
    order: list[str] = []
    for _ in range(17):
        watched.page.keyboard.press("Tab")
        who = watched.page.evaluate(
            "() => { const e = document.activeElement, s = getComputedStyle(e); "
            "return [e.id || e.getAttribute('aria-label') || e.textContent, s.outlineStyle, parseFloat(s.outlineWidth)]; }"
        )
        assert who[1:] == ["solid", 3], who
        order.append(who[0])
    assert order[0] == "Skip to the figures"
    assert order[1:7] == ["Year", "Year", "month-select", "day-select", "scale-linear", "scale-log"]
    assert order[7:] == [f"{name}-{kind}" for name in ("daily", "monthly", "dayofmonth", "map", "coverage") for kind in ("csv", "png")]
    watched.page.focus("#year [role=slider]")
    watched.page.keyboard.press("ArrowRight")
    eventually(lambda: year_drawn(watched), lambda y: y == "2017", "the next year")
    watched.page.keyboard.press("End")
    eventually(lambda: year_drawn(watched), lambda y: y == "2020", "the last year")
    watched.page.focus("#scale-log")
    watched.page.keyboard.press("Enter")
    eventually(lambda: watched.graph("daily", "return gd._fullLayout.yaxis.type;"), lambda kind: kind == "log", "the scale")
    assert query(watched) == {"year": "2020", "month": "7", "day": "7", "scale": "log"}


def test_everything_has_a_name(watched: Watched, dashboard: Dashboard) -> None:
    """A screen reader hears what a figure shows, and what a control does."""
    watched.open(f"{dashboard.url}?year=2018")
    tree = watched.page.locator("body").aria_snapshot()
    for part in [
        'heading "Lightning strikes"',
        'slider "Year"',
        'combobox "Month"',
        'combobox "Day of month"',
        'button "linear"',
        'img "Each day of 2018"',
        "main",
    ]:
        assert part in tree, tree
    nameless = """() => [...document.querySelectorAll('button,a,select,input,[role=slider]')]
      .filter(e => !(e.textContent || '').trim() && !e.getAttribute('aria-label')).length"""
    assert watched.page.evaluate(nameless) == 0
    assert watched.page.get_attribute("html", "lang") == "en"
    assert "No data: 19-22 Jun, 18-19 Sep, 1-2 Dec." in watched.text("#daily-caption")


def test_synthetic_is_said_everywhere(watched: Watched, dashboard: Dashboard) -> None:
    """On the page, on every figure (an image travels alone), and in every table."""
    watched.open(dashboard.url)
    assert watched.text(".badge").lower() == "synthetic data"
    assert "Source: synthetic, made by duoflow and not observed." in watched.text(".facts")
    assert "Last load: 20" in watched.text(".facts")
    for name in ("daily", "monthly", "dayofmonth", "map"):
        assert "synthetic data" in watched.graph(name, "return gd._fullLayout.annotations.map(n => n.text);")


def fetch(url: str) -> tuple[str, str]:
    """Return a table and its file's name."""
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return answer.read().decode(), answer.headers["Content-Disposition"]


def numbers(text: str) -> list[dict[str, str]]:
    """Read a table."""
    return list(csv.DictReader(io.StringIO(text)))


def test_tables_equal_sql(watched: Watched, dashboard: Dashboard, filled: World) -> None:
    """The links give what the figures show."""
    watched.open(f"{dashboard.url}?year=2018&month=6&day=19")
    with watched.page.expect_download() as started:
        watched.page.click("#daily-csv")
    assert started.value.suggested_filename == "lightning-2018-synthetic.csv"
    days = numbers(Path(started.value.path()).read_text())
    with filled.admin() as connection:
        found = {str(day): str(strikes) for day, strikes in connection.execute("SELECT day, strikes FROM lightning.day WHERE extract(year FROM day) = 2018")}
        cells = connection.execute("SELECT count(*), sum(strikes) FROM lightning.cell_month WHERE year = 2018 AND month = 6").fetchone()
        june = connection.execute("SELECT sum(strikes)::text, count(*)::text FROM lightning.day WHERE day BETWEEN '2018-06-01' AND '2018-06-30'").fetchone()
    assert len(days) == 365
    assert {d["day"]: d["strikes"] for d in days if d["strikes"]} == found
    assert [d["state"] for d in days if not d["strikes"]] == ["missing"] * 8
    hrefs = {name: str(watched.page.get_attribute(f"#{name}-csv", "href")) for name in ("monthly", "dayofmonth", "map", "coverage")}
    base = dashboard.url.rstrip("/")
    drawn = {name: numbers(fetch(base + href)[0]) for name, href in hrefs.items()}
    assert june
    assert [(r["strikes"], r["days_known"], r["days"], r["state"]) for r in drawn["monthly"] if r["year"] == "2018"] == [(*june, "30", "partial")]
    assert [r["days"] for r in drawn["dayofmonth"]] == ["12"] * 34
    assert cells == (len(drawn["map"]), sum(int(r["strikes"]) for r in drawn["map"]))
    assert [r["days_unknown"] for r in drawn["coverage"] if (r["year"], r["month"]) == ("2018", "6")] == ["19 20 21 22"]
    assert len(drawn["coverage"]) == 34 * 12


def test_images_are_made_by_the_browser(watched: Watched, dashboard: Dashboard, artefacts: Path) -> None:
    """Every figure can be kept as a PNG, with its heading in it, and what the page says beside the figure."""
    watched.open(f"{dashboard.url}?year=2018&month=8")
    watched.page.evaluate(
        "() => { const save = Plotly.downloadImage; Plotly.downloadImage = (f, o) => { window.saved = f.layout.title.text; return save(f, o); }; }"
    )
    for name in ("daily", "map", "coverage"):
        with watched.page.expect_download() as started:
            watched.page.click(f"#{name}-png")
        kept = artefacts / f"download-{name}.png"
        started.value.save_as(kept)
        content = kept.read_bytes()
        assert content.startswith(b"\x89PNG\r\n")
        assert struct.unpack(">I", content[16:20]) == (2000,)
        assert started.value.suggested_filename.startswith("lightning-")
    title = watched.page.evaluate("() => window.saved")
    for part in ("Lightning strikes. What is known (synthetic data)", "whole", "partial (days missing)", "no data", "not loaded"):
        assert part in title


SIZES = {"wide": (1440, 900), "narrow": (800, 600), "phone": (400, 800)}
PICTURES: dict[str, str] = {"default": "", "holes": "?year=2018&month=6&day=29&scale=log", "partial": "?year=2020&month=2&day=31"}
OVERLAPS = """() => {
  const parts = [...document.querySelectorAll('h1,h2,.caption,.small,.choice,.legend,.frame,.badge,.facts')].filter(e => e.offsetParent);
  const boxes = parts.map(e => [e.id || e.className, e.getBoundingClientRect()]);
  const out = [];
  boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
    if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 1 && q.top < p.bottom - 1) out.push([a, b]);
  }));
  return out;
}"""


LABELS = """() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(g => {
  const boxes = [...g.querySelectorAll('.xtick text, .annotation-text')].map(e => [e.textContent, e.getBoundingClientRect()]);
  const over = (p, q) => p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 1 && q.top < p.bottom - 1;
  return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([, q]) => over(p, q)).map(([b]) => [a, b]));
})"""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("picture", PICTURES)
def test_it_fits(watched: Watched, dashboard: Dashboard, artefacts: Path, picture: str, size: str) -> None:
    """Nothing lies over something else, nothing is wider than the window; on a large one all is seen at once."""
    width, height = SIZES[size]
    watched.page.set_viewport_size({"width": width, "height": height})
    watched.open(dashboard.url + PICTURES[picture])
    eventually(lambda: watched.page.evaluate(OVERLAPS), lambda pairs: pairs == [], "parts that overlap")
    assert watched.page.evaluate(LABELS) == []
    assert watched.page.evaluate("() => document.documentElement.scrollWidth") <= width
    if size == "wide":
        assert watched.page.evaluate("() => document.documentElement.scrollHeight") <= height
    watched.page.screenshot(path=artefacts / f"page-{picture}-{size}.png", full_page=size != "wide")
    for name in ("daily", "monthly", "dayofmonth", "map", "coverage") if size == "wide" else ():
        watched.page.locator(f"#{name}-panel").screenshot(path=artefacts / f"{name}-{picture}-{size}.png")


def test_a_window_that_changes(watched: Watched, dashboard: Dashboard) -> None:
    """Turned, a telephone shows what has room; figures are as wide as their frames."""
    watched.open(dashboard.url)
    wide = "() => [...document.querySelectorAll('.frame')].every(f => Math.abs(f.clientWidth - f.querySelector('.js-plotly-plot')._fullLayout.width) <= 1)"
    months = "return [...gd.querySelectorAll('.xtick text')].length;"
    for width, count in ((1440, 12), (400, 4), (800, 12)):
        watched.page.set_viewport_size({"width": width, "height": 800})
        eventually(lambda: watched.page.evaluate(wide), bool, f"figures of a window of {width}")
        eventually(lambda: watched.graph("daily", months), partial(operator.eq, count), f"months named at {width}")


def test_no_request_leaves_the_host_whatever_is_pressed(watched: Watched, dashboard: Dashboard) -> None:
    """Zoom, pan, reset, hover: no map server, no other's script. The policy forbids it, and nothing tries."""
    watched.open(dashboard.url)
    for name in ("daily", "map"):
        box: Any = watched.page.locator(f"#{name} .nsewdrag").first.bounding_box()
        watched.page.mouse.move(box["x"] + 40, box["y"] + 40)
        watched.page.mouse.down()
        watched.page.mouse.move(box["x"] + 160, box["y"] + 90, steps=4)
        watched.page.mouse.up()
        watched.page.mouse.dblclick(box["x"] + 80, box["y"] + 60)
    with urllib.request.urlopen(dashboard.url, timeout=PATIENCE) as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert watched.left_host == []
    assert len(watched.asked) > 10
