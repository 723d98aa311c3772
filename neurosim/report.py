"""The report of a run: one HTML file that needs nothing but itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from json import dumps
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING

from neurosim import plots
from neurosim.files import write_atomic
from neurosim.plots import Chart, Run, Traces, compact, draw_network, number, time_of

if TYPE_CHECKING:  # a report needs no torch
    from neurosim.network import Network
    from neurosim.populations import Projection

__all__ = ["draw_network", "write_report"]

MAX_SCENARIO = 200_000  # characters shown
MAX_EPOCHS = 60  # rows shown

# What XML and HTML cannot hold, and half of a character, which UTF-8 cannot.
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_TILES = {
    "test_accuracy": "Test accuracy",
    "test_loss": "Test loss",
    "epochs": "Epochs",
    "seconds": "Duration",
    "dyads": "Dyads",
    "parameters": "Parameters",
    "messages": "Messages",
    "synaptic_operations": "Synaptic operations",
}
_EPOCH = "epoch train_loss test_loss test_accuracy validation_accuracy seconds ticks wakes messages"

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


def write_report(folder: Path, network: Network | None = None) -> Path:
    """Writes ``report.html`` into a run folder, at once or not at all; returns its path.

    Reads scenario.yaml, environment.json, metrics.jsonl and summary.json. What is missing or
    damaged (a run may end at any time) is left out with a note. The same files give the same
    bytes. ``network`` adds its drawing and the order and sizes of the populations.

    Raises DataError where none of the files exists.
    """
    run = Run.read(Path(folder))
    sections = {
        "Result": _result(run),
        "Learning": _learning(run),
        "Network": _network(network),
        "Inference": _inference(run, network),
    }
    return write_page(folder, run, sections)


def write_page(folder: Path, run: Run, sections: Mapping[str, str]) -> Path:
    """Writes ``report.html`` with these sections, the scenario and the environment."""
    path = Path(folder) / "report.html"
    write_atomic(path, _FORBIDDEN.sub("\ufffd", _page(run, sections)))
    return path


def _page(run: Run, sections: Mapping[str, str]) -> str:
    name = escape(str(run.summary.get("name") or "run"))
    status = run.summary.get("status")
    known = status if status in ("finished", "interrupted", "failed") else "interrupted"
    css = _CSS.replace("LIGHT", plots.palette_css(False)).replace("DARK", plots.palette_css(True))
    error = run.summary.get("error")
    sections = {
        **sections,
        "Scenario": _scenario(run.scenario),
        "Environment": _table("Machine and software", ("what", "value"), _rows(run.environment)),
    }
    body = "".join(
        f'<section aria-labelledby="{title.lower()}"><h2 id="{title.lower()}">{title}</h2>'
        f"{content or _absent(title, 'nothing was recorded')}</section>\n"
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
<style>{css}</style>
</head>
<body>
<header><h1>{name}</h1>
<p>neurosim run, <strong class="{known}">{escape(str(status or "not finished"))}</strong></p>
{f'<pre role="alert" class="failed">{escape(str(error))}</pre>' if error else ""}</header>
<main>
{body}</main>
<footer>{"".join(f"<p>{escape(note)}</p>" for note in run.notes)}</footer>
</body>
</html>
"""


