"""The lightning dashboard: the three charts of the original program, a map and what is known, read from the pipeline's views.

`python etl/dash/app.py --help` says how it is started.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import flask
from dash import ClientsideFunction, Dash, Input, Output, State as Given, dcc, html
from plotly.io.json import to_json_plotly

import page
import panels
import tables
import words
from data import Data
from database import Problem
from markup import markup
from queries import Coverage
from state import State, parse

HERE = Path(__file__).resolve().parent
PANELS = ("daily", "monthly", "dayofmonth", "map")
CHOICES = (("year", "value"), ("month", "data"), ("day", "data"), ("scale", "data"))
FIRST, LAST = 1987, 2020  # of the slider while nothing is known
PLOTLY, DRAW = HERE / "plotly" / "plotly-cartesian.min.js", HERE / "assets" / "draw.js"
FOR_EVER = "public, max-age=31536000, immutable"  # of what has its hash in its address

# What Dash would start with stands in a template, which a browser does not run: draw.js starts it when the figures are drawn.
INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
{%metas%}
<title>{%title%}</title>
{%favicon%}
{%css%}
<link rel="prefetch" href="PLOTLY">
<script defer src="DRAW"></script>
</head>
<body>
<noscript>This page draws its figures with JavaScript. Without it, the links CSV below have their numbers.</noscript>
<div id="first"><!--first--></div>
<div id="dash" class="waiting">{%app_entry%}</div>
<script id="layout" type="application/json" data-plotly="PLOTLY"><!--layout--></script>
<footer>{%config%}<template id="scripts">{%scripts%}{%renderer%}</template></footer>
</body>
</html>"""


def news(data: Data) -> dict[str, Any]:
    """Return what the page asks for every few seconds: what is loaded, and is anything wrong."""
    try:
        return {"version": data.version().key, "problem": None}
    except Problem as problem:
        return {"version": None, "problem": problem.code}


def known(data: Data) -> tuple[Coverage | None, words.Notice | None]:
    """Return what is loaded, and what is in the way of it or of newer data."""
    notice = None
    try:
        data.version()
    except Problem as problem:
        notice = words.notice(problem, data.answered)
    try:
        return data.coverage(), notice
    except Problem as problem:
        return None, notice or words.notice(problem, data.answered)


def loaded_words(data: Data) -> str:
    """Say when something was loaded last."""
    try:
        loaded = data.version().loaded
    except Problem:
        return "not known now"
    return f"{loaded:%Y-%m-%d %H:%M} UTC" if loaded else "never"


def header(data: Data) -> list[Any]:
    """Return the head of the page: badge, source, age, and what is wrong."""
    coverage, notice = known(data)
    badge = words.badge(coverage) if coverage else ""
    return [
        html.Div(
            [
                html.H1("Lightning strikes"),
                html.Span(f"{coverage.first}-{coverage.last}" if coverage else "", className="span"),
                html.Strong(badge, className="badge", title="Made by duoflow's generator, not observed.") if badge else None,
                html.Div(page.facts(coverage, loaded_words(data)), className="facts"),
            ],
            className="title",
        ),
        html.Div(page.banner(notice), className="banner", role="alert", hidden=notice is None),
    ]


def make_layout(data: Data, state: State, prefix: str) -> html.Div:
    """Return the page with its figures drawn in, so that the first look costs no further question."""
    coverage, _ = known(data)
    first, last = (coverage.first, coverage.last) if coverage else (FIRST, LAST)
    state = state.within(first, last)
    gone: list[Any] = [html.Strong("The dashboard's server does not answer."), " It is tried again every few seconds. If it stays so, start it again."]
    return html.Div(
        [
            html.A("Skip to the figures", href="#figures", className="skip"),
            html.Header(header(data), id="header"),
            html.Div(gone, id="gone", className="banner", role="alert", hidden=True),
            page.controls(state, first, last),
            html.Main([page.panel(panels.panel(name, data, state, prefix)) for name in PANELS], id="figures", className="grid", tabIndex="-1"),
            page.panel(panels.panel("coverage", data, state, prefix), beside=page.legend()),
            dcc.Store(id="news", data=news(data)),
            dcc.Store(id="started"),
            dcc.Store(id="address"),
            dcc.Store(id="saved"),
        ],
        className="page",
    )


