"""Make outline.json, the lines behind the map, from two public-domain sources (see SOURCE.md).

Only for maintainers: the result is committed, so that no map needs the network.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

WEST, SOUTH, EAST, NORTH = -142.5, 16.0, -42.5, 52.5  # the box of the network's tiles, with a margin
TOLERANCE = 0.05  # degrees: half a tile, below a pixel of the map
SMALL = 0.25  # islands of a smaller perimeter than a cell are left out

Point = tuple[float, float]
Line = list[Point]


def arcs_of(topology: dict[str, Any]) -> list[Line]:
    """Undo TopoJSON's quantisation and differences."""
    (scale_x, scale_y), (move_x, move_y) = topology["transform"]["scale"], topology["transform"]["translate"]
    lines = []
    for arc in topology["arcs"]:
        x = y = 0
        line = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            line.append((x * scale_x + move_x, y * scale_y + move_y))
        lines.append(line)
    return lines


def references(node: Any) -> list[int]:
    """List the arcs that a geometry uses; ~n is arc n backwards."""
    if isinstance(node, int):
        return [node if node >= 0 else ~node]
    return [n for part in node for n in references(part)]


def uses(geometries: list[dict[str, Any]]) -> Counter[int]:
    """Count by how many geometries each arc is used."""
    count: Counter[int] = Counter()
    for geometry in geometries:
        count.update(set(references(geometry.get("arcs", []))))
    return count


def clip(line: Line) -> list[Line]:
    """Cut a line where it leaves the box, to whole points."""
    pieces: list[Line] = [[]]
    for x, y in line:
        if WEST <= x <= EAST and SOUTH <= y <= NORTH:
            pieces[-1].append((x, y))
        elif pieces[-1]:
            pieces.append([])
    return [p for p in pieces if len(p) > 1]


def away(point: Point, a: Point, b: Point) -> float:
    """Measure how far a point is from the segment a-b."""
    (px, py), (ax, ay), (bx, by) = point, a, b
    dx, dy = bx - ax, by - ay
    length = dx * dx + dy * dy
    t = 0.0 if length == 0 else max(0.0, min(1.0, ((px - ax) * dx + (py - ay) * dy) / length))
    return math.hypot(px - ax - t * dx, py - ay - t * dy)


def simplify(line: Line) -> Line:
    """Leave out points that nobody could see (Douglas and Peucker)."""
    if len(line) < 3:
        return line
    far, index = max((away(p, line[0], line[-1]), i) for i, p in enumerate(line[1:-1], 1))
    if far <= TOLERANCE:
        return [line[0], line[-1]]
    return simplify(line[: index + 1])[:-1] + simplify(line[index:])


def length(line: Line) -> float:
    """Add up the segments, in degrees."""
    return sum(math.dist(a, b) for a, b in pairwise(line))


def flat(lines: list[Line]) -> dict[str, list[float | None]]:
    """Write lines as plotly wants them: one list for each axis, null between two lines."""
    lon: list[float | None] = []
    lat: list[float | None] = []
    for line in lines:
        lon += [round(p[0], 2) for p in line] + [None]
        lat += [round(p[1], 2) for p in line] + [None]
    return {"lon": lon[:-1], "lat": lat[:-1]}


def drawn(lines: list[Line]) -> list[Line]:
    """Clip and simplify."""
    return [simplify(p) for line in lines for p in clip(line) if length(p) >= SMALL]


def main() -> None:
    """Read countries-50m.json of world-atlas and states-10m.json of us-atlas from the folders given."""
    world = json.loads((Path(sys.argv[1]) / "countries-50m.json").read_text())
    states = json.loads((Path(sys.argv[2]) / "states-10m.json").read_text())
    coasts = drawn(arcs_of(world))
    shared = uses(states["objects"]["states"]["geometries"])
    borders = drawn([line for n, line in enumerate(arcs_of(states)) if shared[n] > 1])
    out = {"land": flat(coasts), "states": flat(borders)}
    target = Path(__file__).resolve().parent / "outline.json"
    target.write_text(json.dumps(out, separators=(",", ":")) + "\n")
    print(f"{target.name}: {len(out['land']['lon'])} + {len(out['states']['lon'])} points, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
