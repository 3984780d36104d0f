"""How long until the page is there: Chromium, 34 years of synthetic data, an empty cache each time.

`.cache/dash/bin/python etl/dash/tests/measure.py --scale 1` fills a database at real size first, which takes some minutes;
DATABASE_URL names one that is there already.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from conftest import CHROMIUM, QUIET, Dashboard, Runner, eventually
from playwright.sync_api import Browser, sync_playwright
from world import world

# When the frame was done in which the first figure was drawn, and the last of the five; and when the controls answered.
WATCH = """
window.seen = {};
const look = () => {
  const graphs = [...document.querySelectorAll('.js-plotly-plot')];
  const done = graphs.filter(g => g.calcdata && g.querySelector('.main-svg .xtick, .main-svg .xaxislayer-above text')).length;
  const alive = document.documentElement.dataset.ready === 'true' && document.querySelector('#year [role=slider]');
  const now = Object.entries({first: done > 0, all: done === 5, alive: done === 5 && alive}).filter(([what, is]) => is && !(what in window.seen));
  for (const [what] of now) { window.seen[what] = null; requestAnimationFrame(() => { window.seen[what] = performance.now(); }); }
  if (!('alive' in window.seen)) requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""
TIMES = (
    """() => [performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null, ...['first', 'all', 'alive'].map(w => window.seen[w] ?? null)]"""
)
CHANGE = """() => new Promise(done => {
  const gd = document.querySelector('#map .js-plotly-plot'), began = performance.now();
  let left = 5;
  for (const g of document.querySelectorAll('.js-plotly-plot')) g.once('plotly_afterplot', () => { if (--left === 0) done(performance.now() - began); });
  window.dash_clientside.set_props('year', {value: document.querySelector('#daily .js-plotly-plot')._fullData[0].name === '2018' ? 2017 : 2018});
})"""


COLUMNS = (
    "first paint: the numbers, in words",
    "the first figure drawn",
    "all five figures drawn",
    "the controls answer",
    "another year, until all are redrawn",
)


@contextlib.contextmanager
def database(scale: float) -> Iterator[str]:
    """Have a filled database: the named one, or one made for this."""
    if named := os.environ.get("DATABASE_URL"):
        yield named
        return
    with world(scale) as made:
        yield made.reader()


def look(browser: Browser, url: str) -> list[float]:
    """Load the page in a browser that has nothing of it yet: first paint, first figure, all five, controls, and a change of the year, in ms."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(url)
    times: list[float] = eventually(lambda: page.evaluate(TIMES), lambda seen: None not in seen, "figures drawn")
    change = page.evaluate(CHANGE)
    context.close()
    return [*times, change]


def told(name: str, values: list[float]) -> str:
    """Sum up a column."""
    ordered = sorted(values)
    return f"{name:<42}{statistics.median(ordered):>8.0f}{ordered[math.ceil(0.9 * len(ordered)) - 1]:>8.0f}{ordered[-1]:>8.0f}"


def ended(dashboard: Dashboard) -> float:
    """End a dashboard and return how long that took, in ms."""
    began = time.monotonic()
    dashboard.end()
    return (time.monotonic() - began) * 1000


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.05, help="part of the real number of strikes")
    parser.add_argument("-n", type=int, default=20, help="loads")
    options = parser.parse_args()
    with database(options.scale) as dsn, tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        runner = Runner(Path(folder))
        dashboard = runner(dsn)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        look(browser, dashboard.url)  # Chromium's own start
        rows = [look(browser, f"{dashboard.url}?year={1990 + n}&month=8") for n in range(options.n)]
        first = [look(browser, one.url)[2] for one in (runner(dsn) for _ in range(5))]
        stops = [ended(one) for one in runner.started]
        browser.close()
    print(f"{'ms':<42}{'p50':>8}{'p90':>8}{'max':>8}   n={len(rows)}, load {os.getloadavg()[0]:.1f}")
    for column, name in enumerate(COLUMNS):
        print(told(name, [row[column] for row in rows]))
    print(told("all five, right after the server's start", first))
    print(told("SIGTERM until the process is gone", stops))


if __name__ == "__main__":
    main()