def add_callbacks(app: Dash, data: Data, prefix: str) -> None:
    """Join the controls, the address and the panels."""
    values = [Input(*choice) for choice in CHOICES]
    for name in (*PANELS, "coverage"):

        @app.callback(
            *(Output(f"{name}-{part}", "children") for part in ("heading", "caption")),
            Output(name, "figure"),
            Output(f"{name}-csv", "href"),
            *values,
            Input("news", "data"),
            prevent_initial_call=True,
        )
        def draw(year: int, month: int, day: int, scale: str, _: Any, name: str = name) -> tuple[str, str, Any, str]:
            shown = panels.panel(name, data, State(year, month, day, scale), prefix)
            return shown.heading, shown.caption, shown.figure, shown.csv

    @app.callback(
        Output("header", "children"), Output("year", "min"), Output("year", "max"), Output("year", "marks"), Input("news", "data"), prevent_initial_call=True
    )
    def retell(_: Any) -> tuple[Any, int, int, dict[str, str]]:
        coverage, _notice = known(data)
        first, last = (coverage.first, coverage.last) if coverage else (FIRST, LAST)
        return header(data), first, last, page.marks(first, last)

    given = [Given("year", "min"), Given("year", "max"), Given("year", "value")]
    app.clientside_callback(ClientsideFunction("lightning", "start"), Output("started", "data"), Input("started", "id"), *given)
    app.clientside_callback(ClientsideFunction("lightning", "write"), Output("address", "data"), Input("year", "value"), prevent_initial_call=True)
    clicks = [Input(f"{name}-png", "n_clicks") for name in (*PANELS, "coverage")]
    app.clientside_callback(ClientsideFunction("lightning", "png"), Output("saved", "data"), *clicks, prevent_initial_call=True)


def add_routes(app: Dash, data: Data, prefix: str) -> None:
    """Serve the numbers, and whether all is well."""
    server: flask.Flask = app.server

    @server.get(f"{prefix}csv/<name>.csv")
    def numbers(name: str) -> flask.Response:
        try:
            file, made = tables.table(name, data, parse(flask.request.args))
        except KeyError:
            return flask.Response("no such table\n", 404, mimetype="text/plain")
        except Problem as problem:
            return flask.Response(f"{problem.words} {problem.advice}\n", 503, mimetype="text/plain")
        return flask.Response(tables.text(made), mimetype="text/csv", headers={"Content-Disposition": f'attachment; filename="{file}"'})

    @server.get(f"{prefix}health")
    def health() -> tuple[dict[str, Any], int]:
        told = news(data)
        return told, 503 if told["problem"] else 200


def address(script: Path) -> str:
    """Return where a script is served, below the prefix; a changed one has another address."""
    return f"script/{hashlib.sha256(script.read_bytes()).hexdigest()[:16]}/{script.name}"


def add_scripts(app: Dash, prefix: str) -> None:
    """Serve what draws the figures; a browser asks for it once."""
    server: flask.Flask = app.server
    for script in (PLOTLY, DRAW):

        @server.get(prefix + address(script), endpoint=script.name)
        def send(script: Path = script) -> flask.Response:
            answer = flask.send_file(script, mimetype="text/javascript")
            answer.headers["Cache-Control"] = FOR_EVER
            return answer


def secure(app: Dash) -> None:
    """Tell the browser to ask nobody but us, whatever a library may want."""
    policy = (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    )

    server: flask.Flask = app.server

    @server.after_request
    def headers(response: flask.Response) -> flask.Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        return response


class Page(Dash):
    """Dash whose page comes with its layout: as HTML, to be painted before any script has run, and as what Dash makes the page of."""

    data: Data
    prefix: str

    def interpolate_index(self, *_: Any, **parts: Any) -> str:
        """Put it in."""
        layout = make_layout(self.data, parse(flask.request.args), self.prefix)
        index = str(super().interpolate_index(**parts))  # type: ignore[no-untyped-call]
        text = str(to_json_plotly(layout)).replace("<", "\\u003c")
        return index.replace("<!--first-->", markup(layout), 1).replace("<!--layout-->", text, 1)


def build(data: Data, prefix: str = "/") -> Dash:
    """Make the application; it asks the database nothing before somebody looks."""
    app = Page(
        "lightning",
        title="Lightning strikes",
        update_title="",
        serve_locally=True,
        assets_folder=str(HERE / "assets"),
        url_base_pathname=prefix,
        assets_ignore="^draw",
        index_string=INDEX.replace("PLOTLY", prefix + address(PLOTLY)).replace("DRAW", prefix + address(DRAW)),
        add_log_handler=False,
        suppress_callback_exceptions=True,  # else every index carries the layout a second time
        enable_mcp=False,
    )
    app.data, app.prefix = data, prefix
    app.layout = lambda: make_layout(data, State(), prefix)
    add_callbacks(app, data, prefix)
    add_routes(app, data, prefix)
    add_scripts(app, prefix)
    secure(app)
    return app


if __name__ == "__main__":
    from serve import main

    sys.exit(main(sys.argv[1:]))
