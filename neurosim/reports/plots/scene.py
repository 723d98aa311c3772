"""Draws a network, as `drawing` has laid it out, for a paper."""

import io
import re
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Line
from matplotlib.patheffects import withStroke

from neurosim.reports.plots.canvas import style
from neurosim.reports.plots.paper import UNDATED, Format, fits

_CODES = {
    "M": (Line.MOVETO, 1),
    "L": (Line.LINETO, 1),
    "Q": (Line.CURVE3, 2),
    "C": (Line.CURVE4, 3),
}
LETTERS = 10.0  # pixels, of the smallest
_MOST = 1.0  # points of a pixel: a small network is not blown up to the width


def scene_on_paper(scene: Mapping[str, Any], width: float, form: Format) -> tuple[bytes, float]:
    """Returns a drawing as a file of that ``form``, ``width`` inches wide, in colours for white
    paper, and the size of its smallest letters in points, 0 if some are cut off."""
    point = min(_MOST, width * 72 / scene["width"])  # of a pixel
    across = width * 72 / point  # pixels
    with style(**{"svg.fonttype": "path", "pdf.fonttype": 42}):
        figure = Figure(figsize=(width, scene["height"] * point / 72))
        axes = figure.add_axes((0, 0, 1, 1))
        left = (scene["width"] - across) / 2
        axes.set(xlim=(left, left + across), ylim=(scene["height"], 0))
        axes.set_axis_off()
        sizes = [size * point for size in _draw(axes, scene, point)]
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, dpi=300, metadata=UNDATED[form])
        whole = fits(figure, width)
    return buffer.getvalue(), min(sizes) if whole else 0.0


def _draw(axes: Axes, scene: Mapping[str, Any], point: float) -> list[float]:
    """Draws all of it; returns the sizes of letters in pixels."""
    sizes = list[float]()

    def write(x: float, y: float, size: float, words: str, **more: Any) -> None:
        where: Any = {"ha": "center", "va": "baseline", "color": "black", **more}
        axes.text(x, y, words, fontsize=size * point, **where)
        sizes.append(size)

    for arrow in scene["arrows"]:
        hue = "black" if arrow["colour"] == "currentColor" else arrow["colour"]
        dash: Any = "solid" if arrow["dash"] == "none" else (0, (5, 3))
        how: dict[str, Any] = {"edgecolor": hue, "linewidth": arrow["width"] * point}
        axes.add_patch(PathPatch(_line(arrow["path"]), facecolor="none", linestyle=dash, **how))
        axes.add_patch(PathPatch(_line(arrow["head"]), facecolor=hue, linewidth=0))
    around = [withStroke(linewidth=3 * point, foreground="white")]
    for arrow in scene["arrows"]:
        for words, at in arrow["texts"]:
            write(at.real, at.imag, LETTERS, words, path_effects=around)
    for one, box, labels in scene["boxes"]:
        shade = str(1 - scene["fills"][one.role])
        corners: Any = {"boxstyle": "round,pad=0,rounding_size=7", "linewidth": point}
        place = (box.x, box.y), box.width, box.height
        axes.add_patch(FancyBboxPatch(*place, facecolor=shade, edgecolor="0.4", **corners))
        if scene["levels"]:
            place = (box.x, box.y + box.height - 6), box.width * scene["levels"][one.name], 6
            corners |= {"boxstyle": "square,pad=0"}
            axes.add_patch(FancyBboxPatch(*place, facecolor="#3a87c8", edgecolor="none", **corners))
        top = box.y + box.height / 2 + 11 - 7.5 * len(labels)
        for number, words in enumerate(labels):
            bold: Any = {} if number else {"fontweight": "bold"}
            write(box.x + box.width / 2, top + 15 * number, 11 if number else 13, words, **bold)
    for number, words in enumerate(scene["notes"]):
        write(10, scene["below"] + 16 * number, 11, words, ha="left")
    return sizes


def _line(path: str) -> Line:
    """Reads the path of an SVG element."""
    points, codes = list[tuple[float, float]](), list[Any]()
    for letter, numbers in re.findall(r"([MLQCZ])([^MLQCZ]*)", path):
        if letter == "Z":
            points.append(points[0])
            codes.append(Line.CLOSEPOLY)
            continue
        code, count = _CODES[letter]
        found = [float(number) for number in numbers.split()]
        points += zip(found[::2], found[1::2], strict=True)
        codes += [code] * count
    return Line(points, codes)
