"""Makes the report of a convergence study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neurosim.base import number
from neurosim.records import Run, group, names_in, shown_in
from neurosim.reports.page import Figure, Listing, Report
from neurosim.reports.plots import charts
from neurosim.reports.run import RESIDUAL_MEANING, shared_context

if TYPE_CHECKING:  # a report needs no torch
    from neurosim.network import Network

_DISTANCE = "‖s − s*‖ / ‖s*‖, where s* is the exact fixed point."
_OBJECTIVES = {"objective": "Contrastive objective", "objective_alpha": "Objective L_α"}
_ARRIVALS = {
    "time_to_reach": "reached",
    "mean_time_to_tolerance": "mean",
    "difference_time_to_tolerance": "difference",
    "time_to_tolerance": "both",
    "wakes_to_tolerance": "wakes till then",
    "messages_to_tolerance": "messages till then",
}
# Titles of the references of the gradient, and why one may lack.
_REFERENCES = {
    "gradient": (
        "back-propagation",
        "a network with a cycle has no gradient by back-propagation to compare with",
    ),
    "fixed_point": (
        "the fixed point's gradient",
        "there is no gradient of a fixed point to compare with",
    ),
}


def report_of_study(run: Run, network: Network | None) -> Report:
    """Returns the report of a convergence study."""
    summary = run.summary
    verdict, sweeps = summary.get("verdict"), number(summary.get("reference_sweeps"))
    context: dict[str, Any] = {
        "verdict": None if verdict is None else str(verdict).replace("_", " "),
        "reason": str(summary.get("reason")).rstrip("."),
        "result": _tiles(run),
        "reference": None,
        "reference_problem": None if sweeps is None else summary.get("reference_problem"),
        "arrivals": _arrivals(run),
        "angles": _last_angles(run),
        **shared_context(run, network),
    }
    if sweeps is not None:
        residual, order = number(summary.get("reference_residual")), summary.get("reference_order")
        context["reference"] = f"{residual or 0.0:.1e} after {sweeps:,.0f} sweeps ({order})"
    parts = {"convergence": _convergence, "gradients": _gradients}
    figures = {key: draw(run) if run.convergence else [] for key, draw in parts.items()}
    return Report("study.html", run.name, figures, context, run.notes)


def _tiles(run: Run) -> list[tuple[str, str]]:
    found = []
    for one in shown_in("study"):
        value = one.of(run.summary)
        never = one.absent == "never" and run.summary.get("verdict") is not None
        nothing = "never" if never else "–"
        found.append((one.title, nothing if value is None else one.text(value)))
    return found


def _arrivals(run: Run) -> Listing:
    """Lists reach and time to tolerance, by population."""
    populations = group(run.summary, "populations")
    rows = [
        (name, *(number(group(populations, name).get(key)) for key in _ARRIVALS))
        for name in populations
    ]
    if rows:
        rows.append(("all populations", *(number(run.summary.get(key)) for key in _ARRIVALS)))
    tolerance = number(run.summary.get("tolerance"))
    within = "the tolerance" if tolerance is None else f"{tolerance:g}"
    caption = (
        "When the first difference arrives, and from when on the distance to the fixed point stays "
        f"within {within}, in simulated time (time units); – for never. The distance of all "
        "populations is that of the whole state"
    )
    return Listing(caption, ("population", *_ARRIVALS.values()), rows)


def _convergence(run: Run) -> list[Figure]:
    entries, found = run.convergence, []
    none = dict.fromkeys(("residual", "distance"), "every recorded value is zero or not finite")
    if run.summary.get("reference_problem") is not None:
        none["distance"] = "no fixed point was found"
    names = names_in(entries, "populations")
    for what, note in (("residual", RESIDUAL_MEANING), ("distance", _DISTANCE)):
        for kind in ("mean", "difference"):
            key, title = f"{what}_{kind}", f"{what} of the {kind}"
            series = charts.by_name(names, ("populations", None, key), key, "all populations")
            more: Any = {"note": note, "scale": "log"}
            chart = charts.study_chart(key, entries, series, f"{title} (relative)", **more)
            found.append(Figure(title.capitalize(), chart, none[what]))
    for against in ("wakes", "messages"):
        for what, why in none.items():
            series = charts.labelled({f"{what}_{kind}": kind for kind in ("mean", "difference")})
            label, key = f"{what} (relative)", f"{what}-{against}"
            chart = charts.study_chart(key, entries, series, label, against, scale="log")
            found.append(Figure(f"{what.capitalize()} against {against}", chart, why))
    for key, title in _OBJECTIVES.items():
        series, label = charts.labelled({key: ""}), "objective (mean per sample)"
        chart = charts.study_chart(key, entries, series, label)
        found.append(Figure(title, chart, "it is not defined for this rule"))
    return found


def _gradients(run: Run) -> list[Figure]:
    entries, found = run.convergence, []
    names = names_in(entries, "parameters")
    scales: Any = {"gradient_angle": "degrees", "fixed_point_angle": "log"}
    for kind, (title, why) in _REFERENCES.items():
        measures = {
            f"{kind}_angle": (f"Angle to {title}", f"angle to {title} (°)"),
            f"{kind}_norm_ratio": (f"Norm against {title}", "ratio of norms (local / reference)"),
        }
        for key, (heading, label) in measures.items():
            series = charts.by_parameter(names, ("parameters", None, key), key)
            more = {"scale": scales.get(key, "linear")}
            found.append(
                Figure(heading, charts.study_chart(key, entries, series, label, **more), why)
            )
    angles = {"gradient_angle": "to back-propagation", "fixed_point_angle": "to the fixed point"}
    for against in ("wakes", "messages"):
        series, key = charts.labelled(angles), f"angles-{against}"
        label = "angle of the gradient (°)"
        chart = charts.study_chart(key, entries, series, label, against, scale="log")
        found.append(Figure(f"Angles against {against}", chart, "there are none"))
    return found


def _last_angles(run: Run) -> Listing | None:
    """Lists angles and ratios at the end, by parameter."""
    if not run.convergence:
        return None
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
    return Listing("Local gradient at the end", ("parameter", *keys.values()), rows)
