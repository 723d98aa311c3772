"""Trainings that end within an epoch and go on, and what is counted and refused in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import neurosim as ns
from neurosim.base import ConfigurationError, DataError, StateError

TINY = ["schedule.ticks=4", "data.batch_size=250", "data.limit=1000", "probes=[accuracy]"]
PLATEAU = (
    "plasticity.learning_rate={kind: torch, name: ReduceLROnPlateau, options: {patience: 0, "
    "factor: 0.1}}"
)


@pytest.mark.parametrize("steps", [2, 4, 5])
def test_a_training_that_is_prolonged(steps: int, tmp_path: Path) -> None:
    """It ends as one that was as long from the beginning, wherever it was cut."""
    stops = "training.early_stopping={patience: 2, min_delta: 0.5, monitor: loss}"
    options = [*TINY, PLATEAU, "training.epochs=3", "training.validation=100", stops]
    whole = ns.run("parallel", options, out=tmp_path / "whole", progress=False)
    cut = [*options, f"training.max_steps={steps}"]
    part = ns.run("parallel", cut, out=tmp_path / "part", progress=False)
    part = ns.resume(part.folder, overrides=["training.max_steps=100"], progress=False)
    assert part.records["epoch"] == whole.records["epoch"]
    assert part.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert part.summary["steps"] == whole.summary["steps"]


def test_a_stream_that_is_prolonged(tmp_path: Path) -> None:
    """Within a window."""
    options = ["stream.window=30", "data.limit=500"]
    runs = []
    for horizons in ((1000, 2400), (2400,)):
        more = [*options, f"stream.horizon={horizons[0]}"]
        run = ns.run("stream_digits", more, out=tmp_path / str(len(horizons)), progress=False)
        for horizon in horizons[1:]:
            run = ns.resume(run.folder, overrides=[f"stream.horizon={horizon}"], progress=False)
        runs.append(run)
    assert runs[0].records["epoch"] == runs[1].records["epoch"]
    assert [one["step"] for one in runs[0].records["epoch"]] == [30, 60, 90, 120, 150]


def test_a_training_does_not_become_shorter(tmp_path: Path) -> None:
    """Than it is."""
    run = ns.run("parallel", [*TINY, "training.epochs=2"], out=tmp_path, progress=False)
    with pytest.raises(StateError, match="of 4 steps 8 are done already; train longer"):
        ns.resume(run.folder, overrides=["training.epochs=1"], progress=False)


@pytest.mark.parametrize("batch", [100, 144, 250, 300])
def test_costs_are_of_samples_that_were_shown(batch: int, tmp_path: Path) -> None:
    """A remainder that is kept is no whole batch."""
    more = [f"data.batch_size={batch}", "data.limit=300", "data.remainder=keep", "costs=loihi"]
    options = ["schedule.ticks=4", "training.epochs=2", *more, "plasticity.optimizer.lr=1.0e-9"]
    summary = ns.run("parallel", options, out=tmp_path, progress=False).summary
    assert summary["samples"] == 600
    per_sample = summary["messages"] / 600
    energy = summary["energy_message"] / per_sample
    known = ns.run("parallel", [*options, "data.batch_size=100"], out=tmp_path, progress=False)
    expected = known.summary["energy_message"] / (known.summary["messages"] / 600)
    assert energy == pytest.approx(expected, rel=1e-12)


def test_a_batch_of_all_there_is(tmp_path: Path) -> None:
    """Where the remainder is kept, it may be all."""
    options = ["data.batch_size=5000", "data.remainder=keep", "training.epochs=2"]
    run = ns.run("parallel", ["schedule.ticks=4", *options], out=tmp_path, progress=False)
    assert (run.summary["steps"], run.summary["samples"]) == (2, 2 * 1442)


def trained(x: torch.Tensor, y: torch.Tensor, **options: Any) -> ns.Trainer:
    outputs = 2 if y.dtype == torch.int64 else 1
    layers: Sequence[Any] = [{"name": "h", "dense": 5}, {"dense": outputs}]
    network = ns.Network.from_dict({"input": [x.shape[1]], "layers": layers})
    simulation = ns.Simulation(ns.Model(network), schedule="sweep", loss="squared_error")
    return ns.Trainer(simulation, "adam", (x, y), (x, y), **options)


def test_vectors_are_no_pictures() -> None:
    x, y = torch.rand(100, 16), torch.arange(100) % 2
    for augment in ("flip", "cutout"):
        with pytest.raises(DataError, match=r"images of shape \(16,\) cannot be augmented"):
            trained(x, y, augment=augment)


def test_values_have_no_accuracy_to_go_by() -> None:
    rate = ns.LearningRate.of("torch", name="ReduceLROnPlateau", options={"mode": "max"})
    x = torch.rand(100, 16)
    assert trained(x, torch.arange(100) % 2, learning_rate=rate).plan.learning_rate == rate
    with pytest.raises(ConfigurationError, match=r"goes by accuracy.*; say mode: min"):
        trained(x, torch.rand(100, 1), learning_rate=rate)


def test_smoothing_is_over_all_outputs() -> None:
    """Wherever they stand."""
    network = ns.Network.from_dict({"input": [1, 2, 2], "layers": [{"conv": 3, "kernel": 1}]})
    simulation = ns.Simulation(ns.Model(network), schedule="sweep")
    data = torch.rand(24, 1, 2, 2), torch.arange(24) % 12
    trainer = ns.Trainer(simulation, "adam", data, data, label_smoothing=0.12, batch_size=12)
    target = trainer._smoothed(trainer._target(data[1][:12])).flatten(1)
    expected = torch.full((12, 12), 0.01) + 0.88 * torch.eye(12)
    assert torch.allclose(target, expected)
