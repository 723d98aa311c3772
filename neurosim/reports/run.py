"""The report of a run: one HTML file that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING

from neurosim.base import duration
from neurosim.reports import page, plots
from neurosim.reports.plots import Run, Traces, compact, draw_network, number, time_of

if TYPE_CHECKING:  # a report needs no torch
    from neurosim.network import Network, Projection

__all__ = ["draw_network", "write_report"]

MAX_SCENARIO = 200_000  # characters shown
MAX_EPOCHS = 60  # rows shown

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
        "Network": network_section(network),
        "Inference": _inference(run, network),
    }
    return write_page(folder, run, sections)


def write_page(folder: Path, run: Run, sections: Mapping[str, str]) -> Path:
    """Writes ``report.html`` with these sections, the scenario and the environment."""
    path = Path(folder) / "report.html"
    page.write(path, _page(run, sections))
    return path


def _page(run: Run, sections: Mapping[str, str]) -> str:
    status = run.summary.get("status")
    known = status if status in ("finished", "interrupted", "failed") else "interrupted"
    error = run.summary.get("error")
    sections = {
        **sections,
        "Scenario": _scenario(run.scenario),
        "Environment": page.table(
            "Machine and software", ("what", "value"), page.rows(run.environment)
        ),
    }
    return page.document(
        str(run.summary.get("name") or "run"),
        f'<p>neurosim run, <strong class="{known}">{escape(str(status or "not finished"))}</strong>'
        "</p>\n"
        + (f'<pre role="alert" class="failed">{escape(str(error))}</pre>' if error else ""),
        {
            title: content or page.absent(title, "nothing was recorded")
            for title, content in sections.items()
        },
        run.notes,
    )


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
                shown = duration(value)
            tiles += f"<div><dt>{title}</dt><dd>{shown}</dd></div>"
    if not tiles:
        return page.absent("Numbers", "there is no summary that holds any")
    single = {key: value for key, value in run.summary.items() if not isinstance(value, list)}
    rows = page.rows(single, but=("name", "status", "error"))
    table = page.table("Summary of the run", ("what", "value"), rows)
    return f'<dl class="tiles">{tiles}</dl>{page.details("All numbers", table)}'


def _learning(run: Run) -> str:
    steps, epochs = run.sorted_steps(), run.sorted_epochs()
    parts = [
        page.figure("Loss", plots.loss_chart(steps, epochs), "no step and no epoch was recorded"),
        page.figure(
            "Accuracy", plots.accuracy_chart(epochs), "no epoch with an accuracy was recorded"
        ),
    ]
    keys = [
        k for k in _EPOCH.split() if any(number(record.get(k)) is not None for record in epochs)
    ]
    stride = ceil(len(epochs) / MAX_EPOCHS) or 1
    rows = [[record.get(key) for key in keys] for record in epochs[::-1][::stride][::-1]]
    caption = "Epochs" if stride == 1 else f"Epochs (one in {stride})"
    table = page.table(caption, [key.replace("_", " ") for key in keys], rows if keys else [])
    return page.grid(parts) + page.details("All epochs" if stride == 1 else caption, table)


def network_section(network: Network | None) -> str:
    """The drawing of a network and its projections."""
    if network is None:
        return page.absent("Drawing", "the network was not given")
    rows = [
        (q.name, q.pre, q.post, type(q.operator).__name__, *_weights(q), q.feedback)
        for q in network.projections
    ]
    header = ("projection", "from", "to", "operator", "weight shape", "weights", "feedback")
    return (
        f'<figure><div class="scroll drawing" tabindex="0" role="region" '
        f'aria-label="Drawing of the network">{draw_network(network)}</div></figure>\n'
        + page.details("All projections", page.table("Projections", header, rows))
    )


def _weights(projection: Projection) -> tuple[str | None, int | None]:
    shape = projection.operator.weight_shape
    return (None, None) if shape is None else (" × ".join(map(str, shape)), prod(shape))


def _inference(run: Run, network: Network | None) -> str:
    if not run.traces:
        return page.absent("Figures", "no probe recorded an inference")
    populations = [p.name for p in network.dyadic] if network else []
    parameters = list(network.parameter_shapes()) if network else []
    projections = [q.name for q in network.projections] if network else []
    residuals, angles = run.of("residual"), run.of("gradient_angle")
    counts = {
        "Messages": {"mean_messages": "mean", "difference_messages": "difference"},
        "Synaptic operations": {"synaptic_operations": "synaptic operations"},
    }

    def none(probe: str) -> str:
        return f"the probe {probe} recorded nothing"

    phases = plots.phases_of(run.of("phase"))
    begins = [time for _, time in phases[1:]]
    parts = []
    for kind in ("mean", "difference"):
        why_not = (
            none("residual") if not residuals else "every recorded value is zero or not finite"
        )
        chart = plots.residual_chart(residuals, kind, populations, begins)
        parts.append(page.figure(f"Residual of the {kind}", chart, why_not))
    angle = plots.angle_chart(angles, parameters)
    parts.append(page.figure(f"Angle to {_true(angles)}", angle, none("gradient_angle")))
    if turned := run.of("feedback_angle"):
        chart = plots.feedback_chart(turned, projections)
        parts.append(page.figure("Feedback weights", chart, "no value was finite"))
    for title, series in counts.items():
        chart = plots.count_chart(run.of("messages"), title.lower(), series, begins)
        parts.append(page.figure(title, chart, none("messages")))
    parts += _messages(run, populations, projections)
    sizes = {p.name: p.size for p in network.dyadic} if network else None
    raster = plots.wake_chart(run.of("wakes"), sizes, begins)
    parts.append(page.figure("Wakes", raster, none("wakes")))
    parts.append(_reach(run.of("reach"), populations))
    return _phases(phases) + page.grid(parts) + _last_angles(angles)


def _phases(phases: Sequence[tuple[str, float]]) -> str:
    if not phases:
        return ""
    told = ", ".join(f"{escape(name)} from {time:g}" for name, time in phases)
    return f"<p>Phases: {told} time units on; dotted lines where one follows another.</p>\n"


def _messages(run: Run, populations: Sequence[str], projections: Sequence[str]) -> list[str]:
    """Messages on their way and how old what is seen is, where a probe has looked."""
    flights, stale, parts = run.of("in_flight"), run.of("staleness"), []
    for kind in ("mean", "difference") if flights else ():
        chart = plots.flight_chart(flights, kind, projections)
        parts.append(
            page.figure(f"{kind.capitalize()} messages in flight", chart, "there were none")
        )
    for measure in ("lag", "error") if stale else ():
        for kind in ("mean", "difference"):
            chart = plots.staleness_chart(stale, kind, measure, populations)
            title = f"Staleness of {kind}s: {measure}"
            parts.append(page.figure(title, chart, "no value was finite"))
    return parts


def _true(traces: Traces) -> str:
    """The gradient that the probe ``gradient_angle`` compared with."""
    settled = plots.of_settled(traces)
    return "the gradient of the settled network" if settled else "back-propagation"


def _last_angles(traces: Traces) -> str:
    if not traces:
        return ""
    last = traces[max(traces)][-1]
    angles, ratios = (plots.group(last, key) for key in ("angle", "norm_ratio"))
    rows = [(name, angle, ratios.get(name)) for name, angle in angles.items()]
    rows.append(("all parameters", last.get("total_angle"), last.get("total_norm_ratio")))
    against = f"Local gradient against {_true(traces)}"
    caption = f"{against}, end of {plots.moment_text(max(traces))}"
    table = page.table(caption, ("parameter", "angle (°)", "ratio of norms"), rows)
    return page.details("Gradients at the end of the inference", table)


def _reach(traces: Traces, order: Sequence[str]) -> str:
    if not traces:
        return page.absent("Reach", "the probe reach recorded nothing")
    moment = max(traces)
    rows: dict[str, object] = dict.fromkeys(plots.names_in(traces, "reached", order), "never")
    for record in traces[moment]:
        for name, there in plots.group(record, "reached").items():
            if there is True and rows[name] == "never":
                rows[name] = time_of(record)
    caption = f"First difference at each population, {plots.moment_text(moment)}"
    table = page.table(caption, ("population", "simulated time (time units)"), list(rows.items()))
    return (
        f"<figure><h3>Reach</h3>{table}</figure>\n" if table else page.absent("Reach", "no names")
    )


def _scenario(text: str) -> str:
    if not text:
        return ""
    cut = text[:MAX_SCENARIO]
    note = f"<p>The first {len(cut):,} of {len(text):,} characters.</p>" if cut != text else ""
    # The parser of HTML drops one line break at the start of <pre>; the added one is for it.
    return page.details("scenario.yaml", f"{note}<pre>\n{escape(cut)}</pre>")
