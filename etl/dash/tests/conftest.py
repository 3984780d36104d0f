"""What the tests share: a filled world, a browser in which no request leaves the host, and the dashboard as a process."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright
from world import ROOT, World, ends_with_us, world as make_world

HERE = Path(__file__).resolve().parent
ARTEFACTS = ROOT / ".run" / "dash"
SCALE = 0.006  # below, the generator leaves days out
PATIENCE = 120.0  # seconds; what takes longer is stuck, on a machine with much other work too
CHROMIUM = os.environ.get("DUOFLOW_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
T = TypeVar("T")


def eventually(ask: Callable[[], T], good: Callable[[T], bool], what: str) -> T:
    """Ask again and again until the answer is good, and return it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = ask()
        if good(answer):
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: still {answer!r}")
        time.sleep(0.05)


def status(url: str) -> int:
    """Ask for something and return what the answer's status is."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@dataclass
class Dashboard:
    """A running app.py."""

    process: subprocess.Popen[str]
    url: str
    output: Path

    def said(self) -> str:
        """Return everything it wrote."""
        return self.output.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@dataclass
class Runner:
    """Starts dashboards, and ends what is left of them."""

    folder: Path
    started: list[Dashboard] = field(default_factory=list)

    def __call__(self, dsn: str, *words: str, listen: str = "127.0.0.1:0", **env: str) -> Dashboard:
        """Start one and wait until it listens."""
        output = self.folder / f"dashboard-{len(self.started)}.log"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PG") and k != "DATABASE_URL"}
        with output.open("w") as log:
            command = [*ends_with_us("TERM"), sys.executable, str(HERE.parent / "app.py"), "--listen", listen, *words]
            process = subprocess.Popen(command, env=clean | {"DATABASE_URL": dsn} | env, stdout=log, stderr=log, text=True)
        dashboard = Dashboard(process, "", output)
        self.started.append(dashboard)
        said = eventually(dashboard.said, lambda text: "Ctrl-C" in text or process.poll() is not None, "the dashboard's first line")
        found = re.search(r"http://\S+", said)
        assert found, said
        dashboard.url = found.group()
        return dashboard


@pytest.fixture(scope="session")
def filled() -> Iterator[World]:
    """Have a world with 34 years in it."""
    with make_world(SCALE) as made:
        yield made


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """Start dashboards."""
    runner = Runner(tmp_path_factory.mktemp("dashboards"))
    yield runner
    for dashboard in runner.started:
        assert dashboard.end() == 0, dashboard.said()


@pytest.fixture(scope="session")
def dashboard(filled: World, run: Runner) -> Dashboard:
    """Have the dashboard of the filled world, when it has read something: what was read once is shown also when the database is slow."""
    made = run(filled.reader())
    eventually(lambda: status(f"{made.url}csv/coverage.csv"), lambda code: code == 200, "the first answer")
    return made


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Have Chromium."""
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield made
        made.close()


DRAWN = """() => [
  [...document.querySelectorAll('#dash .js-plotly-plot')].filter(g => g.calcdata && g.querySelector('.main-svg')).length,
  document.querySelector('#year [role=slider][aria-label=Year]') !== null,
  document.documentElement.dataset.ready === 'true',
]"""


class Watched:
    """A page whose every request and complaint is seen."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []
        self.left_host: list[str] = []
        self.complaints: list[str] = []
        page.route("**/*", self._look)
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: self.complaints.append(str(e)))

    def _look(self, route: Route) -> None:
        url = route.request.url
        self.asked.append(url)
        if urlsplit(url).hostname != "127.0.0.1" and not url.startswith(("data:", "blob:")):
            self.left_host.append(url)
            route.abort()
            return
        route.continue_()

    def open(self, url: str) -> Watched:
        """Go somewhere and wait until something is drawn, or said."""
        self.page.goto(url)
        self.drawn()
        return self

    def drawn(self) -> None:
        """Wait until all figures are there, and all controls answer."""
        eventually(lambda: self.page.evaluate(DRAWN), lambda seen: seen == [5, True, True], "figures drawn, the slider drawn, the controls answer")

    def text(self, selector: str) -> str:
        """Return what an element says."""
        return self.page.locator(selector).inner_text()

    def says(self, selector: str, words: str) -> None:
        """Wait until an element says something."""
        eventually(lambda: self.text(selector), lambda text: words in text, f"{selector} says {words!r}")

    def graph(self, name: str, script: str, argument: Any = None) -> Any:
        """Ask plotly.js what it has drawn; gd is the figure."""
        return self.page.evaluate(f"([name, a]) => {{ const gd = document.querySelector('#' + name + ' .js-plotly-plot'); {script} }}", [name, argument])


@pytest.fixture
def watched(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """Have a page; afterwards no request has left the host, whatever the test was about."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE * 1000)
    made = Watched(context.new_page())
    yield made
    context.close()
    assert made.left_host == []
    if "trouble" not in request.node.path.name:
        assert made.complaints == []


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Have the folder for screenshots."""
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    return ARTEFACTS
