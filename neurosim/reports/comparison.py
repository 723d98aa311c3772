"""Makes the page that compares runs: their curves over each other, what differs, their numbers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os.path import commonpath
from pathlib import Path
from typing import Any

from neurosim import documents
from neurosim.base import ConfigurationError, DocumentError, spoken
from neurosim.records import Entry, Run, quantities
from neurosim.reports.figures import (
    SPECS,
    Series,
    Spec,
    axis_of,
    points_of,
    scale_of,
    truth_of,
)
from neurosim.reports.page import Block, Figure, Listing, Report, Section
from neurosim.reports.plots.canvas import Curve, colours, line_chart


def comparison_of(folders: Iterable[Path]) -> Report:
    """Returns one page of several runs or studies.

    Raises:
        ConfigurationError: for fewer than two.
        DataError: where a folder holds no run.
    """
    paths = list(dict.fromkeys(folder.resolve() for folder in folders))
    if len(paths) < 2:
        given = f"{paths[0].name} is given, and no other" if paths else "none is given"
        raise ConfigurationError(f"compare takes two runs or more; {given}")
    above = commonpath(paths)
    runs = {path.relative_to(above).as_posix(): Run.read(path) for path in paths}
    figures = [found for spec in SPECS["comparison"] if (found := _overlaid(spec, runs)).content]
    curves: Block = ("figures", figures) if figures else ("absent", ("Figures", "nothing to draw"))
    scenarios = [_scenario(run) for run in runs.values()]
    places = [run.environment for run in runs.values()]
    of = len({run.name for run in runs.values()}) == 1 and next(iter(runs.values())).name
    told = [f"{name}: {note}" for name, run in runs.items() for note in run.notes]
    sections = [
        Section("Curves", [curves]),
        Section("Scenarios", [_differing("key", "the scenarios say", runs, scenarios)]),
        Section("Numbers", [("table", _numbers(runs))]),
        Section("Environments", [_differing("what", "the environments are", runs, places)]),
    ]
    ended = all(run.summary.get("status") == "finished" for run in runs.values())
    head = of or "Runs", f"comparison of {len(runs)} runs"
    state = ("finished", "finished") if ended else ("not all finished", "interrupted")
    return Report(*head, *state, sections, notes=told)


def _scenario(run: Run) -> dict[str, Any]:
    try:
        found = documents.loads(run.scenario, "").value
    except DocumentError:
        return {}
    return found if isinstance(found, dict) else {}


def _overlaid(spec: Spec, runs: Mapping[str, Run]) -> Figure:
    """Draws one curve for each of the runs that have any."""
    curves = list[Curve]()
    for (name, run), hue in zip(runs.items(), colours(len(runs)), strict=True):
        series: Series = [(Curve(name, colour=hue), tuple(spec.labels or ()))]
        curves += points_of(_entries(spec, run), series, spec.x, spec.factor)
    truth, whole = truth_of(*runs.values()), spec.x in ("epoch", "step")
    title, label = (text.format(truth=truth) for text in (spec.title, spec.label))
    scale = scale_of(curves) if spec.spread else spec.scale
    axis = axis_of(spec.x, *runs.values())
    chart = line_chart(spec.key, curves, axis, label, spec.note, scale, whole=whole)
    return Figure(title, chart)


def _entries(spec: Spec, run: Run) -> Sequence[Entry]:
    if spec.probe:
        return run.last(spec.probe)
    if spec.x == "step":
        return list(run.steps.values())
    return run.convergence or list(run.epochs.values())


def _differing(
    head: str, what: str, runs: Mapping[str, Run], said: Sequence[Mapping[str, Any]]
) -> Block:
    rows = [(".".join(path), *map(spoken, values)) for path, values in _apart(said)]
    if not rows:
        return "absent", ("Differences", f"{what} the same")
    return "table", Listing("What differs", (head, *runs), rows)


def _apart(
    said: Sequence[Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Sequence[Any]]]:
    """Yields the paths at which values differ. Sections of different kinds are not gone into."""
    if all(one == said[0] for one in said):
        return
    if all(isinstance(one, Mapping) for one in said) and len({one.get("kind") for one in said}) < 2:
        for key in dict.fromkeys(key for one in said for key in one):
            yield from _apart([one.get(key) for one in said], (*path, key))
    else:
        yield path, said


def _numbers(runs: Mapping[str, Run]) -> Listing:
    rows = []
    for one in quantities().values():
        values = [one.of(run.summary) for run in runs.values()]
        if any(value is not None for value in values):
            rows.append((one.heading, *(None if v is None else one.text(v) for v in values)))
    return Listing("At the end", ("number", *runs), rows)