def _show(value: object) -> str:
    """A value for a reader, escaped."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 1e15 else f"{value % 10**15}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return escape(value if isinstance(value, str) else dumps(value))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    if minutes < 1:
        return f"{seconds:.3g} s"
    if minutes < 60:
        return f"{minutes:.0f} min {rest:.0f} s"
    return f"{minutes // 60:,.0f} h {minutes % 60:.0f} min"


def _table(caption: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
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
        body += f'<tr><th scope="row"{css[0]}>{_show(first)}</th>'
        body += "".join(f"<td{right}>{_show(cell)}</td>" for right, cell in cells) + "</tr>\n"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _rows(values: Mapping[str, object], but: Iterable[str] = ()) -> list[tuple[object, ...]]:
    return [(key.replace("_", " "), value) for key, value in values.items() if key not in but]


def _details(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>\n" if content else ""


def _figure(title: str, chart: Chart | None, why_not: str) -> str:
    if chart is None:
        return _absent(title, why_not)
    items = "".join(
        f'<li><i style="border-top:{1.5 * line.width:.1f}px {line.dash} {line.colour}"></i>'
        f"{escape(line.label)}</li>"
        for line in chart.legend
    )
    legend = f'<ul class="legend">{items}</ul>' if items else ""
    note = f'<p class="note">{escape(chart.note)}</p>' if chart.note else ""
    caption = f"<figcaption>{legend}{note}</figcaption>" if items or note else ""
    return f"<figure><h3>{title}</h3>{chart.svg}{caption}</figure>\n"


def _absent(title: str, why: str) -> str:
    return f'<p class="absent">{title}: left out, {why}.</p>\n'


def _grid(parts: Sequence[str]) -> str:
    """Figures side by side where the page is wide, and below them what was left out."""
    figures = [part for part in parts if part.startswith("<figure")]
    rest = "".join(part for part in parts if part not in figures)
    return (f'<div class="grid">{"".join(figures)}</div>\n' if figures else "") + rest


def _result(run: Run) -> str:
    tiles = ""
    for key, title in _TILES.items():
        value = number(run.summary.get(key))
        if value is not None:
            shown = f"{value:,.0f}" if value < 1e6 else compact(value)
            if key == "test_accuracy":
                shown = f"{100 * value:.2f} %"
            elif key == "test_loss":
                shown = f"{value:.4g}"
            elif key == "seconds":
                shown = _duration(value)
            tiles += f"<div><dt>{title}</dt><dd>{shown}</dd></div>"
    if not tiles:
        return _absent("Numbers", "there is no summary that holds any")
    single = {key: value for key, value in run.summary.items() if not isinstance(value, list)}
    rows = _rows(single, but=("name", "status", "error"))
    table = _table("Summary of the run", ("what", "value"), rows)
    return f'<dl class="tiles">{tiles}</dl>{_details("All numbers", table)}'


def _learning(run: Run) -> str:
    steps, epochs = run.sorted_steps(), run.sorted_epochs()
    parts = [
        _figure("Loss", plots.loss_chart(steps, epochs), "no step and no epoch was recorded"),
        _figure("Accuracy", plots.accuracy_chart(epochs), "no epoch with an accuracy was recorded"),
    ]
    keys = [
        k for k in _EPOCH.split() if any(number(record.get(k)) is not None for record in epochs)
    ]
    stride = ceil(len(epochs) / MAX_EPOCHS) or 1
    rows = [[record.get(key) for key in keys] for record in epochs[::-1][::stride][::-1]]
    caption = "Epochs" if stride == 1 else f"Epochs (one in {stride})"
    table = _table(caption, [key.replace("_", " ") for key in keys], rows if keys else [])
    return _grid(parts) + _details("All epochs" if stride == 1 else caption, table)


def _network(network: Network | None) -> str:
    if network is None:
        return _absent("Drawing", "the network was not given")
    rows = [
        (q.name, q.pre, q.post, type(q.operator).__name__, *_weights(q))
        for q in network.projections
    ]
    header = ("projection", "from", "to", "operator", "weight shape", "weights")
    return (
        f'<figure><div class="scroll drawing" tabindex="0" role="region" '
        f'aria-label="Drawing of the network">{draw_network(network)}</div></figure>\n'
        + _details("All projections", _table("Projections", header, rows))
    )


def _weights(projection: Projection) -> tuple[str | None, int | None]:
    shape = projection.operator.weight_shape
    return (None, None) if shape is None else (" × ".join(map(str, shape)), prod(shape))


def _inference(run: Run, network: Network | None) -> str:
    if not run.traces:
        return _absent("Figures", "no probe recorded an inference")
    populations = [p.name for p in network.dyadic] if network else []
    parameters = list(network.parameter_shapes()) if network else []
    residuals, angles = run.of("residual"), run.of("gradient_angle")
    counts = {
        "Messages": {"mean_messages": "mean", "difference_messages": "difference"},
        "Synaptic operations": {"synaptic_operations": "synaptic operations"},
    }

    def none(probe: str) -> str:
        return f"the probe {probe} recorded nothing"

    parts = []
    for kind in ("mean", "difference"):
        why_not = (
            none("residual") if not residuals else "every recorded value is zero or not finite"
        )
        chart = plots.residual_chart(residuals, kind, populations)
        parts.append(_figure(f"Residual of the {kind}", chart, why_not))
    angle = plots.angle_chart(angles, parameters)
    parts.append(_figure("Angle to back-propagation", angle, none("gradient_angle")))
    for title, series in counts.items():
        chart = plots.count_chart(run.of("messages"), title.lower(), series)
        parts.append(_figure(title, chart, none("messages")))
    sizes = {p.name: p.size for p in network.dyadic} if network else None
    raster = plots.wake_chart(run.of("wakes"), sizes)
    parts.append(_figure("Wakes", raster, none("wakes")))
    parts.append(_reach(run.of("reach"), populations))
    return _grid(parts) + _last_angles(angles)


def _last_angles(traces: Traces) -> str:
    if not traces:
        return ""
    last = traces[max(traces)][-1]
    angles, ratios = (plots.group(last, key) for key in ("angle", "norm_ratio"))
    rows = [(name, angle, ratios.get(name)) for name, angle in angles.items()]
    rows.append(("all parameters", last.get("total_angle"), last.get("total_norm_ratio")))
    caption = f"Local gradient against back-propagation, end of {plots.moment_text(max(traces))}"
    table = _table(caption, ("parameter", "angle (°)", "ratio of norms"), rows)
    return _details("Gradients at the end of the inference", table)


def _reach(traces: Traces, order: Sequence[str]) -> str:
    if not traces:
        return _absent("Reach", "the probe reach recorded nothing")
    moment = max(traces)
    rows: dict[str, object] = dict.fromkeys(plots.names_in(traces, "reached", order), "never")
    for record in traces[moment]:
        for name, there in plots.group(record, "reached").items():
            if there is True and rows[name] == "never":
                rows[name] = time_of(record)
    caption = f"First difference at each population, {plots.moment_text(moment)}"
    table = _table(caption, ("population", "simulated time (time units)"), list(rows.items()))
    return f"<figure><h3>Reach</h3>{table}</figure>\n" if table else _absent("Reach", "no names")


def _scenario(text: str) -> str:
    if not text:
        return ""
    cut = text[:MAX_SCENARIO]
    note = f"<p>The first {len(cut):,} of {len(text):,} characters.</p>" if cut != text else ""
    # The parser of HTML drops one line break at the start of <pre>; the added one is for it.
    return _details("scenario.yaml", f"{note}<pre>\n{escape(cut)}</pre>")
