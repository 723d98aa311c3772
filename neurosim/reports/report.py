"""Makes the report of a run, a training or a convergence study; `sweep` makes that of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from neurosim.base import number
from neurosim.records import Entry, Results, Run, group, moment_text, names_in, shown_in, told
from neurosim.reports.animation import animate
from neurosim.reports.drawing import draw_for_page, weights_of
from neurosim.reports.figures import (
    begins_of,
    confusion_figures,
    figures_of,
    loss_figure,
    none_of,
    recorded_figures,
    truth_of,
)
from neurosim.reports.page import Block, Figure, Listing, Report, Section, folded, listed
from neurosim.reports.plots import wake_chart
from neurosim.reports.sweep import report_of_sweep

if TYPE_CHECKING:  # a report needs no torch
    from neurosim.network import Network

MAX_SCENARIO = 200_000  # characters shown
MAX_EPOCHS = 60  # rows shown

_EPOCH = "epoch train_loss test_loss test_accuracy validation_accuracy seconds ticks wakes messages"
_ARRIVALS = {
    "time_to_reach": "reached",
    "mean_time_to_tolerance": "mean",
    "difference_time_to_tolerance": "difference",
    "time_to_tolerance": "both",
    "wakes_to_tolerance": "wakes till then",
    "messages_to_tolerance": "messages till then",
}
_PHASES = {
    "verdict": "verdict",
    "reason": "why",
    "time": "ends (time)",
    "time_to_tolerance": "within (time)",
    "residual_mean": "residual",
    "distance_mean": "distance",
    "reference_residual": "residual of the fixed point",
    "reference_sweeps": "sweeps",
    "reference_order": "order",
    "reference_problem": "problem",
}
_ANGLES = {
    "gradient_angle": "angle to {truth} (°)",
    "gradient_norm_ratio": "ratio of norms",
    "fixed_point_angle": "angle to the fixed point's gradient (°)",
    "fixed_point_norm_ratio": "ratio of norms",
}
_DRAWING = Markup(
    '<figure><div class="scroll drawing" tabindex="0" role="region" '
    'aria-label="Drawing of the network">{}</div></figure>'
)


def report_of(folder: Path, network: Network | None = None) -> Report:
    """Reads the folder of a run, a study or a sweep.

    What is missing or damaged (a run may end at any time) is left out with a note.

    Args:
        folder: with scenario.yaml, environment.json, metrics.jsonl and summary.json, or with
            sweep.json and the folders of its runs.
        network: adds its drawing and the order and sizes of the populations.

    Raises:
        DataError: where the folder holds none of these files.
    """
    folder = Path(folder)
    if (folder / "sweep.json").is_file():
        return report_of_sweep(Results.load(folder))
    run = Run.read(folder)
    status, error = run.summary.get("status"), run.summary.get("error")
    if run.summary.get("kind") == "convergence" or run.convergence:
        sections = [*_study(run, network), _network(network)]
    else:
        sections = [*_training(run), _network(network), _inference(run, network)]
    sections += [
        Section("Scenario", [("details", ("scenario.yaml", _scenario(run.scenario)))]),
        Section("Environment", [("table", listed("Machine and software", run.environment))]),
    ]
    css = status if status in ("finished", "interrupted", "failed") else "interrupted"
    head = run.name, "run", str(status or "not finished"), str(css)
    return Report(*head, sections, str(error) if error else "", run.notes)


def write_report(folder: Path, network: Network | None = None) -> Path:
    """Writes ``report.html`` into such a folder; returns its path.

    The same files give the same bytes. Raises DataError like `report_of`.
    """
    return report_of(folder, network).write(Path(folder))


def _numbers(run: Run) -> Block:
    but = ("name", "status", "error", "reason", "populations", "phases")
    single = {k: v for k, v in run.summary.items() if k not in but and not isinstance(v, list)}
    return folded("All numbers", listed("Summary of the run", single))


def _phases(summary: Entry) -> Listing:
    """Lists what was found of each phase, in a rule that has any."""
    phases = group(summary, "phases")
    found = {name: group(phases, name) for name in phases}
    rows = [(name, *(phase.get(key) for key in _PHASES)) for name, phase in found.items()]
    caption = (
        "Every phase against its own fixed point. Residual and distance are those of the mean at "
        "the end of the phase; time is simulated (time units)"
    )
    return Listing(caption, ("phase", *_PHASES.values()), rows)


def _network(network: Network | None) -> Section:
    if network is None:
        return Section("Network", [("absent", ("Drawing", "the network was not given"))])
    rows = [
        (q.name, q.pre, q.post, type(q.operator).__name__, *weights_of(q), q.feedback.kind)
        for q in network.projections
    ]
    header = ("projection", "from", "to", "operator", "weight shape", "weights", "feedback")
    table = Listing("Projections", header, rows)
    blocks: list[Block] = [("html", _DRAWING.format(draw_for_page(network)))]
    return Section("Network", [*blocks, folded("All projections", table)])


def _scenario(text: str) -> list[Block]:
    long = Markup("<p>The first {:,} of {:,} characters.</p>").format(MAX_SCENARIO, len(text))
    # The parser of HTML drops one line break at the start of a pre; the added one is for it.
    shown = Markup("<pre>\n{}</pre>").format(text[:MAX_SCENARIO])
    return [("html", long + shown if len(text) > MAX_SCENARIO else shown)] if text else []


def _by_name(caption: str, entry: Entry, kind: str, keys: Mapping[str, str]) -> Listing:
    """Lists values by population or parameter, and those of all together."""
    groups = group(entry, kind)
    rows = [(name, *(group(groups, name).get(key) for key in keys)) for name in groups]
    rows.append((f"all {kind}", *(entry.get(key) for key in keys)))
    return Listing(caption, (kind.removesuffix("s"), *keys.values()), rows if groups else [])


# ---- a training --------------------------------------------------------------------------------


def _training(run: Run) -> list[Section]:
    tiles = told(run.summary, "run")
    none = ("Numbers", "there is no summary that holds any")
    epochs = list(run.epochs.values())
    figures = [loss_figure(run), *figures_of("learning", run), *confusion_figures(run)]
    table = _epochs(epochs)
    streamed, recorded = figures_of("stream", run), recorded_figures(run)
    return [
        Section("Result", [("tiles", tiles) if tiles else ("absent", none), _numbers(run)]),
        *([Section("Stream", [("figures", streamed)])] if streamed else []),
        Section("Learning", [("figures", figures), folded(table.caption, table)]),
        *([Section("Recorded dyads", [("figures", recorded)])] if recorded else []),
    ]


def _epochs(epochs: Sequence[Entry]) -> Listing:
    keys = [key for key in _EPOCH.split() if any(number(e.get(key)) is not None for e in epochs)]
    stride = ceil(len(epochs) / MAX_EPOCHS) or 1
    rows = [[entry.get(key) for key in keys] for entry in epochs[::-1][::stride][::-1]]
    caption = "All epochs" if stride == 1 else f"Epochs (one in {stride})"
    return Listing(caption, [key.replace("_", " ") for key in keys], rows if keys else [])


def _inference(run: Run, network: Network | None) -> Section:
    if not run.traces:
        return Section("Inference", [("absent", ("Figures", "no probe recorded an inference"))])
    phases = [(str(entry.get("phase")), entry["time"]) for entry in run.last("phase")]
    told = ", ".join(f"{name} from {time:g}" for name, time in phases)
    text = Markup("<p>Phases: {} time units on; dotted lines where one follows another.</p>")
    sizes = {p.name: p.size for p in network.dyadic} if network else None
    wakes = wake_chart(run.of("wakes"), sizes, begins_of(run))
    figures = figures_of("inference", run, network)
    figures += [Figure("Wakes", wakes, none_of("wakes")), _reach(run, list(sizes or ()))]
    blocks: list[Block] = [("html", text.format(told))] if phases else []
    title = "Gradients at the end of the inference"
    shown = "" if network is None else animate(network, run.last("activity"))
    blocks += [("figures", figures), ("html", shown), folded(title, _last_angles(run))]
    return Section("Inference", blocks)


def _last_angles(run: Run) -> Listing:
    if not run.of("gradient_angle"):
        return Listing("", (), [])
    last = run.last("gradient_angle")[-1]
    angles, ratios = (group(last, key) for key in ("angle", "norm_ratio"))
    rows = [(name, angle, ratios.get(name)) for name, angle in angles.items()]
    rows.append(("all parameters", last.get("total_angle"), last.get("total_norm_ratio")))
    moment = moment_text(max(run.of("gradient_angle")))
    caption = f"Local gradient against {truth_of(run)}, end of {moment}"
    return Listing(caption, ("parameter", "angle (°)", "ratio of norms"), rows)


def _reach(run: Run, order: Sequence[str]) -> Figure:
    rows: dict[str, object] = dict.fromkeys(names_in(run.all("reach"), "reached", order), "never")
    for entry in run.last("reach"):
        for name, there in group(entry, "reached").items():
            if there is True and rows[name] == "never":
                rows[name] = entry["time"]
    if not rows:
        return Figure("Reach", None, "no names" if run.of("reach") else none_of("reach"))
    caption = f"First difference at each population, {moment_text(max(run.of('reach')))}"
    header = ("population", "simulated time (time units)")
    return Figure("Reach", Listing(caption, header, list(rows.items())))


# ---- a convergence study -----------------------------------------------------------------------


def _study(run: Run, network: Network | None) -> list[Section]:
    summary = run.summary
    verdict, problem = summary.get("verdict"), summary.get("reference_problem")
    blocks: list[Block] = [("absent", ("Verdict", "the record does not go to the end"))]
    if verdict is not None:
        reason = str(summary.get("reason")).rstrip(".")
        text = Markup("<p><strong>{}</strong>: {}.</p>")
        blocks = [("html", text.format(str(verdict).replace("_", " "), reason))]
    tiles = []
    for one in shown_in("study"):
        nothing = "never" if one.absent == "never" and verdict is not None else "–"
        tiles.append((one.title, nothing if (v := one.of(summary)) is None else one.text(v)))
    blocks.append(("tiles", tiles))
    if (sweeps := number(summary.get("reference_sweeps"))) is not None:
        residual, order = number(summary.get("reference_residual")), summary.get("reference_order")
        text = Markup(
            '<p class="note">The fixed point, in float64 over ideal channels, has a residual of '
            "{:.1e} after {:,.0f} sweeps ({}).</p>"
        )
        blocks.append(("html", text.format(residual or 0.0, sweeps, order)))
        if problem:
            blocks[-1] = "absent", ("Distances", f"no fixed point was found ({problem})")
    tolerance = number(summary.get("tolerance"))
    within = "the tolerance" if tolerance is None else f"{tolerance:g}"
    caption = (
        "When the first difference arrives, and from when on the distance to the fixed point stays "
        f"within {within}, in simulated time (time units); – for never. The distance of all "
        "populations is that of the whole state"
    )
    blocks += [("table", table) for table in [_phases(summary)] if table.rows]
    blocks += [("table", _by_name(caption, summary, "populations", _ARRIVALS)), _numbers(run)]
    last: Entry = run.convergence[-1] if run.convergence else {}
    columns = {key: name.format(truth=truth_of(run)) for key, name in _ANGLES.items()}
    angles = _by_name("Local gradient at the end", last, "parameters", columns)
    title = "Gradients at the end of the inference"
    parts = ("convergence", "gradients")
    curves, gradients = (figures_of(part, run) if run.convergence else [] for part in parts)
    shown = "" if network is None else animate(network, run.convergence)
    return [
        Section("Result", blocks),
        Section("Convergence", [("figures", curves), ("html", shown)]),
        Section("Gradients", [("figures", gradients), folded(title, angles)]),
    ]
