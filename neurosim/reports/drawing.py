"""Draws a network: boxes in the cells of a grid, arrows in the gaps between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, prod
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from neurosim.base import compact, cut
from neurosim.reports.page import render

if TYPE_CHECKING:  # a drawing needs no torch
    from neurosim.network import Network, Population, Projection

LEVELS = 7  # in one row: what a page shows at a legible size
WIDE = 52.0  # of the gap between columns, at least
# Of a frame the gap and what a box holds (``activity 1.2e-05``): the same whatever it says.
MOVING, HELD = 112.0, 106.0
LANE, STEP = 9.0, 15.0  # between neighbouring lines: vertical ones, horizontal ones with a label
MARGIN, GAP = 10.0, 16.0
BROAD = 1300.0  # pixels, of which the page shows four fifths at a legible size
NARROW = 420.0  # the same of a phone of 390 pixels
_LETTER = 0.6  # about what one takes of its size, rather too much than too little
SKIP, BACK = "#3a87c8", "#d55e00"  # both read on white and on black

_TWO = Markup('<div class="broad">{}</div><div class="slim">{}</div>')


class _Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float


class Frame(NamedTuple):
    """Holds what a drawing shows of a moment: of each box how full it is (0 to 1) and two lines of
    text, of each arrow its width and its label."""

    boxes: dict[str, tuple[float, str, str]]
    arrows: dict[str, tuple[float, str]]


def draw_network(network: Network, frame: Frame | None = None, levels: int = LEVELS) -> Markup:
    """Draws a box per population, left to right by level, and an arrow per projection.

    More than so many ``levels`` go on in another row. An arrow to the next level is direct. Any
    other (it skips levels, goes back, or on to the next row) leaves to the right, runs above the
    row of its receiver, in a lane of its own, and arrives from the left: it crosses no box. At
    arrows are operators and numbers of weights; tooltips tell the rest. A ``frame`` is shown in
    their place.
    """
    return render("network.svg", **scene_of(network, frame, levels))


def draw_for_page(network: Network, frame: Frame | None = None) -> Markup:
    """Draws a network in rows that a page has room for, and again for a phone in shorter ones where
    these are needed: a page shows one of both."""
    broad, slim = (levels_within(network, frame, width) for width in (BROAD, NARROW))
    drawn = draw_network(network, frame, broad)
    return drawn if broad == slim else _TWO.format(drawn, draw_network(network, frame, slim))


def levels_within(network: Network, frame: Frame | None, width: float) -> int:
    """Returns how many levels a row may have in a drawing that is so many pixels wide at most, or
    of which even one in a row is too wide."""
    for levels in range(LEVELS, 1, -1):
        if scene_of(network, frame, levels)["width"] <= width:
            return levels
    return 1


def scene_of(network: Network, frame: Frame | None = None, levels: int = LEVELS) -> dict[str, Any]:
    """Returns what `draw_network` draws, with so many ``levels`` in a row at most: where everything
    is, in pixels, and what it says."""
    return _Drawing(network, frame, levels).scene()


def described(projection: Projection) -> str:
    """Writes the operator of a projection for a reader: ``conv 3×3, max-pool 2×2``."""
    operator = projection.operator
    parts, pool = [], getattr(operator, "pool", None)
    kernel, stride = getattr(operator, "kernel", None), getattr(operator, "stride", (1, 1))
    if kernel is not None and operator.weight_shape is not None:
        step = "" if stride == (1, 1) else " stride {}×{}".format(*stride)
        parts = ["conv {}×{}".format(*kernel) + step]
    if pool is not None:
        parts.append("{}-pool {}×{}".format(pool.kind, *pool.kernel))
    return ", ".join(parts) or type(operator).__name__.lower()


def weights_of(projection: Projection) -> tuple[str | None, int | None]:
    """Returns the shape of the weights as text, and how many there are; None without weights."""
    shape = projection.operator.weight_shape
    return (None, None) if shape is None else (" × ".join(map(str, shape)), prod(shape))


class _Drawing:
    def __init__(self, network: Network, frame: Frame | None, levels: int) -> None:
        self.network, self.levels, self.frame = network, network.levels, frame
        depth = max(self.levels.values()) + 1
        self.columns = ceil(depth / ceil(depth / levels))
        self.cell = {name: divmod(level, self.columns) for name, level in self.levels.items()}
        self.routed = []
        for q in network.projections:
            (row, column), place = self.cell[q.pre], self.cell[q.post]
            self.routed += [] if place == (row, column + 1) else [q]
        self._choose_lanes()
        self._place_boxes()
        self._choose_ports()

    # ---- where everything goes -----------------------------------------------------------------

    def _choose_lanes(self) -> None:
        """Chooses the lane of each routed arrow on its way out, above the row, and in."""
        out, above, into = [], [], []
        for q in self.routed:
            (row, column), (to_row, to_column) = self.cell[q.pre], self.cell[q.post]
            # Places from top to bottom: the space above row r is 2r, the row itself 2r + 1.
            out.append((column + 1, *sorted((2 * row + 1, 2 * to_row))))
            above.append((to_row, *sorted((column + 1, to_column))))
            into.append((to_column, 2 * to_row, 2 * to_row + 1))
        self.out, self.above, self.into = (self._lanes(spans) for spans in (out, above, into))

    def _lanes(self, spans: Sequence[tuple[int, ...]]) -> dict[str, int]:
        """Returns the lowest free lane for each (gap, first, last), short ones first."""
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
        network, routed = self.network, self.routed
        self.labels: dict[str, tuple[str, ...]] = {}
        width, tall = 84.0 if self.frame is None else HELD, {}
        for p in network.populations:
            ends = max(map(len, (network.incoming(p.name), network.outgoing(p.name))))
            self.labels[p.name] = (cut(p.name, 20), *self._said(p))
            tall[p.name] = max(72.0 if self.frame is None else 58.0, 12.0 * (1 + ends))
            sizes = zip((13, 11, 11, 11), self.labels[p.name], strict=False)
            width = max(width, *(_LETTER * size * len(text) for size, text in sizes))
        width, x = width + 18, MARGIN
        self.left, self.right = [], []  # of each gap between columns
        wide = max([WIDE, *(self._wide(q) for q in network.projections if q not in routed)])
        wide = wide if self.frame is None else MOVING
        for gap in range(self.columns + 1):
            lanes = _most(self.out[q.name] for q in routed if self.cell[q.pre][1] + 1 == gap)
            lanes += _most(self.into[q.name] for q in routed if self.cell[q.post][1] == gap)
            outer = gap in (0, self.columns)
            self.left.append(x)
            x += (0.0 if outer else wide) + LANE * lanes + (24.0 if outer and lanes else 0.0)
            self.right.append(x)
            x += width
        self.width, self.height = max(x - width + MARGIN, 220.0), MARGIN
        self.box: dict[str, _Box] = {}
        self.base = []  # what lanes above each row are measured from
        for row in range(1 + max(row for row, _ in self.cell.values())):
            lanes = _most(self.above[q.name] for q in routed if self.cell[q.post][0] == row)
            self.base.append(self.height + STEP * lanes)
            stacks = [
                [(p.name, tall[p.name]) for p in network.populations if self.cell[p.name] == place]
                for place in ((row, column) for column in range(self.columns))
            ]
            high = [sum(height + GAP for _, height in stack) - GAP for stack in stacks]
            for column, stack in enumerate(stacks):
                y = self.base[-1] + GAP / 2 + (max(high) - high[column]) / 2
                for name, height in stack:
                    self.box[name] = _Box(self.right[column], y, width, height)
                    y += height + GAP
            self.height = self.base[-1] + GAP / 2 + max(high) + GAP

    def _said(self, p: Population) -> tuple[str, ...]:
        """Returns the lines below a population's name."""
        if self.frame is not None:
            return self.frame.boxes[p.name][1:]
        shape = " × ".join(map(str, p.shape))
        if p.role == "input":
            return shape, f"{p.size:,} inputs"
        return shape, f"{p.size:,} dyads", cut(str(p.activation), 24)

    def _wide(self, q: Projection) -> float:
        """Returns the room that the labels of a direct arrow need."""
        return _LETTER * 10 * max(map(len, self._label(q)), default=0) + 10

    def _label(self, q: Projection) -> list[str]:
        """Returns what stands at an arrow, above it and below."""
        if self.frame is not None:
            return [self.frame.arrows[q.name][1]]
        weights = weights_of(q)[1]
        text = ""
        if weights:
            text = f"{weights:,}" if weights < 10_000 else compact(float(f"{weights:.3g}"))
        return [text, *described(q).replace("-pool", "").split(", ")]

    def _choose_ports(self) -> None:
        """Chooses where lines leave and arrive, in an order in which they do not cross."""
        self.start: dict[str, float] = {}
        self.end: dict[str, float] = {}
        for p in self.network.populations:
            leaving = {q.name: self._leaving(q) for q in self.network.outgoing(p.name)}
            arriving = {
                q.name: (0, self.into[q.name]) if q.name in self.into else (1, self.box[q.pre].y)
                for q in self.network.incoming(p.name)
            }
            self.start |= _spread(leaving, self.box[p.name])
            self.end |= _spread(arriving, self.box[p.name])

    def _leaving(self, q: Projection) -> tuple[int, float]:
        if q.name not in self.out:
            return 1, self.box[q.post].y
        down = self.cell[q.post][0] > self.cell[q.pre][0]
        return (2, -self.out[q.name]) if down else (0, self.out[q.name])

    # ---- what is drawn -------------------------------------------------------------------------

    def scene(self) -> dict[str, Any]:
        arrows = [self._arrow(q) for q in self.network.projections]
        colours = {arrow["colour"] for arrow in arrows}
        hues = {SKIP: "blue: skips levels", BACK: "orange, dashed: goes back"}
        said = "at arrows: number of weights, and the operator"
        notes = [] if self.frame else [said]
        notes = [*notes, *(hues[hue] for hue in hues if hue in colours)]
        return {
            "width": self.width,
            "height": self.height + 16 * len(notes),
            "below": self.height + 6,
            "arrows": arrows,
            "boxes": [(p, self.box[p.name], self.labels[p.name]) for p in self.network.populations],
            "levels": {} if self.frame is None else {n: b[0] for n, b in self.frame.boxes.items()},
            "fills": {"input": 0.0, "hidden": 0.06, "output": 0.16},
            "notes": notes,
        }

    def _arrow(self, q: Projection) -> dict[str, Any]:
        pre, post, weights = self.box[q.pre], self.box[q.post], weights_of(q)[1]
        steps = self.levels[q.post] - self.levels[q.pre]
        start = complex(pre.x + pre.width, self.start[q.name])
        end = complex(post.x, self.end[q.name])
        if q.name in self.out:
            out = self.left[self.cell[q.pre][1] + 1] + 10 + LANE * self.out[q.name]
            into = self.right[self.cell[q.post][1]] - 16 - LANE * self.into[q.name]
            lane = self.base[self.cell[q.post][0]] - STEP * self.above[q.name]
            corners = [complex(out, y) for y in (start.imag, lane)]
            corners += [complex(into, y) for y in (lane, end.imag)]
            path = _rounded([start, *corners, end])
            lines = [" · ".join(filter(None, self._label(q)))]
            at = [complex((out + into) / 2, lane - 4)]
            if self.cell[q.pre][1] + 1 == self.cell[q.post][1]:  # down a gap: beside, over its box
                beside = max(out, into) + 6 + _LETTER * 5 * len(lines[0])
                at = [complex(beside, lane - 4)]
        else:
            middle = (start.real + end.real) / 2
            path = f"M{_xy(start)} C{_xy(complex(middle, start.imag))} "
            path += f"{_xy(complex(middle, end.imag))} {_xy(end)}"
            height = (start.imag + end.imag) / 2
            lines = self._label(q)
            at = [
                complex(middle - 4, height + (-4 if i == 0 else 11 * i)) for i in range(len(lines))
            ]
        told = f"{q.name}: {q.pre} to {q.post}, {described(q)}"
        if weights:
            told += f", {weights:,} weights"
        return {
            "name": q.name,
            "title": told,
            "colour": "currentColor" if steps == 1 else SKIP if steps > 1 else BACK,
            "dash": "5 3" if steps < 1 else "none",
            "width": 1.5 if self.frame is None else self.frame.arrows[q.name][0],
            "path": path,
            "head": f"M{_xy(end - 8 - 4j)} L{_xy(end)} L{_xy(end - 8 + 4j)}Z",
            "texts": [
                (text, place) for text, place in zip(lines, at, strict=True) if text or self.frame
            ],
        }


