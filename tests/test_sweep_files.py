"""Files that a sweep is planned with, and others in their place where a run is computed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neurosim.learning import How, save_weights
from neurosim.records.sweep import Row
from neurosim.runs import sweep
from neurosim.scenario import Scenario

PARALLEL = Path(__file__).parents[1] / "scenarios/parallel.yaml"


class Nobody:
    """Watches, and is told nothing that it keeps."""

    def began(self, row: Row, worker: str | None) -> None: ...
    def moved(self, row: Row, how: How) -> None: ...
    def ended(self, row: Row) -> None: ...


@pytest.mark.parametrize("what", ["data", "weights", "study.weights"])
def test_files_that_are_others_where_a_run_is_computed_are_named(tmp_path: Path, what: str) -> None:
    """As on a worker with another file at that path; those of the others are taken."""
    x, y = np.random.default_rng(0).random((60, 8, 8)), np.arange(60) % 10  # to be reshaped
    np.savez(tmp_path / "own.npz", x=x, y=y)
    model, file = Scenario.load(PARALLEL, ["seed=7"]).model(), tmp_path / "w.safetensors"
    save_weights(model, file)
    how = [f"data={{kind: npz, file: {tmp_path / 'own.npz'}, batch_size: 10, limit: 50}}"]
    if what != "data":
        how.append(f"{what}={file}")
    study = ["study.kind=convergence", "study.samples=5", "study.tolerance=0.5"]
    how += study if what.startswith("study") else ["training.max_steps=2"]
    planned = sweep.plan(PARALLEL, how, seeds=1)
    if what == "data":
        np.savez(tmp_path / "own.npz", x=x + 1e-9, y=y)
    else:
        save_weights(Scenario.load(PARALLEL, ["seed=8"]).model(), file)
    (row,) = sweep.run(planned, tmp_path / "runs", Nobody()).rows
    said = json.loads((tmp_path / "runs" / row.folder / "summary.json").read_text())
    error = said["error"]
    named = "own.npz" if what == "data" else file.name
    assert row.status == "failed"
    assert f"{row.folder}/scenario.yaml:" in error
    assert f"{tmp_path / named}: " in error
    assert "planned" in error
    planned = sweep.plan(PARALLEL, how, seeds=1)  # these are what it is planned with now
    rows = sweep.run(planned, tmp_path / "runs", Nobody(), retry=True).rows
    assert [row.status for row in rows] == ["finished"]
