"""Makes the report of a run."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from neurosim.base import number
from neurosim.records import Run, Traces, group, moment_text, time_of, told
from neurosim.reports.page import Figure, Listing, Report, listed
from neurosim.reports.plots import charts, draw_network, wake_chart

if TYPE_CHECKING:  # a report needs no torch
    from neurosim.network import Network, Projection

MAX_SCENARIO = 200_000  # characters shown
MAX_EPOCHS = 60  # rows shown

_EPOCH = "epoch train_loss test_loss test_accuracy validation_accuracy seconds ticks wakes messages"
RESIDUAL = "‖s − T(s)‖ / ‖s‖, where T is one parallel wake of all dyads."
_FLIGHT = "Sent and not yet arrived, all samples of the batch; lost ones do not count."
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
    return Report("run.html", run_name(run), figures, context, run.notes)


def run_name(run: Run) -> str:
    """Returns what the page of a run is called."""
    return str(run.summary.get("name") or "run")


def shared_context(run: Run, network: Network | None) -> dict[str, Any]:
    """Returns what the templates of runs and studies ask for alike."""
    status, error = run.summary.get("status"), run.summary.get("error")
    known = status in ("finished", "interrupted", "failed")
    single = {key: value for key, value in run.summary.items() if not isinstance(value, list)}
    projections = [
        (q.name, q.pre, q.post, type(q.operator).__name__, *_weights(q), q.feedback)
        for q in (network.projections if network else ())
    ]
    header = ("projection", "from", "to", "operator", "weight shape", "weights", "feedback")
    but = ("name", "status", "error", "reason", "populations")
    return {
        "status": str(status or "not finished"),
        "css": status if known else "interrupted",
        "error": str(error) if error else "",
        "numbers": listed("Summary of the run", ("what", "value"), single, but),
        "drawing": Markup(draw_network(network)) if network else None,
        "projections": Listing("Projections", header, projections),
        "scenario": run.scenario,
        "most": MAX_SCENARIO,
        "environment": listed("Machine and software", ("what", "value"), run.environment),
    }


def _weights(projection: Projection) -> tuple[str | None, int | None]:
    shape = projection.operator.weight_shape
    return (None, None) if shape is None else (" × ".join(map(str, shape)), prod(shape))


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
    found = []
    residuals, angles, counts = run.of("residual"), run.of("gradient_angle"), run.of("messages")
    why_not = "every recorded value is zero or not finite" if residuals else _none("residual")
    for kind in ("mean", "difference"):
        label = f"residual of the {kind} (relative)"
        series = _with_total(residuals, kind, populations, "all populations")
        more: Any = {"scale": "log", "begins": begins}
        chart = charts.trace_chart(f"residual-{kind}", residuals, series, label, RESIDUAL, **more)
        found.append(Figure(f"Residual of the {kind}", chart, why_not))
    chart = charts.angle_chart(angles, parameters)
    found.append(Figure(f"Angle to {_true(angles)}", chart, _none("gradient_angle")))
    if turned := run.of("feedback_angle"):
        # As it was at the end of each inference that was recorded.
        ends = [{**entries[-1], "epoch": epoch} for (epoch, _), entries in sorted(turned.items())]
        series = _with_total(turned, "angle", projections, "all projections")
        label = "angle to forward weights (°)"
        chart = charts.epoch_chart("feedback", ends, series, label, scale="degrees")
        found.append(Figure("Feedback weights", chart, "no value was finite"))
    series = charts.labelled({"mean_messages": "mean", "difference_messages": "difference"})
    label = "messages (count since start)"
    chart = charts.trace_chart("messages", counts, series, label, begins=begins)
    found.append(Figure("Messages", chart, _none("messages")))
    series = charts.labelled({"synaptic_operations": ""})
    label = "synaptic operations (count since start)"
    chart = charts.trace_chart("synaptic-operations", counts, series, label, begins=begins)
    found.append(
        Figure("Synaptic operations", chart and chart._replace(legend=()), _none("messages"))
    )
    found += _messages(run, populations, projections)
    sizes = {p.name: p.size for p in network.dyadic} if network else None
    chart = wake_chart(run.of("wakes"), sizes, begins)
    return [*found, Figure("Wakes", chart, _none("wakes")), _reach(run.of("reach"), populations)]


def _none(probe: str) -> str:
    return f"the probe {probe} recorded nothing"


def _with_total(traces: Traces, key: str, order: Sequence[str], total: str) -> charts.Series:
    names = charts.in_traces(traces, key, order)
    return charts.by_name(names, (key, None), f"total_{key}", total)


def _messages(run: Run, populations: Sequence[str], projections: Sequence[str]) -> list[Figure]:
    """Draws messages on their way and how old what is seen is, where a probe has looked."""
    flights, stale, found = run.of("in_flight"), run.of("staleness"), []
    for kind in ("mean", "difference") if flights else ():
        series = _with_total(flights, kind, projections, "all projections")
        label = f"{kind} messages in flight (count)"
        chart = charts.trace_chart(f"flight-{kind}", flights, series, label, _FLIGHT)
        found.append(Figure(f"{kind.capitalize()} messages in flight", chart, "there were none"))
    for measure, (label, meaning) in _STALENESS.items() if stale else ():
        for kind in ("mean", "difference"):
            key = f"{kind}_{measure}"
            series = _with_total(stale, key, populations, "")[1:]
            key = f"stale-{kind}-{measure}"
            chart = charts.trace_chart(key, stale, series, f"{kind}: {label}", meaning)
            found.append(Figure(f"Staleness of {kind}s: {measure}", chart, "no value was finite"))
    return found


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
