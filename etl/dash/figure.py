"""A figure on the page: a Dash component of our own, whose script is assets/draw.js.

Dash's own Graph waits for Dash, and wants all of plotly.js. This one may be drawn before Dash has started, and taken over by it.
"""

from __future__ import annotations

from typing import Any

from dash.development.base_component import Component


class Figure(Component):
    """What draw.js draws: id is its name, figure plotly's data and layout."""

    _namespace = "lightning"
    _type = "Figure"
    _children_props: list[str] = []  # noqa: RUF012  Dash reads it of the class
    _base_nodes: list[str] = []  # noqa: RUF012

    def __init__(self, **props: Any) -> None:
        self._prop_names = ["id", "figure", "className"]
        self._valid_wildcard_attributes: list[str] = []
        self.available_properties = self._prop_names
        self.available_wildcard_properties: list[str] = []
        super().__init__(**props)  # type: ignore[no-untyped-call]
