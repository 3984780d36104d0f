"""The page as HTML, before any script has run: the same layout that Dash gets, so that what Dash puts in its place looks the same."""

from __future__ import annotations

from html import escape
from typing import Any

from dash import dcc

from figure import Figure

VOID = {"input", "br", "hr"}
NAMES = {"className": "class"}
# Dash's page has the names, as long as both are there; links within the page need them only then.
LEFT_OUT = {"children", "id", "n_clicks", "n_clicks_timestamp", "disable_n_clicks", "aria-labelledby", "aria-describedby", "aria-live"}


def markup(node: Any) -> str:
    """Write a component, a list of them, or text."""
    if node is None or isinstance(node, dcc.Store):
        return ""
    if isinstance(node, list):
        return "".join(markup(one) for one in node)
    if isinstance(node, str | int | float):
        return escape(str(node))
    if isinstance(node, dcc.Slider):
        return "<div></div>"  # its script draws it
    written = node.to_plotly_json()
    tag, props = str(written["type"]).lower(), written["props"]
    if isinstance(node, Figure):
        return f'<div class="{escape(props["className"])}" data-figure="{escape(props["id"])}"></div>'
    start = f"<{tag}{''.join(attribute(name, value) for name, value in props.items())}>"
    return start if tag in VOID else f"{start}{markup(props.get('children'))}</{tag}>"


def attribute(name: str, value: Any) -> str:
    """Write an attribute; of those that are there or not, its name."""
    if name in LEFT_OUT or value is None or value is False:
        return ""
    if isinstance(value, dict):
        value = ";".join(f"{key}:{text}" for key, text in value.items())
    return f" {name}" if value is True else f' {NAMES.get(name, name)}="{escape(str(value))}"'
