"""Describes a report: what is on its page, how it is written, its pictures as files."""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from neurosim.base import number, spoken, write_atomic
from neurosim.reports.plots.canvas import Chart, clean, palette_css

ROW, SIGN, LETTER = 18, 26, 6.6  # pixels of a legend: its rows, their lines, a letter on average
BOLD, NOTE = 8.2, 6.0  # a letter of a title, and of a note


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


# A macro of the template and what it is given: ``absent`` (what, why), ``details`` (title, blocks),
# ``figures``, ``html``, ``table`` (a listing) or ``tiles`` (titles and texts).
Block = tuple[str, Any]


class Section(NamedTuple):
    """Holds a part of a page; what is empty is left out of it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """Holds what a page is made of: one HTML file that needs nothing but itself."""

    title: str
    of: str  # what kind of record
    status: str
    css: str  # class of the status
    sections: Sequence[Section]
    error: str = ""
    notes: Sequence[str] = ()

    @property
    def figures(self) -> list[Figure]:
        """The figures in the order of the page."""
        blocks = (block for section in self.sections for block in section.blocks)
        return [figure for macro, found in blocks if macro == "figures" for figure in found]

    def html(self) -> str:
        """Returns the page."""
        return render("page.html", report=self)

    def write(self, folder: Path) -> Path:
        """Writes ``report.html`` into a folder, at once or not at all; returns its path."""
        path = folder / "report.html"
        write_atomic(path, self.html())
        return path

    def pictures(self) -> list[Picture]:
        """Returns the charts in the order of the page."""
        return pictures_of(self.figures)


def folded(title: str, listing: Listing) -> Block:
    """Returns a table that a reader has to open."""
    return "details", (title, [("table", listing)])


def listed(caption: str, values: Mapping[str, object]) -> Listing:
    """Returns a table of names and values."""
    rows = [(key.replace("_", " "), value) for key, value in values.items()]
    return Listing(caption, ("what", "value"), rows)


def pictures_of(figures: Iterable[Figure]) -> list[Picture]:
    """Returns charts as pictures of their own: on white, with title, legend, note and all
    colours."""
    return [
        Picture(
            name,
            render(
                "picture.svg",
                title=wrap(title, max(20, int(chart.size[0] / BOLD))),
                chart=chart,
                note=wrap(chart.note, max(20, int(chart.size[0] / NOTE))),
                **_legend(chart),
            ),
        )
        for name, title, chart in named(figures)
    ]


def named(figures: Iterable[Figure]) -> Iterator[tuple[str, str, Chart]]:
    """Yields a name of its own for the file of each chart, its title, and the chart."""
    names: list[str] = []
    for title, chart, _, where in figures:
        if not isinstance(chart, Chart):
            continue
        whole = f"{title}, {where}" if where else title
        said = whole.lower().replace("⁺", "-plus").replace("⁻", "-minus")
        base = re.sub(r"[^a-z0-9.]+", "-", said).strip("-.") or "figure"
        taken = sum(re.fullmatch(rf"{base}(-\d+)?", name) is not None for name in names)
        names.append(f"{base}-{taken + 1}" if taken else base)
        yield names[-1], whole, chart


def _legend(chart: Chart) -> dict[str, Any]:
    """Places the entries side by side as far as they fit; says how high they are together."""
    x, y, entries = 0.0, ROW / 2, []
    for curve in chart.legend:
        space = SIGN + 6 + LETTER * len(curve.label) + 14
        if x and x + space > chart.size[0]:
            x, y = 0.0, y + ROW
        entries.append((curve, x, y))
        x += space
    return {"entries": entries, "below": y + ROW / 2 if entries else 0.0, "sign": SIGN}


# ---- templates ---------------------------------------------------------------------------------


def render(template: str, **context: Any) -> Markup:
    """Fills in a template; whatever is no `Markup` is escaped. Returns what HTML can hold."""
    return Markup(clean(_environment().get_template(template).render(context)).lstrip())


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("neurosim.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"show": _show, "numeric": _numeric, "whole": _whole}
    environment.globals["script_of"] = _script
    environment.globals |= {"light": Markup(palette_css(False)), "dark": Markup(palette_css(True))}
    return environment


def _script(name: str) -> tuple[Markup, str]:
    """Returns a script, and its hash, by which the page's policy allows this one alone."""
    script = files("neurosim.reports").joinpath(f"templates/{name}").read_text(encoding="utf-8")
    return Markup(script), f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}"


def _show(value: object) -> str:
    """Writes a value for a reader."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 1e15 else f"{value % 10**15}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return value if isinstance(value, str) else spoken(value)


def _whole(value: object) -> bool:
    """Says if a text is a number with its spread, which no line may break in."""
    text = value.striptags() if isinstance(value, Markup) else value
    signs = r"[\d(+-][-+\d.,e±·⁻⁰¹²³⁴⁵⁶⁷⁸⁹()\s]*"
    return isinstance(text, str) and re.fullmatch(signs, text) is not None


def _numeric(rows: list[list[object]]) -> list[bool]:
    """Says which columns hold numbers alone; those are set right."""
    columns = zip(*rows, strict=True)
    return [all(cell is None or number(cell) is not None for cell in column) for column in columns]
