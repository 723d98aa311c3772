"""The drawing of a network: boxes in the cells of a grid, arrows in the gaps between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from math import ceil, dist, prod
from typing import TYPE_CHECKING, NamedTuple

from neurosim.base import compact

if TYPE_CHECKING:  # a drawing needs no torch
    from neurosim.network import Network, Population, Projection

LEVELS = 7  # in one row: what a page shows at a legible size
LANE, STEP = 9.0, 15.0  # between neighbouring lines: vertical ones, horizontal ones with a label
MARGIN, GAP = 10.0, 16.0

SKIP, BACK = "#3a87c8", "#d55e00"  # both read on white and on black

Point = tuple[float, float]


class _Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float


def draw_network(network: Network) -> str:
    """SVG text: a box per population, left to right by level, an arrow per projection.

    More than seven levels go on in another row. An arrow to the next level is direct. Any other
    (it skips levels, goes back, or on to the next row) leaves to the right, runs above the row of
    its receiver, in a lane of its own, and arrives from the left: it crosses no box. Numbers at
    arrows are weights, where they fit; the tooltip of an arrow tells the rest.
    """
    return _Drawing(network).svg()


class _Drawing:
    def __init__(self, network: Network) -> None:
        self.network, self.levels = network, network.levels
        depth = max(self.levels.values()) + 1
        self.columns = ceil(depth / ceil(depth / LEVELS))
        self.cell = {name: divmod(level, self.columns) for name, level in self.levels.items()}
        self.routed = [q for q in network.projections if not self._direct(q)]
        self._choose_lanes()
        self._place_boxes()
        self._choose_ports()
        self.lines = {q.name: self._line(q) for q in network.projections}

    def _direct(self, q: Projection) -> bool:
        (row, column), (to_row, to_column) = self.cell[q.pre], self.cell[q.post]
        return row == to_row and to_column == column + 1

    # ---- where everything goes -----------------------------------------------------------------

    def _choose_lanes(self) -> None:
        """Which lane each routed arrow has on its way out, above the row, and on its way in."""
        out, above, into = [], [], []
        for q in self.routed:
            (row, column), (to_row, to_column) = self.cell[q.pre], self.cell[q.post]
            # Places from top to bottom: the space above row r is 2r, the row itself 2r + 1.
            leave, arrive = sorted((2 * row + 1, 2 * to_row))
            out.append((column + 1, leave, arrive))
            above.append((to_row, min(column + 1, to_column), max(column + 1, to_column)))
            into.append((to_column, 2 * to_row, 2 * to_row + 1))
        self.out, self.above, self.into = (self._lanes(spans) for spans in (out, above, into))

    def _lanes(self, spans: Sequence[tuple[int, int, int]]) -> dict[str, int]:
        """The lowest free lane for each (gap, first, last), short ones first."""
        taken: dict[tuple[int, int], list[tuple[int, int]]] = {}
        lanes: dict[str, int] = {}
        named = zip((q.name for q in self.routed), spans, strict=True)
        for name, (gap, first, last) in sorted(named, key=lambda item: item[1][2] - item[1][1]):
            lane = 0
            while any(a <= last and first <= b for a, b in taken.get((gap, lane), ())):
                lane += 1
            taken.setdefault((gap, lane), []).append((first, last))
            lanes[name] = lane
        return lanes

    def _place_boxes(self) -> None:
        populations = self.network.populations
        self.labels = {p.name: _labels(p) for p in populations}
        width = (
            max(
                84.0,
                *(
                    _width(text, 13 if not i else 11)
                    for p in populations
                    for i, text in enumerate(self.labels[p.name])
                ),
            )
            + 18
        )
        height = {
            p.name: max(
                58.0,
                12.0
                * (1 + max(len(self.network.incoming(p.name)), len(self.network.outgoing(p.name)))),
            )
            for p in populations
        }
        x = MARGIN
        self.left, self.right = [], []  # of each gap between columns
        for gap in range(self.columns + 1):
            lanes = _count(self.out[q.name] for q in self.routed if self.cell[q.pre][1] + 1 == gap)
            lanes += _count(self.into[q.name] for q in self.routed if self.cell[q.post][1] == gap)
            outer = gap in (0, self.columns)
            self.left.append(x)
            x += (0.0 if outer else 52.0) + LANE * lanes + (24.0 if outer and lanes else 0.0)
            self.right.append(x)
            x += width
        self.width = x - width + MARGIN
        y = MARGIN
        self.box: dict[str, _Box] = {}
        self.base = []  # what lanes above each row are measured from
        for row in range(1 + max(row for row, _ in self.cell.values())):
            y += STEP * _count(
                self.above[q.name] for q in self.routed if self.cell[q.post][0] == row
            )
            self.base.append(y)
            y += GAP / 2
            stacks = [
                [p for p in populations if self.cell[p.name] == (row, c)]
                for c in range(self.columns)
            ]
            tall = [sum(height[p.name] + GAP for p in stack) - GAP for stack in stacks]
            for column, stack in enumerate(stacks):
                top = y + (max(tall) - tall[column]) / 2
                for p in stack:
                    self.box[p.name] = _Box(self.right[column], top, width, height[p.name])
                    top += height[p.name] + GAP
            y += max(tall) + GAP
        self.height = y

    def _choose_ports(self) -> None:
        """Where lines leave and arrive, in the order in which they do not cross each other."""
        self.start: dict[str, float] = {}
        self.end: dict[str, float] = {}
        for p in self.network.populations:
            box = self.box[p.name]
            leaving = {q.name: self._leaving(q) for q in self.network.outgoing(p.name)}
            arriving = {q.name: self._arriving(q) for q in self.network.incoming(p.name)}
            self.start |= _spread(leaving, box)
            self.end |= _spread(arriving, box)

    def _leaving(self, q: Projection) -> tuple[int, float]:
        if q.name not in self.out:
            return 1, self.box[q.post].y
        down = self.cell[q.post][0] > self.cell[q.pre][0]
        return (2, -self.out[q.name]) if down else (0, self.out[q.name])

    def _arriving(self, q: Projection) -> tuple[int, float]:
        return (0, self.into[q.name]) if q.name in self.into else (1, self.box[q.pre].y)

    def _line(self, q: Projection) -> list[Point]:
        """The corners of the line of a projection; of a direct one the control points."""
        pre, post = self.box[q.pre], self.box[q.post]
        x, y, to_x, to_y = pre.x + pre.width, self.start[q.name], post.x, self.end[q.name]
        if q.name not in self.out:
            middle = (x + to_x) / 2
            return [(x, y), (middle, y), (middle, to_y), (to_x, to_y)]
        out = self.left[self.cell[q.pre][1] + 1] + 10 + LANE * self.out[q.name]
        into = self.right[self.cell[q.post][1]] - 16 - LANE * self.into[q.name]
        lane = self.base[self.cell[q.post][0]] - STEP * self.above[q.name]
        return [(x, y), (out, y), (out, lane), (into, lane), (into, to_y), (to_x, to_y)]

    # ---- SVG -----------------------------------------------------------------------------------

    def svg(self) -> str:
        body = [self._arrow(q) for q in self.network.projections]
        body += [self._label(q) for q in self.network.projections]
        body += [self._box(p) for p in self.network.populations]
        kinds = {self._kind(q) for q in self.network.projections}
        notes = ["numbers at arrows: weights"]
        notes += ["blue: skips levels"] if SKIP in kinds else []
        notes += ["orange, dashed: goes back"] if BACK in kinds else []
        width = max(self.width, 220.0)
        for note in notes:
            body.append(_text(MARGIN, self.height + 6, note, 11, "start"))
            self.height += 16
        p, q = len(self.network.populations), len(self.network.projections)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" '
            f'width="{width:.0f}" height="{self.height:.0f}" '
            f'viewBox="0 0 {width:.0f} {self.height:.0f}" role="img" '
            f'aria-label="Network of {p} populations and {q} projections" '
            f'style="max-width:100%;min-width:{0.8 * width:.0f}px;height:auto" '
            f'font-family="system-ui, sans-serif">\n' + "\n".join(filter(None, body)) + "\n</svg>\n"
        )

    def _kind(self, q: Projection) -> str:
        steps = self.levels[q.post] - self.levels[q.pre]
        return "currentColor" if steps == 1 else SKIP if steps > 1 else BACK

    def _arrow(self, q: Projection) -> str:
        colour = self._kind(q)
        dash = ' stroke-dasharray="5 3"' if colour == BACK else ""
        line = self.lines[q.name]
        path = _rounded(line) if q.name in self.out else "M{} C{} {} {}".format(*map(_xy, line))
        x, y = line[-1]
        head = f"M{_xy((x - 8, y - 4))} L{_xy((x, y))} L{_xy((x - 8, y + 4))}Z"
        weights = _weights(q)
        told = f"{q.name}: {q.pre} to {q.post}, {type(q.operator).__name__}"
        told += f", {weights:,} weights" if weights else ""
        return (
            f'<g stroke="{colour}" fill="{colour}"><title>{escape(told)}</title>'
            f'<path d="{path}" fill="none" stroke-width="1.5"{dash}/>'
            f'<path d="{head}" stroke="none"/></g>'
        )

    def _label(self, q: Projection) -> str:
        """The number of weights above the line, where no other line is in the way."""
        weights = _weights(q)
        if not weights:
            return ""
        line = self.lines[q.name]
        text = f"{weights:,}" if weights < 10_000 else compact(float(f"{weights:.3g}"))
        long = _width(text, 10)
        if q.name in self.out:
            (x, y), (to_x, _) = sorted(line[2:4])
            places = [x + (to_x - x) * part for part in (0.5, 0.35, 0.65, 0.2, 0.8)]
            fits = to_x - x > long + 6
        else:
            (x, y), (to_x, to_y) = line[0], line[-1]
            places = [(x + to_x - 8) / 2]
            fits = abs(to_y - y) < 6 and to_x - x > long + 10
            y = min(y, to_y)
        others = [p for name, other in self.lines.items() if name != q.name for p in _dense(other)]
        for place in places if fits else ():
            free = not any(abs(a - place) < long / 2 + 2 and y - 13 < b < y for a, b in others)
            if free and x <= place - long / 2 and place + long / 2 <= to_x:
                return _text(place, y - 4, text, 10)
        return ""

    def _box(self, p: Population) -> str:
        box, (name, *rest) = self.box[p.name], self.labels[p.name]
        fill = {"input": 0.0, "hidden": 0.06, "output": 0.16}[p.role]
        middle, y = box.x + box.width / 2, box.y + box.height / 2
        texts = [_text(middle, y - 11, name, 13, bold=True)]
        texts += [_text(middle, y + 5 + 15 * i, text, 11) for i, text in enumerate(rest)]
        return (
            f"<g><title>{escape(p.name)}, {p.role}, {p.activation}</title>"
            f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
            f'height="{box.height:.1f}" rx="7" fill="currentColor" fill-opacity="{fill}" '
            f'stroke="currentColor" stroke-opacity="0.6"/>{"".join(texts)}</g>'
        )


def _spread(ranks: dict[str, tuple[int, float]], box: _Box) -> dict[str, float]:
    """Heights on one side of a box, by rank; (1, …) is a direct line."""
    names = sorted(ranks, key=ranks.__getitem__)
    kinds = [ranks[name][0] for name in names]
    count = len(names)
    if kinds.count(1) != 1:
        return {name: box.y + box.height * i / (count + 1) for i, name in enumerate(names, 1)}
    # The only direct line is in the middle, so that chains are straight.
    direct, half = kinds.index(1), box.height / 2
    below = {name: half * (i - direct) / (count - direct) for i, name in enumerate(names)}
    above = {name: half * (i - direct) / (direct + 1) for i, name in enumerate(names[:direct])}
    return {name: box.y + half + (below | above)[name] for name in names}


def _labels(p: Population) -> tuple[str, str, str]:
    name = p.name if len(p.name) <= 16 else p.name[:15] + "…"
    unit = "inputs" if p.role == "input" else "dyads"
    return name, " × ".join(map(str, p.shape)), f"{p.size:,} {unit}"


def _weights(q: Projection) -> int:
    shape = q.operator.weight_shape
    return 0 if shape is None else prod(shape)


def _count(lanes: Iterable[int]) -> int:
    return max(lanes, default=-1) + 1


def _width(text: str, size: float) -> float:
    """About what a text takes in a sans-serif font, rather too much than too little."""
    return 0.6 * size * len(text)


def _text(
    x: float, y: float, text: str, size: int, anchor: str = "middle", bold: bool = False
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{weight} '
        f'fill="currentColor">{escape(text)}</text>'
    )


def _xy(point: Point) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"


def _rounded(corners: Sequence[Point], radius: float = 9.0) -> str:
    """A path along the corners, each of them rounded as far as its neighbours leave room."""
    path = f"M{_xy(corners[0])}"
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        ends = []
        for other in (before, after):
            length = dist(corner, other)
            part = min(radius, length / 2) / length if length else 0.0
            ends.append(
                (
                    corner[0] + part * (other[0] - corner[0]),
                    corner[1] + part * (other[1] - corner[1]),
                )
            )
        path += f" L{_xy(ends[0])} Q{_xy(corner)} {_xy(ends[1])}"
    return f"{path} L{_xy(corners[-1])}"


def _dense(corners: Sequence[Point]) -> list[Point]:
    """Points along the corners, close enough that no label slips through."""
    points = []
    for (x, y), (to_x, to_y) in pairwise(corners):
        count = 1 + int(dist((x, y), (to_x, to_y)) / 4)
        points += [
            (x + (to_x - x) * i / count, y + (to_y - y) * i / count) for i in range(count + 1)
        ]
    return points
