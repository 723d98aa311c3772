"""Makes a chart of a page fit for paper: at a given width, with letters of a readable size."""

import io
import re
from textwrap import fill
from typing import Any, Literal

from matplotlib.collections import Collection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from neurosim.base import ConfigurationError
from neurosim.reports.plots.canvas import Chart, palette_css, style

Format = Literal["pdf", "png", "svg"]
# A file says nothing of when it was made: equal runs give equal files.
UNDATED: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
READABLE = 5.0  # points of a letter, at least
POINTS = 8.0  # of the letters; of ticks less
_BAD = {"bad": "#b3261e"}
_SIZE = 10.0  # points of the letters on a page
_EDGE = 0.03  # inches


def inches(width: str) -> float:
    """Returns a width such as 85mm, 8.5cm, 3.35in or 241pt in inches. Raises ConfigurationError."""
    units = {"mm": 25.4, "cm": 2.54, "in": 1.0, "pt": 72.0}
    found = re.fullmatch(r"(\d+\.?\d*)\s*(mm|cm|in|pt)", width)
    if found is None:
        said = f"a width is a number with mm, cm, in or pt, such as 85mm, not {width!r}"
        raise ConfigurationError(said, "width")
    if not 0.5 <= (size := float(found[1]) / units[found[2]]) <= 40:
        said = f"a width is between 12.7mm and 1016mm, such as 85mm, not {width!r}"
        raise ConfigurationError(said, "width")
    return size


def on_paper(chart: Chart, width: float, form: Format) -> tuple[bytes, float]:
    """Returns a chart as a file of that ``form``, ``width`` inches wide, with its legend and in
    colours for white paper, and the size of its smallest letters in points, 0 if some are cut off.

    The chart is of no use for anything else afterwards.
    """
    assert chart.canvas is not None
    figure, inks = chart.canvas.figure, chart.canvas.inks
    names = {**dict(re.findall(r"--(\w+):(#\w+)", palette_css(dark=False))), **_BAD}
    hues = {ink: names[css[6:-1]] for css, ink in inks.items() if css.startswith("var(--")}
    size, share = figure.get_size_inches(), POINTS / _SIZE
    options: dict[str, Any] = {}
    with style(**{"svg.fonttype": "path", "pdf.fonttype": 42}):
        if chart.scrolls:  # a map has its own layout, around which there are letters
            scale = width * 72 / chart.size[0]
            figure.set_size_inches(size * scale)
            share = min(share, scale)
        else:
            figure.set_size_inches(size * (width / size[0]))
            label = figure.axes[0].yaxis.label
            room = 0.65 * 72 * figure.get_size_inches()[1] / (0.55 * POINTS)  # letters
            label.set_text(fill(label.get_text(), max(12, int(room))))
        for artist in figure.findobj():
            _recolour(artist, hues)
            if isinstance(artist, Text):
                artist.set_fontsize(float(artist.get_fontsize()) * share)
        for axes in figure.axes:
            axes.tick_params(labelsize=0.9 * _SIZE * share)
        if chart.legend:
            _legend(chart, hues, width)
        if chart.scrolls:
            figure.canvas.draw()
            box = figure.get_tightbbox()
            middle, half = (box.x0 + box.x1) / 2, width / 2
            whole = Bbox.from_extents(middle - half, box.y0 - 0.03, middle + half, box.y1 + 0.03)
            options["bbox_inches"] = whole
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, dpi=300, metadata=UNDATED[form], **options)
        shown = [t.get_fontsize() for t in figure.findobj(Text) if t.get_visible() and t.get_text()]
        seen = chart.scrolls or fits(figure, width)
    return buffer.getvalue(), min(shown, default=POINTS) if seen else 0.0


def fits(figure: Figure, width: float) -> bool:
    """Says if nothing of a drawn figure sticks out at its sides; a letter's edge is no matter."""
    box = figure.get_tightbbox()
    return bool(box.x0 > -_EDGE and box.x1 < width + _EDGE)


def _recolour(artist: Any, hues: dict[str, str]) -> None:
    """Puts the colours of paper in the place of those that become CSS on a page."""

    def hue(colour: Any) -> Any:
        new = hues.get(to_hex(colour))
        return colour if new is None else (*to_rgba(new)[:3], to_rgba(colour)[3])

    if isinstance(artist, Line2D):
        artist.set_color(hue(artist.get_color()))
    elif isinstance(artist, Patch):
        face, edge = hue(artist.get_facecolor()), hue(artist.get_edgecolor())
        artist.set(facecolor=face, edgecolor=edge)
    elif isinstance(artist, Collection) and artist.get_array() is None:
        artist.set_facecolor([hue(colour) for colour in artist.get_facecolor()])


def _legend(chart: Chart, hues: dict[str, str], width: float) -> None:
    """Draws the legend above, in as many columns as fit; the figure grows by its height."""
    assert chart.canvas is not None
    figure, inks = chart.canvas.figure, chart.canvas.inks
    letters = 0.9 * POINTS
    longest = max(len(curve.label) for curve in chart.legend)
    columns = max(1, min(len(chart.legend), int(width * 72 / (0.55 * letters * longest + 36))))
    rows = -(-len(chart.legend) // columns)
    tall = figure.get_size_inches()[1] + rows * 1.3 * letters / 72
    figure.set_size_inches(width, tall)
    lines = []
    for curve in chart.legend:
        ink = inks.get(curve.colour, curve.colour)
        colour = hues.get(ink, "black" if ink == "currentColor" else ink)
        how: dict[str, Any] = {"color": colour, "linestyle": curve.dash, "linewidth": curve.width}
        lines.append(Line2D([], [], label=curve.label, **how))
    how = {"ncols": columns, "fontsize": letters, "frameon": False, "handlelength": 1.8}
    figure.legend(handles=lines, loc="outside upper left", borderpad=0, **how)
