"""The page, without its behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dash import dcc, html

import figures
from figure import Figure
from queries import MISSING, MONTHS, NOT_LOADED, PARTIAL, WHOLE, Coverage
from state import SCALES, State
from words import Notice


@dataclass(frozen=True)
class Panel:
    """One figure with its heading, caption and downloads."""

    name: str  # of the graph, and of the CSV
    heading: str
    caption: str
    figure: figures.Figure
    csv: str


def extra(attributes: dict[str, str]) -> dict[str, Any]:
    """Pass attributes whose names are no Python words."""
    return dict(attributes)


def named(says: str) -> dict[str, Any]:
    """Give a button a longer name, for the mouse and for a screen reader."""
    return {"title": says, "aria-label": says}


def button(text: str, name: str, says: str, **more: Any) -> html.Button:
    """Return a small button."""
    return html.Button(text, id=name, className="small", type="button", **named(says), **more)


def panel(shown: Panel, beside: Any = None) -> html.Section:
    """Return a figure in its frame. A screen reader hears the heading and the caption in its place."""
    heading = f"{shown.name}-heading"
    return html.Section(
        [
            html.Div(
                [
                    html.H2(shown.heading, id=heading),
                    beside,
                    html.A("CSV", id=f"{shown.name}-csv", href=shown.csv, className="small", **named(f"{shown.name}: download the numbers as CSV")),
                    button("PNG", f"{shown.name}-png", f"{shown.name}: download the figure as PNG"),
                ],
                className="head",
            ),
            html.P(shown.caption, id=f"{shown.name}-caption", className="caption", **extra({"aria-live": "polite"})),
            html.Div(
                Figure(id=shown.name, figure=shown.figure, className="graph"),
                role="img",
                className="frame",
                **extra({"aria-labelledby": heading, "aria-describedby": f"{shown.name}-caption"}),
            ),
        ],
        id=f"{shown.name}-panel",
        className=f"panel {shown.name}",
        **extra({"aria-labelledby": heading}),
    )


def choice(name: str, text: str, control: Any, wide: bool = False) -> html.Div:
    """Return a control with its name."""
    label = html.Span(text, id=f"{name}-label", className="label")
    return html.Div([label, control], className="choice wide" if wide else "choice", role="group", **extra({"aria-labelledby": f"{name}-label"}))


def select(name: str, options: list[tuple[int, str]], value: int) -> html.Select:
    """Return the browser's own list, which every keyboard and screen reader knows; behaviour.js passes on what is chosen."""
    chosen = [html.Option(text, value=str(n), selected=n == value) for n, text in options]
    return html.Select(chosen, id=f"{name}-select", className="native", **extra({"aria-labelledby": f"{name}-label"}))


def toggle(name: str, pressed: bool) -> html.Button:
    """Return one of the buttons of which one is down."""
    return html.Button(name, id=f"scale-{name}", type="button", className="native", **extra({"aria-pressed": str(pressed).lower(), "data-scale": name}))


def marks(first: int, last: int) -> dict[str, str]:
    """Return the years that the slider names: the ends, and every fifth that has room."""
    fifths = [y for y in range(first, last) if y % 5 == 0 and first + 4 <= y <= last - 4]
    return {str(y): str(y) for y in [first, *fifths, last]}


def controls(state: State, first: int, last: int) -> html.Div:
    """Return what a reader can choose."""
    year = dcc.Slider(id="year", min=first, max=last, step=1, value=state.year, marks=marks(first, last), included=False, updatemode="mouseup")
    month = select("month", [(n, name) for n, name in enumerate(MONTHS, 1)], state.month)
    day = select("day", [(n, str(n)) for n in range(1, 32)], state.day)
    scale = html.Span([toggle(name, name == state.scale) for name in SCALES])
    stores = [dcc.Store(id="month", data=state.month), dcc.Store(id="day", data=state.day), dcc.Store(id="scale", data=state.scale)]
    parts = [choice("year", "Year", year, wide=True), choice("month", "Month", month), choice("day", "Day of month", day), choice("scale", "Scale", scale)]
    return html.Div([*parts, *stores], className="controls", role="toolbar", **extra({"aria-label": "What is shown"}))


def banner(notice: Notice | None) -> list[Any]:
    """Return the banner's text; nothing when all is well."""
    return [html.Strong(notice.words), " ", notice.advice] if notice else []


def facts(coverage: Coverage | None, loaded: str) -> list[Any]:
    """Return where the data are from, and how new they are."""
    if coverage is None:
        return []
    return [html.Span(["Source: ", coverage.source or "not told"]), html.Span(["Last load: ", html.Time(loaded)])]


def legend() -> html.Span:
    """Return what the strip's colours mean."""
    says = {WHOLE: "whole", PARTIAL: "partial (days missing)", MISSING: "no data", NOT_LOADED: "not loaded"}
    return html.Span([html.Span([html.I(style={"background": figures.STATE_COLOURS[state]}), text]) for state, text in says.items()], className="legend")
