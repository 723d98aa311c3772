"""The report of a study, and which report a run folder gets."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from neurosim.base import duration
from neurosim.records import group
from neurosim.reports import page
from neurosim.reports.plots import Run, compact, number
from neurosim.reports.plots import convergence as charts
from neurosim.reports.run import network_section, write_page, write_report

if TYPE_CHECKING:  # a report needs no torch
    from neurosim.network import Network

_TILES = {
    "time_to_tolerance": "Time to tolerance",
    "wakes_to_tolerance": "Wakes to tolerance",
    "messages_to_tolerance": "Messages to tolerance",
    "gradient_angle": "Angle to back-propagation",
    "distance_mean": "Distance of the mean",
    "distance_difference": "Distance of the difference",
    "residual_floor": "Residual, last third",
    "seconds": "Duration",
}
_RESIDUAL = "‖s − T(s)‖ / ‖s‖, where T is one parallel wake of all dyads."
_DISTANCE = "‖s − s*‖ / ‖s*‖, where s* is the exact fixed point."
_UNIT = {"gradient_angle": "°"}


def write_report_of(folder: Path, network: Network | None = None) -> Path:
    """Writes ``report.html`` into a run folder: of a study, or of a training (`write_report`).

    Raises DataError where the folder holds none of the files of a run.
    """
    run = Run.read(Path(folder))
    if run.summary.get("kind") != "convergence" and not run.convergence:
        return write_report(folder, network)
    sections = {
        "Result": _result(run),
        "Convergence": _convergence(run),
        "Gradients": _gradients(run),
        "Network": network_section(network),
    }
    return write_page(folder, run, sections)


def _result(run: Run) -> str:
    summary = run.summary
    verdict, reason = summary.get("verdict"), summary.get("reason")
    if verdict is None:
        said = page.absent("Verdict", "the record does not go to the end")
    else:
        words = escape(str(verdict)).replace("_", " ")
        said = f"<p><strong>{words}</strong>: {escape(str(reason).rstrip('.'))}.</p>\n"
    tiles = ""
    for key, title in _TILES.items():
        value = number(summary.get(key))
        shown = "–"
        if value is not None:
            shown = duration(value) if key == "seconds" else f"{_short(value)}{_UNIT.get(key, '')}"
        elif key.endswith("to_tolerance") and verdict is not None:
            shown = "never"
        tiles += f"<div><dt>{title}</dt><dd>{shown}</dd></div>"
    single = {k: v for k, v in summary.items() if not isinstance(v, list | dict)}
    rows = page.rows(single, but=("name", "status", "error", "reason"))
    table = page.details("All numbers", page.table("Summary of the study", ("what", "value"), rows))
    return f'{said}<dl class="tiles">{tiles}</dl>{_reference(run)}{_arrivals(run)}{table}'


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1e3 else compact(value)


def _reference(run: Run) -> str:
    """What the distances are measured against."""
    summary = run.summary
    problem, sweeps = summary.get("reference_problem"), number(summary.get("reference_sweeps"))
    if sweeps is None:
        return ""
    if problem is not None:
        return page.absent("Distances", f"no fixed point was found ({escape(str(problem))})")
    residual = number(summary.get("reference_residual")) or 0.0
    return (
        f'<p class="note">The fixed point, in float64 over ideal channels, has a residual of '
        f"{residual:.1e} after {sweeps:,.0f} sweeps "
        f"({escape(str(summary.get('reference_order')))}).</p>\n"
    )


def _arrivals(run: Run) -> str:
    """Reach and time to tolerance, by population."""
    populations = group(run.summary, "populations")
    keys = {
        "time_to_reach": "reached",
        "mean_time_to_tolerance": "mean",
        "difference_time_to_tolerance": "difference",
        "time_to_tolerance": "both",
        "wakes_to_tolerance": "wakes till then",
        "messages_to_tolerance": "messages till then",
    }
    rows = [
        (name, *(number(group(populations, name).get(key)) for key in keys)) for name in populations
    ]
    if rows:
        rows.append(("all populations", *(number(run.summary.get(key)) for key in keys)))
    tolerance = number(run.summary.get("tolerance"))
    within = "the tolerance" if tolerance is None else f"{tolerance:g}"
    caption = (
        "When the first difference arrives, and from when on the distance to the fixed point stays "
        f"within {within}, in simulated time (time units); – for never. The distance of all "
        "populations is that of the whole state"
    )
    return page.table(caption, ("population", *keys.values()), rows)


def _convergence(run: Run) -> str:
    records = run.convergence
    if not records:
        return ""
    none = dict.fromkeys(("residual", "distance"), "every recorded value is zero or not finite")
    if run.summary.get("reference_problem") is not None:
        none["distance"] = "no fixed point was found"
    parts = []
    for what, note in (("residual", _RESIDUAL), ("distance", _DISTANCE)):
        for kind in ("mean", "difference"):
            label = f"{what} of the {kind} (relative)"
            chart = charts.population_chart(records, f"{what}_{kind}", label, note)
            parts.append(page.figure(f"{what.capitalize()} of the {kind}", chart, none[what]))
    for against in ("wakes", "messages"):
        for what in ("residual", "distance"):
            chart = charts.total_chart(records, what, f"{what} (relative)", against)
            parts.append(page.figure(f"{what.capitalize()} against {against}", chart, none[what]))
    objectives = {"objective": "contrastive objective", "objective_alpha": "objective L_α"}
    for key, label in objectives.items():
        chart = charts.objective_chart(records, key, label)
        title = f"{label[0].upper()}{label[1:]}"
        parts.append(page.figure(title, chart, "it is not defined for this rule"))
    return page.grid(parts)


def _gradients(run: Run) -> str:
    records = run.convergence
    if not records:
        return ""
    why = {
        "gradient": "a network with a cycle has no gradient by back-propagation to compare with",
        "fixed_point": "there is no gradient of a fixed point to compare with",
    }
    titles = {"gradient": "back-propagation", "fixed_point": "the fixed point's gradient"}
    parts = []
    for kind, title in titles.items():
        scale: Literal["degrees", "log"] = "degrees" if kind == "gradient" else "log"
        label = f"angle to {title} (°)"
        chart = charts.parameter_chart(records, f"{kind}_angle", label, scale)
        parts.append(page.figure(f"Angle to {title}", chart, why[kind]))
        label = "ratio of norms (local / reference)"
        chart = charts.parameter_chart(records, f"{kind}_norm_ratio", label, "linear")
        parts.append(page.figure(f"Norm against {title}", chart, why[kind]))
    for against in ("wakes", "messages"):
        chart = charts.angle_chart_against(records, against)
        parts.append(page.figure(f"Angles against {against}", chart, "there are none"))
    return page.grid(parts) + _last(run)


def _last(run: Run) -> str:
    """Angles and ratios at the end, by parameter."""
    last = run.convergence[-1]
    keys = {
        "gradient_angle": "angle to back-propagation (°)",
        "gradient_norm_ratio": "ratio of norms",
        "fixed_point_angle": "angle to the fixed point's (°)",
        "fixed_point_norm_ratio": "ratio of norms",
    }
    parameters = group(last, "parameters")
    rows = [(name, *(group(parameters, name).get(key) for key in keys)) for name in parameters]
    rows.append(("all parameters", *(last.get(key) for key in keys)))
    table = page.table("Local gradient at the end", ("parameter", *keys.values()), rows)
    return page.details("Gradients at the end of the inference", table)
