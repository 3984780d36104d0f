"""Figures, as the plain dictionaries that plotly.js draws.

Every axis is ranged by its own data; nothing is cut off. A gap is a day, month or year of which nothing is known. Colours are
Okabe and Ito's, which everybody can tell apart, and nothing is told by colour alone.
"""

from __future__ import annotations

import calendar
import json
import math
from collections.abc import Iterable
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from queries import MISSING, MONTHS, NOT_LOADED, PARTIAL, WHOLE, Coverage, Day, Era, Map, Sum

Figure = dict[str, Any]

BLUE, VERMILION, SKY, INK, FAINT, PAPER = "#0072B2", "#D55E00", "#56B4E9", "#1f2933", "#e4e7eb", "#ffffff"
MUTED, DARK_VERMILION = "#52606d", "#a34400"
CHOSEN = "rgba(0, 114, 178, 0.13)"
FONT = "system-ui, 'DejaVu Sans', sans-serif"
# Cividis, light to dark: even in lightness, and the same to all eyes.
CIVIDIS = [[i / 8, c] for i, c in enumerate(["#fdea9a", "#e8d36f", "#cbba69", "#adA275", "#8f8c78", "#757575", "#575d6d", "#36476b", "#00224e"])]
STATES = [WHOLE, PARTIAL, MISSING, NOT_LOADED]
STATE_COLOURS = {WHOLE: "#9ccbea", PARTIAL: "#E69F00", MISSING: VERMILION, NOT_LOADED: FAINT}
BOX = {"west": -142.5, "east": -42.5, "south": 16.0, "north": 52.5}  # everywhere that the network has a tile
ACROSS = 0.829  # a degree of longitude beside one of latitude, at 34 degrees north
LONG_RUN = 21  # days: a gap from here on says what it is

OUTLINE: dict[str, dict[str, list[float | None]]] = json.loads((Path(__file__).parent / "geometry" / "outline.json").read_text())


def layout(**more: Any) -> dict[str, Any]:
    """Return what all figures share."""
    base: dict[str, Any] = {
        "margin": {"l": 52, "r": 14, "t": 16, "b": 24},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "font": {"family": FONT, "size": 12, "color": INK},
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": MUTED, "font": {"family": FONT, "size": 13, "color": INK}},
        "showlegend": False,
        "hovermode": "closest",
        "dragmode": "zoom",
        "shapes": [],
        "annotations": [],
    }
    return base | more


def strikes_axis(scale: str, values: list[int | None]) -> dict[str, Any]:
    """Return the upright axis: always ranged by the data, from zero when linear."""
    axis: dict[str, Any] = {
        "type": scale,
        "autorange": True,
        "tickformat": "~s",
        "gridcolor": FAINT,
        "zeroline": False,
        "automargin": True,
        "fixedrange": False,
    }
    if scale == "linear":
        axis |= {"rangemode": "tozero", "nticks": 6}
    else:
        axis |= {"dtick": log_ticks([v for v in values if v])}
    return axis


def log_ticks(values: list[int]) -> int | str:
    """Choose the ticks of a logarithmic axis so that their labels have room: all digits, 1-2-5, or powers of ten."""
    decades = math.log10(max(values) / min(values)) if values else 0.0
    return "D1" if decades < 0.6 else "D2" if decades < 3.3 else 1


def label(text: str, **where: Any) -> dict[str, Any]:
    """Return a small text on the figure's edge."""
    return {"text": text, "showarrow": False, "xref": "paper", "yref": "paper", "font": {"size": 11, "color": MUTED}, **where}


MADE = label("synthetic data", x=0, y=1, xanchor="left", yanchor="bottom", font={"size": 11, "color": DARK_VERMILION})


def synthetic_label(points: Iterable[Day | Sum]) -> list[dict[str, Any]]:
    """Say on the figure itself that data are made up, since an image of it travels alone."""
    if not any(p.synthetic for p in points):
        return []
    return [MADE]


def said(title: str, **more: Any) -> Figure:
    """Return a figure that says why there is none."""
    return {
        "data": [],
        "layout": layout(xaxis={"visible": False}, yaxis={"visible": False}, annotations=[label(title, x=0.5, y=0.5, font={"size": 14, "color": INK})], **more),
    }