def _spread(ranks: dict[str, tuple[int, float]], box: _Box) -> dict[str, float]:
    """Returns heights on one side of a box, by rank; (1, …) is a direct line."""
    names = sorted(ranks, key=ranks.__getitem__)
    kinds, count = [ranks[name][0] for name in names], len(names)
    parts = [i / (count + 1) for i in range(1, count + 1)]
    if kinds.count(1) == 1:  # the only direct line is in the middle, so that chains are straight
        direct = kinds.index(1)
        above = [0.5 * i / (direct + 1) for i in range(1, direct + 1)]
        parts = above + [0.5 + 0.5 * i / (count - direct) for i in range(count - direct)]
    return {name: box.y + box.height * part for name, part in zip(names, parts, strict=True)}


def _most(lanes: Iterable[int]) -> int:
    return max(lanes, default=-1) + 1


def _xy(point: complex) -> str:
    return f"{point.real:.1f} {point.imag:.1f}"


def _rounded(corners: Sequence[complex], radius: float = 9.0) -> str:
    """Returns a path along the corners, each rounded as far as its neighbours leave room."""
    path = f"M{_xy(corners[0])}"
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        ends = []
        for way in (before - corner, after - corner):
            ends.append(corner + way * (min(radius, abs(way) / 2) / abs(way) if way else 0.0))
        path += f" L{_xy(ends[0])} Q{_xy(corner)} {_xy(ends[1])}"
    return f"{path} L{_xy(corners[-1])}"
