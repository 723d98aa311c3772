"""Describes a report: what its template is given, how it is written, its pictures as files."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from neurosim.base import write_atomic
from neurosim.reports.plots import Chart
from neurosim.reports.render import render

EDGE, TITLE, ROW, SIGN = 12, 26, 18, 26  # pixels: around a picture, heights, line of a legend
_LETTER = 6.6  # of a legend, on average


class Listing(NamedTuple):
    """Holds a table of a page; columns of numbers are set right."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]


class Figure(NamedTuple):
    """Holds a chart or a table with its title, or says why it is left out."""

    title: str
    content: Chart | Listing | None = None
    why_not: str = ""
    where: str = ""  # which of several of that title


class Picture(NamedTuple):
    """Holds an SVG file: text, and a name without its ending."""

    name: str
    svg: str


@dataclass(frozen=True)
class Report:
    """Holds what a page is made of: one HTML file that needs nothing but itself.

    ``figures`` are by the part of the page that shows them, ``context`` is whatever else the
    template asks for.
    """

    template: str
    title: str
    figures: Mapping[str, Sequence[Figure]]
    context: Mapping[str, Any]
    notes: Sequence[str] = field(default=())

    def html(self) -> str:
        """Returns the page."""
        figures = {**self.figures}
        return render(
            self.template, **self.context, title=self.title, figures=figures, notes=self.notes
        )

    def write(self, folder: Path) -> Path:
        """Writes ``report.html`` into a folder, at once or not at all; returns its path."""
        path = folder / "report.html"
        write_atomic(path, self.html())
        return path

    def pictures(self) -> list[Picture]:
        """Returns the charts in the order of the page."""
        return pictures_of(figure for part in self.figures.values() for figure in part)


def listed(
    caption: str, header: Sequence[str], values: Mapping[str, object], but: Collection[str] = ()
) -> Listing:
    """Returns a table of names and values."""
    rows = [(key.replace("_", " "), value) for key, value in values.items() if key not in but]
    return Listing(caption, header, rows)


def pictures_of(figures: Iterable[Figure]) -> list[Picture]:
    """Returns charts as pictures of their own: on white, with title, legend and all colours."""
    found: list[Picture] = []
    for title, chart, _, where in figures:
        if not isinstance(chart, Chart):
            continue
        whole = f"{title}, {where}" if where else title
        base = re.sub(r"[^a-z0-9.]+", "-", whole.lower()).strip("-.") or "figure"
        taken = sum(re.fullmatch(rf"{base}(-\d+)?", picture.name) is not None for picture in found)
        svg = render(
            "picture.svg", title=whole, chart=chart, edge=EDGE, top=TITLE, **_legend(chart)
        )
        found.append(Picture(f"{base}-{taken + 1}" if taken else base, svg))
    return found


def _legend(chart: Chart) -> dict[str, Any]:
    """Places the entries side by side as far as they fit; says how high they are together."""
    x, y, entries = 0.0, ROW / 2, []
    for curve in chart.legend:
        space = SIGN + 6 + _LETTER * len(curve.label) + 14
        if x and x + space > chart.size[0]:
            x, y = 0.0, y + ROW
        entries.append((curve, x, y))
        x += space
    return {"entries": entries, "below": y + ROW / 2 if entries else 0.0, "sign": SIGN}