def daily(days: list[Day], scale: str) -> Figure:
    """Draw each day of a year."""
    year = days[0].day.year
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": str(year),
        "x": [d.day.isoformat() for d in days],
        "y": [d.strikes for d in days],
        "customdata": [[n, d.tiles] for n, d in enumerate(days, 1)],
        "connectgaps": False,
        "line": {"color": SKY, "width": 1},
        "marker": {"color": BLUE, "size": 4, "opacity": 1},
        "hovertemplate": "<b>%{x|%-d %B %Y}</b>, day %{customdata[0]}<br>%{y:,} strikes in %{customdata[1]:,} tiles<extra></extra>",
    }
    xaxis = {
        "type": "date",
        "range": [f"{year - 1}-12-31", f"{year + 1}-01-01"],
        "dtick": "M1",
        "tickformat": "%b",
        "ticklabelmode": "period",
        "gridcolor": FAINT,
        "ticks": "outside",
        "ticklen": 3,
        "tickcolor": MUTED,
    }
    shapes, notes = gaps(days)
    notes += synthetic_label(days)
    return {
        "data": [trace],
        "layout": layout(xaxis=xaxis, yaxis=strikes_axis(scale, trace["y"]), shapes=shapes, annotations=notes, uirevision=f"{year}-{scale}"),
    }


def runs(days: list[Day]) -> list[list[Day]]:
    """Collect days without data that follow each other and have the same reason."""
    return [list(run) for (known, _), run in groupby(days, lambda d: (d.strikes is not None, d.state)) if not known]


