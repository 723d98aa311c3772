"""Draws what is had for what it takes: two numbers of all rows against each other."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.transforms import Bbox

from neurosim.base import cut
from neurosim.records import Quantity, Seeds
from neurosim.reports.plots.canvas import Canvas, Chart, Curve, colours, plain, style
from neurosim.reports.plots.seeds import spread_out

MAX_NAMES = 16  # that are written beside their points
# Where a name may stand beside its point, in points: near it first.
PLACES = [(x, y) for y in (8, -9, 19, -20, 30, -31, 41, -42) for x in (6, -6)]
TRIALS = [(place, clear) for clear in (True, False) for place in PLACES]  # first clear of lines


class Choice(NamedTuple):
    """What a row came to: what it takes, and what is had for it."""

    label: str
    cost: Seeds
    gain: Seeds


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Returns the points (cost, gain) that no other is as good as in both and better in one, by
    ascending cost."""
    found: list[int] = []
    for n in sorted(range(len(points)), key=lambda n: (points[n][0], -points[n][1])):
        last = points[found[-1]] if found else None
        if last is None or points[n][1] > last[1] or points[n] == last:
            found.append(n)
    return found


def pareto_chart(cost: Quantity, gain: Quantity, choices: Sequence[Choice]) -> Chart | None:
    """Draws the mean gain of all choices against their mean cost, with bars from the least to the
    greatest seed, and the front: the choices that no other beats in one and equals in the other.

    ``gain`` is better the higher, ``cost`` the lower. Returns None without a single point.
    """
    shown = [c for c in choices if c.cost.values and c.gain.values]
    if not shown:
        return None
    others, best = colours(2)
    means = [(c.cost.mean or 0.0, c.gain.mean or 0.0) for c in shown]
    chosen = front(means)
    with style():
        canvas = Canvas(f"{gain.key}-{cost.key}", cost.label, gain.label)
        notes = ["Bars: from the least to the greatest seed."] * any(c.gain.runs > 1 for c in shown)
        x, y = zip(*(means[n] for n in chosen), strict=True)
        canvas.plot("front", best, x, y, drawstyle="steps-post", linewidth=1.0)
        for n, (choice, (at, height)) in enumerate(zip(shown, means, strict=True)):
            hue, (costs, gains) = best if n in chosen else others, (c.values for c in choice[1:])
            canvas.plot(choice.label, hue, [min(costs), max(costs)], [height, height])
            canvas.plot(choice.label, hue, [at, at], [min(gains), max(gains)])
            told = f"{choice.label}: {gain.show(height)} {gain.unit}, {cost.show(at)} {cost.unit}"
            canvas.plot(told, hue, [at], [height], marker="o", markersize=4.5)
        if spread_out(canvas.axes.xaxis, [at for at, _ in means]):
            notes.append("The horizontal axis is logarithmic.")
        canvas.axes.margins(x=0.12, y=0.1)
        first = [*chosen, *(n for n in range(len(shown)) if n not in chosen)][:MAX_NAMES]
        _name(canvas.axes, {means[n]: plain(cut(shown[n].label, 24)) for n in reversed(first)})
        names = [Curve("not beaten in both", colour=best), Curve("others", colour=others)]
        return canvas.chart(names, " ".join(notes))


def _name(axes: Axes, names: dict[tuple[float, float], str]) -> None:
    """Writes names beside their points, the last first, where they cover neither each other nor a
    point, and no line either if there is such a place; those without any place are left out."""
    if whole := axes.get_figure(root=True):
        whole.draw_without_rendering()  # so that limits and places are final
    taken = [Bbox.from_bounds(x - 3, y - 3, 6, 6) for x, y in axes.transData.transform([*names])]
    lines = [_drawn(axes, line) for line in axes.lines]
    for point, name in reversed(names.items()):
        for (x, y), clear in TRIALS:
            how: Any = {"ha": "left" if x >= 0 else "right", "va": "center", "fontsize": 8}
            text = axes.annotate(name, point, (x, y), textcoords="offset points", **how)
            box = text.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            crossed = clear and any(line.intersects_bbox(box, filled=False) for line in lines)
            if inside and not crossed and not any(map(box.overlaps, taken)):
                taken.append(box)
                break
            text.remove()


def _drawn(axes: Axes, line: Line2D) -> Path:
    """Returns the path of a line on the page, with the corners of its steps."""
    x, y = (np.asarray(part, dtype=np.float64) for part in line.get_data())
    if line.get_drawstyle() == "steps-post":
        x, y = np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]
    return Path(axes.transData.transform(np.stack([x, y], 1)))
