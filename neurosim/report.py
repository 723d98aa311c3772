"""The report of a run: one HTML file that needs nothing but itself."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim import plots
from neurosim.errors import DataError
from neurosim.plots import Chart, Moment, compact, number

if TYPE_CHECKING:  # reading a run folder needs no torch
    from neurosim.network import Network
    from neurosim.populations import Population, Projection

FILES = ("scenario.yaml", "environment.json", "metrics.jsonl", "summary.json")
MAX_SCENARIO = 200_000  # characters shown
MAX_EPOCHS = 60  # rows shown

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
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:.75rem;margin:0}
.tiles div{padding:.7rem .9rem;border:1px solid var(--edge);border-radius:.5rem;
background:var(--card)}
.tiles dt{color:var(--dim);font-size:.85rem}
.tiles dd{margin:0;font-size:1.3rem;font-weight:600;overflow-wrap:anywhere}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,27rem),1fr));gap:1.25rem}
.grid>*{min-width:0}
figure{margin:0;padding:1rem;border:1px solid var(--edge);border-radius:.5rem;min-width:0}
figure svg{display:block;width:100%;height:auto;stroke-linejoin:round}
figcaption p{margin:.5rem 0 0}
.legend{display:flex;flex-wrap:wrap;gap:.15rem 1rem;margin:.5rem 0 0;padding:0;list-style:none;
font-size:.85rem}
.legend i{display:inline-block;width:1.6em;margin-right:.4em;border-top:.2em solid;
vertical-align:middle}
.scroll{overflow-x:auto}
.drawing svg{width:auto;margin:0 auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;margin:.25rem 0}
caption{padding:.3rem 0;text-align:left;font-weight:600}
th,td{padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--edge);text-align:left;
vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap}
pre{margin:.5rem 0;padding:1rem;overflow-x:auto;border-radius:.5rem;background:var(--card);
font-size:.85rem}
summary{cursor:pointer}
"""


# ---- reading -----------------------------------------------------------------------------------


@dataclass
class _Run:
    """What a run folder holds, as far as it can be read; ``notes`` say what cannot."""

    summary: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    scenario: str = ""
    steps: dict[float, Record] = field(default_factory=dict)
    epochs: dict[float, Record] = field(default_factory=dict)
    traces: dict[str, dict[Moment, list[Record]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def take(self, record: Record) -> None:
        """Sorts in one line of the metrics. A continued run repeats some: the later one counts."""
        event, epoch, step = (record.get(key) for key in ("event", "epoch", "step"))
        if event == "step" and (place := number(step)) is not None:
            self.steps[place] = record
        elif event == "epoch" and (place := number(epoch)) is not None:
            self.epochs[place] = record
        elif event == "trace":
            moment = (int(number(epoch) or 0), int(number(step) or 0))
            probe = str(record.get("probe"))
            traces = self.traces.setdefault(probe, {})
            if probe == "wakes" and moment not in traces:
                traces.clear()  # only the last one is drawn, and they are large
            kept, time = traces.setdefault(moment, []), time_of(record)
            before = time_of(kept[-1]) if kept else None
            if time is not None and before is not None:
                if time < before or (time == before and probe != "wakes"):
                    kept.clear()
            kept.append(record)


def _read(folder: Path) -> _Run:
    if not any((folder / name).is_file() for name in FILES):
        raise DataError(f"{str(folder)!r} is not a run folder; it holds none of {', '.join(FILES)}")
    run = _Run()
    texts = {}
    for name in FILES:
        try:
            with (folder / name).open(encoding="utf-8", errors="replace") as file:
                if name == "metrics.jsonl":
                    _read_metrics(file, run)
                else:
                    texts[name] = file.read()
        except OSError as error:
            run.notes.append(f"{name} cannot be read: {error.strerror}.")
    run.scenario = texts.get("scenario.yaml", "")
    for name, target in (("summary.json", run.summary), ("environment.json", run.environment)):
        value = _parse(texts.get(name, "{}"))
        if value is None:
            run.notes.append(f"{name} does not hold a JSON object.")
        target.update(value or {})
    return run


def _parse(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _read_metrics(lines: Iterable[str], run: _Run) -> None:
    unreadable = 0
    for line in lines:
        record = _parse(line)
        if record is None:
            unreadable += bool(line.strip())
        else:
            run.take(record)
    if unreadable:
        run.notes.append(f"{unreadable:,} unreadable line(s) of metrics.jsonl were skipped.")


def _wakes(records: Sequence[Record], network: Network | None) -> tuple[list[Wake], dict[str, int]]:
    """The wakes of a trace, and the sizes of the populations they belong to, in order."""
    sizes = {p.name: p.size for p in network.dyadic} if network else {}
    wakes: list[Wake] = []
    for record in records:
        name, indices, time = str(record.get("population")), record.get("indices"), time_of(record)
        if time is None or (network and name not in sizes):
            continue
        if indices is None:
            sizes.setdefault(name, 1)
            wakes.append((time, name, None))
            continue
        try:
            flat = np.asarray(indices, dtype=np.int64)
        except (TypeError, ValueError, OverflowError):
            continue
        flat = flat[(flat >= 0) & (flat < sizes.get(name, 1 << 40))] if flat.ndim == 1 else flat[:0]
        if flat.size:
            wakes.append((time, name, flat))
            if network is None:
                sizes[name] = max(sizes.get(name, 1), int(flat.max()) + 1)
    return wakes, sizes


# ---- the page ----------------------------------------------------------------------------------


def write_report(folder: Path, network: Network | None = None) -> Path:
    """Writes ``report.html`` into a run folder, at once or not at all; returns its path.

    Reads scenario.yaml, environment.json, metrics.jsonl and summary.json. What is missing or
    damaged (a run may end at any time) is left out with a note. The same files give the same
    bytes. ``network`` adds its drawing and the order and sizes of the populations.

    Raises DataError where none of the files exists.
    """
    run = _read(Path(folder))
    path = Path(folder) / "report.html"
    temporary = path.with_name(f".report.{os.getpid()}.tmp")
    try:
        temporary.write_text(_FORBIDDEN.sub("\ufffd", _page(run, network)), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _page(run: _Run, network: Network | None) -> str:
    name = escape(str(run.summary.get("name") or "run"))
    status = run.summary.get("status")
    known = status if status in ("finished", "interrupted", "failed") else "interrupted"
    css = _CSS.replace("LIGHT", plots.palette_css(False)).replace("DARK", plots.palette_css(True))
    error = run.summary.get("error")
    sections = {
        "Result": _result(run),
        "Learning": _learning(run),
        "Network": _network(network),
        "Inference": _inference(run, network),
        "Scenario": _scenario(run.scenario),
        "Environment": _table("The machine and its software", ("", ""), _rows(run.environment)),
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
        return f"{value:.6g}"
    return escape(value if isinstance(value, str) else json.dumps(value))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    if minutes < 1:
        return f"{seconds:.3g} s"
    if minutes < 60:
        return f"{minutes:.0f} min {rest:.0f} s"
    return f"{minutes // 60:,.0f} h {minutes % 60:.0f} min"
