"""Chooses the report that a folder gets: of a run, a study or a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from neurosim.records import Results, Run
from neurosim.reports.page import Report
from neurosim.reports.run import report_of_run
from neurosim.reports.study import report_of_study
from neurosim.reports.sweep import report_of_sweep

if TYPE_CHECKING:  # a report needs no torch
    from neurosim.network import Network


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
    study = run.summary.get("kind") == "convergence" or run.convergence
    return (report_of_study if study else report_of_run)(run, network)


def write_report(folder: Path, network: Network | None = None) -> Path:
    """Writes ``report.html`` into such a folder; returns its path.

    The same files give the same bytes. Raises DataError like `report_of`.
    """
    return report_of(folder, network).write(Path(folder))