def gaps(days: list[Day]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Shade the days without data; a long gap says what it is."""
    shapes, notes = [], []
    for run in runs(days):
        first, last = run[0].day, run[-1].day
        shapes.append(upright("rect", f"{first - timedelta(days=1)}T12:00", f"{last}T12:00", fillcolor=FAINT, line={"width": 0}))
        if len(run) >= LONG_RUN:
            notes.append(label(no_data(run[0].state), xref="x", x=(first + (last - first) / 2).isoformat(), y=0.5))
    return shapes, notes


def upright(kind: str, x0: float | str, x1: float | str, **more: Any) -> dict[str, Any]:
    """Return a line or a rectangle as high as the figure, behind the data."""
    return {"type": kind, "xref": "x", "yref": "paper", "x0": x0, "x1": x1, "y0": 0, "y1": 1, "layer": "below", **more}


def no_data(state: str) -> str:
    """Say why a gap is one."""
    return NOT_LOADED if state == NOT_LOADED else "no data"


def over_years(sums: list[Sum], eras: list[Era], scale: str, *, chosen: int, what: str, month: int = 1) -> Figure:
    """Draw one sum for each year; an open marker is a sum of which some days are unknown."""
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [s.year for s in sums],
        "y": [s.strikes for s in sums],
        "customdata": [[s.known, s.expected] for s in sums],
        "connectgaps": False,
        "line": {"color": SKY, "width": 1.5},
        "marker": {
            "color": [PAPER if s.state == PARTIAL else BLUE for s in sums],
            "line": {"color": [VERMILION if s.state == PARTIAL else BLUE for s in sums], "width": 2},
            "size": [9 if s.state == PARTIAL else 7 for s in sums],
            "opacity": 1,
        },
        "hovertemplate": f"<b>{what} %{{x}}</b><br>%{{y:,}} strikes<br>%{{customdata[0]}} of %{{customdata[1]}} days known<extra></extra>",
    }
    years = [s.year for s in sums]
    shapes, notes = era_lines(eras, month, years)
    shapes += [band(s.year) for s in sums if s.strikes is None]
    if chosen in years:
        shapes.append(band(chosen, CHOSEN))
    xaxis = {
        "range": [years[0] - 0.7, years[-1] + 0.7],
        "tickformat": "d",
        "dtick": 5 if len(years) > 12 else 1,
        "tick0": 1990,
        "gridcolor": FAINT,
        "zeroline": False,
    }
    notes += synthetic_label(sums)
    return {
        "data": [trace],
        "layout": layout(xaxis=xaxis, yaxis=strikes_axis(scale, trace["y"]), shapes=shapes, annotations=notes, uirevision=f"{what}-{scale}"),
    }


def band(year: int, colour: str = FAINT) -> dict[str, Any]:
    """Shade a year: one of which nothing is known, or the one that is chosen."""
    return upright("rect", year - 0.5, year + 0.5, fillcolor=colour, line={"width": 0})


def era_label(era: Era, x: float, text: str, *, xanchor: str, color: str) -> dict[str, Any]:
    """Name an era above a chart, with its first day and its means on hovering."""
    return label(
        text,
        xref="x",
        x=x,
        y=1,
        xanchor=xanchor,
        yanchor="bottom",
        hovertext=f"from {era.first}: {era.name}",
        font={"size": 10, "color": color},
    )


def era_lines(eras: list[Era], month: int, years: list[int]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Mark where the network changed: sums on both sides are not the same measure. Only changes within the data are known."""
    shapes, notes = [], []
    for era in eras[1:]:
        first = era.first.year + (date(era.first.year, month, 1) < era.first)
        if not years[0] < first <= years[-1]:
            continue
        x = first - 0.5
        shapes.append(upright("line", x, x, line={"color": MUTED, "width": 1, "dash": "dash"}))
        notes.append(era_label(era, x, f"era {era.number}", xanchor="center", color=MUTED))
    return shapes, notes


def month_map(found: Map, scale: str, *, synthetic: bool) -> Figure:
    """Draw a month's cells. Longitude is drawn shorter, as it is at 34 degrees north."""
    lats, lons, strikes = grid(found)
    z = [[math.log10(v) if v and scale == "log" else v for v in row] for row in strikes]
    top = max((c.strikes for c in found.cells), default=1)
    low = lightest([c.strikes for c in found.cells]) if scale == "log" else 0
    heat = {
        "type": "heatmap",
        "x": lons,
        "y": lats,
        "z": z,
        "customdata": strikes,
        "hoverongaps": False,
        "colorscale": CIVIDIS,
        "zmin": math.log10(low) if low else 0,
        "zmax": math.log10(max(top, 2 * low)) if low else top,
        "colorbar": bar(low, top),
        "hovertemplate": "%{y:.2f}, %{x:.2f}<br><b>%{customdata:,} strikes</b><extra></extra>",
    }
    lines = [outline("states", "#829ab1", 0.6), outline("land", "#334e68", 0.9)]
    xaxis = {
        "range": [BOX["west"], BOX["east"]],
        "scaleanchor": "y",
        "scaleratio": ACROSS,
        "constrain": "range",
        "ticksuffix": "°",
        "dtick": 20,
        "gridcolor": FAINT,
        "zeroline": False,
    }
    yaxis = {"range": [BOX["south"], BOX["north"]], "constrain": "domain", "ticksuffix": "°", "dtick": 10, "gridcolor": FAINT, "zeroline": False}
    notes = [MADE] if synthetic else []
    return {
        "data": [heat, *lines],
        "layout": layout(xaxis=xaxis, yaxis=yaxis, annotations=notes, dragmode="pan", uirevision="map", margin={"l": 40, "r": 8, "t": 16, "b": 22}),
    }


def grid(found: Map) -> tuple[list[float], list[float], list[list[int | None]]]:
    """Lay cells out on the smallest grid that holds them; None where no strike was seen."""
    if not found.cells:
        return [], [], []
    south, north = min(c.lat10 for c in found.cells), max(c.lat10 for c in found.cells)
    west, east = min(c.lon10 for c in found.cells), max(c.lon10 for c in found.cells)
    step = found.cell10
    rows, columns = (north - south) // step + 1, (east - west) // step + 1
    strikes: list[list[int | None]] = [[None] * columns for _ in range(rows)]
    for cell in found.cells:
        strikes[(cell.lat10 - south) // step][(cell.lon10 - west) // step] = cell.strikes
    middle = (step - 1) / 20
    return [round((south + i * step) / 10 + middle, 2) for i in range(rows)], [round((west + i * step) / 10 + middle, 2) for i in range(columns)], strikes


def lightest(strikes: list[int]) -> int:
    """Choose where a logarithmic scale of colours begins: the power of ten below nearly all cells. The few below it are as light as it."""
    ordered = sorted(strikes)
    return int(10 ** math.floor(math.log10(ordered[len(ordered) // 20]))) if ordered else 1


def bar(low: int, top: int) -> dict[str, Any]:
    """Return the map's scale, linear when low is 0; with a logarithm the ticks are strikes and not powers."""
    common: dict[str, Any] = {"thickness": 12, "outlinewidth": 0, "tickfont": {"size": 11}, "title": {"text": "strikes<br>a cell", "font": {"size": 11}}}
    if not low:
        return common | {"tickformat": "~s"}
    ticks = [n * 10**e for e in range(7) for n in (1, 3) if low <= n * 10**e <= max(top, 2 * low)]
    texts = [f"≤{t:,}" if t == low > 1 else f"{t:,}" for t in ticks]
    return common | {"tickvals": [math.log10(t) for t in ticks], "ticktext": texts}


def outline(name: str, colour: str, width: float) -> dict[str, Any]:
    """Return coasts and borders, or the lines between states."""
    lines = OUTLINE[name]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": lines["lon"],
        "y": lines["lat"],
        "line": {"color": colour, "width": width},
        "hoverinfo": "skip",
        "connectgaps": False,
    }


def coverage(found: Coverage, *, year: int, month: int) -> Figure:
    """Draw what is known: a column for each year, the year itself on top, then its months."""
    years = list(range(found.first, found.last + 1))
    rows = ["year", *(name[:3] for name in MONTHS)]
    states = [[found.years.get(y, NOT_LOADED) for y in years]]
    texts = [["◐" if s == PARTIAL else "" for s in states[0]]]
    hovers = [[f"<b>{y}</b>: {s}" for y, s in zip(years, states[0], strict=True)]]
    for m in range(1, 13):
        months = [found.months.get((y, m)) for y in years]
        states.append([one.state if one else NOT_LOADED for one in months])
        texts.append([str(len(one.missing)) if one and one.state == PARTIAL else "" for one in months])
        hovers.append(
            [
                f"<b>{MONTHS[m - 1]} {y}</b>: {one.state if one else NOT_LOADED}" + missing_words(one.missing if one and one.days else [])
                for y, one in zip(years, months, strict=True)
            ]
        )
    n = len(STATES)
    steps = [[at, STATE_COLOURS[s]] for i, s in enumerate(STATES) for at in (i / n, (i + 1) / n)]
    heat = {
        "type": "heatmap",
        "x": years,
        "y": rows,
        "z": [[STATES.index(s) for s in row] for row in states],
        "text": texts,
        "texttemplate": "%{text}",
        "textfont": {"size": 10, "color": INK},
        "customdata": hovers,
        "hovertemplate": "%{customdata}<extra></extra>",
        "colorscale": steps,
        "zmin": -0.5,
        "zmax": n - 0.5,
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
    }
    shapes, notes = era_bands(found.eras, years)
    if year in years:
        shapes.append(
            {
                "type": "rect",
                "xref": "x",
                "yref": "y",
                "x0": year - 0.5,
                "x1": year + 0.5,
                "y0": month - 0.5,
                "y1": month + 0.5,
                "line": {"color": INK, "width": 2},
                "fillcolor": "rgba(0,0,0,0)",
            }
        )
    xaxis = {
        "dtick": 1 if len(years) <= 12 else 2,
        "tickformat": "d",
        "showgrid": False,
        "zeroline": False,
        "fixedrange": True,
        "range": [years[0] - 0.5, years[-1] + 0.5],
    }
    yaxis = {
        "autorange": "reversed",
        "showgrid": False,
        "fixedrange": True,
        "tickfont": {"size": 10},
        "tickvals": ["year", "Jan", "Apr", "Jul", "Oct", "Dec"],
        "type": "category",
    }
    margin = {"l": 44, "r": 14, "t": 18, "b": 22}
    return {"data": [heat], "layout": layout(xaxis=xaxis, yaxis=yaxis, shapes=shapes, annotations=notes, margin=margin, dragmode=False)}


def era_bands(eras: list[Era], years: list[int]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Name the eras above the strip, each where it begins."""
    shapes, notes = [], []
    for index, era in enumerate(eras):
        x = era.first.year - 0.5 + (era.first.timetuple().tm_yday - 1) / 366
        if index and years[0] - 0.5 < x:
            shapes.append(upright("line", x, x, line={"color": INK, "width": 1.5}) | {"y1": 1.12, "layer": "above"})
        notes.append(era_label(era, x, f"<b>era {era.number}</b>", xanchor="left", color=INK))
    return shapes, notes


def missing_words(days: list[date]) -> str:
    """Write days of one month as ranges: 3, 5-7."""
    if not days:
        return ""
    return f"<br>{len(days)} of {calendar.monthrange(days[0].year, days[0].month)[1]} days unknown: {ranges([d.day for d in days])}"


def ranges(numbers: list[int]) -> str:
    """Write numbers as ranges."""
    parts = []
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [n for _, n in group]
        parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ", ".join(parts)
