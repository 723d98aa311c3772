"""The figures of a report as files of their own, for a paper or a page that has not our styles."""

from __future__ import annotations

import re
from html import escape, unescape
from typing import NamedTuple
from xml.etree import ElementTree

from neurosim.reports.plots.canvas import palette_css
from neurosim.reports.plots.heat import heat_css

_FIGURE = re.compile(
    r"<figure><h3>(?P<title>[^<]*)(?:<small>(?P<where>[^<]*)</small>)?</h3>"
    r"(?:<div[^>]*>)?(?P<svg><svg .*?</svg>)(?:</div>)?"
    r'(?:<figcaption>(?:(?P<legend><ul class="legend">.*?</ul>))?.*?</figcaption>)?</figure>',
    re.DOTALL,
)
_LINE = re.compile(r"border-top:(?P<width>[\d.]+)px (?P<dash>\w+) (?P<colour>.+)")
_DASHES = {"dashed": "6 4", "dotted": "2 3"}
EDGE, TITLE, ROW, SIGN = 12, 26, 18, 26  # pixels: around it, heights, the line of a legend
LETTER = 6.6  # of a legend, on average


class Figure(NamedTuple):
    """A picture with a name that is good for a file."""

    name: str
    svg: str


def figures_of(page: str) -> list[Figure]:
    """The pictures of a report, on white, with title and legend, in the order of the page."""
    found: list[Figure] = []
    for match in _FIGURE.finditer(page):
        title = match["title"] + (match["where"] or "")
        base = re.sub(r"[^a-z0-9.]+", "-", unescape(title).lower()).strip("-.") or "figure"
        taken = sum(re.fullmatch(rf"{base}(-\d+)?", figure.name) is not None for figure in found)
        name = f"{base}-{taken + 1}" if taken else base
        found.append(Figure(name, _alone(title, match["svg"], match["legend"])))
    return found


def _alone(title: str, svg: str, legend: str | None) -> str:
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert box is not None
    width, height = float(box[1]), float(box[2])
    entries, below = _legend(legend, width) if legend else ("", 0.0)
    inner = re.sub(r'^<svg ([^>]*?) ?(?:width="[^"]*" height="[^"]*")', r"<svg \1", svg, count=1)
    inner = inner.replace("<svg ", f'<svg y="{TITLE}" width="{width}" height="{height}" ', 1)
    wide, tall = width + 2 * EDGE, height + TITLE + below + 2 * EDGE
    css = f":root{{color:#1c2128;--bad:#b3261e;{palette_css(False)};{heat_css()}}}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{wide:g}" height="{tall:g}" viewBox="0 0 {wide:g} {tall:g}" '
        f'font-family="system-ui, sans-serif" fill="currentColor"><style>{css}</style>'
        f'<rect width="{wide:g}" height="{tall:g}" fill="#fff"/>'
        f'<g transform="translate({EDGE} {EDGE})">'
        f'<text y="13" font-size="14" font-weight="600">{title}</text>{inner}'
        f'<g transform="translate(0 {TITLE + height:g})" font-size="12">{entries}</g></g></svg>\n'
    )


def _legend(legend: str, width: float) -> tuple[str, float]:
    """The entries side by side as far as they fit, and how high they are together."""
    x, y, parts = 0.0, ROW / 2, []
    for item in ElementTree.fromstring(legend):
        sign = item[0]
        label = sign.tail or ""
        line = _LINE.fullmatch(sign.get("style", ""))
        assert line is not None
        space = SIGN + 6 + LETTER * len(label) + 14
        if x and x + space > width:
            x, y = 0.0, y + ROW
        dash = _DASHES.get(line["dash"])
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(
            f'<path d="M{x:g} {y:g}h{SIGN}" stroke="{line["colour"]}" '
            f'stroke-width="{line["width"]}"{dashes}/>'
            f'<text x="{x + SIGN + 6:g}" y="{y + 4:g}">{escape(label)}</text>'
        )
        x += space
    return "".join(parts), y + ROW / 2
