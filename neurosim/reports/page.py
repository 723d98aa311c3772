"""The pages of all reports: one HTML file each that needs nothing but itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from json import dumps
from pathlib import Path

from neurosim.base import write_atomic
from neurosim.reports import plots
from neurosim.reports.plots import Chart, number

# What XML and HTML cannot hold, and half of a character, which UTF-8 cannot.
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_CSS = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2128;--dim:#59636e;--card:#f6f8fa;--edge:#d1d9e0;
--good:#12692b;--bad:#b3261e;LIGHT}
@media(prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e3e8ee;--dim:#9aa4af;--card:#1c2229;
--edge:#39424d;--good:#57c776;--bad:#ff8a80;DARK}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem clamp(.9rem,3vw,2.5rem) 3rem;max-width:74rem;background:var(--bg);
color:var(--fg);font:1rem/1.5 system-ui,sans-serif}
h1{margin:0;font-size:1.7rem;line-height:1.25;overflow-wrap:anywhere}
h2{margin:2.5rem 0 1rem;padding-bottom:.3rem;border-bottom:1px solid var(--edge);font-size:1.3rem}
h3{margin:0 0 .5rem;font-size:1rem}
header p{margin:.3rem 0 0;color:var(--dim)}
.finished{color:var(--good)}.failed,.interrupted{color:var(--bad)}
.note,.absent,footer{color:var(--dim);font-size:.9rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(max(9rem,22%),1fr));gap:.75rem;margin:0}
.tiles div{padding:.7rem .9rem;border:1px solid var(--edge);border-radius:.5rem;
background:var(--card)}
.tiles dt{color:var(--dim);font-size:.85rem}
.tiles dd{margin:0;font-size:1.3rem;font-weight:600;overflow-wrap:anywhere}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,max(21rem,40%)),1fr));gap:1.25rem}
.grid>*{min-width:0}
figure{margin:0;padding:clamp(.7rem,2vw,1rem);border:1px solid var(--edge);border-radius:.5rem;
min-width:0}
figure svg{display:block;width:100%;max-width:36rem;height:auto;margin:0 auto;
stroke-linejoin:round}
figcaption p{margin:.5rem 0 0}
.legend{display:flex;flex-wrap:wrap;gap:.15rem 1rem;margin:.5rem 0 0;padding:0;list-style:none;
font-size:.85rem}
.legend i{display:inline-block;width:1.6em;margin-right:.4em;
vertical-align:middle}
.scroll{overflow-x:auto}
.drawing svg{width:auto}
figure table{width:100%}
table{min-width:min(100%,22rem);border-collapse:collapse;font-size:.9rem;
font-variant-numeric:tabular-nums;margin:.25rem 0}
caption{padding:.3rem 0;text-align:left;font-weight:600}
th,td{padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--edge);text-align:left;
vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap}
pre{margin:.5rem 0;padding:1rem;overflow-x:auto;border-radius:.5rem;background:var(--card);
font-size:.85rem}
details{margin-top:.75rem}
pre.failed{white-space:pre-wrap}
summary{cursor:pointer}
"""


def write(path: Path, text: str) -> None:
    """Writes a page at once or not at all, without what HTML cannot hold."""
    write_atomic(path, _FORBIDDEN.sub("\ufffd", text))


def document(
    title: str, head: str, sections: Mapping[str, str], notes: Sequence[str], more_css: str = ""
) -> str:
    """A page that stands alone: a title, what is under it, sections by title, and notes."""
    css = _CSS.replace("LIGHT", plots.palette_css(False)).replace("DARK", plots.palette_css(True))
    name = escape(title)
    body = "".join(
        f'<section aria-labelledby="{title.lower()}"><h2 id="{title.lower()}">{title}</h2>'
        f"{content}</section>\n"
        for title, content in sections.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{name} – neurosim</title>
<style>{css}{more_css}</style>
</head>
<body>
<header><h1>{name}</h1>
{head}</header>
<main>
{body}</main>
<footer>{"".join(f"<p>{escape(note)}</p>" for note in notes)}</footer>
</body>
</html>
"""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def show(value: object) -> str:
    """A value for a reader, escaped."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 1e15 else f"{value % 10**15}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return escape(value if isinstance(value, str) else dumps(value))


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table that scrolls by itself on a narrow page; columns with numbers are set right."""
    if not rows:
        return ""
    numeric = [
        all(cell is None or number(cell) is not None for cell in column)
        for column in zip(*rows, strict=True)
    ]
    css = [' class="n"' if right else "" for right in numeric]
    titles = zip(css, header, strict=True)
    head = "".join(f'<th scope="col"{right}>{escape(title)}</th>' for right, title in titles)
    body = ""
    for first, *rest in rows:
        cells = zip(css[1:], rest, strict=True)
        body += f'<tr><th scope="row"{css[0]}>{show(first)}</th>'
        body += "".join(f"<td{right}>{show(cell)}</td>" for right, cell in cells) + "</tr>\n"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def rows(values: Mapping[str, object], but: Iterable[str] = ()) -> list[tuple[object, ...]]:
    return [(key.replace("_", " "), value) for key, value in values.items() if key not in but]


def details(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>\n" if content else ""


def figure(title: str, chart: Chart | None, why_not: str) -> str:
    if chart is None:
        return absent(title, why_not)
    items = "".join(
        f'<li><i style="border-top:{1.5 * line.width:.1f}px {line.dash} {line.colour}"></i>'
        f"{escape(line.label)}</li>"
        for line in chart.legend
    )
    legend = f'<ul class="legend">{items}</ul>' if items else ""
    note = f'<p class="note">{escape(chart.note)}</p>' if chart.note else ""
    caption = f"<figcaption>{legend}{note}</figcaption>" if items or note else ""
    return f"<figure><h3>{title}</h3>{chart.svg}{caption}</figure>\n"


def absent(title: str, why: str) -> str:
    return f'<p class="absent">{title}: left out, {why}.</p>\n'


def grid(parts: Sequence[str]) -> str:
    """Figures side by side where the page is wide, and below them what was left out."""
    figures = [part for part in parts if part.startswith("<figure")]
    rest = "".join(part for part in parts if part not in figures)
    return (f'<div class="grid">{"".join(figures)}</div>\n' if figures else "") + rest
