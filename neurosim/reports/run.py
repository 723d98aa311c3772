"""Makes the report of a run."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from neurosim.base import number
from neurosim.records import Run, Traces, group, moment_text, time_of, told
from neurosim.reports.page import Figure, Listing, Report, listed
from neurosim.reports.plots import charts, draw_network, wake_chart
from neurosim.reports.plots.drawing import weights_of

if TYPE_CHECKING:  # a report needs no torch
    from neurosim.network import Network

MAX_SCENARIO = 200_000  # characters shown
MAX_EPOCHS = 60  # rows shown

_EPOCH = "epoch train_loss test_loss test_accuracy validation_accuracy seconds ticks wakes messages"
RESIDUAL_MEANING = "‖s − T(s)‖ / ‖s‖, where T is one parallel wake of all dyads."
_FLIGHT = "Sent and not yet arrived, all samples of the batch; lost ones do not count."
_COUNTS = {
    "Messages": {"mean_messages": "mean", "difference_messages": "difference"},
    "Synaptic operations": {"synaptic_operations": ""},
}
_STALENESS = {
    "lag": (
        "lag (time units)",
        "By how much time what is seen was sent before what was sent last; mean over senders.",
    ),
    "error": (
        "error (relative)",
        "‖what is seen − present state of the senders‖ / ‖present state‖.",
    ),
}


def report_of_run(run: Run, network: Network | None) -> Report:
    """Returns the report of a training."""
    angles = run.of("gradient_angle")
    context = {
        "result": told(run.summary, "run"),
        "epochs": _epochs(run),
        "phases": _phases(run),
        "angles": _last_angles(angles),
        **shared_context(run, network),
    }
    inference = _inference(run, network) if run.traces else []
    figures = {"learning": _learning(run), "inference": inference}
    return Report("run.html", run.name, figures, context, run.notes)


def shared_context(run: Run, network: Network | None) -> dict[str, Any]:
    """Returns what the templates of runs and studies ask for alike."""
    status, error = run.summary.get("status"), run.summary.get("error")
    known = status in ("finished", "interrupted", "failed")
    single = {key: value for key, value in run.summary.items() if not isinstance(value, list)}
    projections = [
        (q.name, q.pre, q.post, type(q.operator).__name__, *weights_of(q), q.feedback.kind)
        for q in (network.projections if network else ())
    ]
    header = ("projection", "from", "to", "operator", "weight shape", "weights", "feedback")
    but = ("name", "status", "error", "reason", "populations")
    return {
        "status": str(status or "not finished"),
        "css": status if known else "interrupted",
        "error": str(error) if error else "",
        "numbers": listed("Summary of the run", ("what", "value"), single, but),
        "drawing": draw_network(network) if network else None,
        "projections": Listing("Projections", header, projections),
        "scenario": run.scenario,
        "most": MAX_SCENARIO,
        "environment": listed("Machine and software", ("what", "value"), run.environment),
    }


def _learning(run: Run) -> list[Figure]:
    epochs = list(run.epochs.values())
    loss = charts.loss_chart(list(run.steps.values()), epochs)
    series = charts.labelled({f"{name}_accuracy": name for name in ("test", "validation")})
    accuracy = charts.epoch_chart("accuracy", epochs, series, "accuracy (%)", factor=100.0)
    return [
        Figure("Loss", loss, "no step and no epoch was recorded"),
        Figure("Accuracy", accuracy, "no epoch with an accuracy was recorded"),
    ]


def _epochs(run: Run) -> Listing:
    epochs = list(run.epochs.values())
    keys = [key for key in _EPOCH.split() if any(number(e.get(key)) is not None for e in epochs)]
    stride = ceil(len(epochs) / MAX_EPOCHS) or 1
    rows = [[entry.get(key) for key in keys] for entry in epochs[::-1][::stride][::-1]]
    caption = "All epochs" if stride == 1 else f"Epochs (one in {stride})"
    return Listing(caption, [key.replace("_", " ") for key in keys], rows if keys else [])


# ---- inference ---------------------------------------------------------------------------------


def _phases(run: Run) -> list[tuple[str, float]]:
    """Returns the phases of the last inference by name, and when each began."""
    traces = run.of("phase")
    entries = traces[max(traces)] if traces else ()
    return [(str(e.get("phase")), time) for e in entries if (time := time_of(e)) is not None]


def _inference(run: Run, network: Network | None) -> list[Figure]:
    populations = [p.name for p in network.dyadic] if network else []
    parameters = list(network.parameter_shapes()) if network else []
    projections = [q.name for q in network.projections] if network else []
    begins = [time for _, time in _phases(run)[1:]]
    found: list[Figure] = []

    def add(
        title: str, probe: str, key: str, series: charts.Series, label: str, *note: str, **more: Any
    ) -> None:
        chart = charts.trace_chart(key, run.of(probe), series, label, *note, **more)
        empty = "every recorded value is zero or not finite"
        found.append(Figure(title, chart, empty if run.of(probe) else _none(probe)))

    def named(probe: str, key: str, order: Sequence[str], total: str) -> charts.Series:
        names = charts.in_traces(run.of(probe), key, order)
        return charts.by_name(names, (key, None), f"total_{key}", total)

    for kind in ("mean", "difference"):
        series = named("residual", kind, populations, "all populations")
        title, log = f"Residual of the {kind}", {"scale": "log", "begins": begins}
        label = f"residual of the {kind} (relative)"
        add(title, "residual", f"residual-{kind}", series, label, RESIDUAL_MEANING, **log)
    angles = run.of("gradient_angle")
    chart = charts.angle_chart(angles, parameters)
    found.append(Figure(f"Angle to {_true(angles)}", chart, _none("gradient_angle")))
    if turned := run.of("feedback_angle"):
        # As it was at the end of each inference that was recorded.
        ends = [{**entries[-1], "epoch": epoch} for (epoch, _), entries in sorted(turned.items())]
        series = named("feedback_angle", "angle", projections, "all projections")
        label = "angle to forward weights (°)"
        chart = charts.epoch_chart("feedback", ends, series, label, scale="degrees")
        found.append(Figure("Feedback weights", chart, "no value was finite"))
    for title, labels in _COUNTS.items():
        key, label = title.lower().replace(" ", "-"), f"{title.lower()} (count since start)"
        add(title, "messages", key, charts.labelled(labels), label, begins=begins)
    # Messages on their way and how old what is seen is, where a probe has looked.
    for kind in ("mean", "difference") if run.of("in_flight") else ():
        series = named("in_flight", kind, projections, "all projections")
        title, label = (
            f"{kind.capitalize()} messages in flight",
            f"{kind} messages in flight (count)",
        )
        add(title, "in_flight", f"flight-{kind}", series, label, _FLIGHT)
    for measure, (label, meaning) in _STALENESS.items() if run.of("staleness") else ():
        for kind in ("mean", "difference"):
            title, key = f"Staleness of {kind}s: {measure}", f"stale-{kind}-{measure}"
            series = named("staleness", f"{kind}_{measure}", populations, "")[1:]
            add(title, "staleness", key, series, f"{kind}: {label}", meaning)
    sizes = {p.name: p.size for p in network.dyadic} if network else None
    chart = wake_chart(run.of("wakes"), sizes, begins)
    return [*found, Figure("Wakes", chart, _none("wakes")), _reach(run.of("reach"), populations)]


def _none(probe: str) -> str:
    return f"the probe {probe} recorded nothing"


def _true(traces: Traces) -> str:
    """Names the gradient that the probe ``gradient_angle`` compared with."""
    settled = charts.of_settled(traces)
    return "the gradient of the settled network" if settled else "back-propagation"


def _last_angles(traces: Traces) -> Listing | None:
    if not traces:
        return None
    last = traces[max(traces)][-1]
    angles, ratios = (group(last, key) for key in ("angle", "norm_ratio"))
    rows = [(name, angle, ratios.get(name)) for name, angle in angles.items()]
    rows.append(("all parameters", last.get("total_angle"), last.get("total_norm_ratio")))
    caption = f"Local gradient against {_true(traces)}, end of {moment_text(max(traces))}"
    return Listing(caption, ("parameter", "angle (°)", "ratio of norms"), rows)


def _reach(traces: Traces, order: Sequence[str]) -> Figure:
    if not traces:
        return Figure("Reach", None, _none("reach"))
    moment = max(traces)
    rows: dict[str, object] = dict.fromkeys(charts.in_traces(traces, "reached", order), "never")
    for entry in traces[moment]:
        for name, there in group(entry, "reached").items():
            if there is True and rows[name] == "never":
                rows[name] = time_of(entry)
    caption = f"First difference at each population, {moment_text(moment)}"
    header = ("population", "simulated time (time units)")
    found = Listing(caption, header, list(rows.items()))
    return Figure("Reach", found if rows else None, "no names")
