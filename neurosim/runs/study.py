"""A scenario's study: one inference, measured, in a run folder of its own. Nothing is learned."""

import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from neurosim.base import ConfigurationError, DocumentError, Interrupted
from neurosim.convergence import KINDS, Convergence, InferenceMeasurement, fixed_points_of
from neurosim.data import Dataset, targets
from neurosim.learning import check_memory, load_weights
from neurosim.runs.folder import Found, facts
from neurosim.runs.listeners.display import StudyDisplay
from neurosim.runs.listeners.files import MetricsFile
from neurosim.scenario import ConvergenceStudy, Scenario, located
from neurosim.simulation import Simulation
from neurosim.tensors import device_bytes

_REFERENCE = ("residual", "sweeps", "order", "problem")


@dataclass(frozen=True)
class Study:
    """A study that is ready to be made: a simulation, and a batch of real samples."""

    scenario: Scenario
    section: ConvergenceStudy
    simulation: Simulation
    x: Tensor
    target: Tensor


def prepare(scenario: Scenario, data: Dataset) -> Study:
    """Puts a scenario's study together. Raises DocumentError where data or weights do not fit."""
    section, document = scenario.file.study, scenario.document
    assert section is not None
    split = data.test if section.split == "test" else data.train
    if section.samples > len(split):
        message = f"{section.samples} samples, but the {section.split} split has {len(split)}"
        message += f"; say study.samples={len(split)}, or fewer"
        raise DocumentError([document.problem(("study", "samples"), message)])
    model = scenario.model()
    if section.weights is not None:
        with located(document, ("study", "weights")):
            load_weights(model, scenario.path(("study", "weights")))
    simulation = scenario.simulation(model)
    with located(document, ("study",)):
        try:
            check_memory(simulation, section.samples, device_bytes)
        except ConfigurationError as error:
            error.option = ("samples",)
            raise
    some = slice(section.samples)
    images, labels = split.take(some), split.labels[some]
    target = targets(labels, model.network.output.shape, model.dtype)
    return Study(scenario, section, simulation, images.to(model.dtype), target)


class _StoppedError(Exception):
    """Ctrl-C while the fixed point was computed."""


def run_study(study: Study, folder: Path, console: Console, interrupted: Interrupted) -> Found:
    """Measures the inference of a study; Ctrl-C ends it with what was recorded so far.

    Returns:
        Its summary, and the error if a state was no longer finite.
    """
    began = time.perf_counter()
    section, simulation = study.section, study.simulation
    summary: dict[str, Any] = {
        "name": study.scenario.file.name,
        "kind": section.kind,
        "status": "interrupted",
        "verdict": None,
        "samples": section.samples,
        "tolerance": section.tolerance,
    }
    result = None
    with suppress(_StoppedError), StudyDisplay(console) as display:
        result = _measure(study, folder, display, interrupted)
        if result.error is not None or simulation.done:
            summary["status"] = "finished" if result.error is None else "failed"
        summary |= _found(result, whole=summary["status"] != "interrupted")
    summary["seconds"] = time.perf_counter() - began
    summary |= facts(folder, simulation)
    return summary, None if result is None else result.error


def _measure(
    study: Study, folder: Path, display: StudyDisplay, interrupted: Interrupted
) -> Convergence:
    """Computes the fixed point and runs the inference.

    Raises:
        _StoppedError: where there is no record yet.
    """
    section, simulation, batch = study.section, study.simulation, (study.x, study.target)

    def watch(sweep: int, residual: float) -> None:
        display.sweep(sweep, residual)
        if interrupted():
            raise _StoppedError

    limits = asdict(section.reference)
    references = fixed_points_of(simulation, *batch, **limits, watch=watch)
    for one in references:
        display.reference(one.sweeps, one.residual, one.problem, one.phase)
    measurement = InferenceMeasurement(
        simulation,
        *batch,
        references=references,
        every=section.every,
        tolerance=section.tolerance,
    )
    with MetricsFile(folder) as file:
        for record in measurement.run(interrupted):
            file.write({"event": "convergence"} | record)
            display.record(record, simulation.last_tick)
    return measurement.result()


def _found(result: Convergence, whole: bool) -> dict[str, Any]:
    """What a summary says of a measurement; of one that was interrupted no times and no verdict,
    which are about the record as a whole."""
    last = result.records[-1]
    summary = _told(result, whole)
    apart = ("tick", "phase", "populations", "parameters")
    summary |= {key: value for key, value in last.items() if key not in apart}
    summary["ticks"] = last["tick"]
    found = zip(("angle", "norm_ratio"), result.reference_alignment or (None, None), strict=True)
    summary |= {f"reference_gradient_{key}": value for key, value in found}
    if result.phases:
        summary["phases"] = {n: _told(p, whole) | _end(p) for n, p in result.phases.items()}
    return summary | {"populations": {n: _times(result, n, whole) for n in last["populations"]}}


def _told(result: Convergence, whole: bool) -> dict[str, Any]:
    """Says what was found of an inference or a phase: its verdict, times and fixed point."""
    told: dict[str, Any] = {}
    if whole:
        told |= {"verdict": result.verdict, "reason": result.reason}
        told["residual_floor"] = result.residual_floor
    told |= _times(result, "", whole)
    return told | {f"reference_{key}": getattr(result.reference, key) for key in _REFERENCE}


def _end(phase: Convergence) -> dict[str, Any]:
    """Where a phase ended."""
    keys = ("time", *(f"{what}_{kind}" for what in ("residual", "distance") for kind in KINDS))
    return {key: phase.records[-1][key] if phase.records else None for key in keys}


def _times(result: Convergence, name: str, whole: bool) -> dict[str, float | None]:
    """When the difference reached a population, and from when on it was within the tolerance."""
    onsets = {"reach": result.reach[name]}
    if whole:
        onsets["tolerance"] = result.arrivals[name]
    times = {f"{u}_to_{to}": v for to, onset in onsets.items() for u, v in onset._asdict().items()}
    if whole:
        times["mean_time_to_tolerance"] = result.mean_arrivals[name].time
        times["difference_time_to_tolerance"] = result.difference_arrivals[name].time
    return times
