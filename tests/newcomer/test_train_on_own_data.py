"""A newcomer trains on data of their own, in the ways that `test_jobs.py` has not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from neurosim.cli.main import main

SCENARIO = """
name: mine
network: {input: [4], layers: [{dense: 5}, {dense: 1}]}
data: {kind: npz, file: points.npz, batch_size: 10, labels: values}
schedule: {kind: sweep}
training: {epochs: 3, validation: 0.25}
plasticity: {kind: contrastive_hebbian, optimizer: {kind: adam, lr: 0.05}}
device: cpu
"""
LABELS = np.arange(80) % 2
POINTS = np.random.default_rng(0).normal(size=(80, 4)) * 0.3 + LABELS[:, None]
POINTS = POINTS.astype(np.float32)


def test_from_python() -> None:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    import neurosim as ns

    points, labels = torch.from_numpy(POINTS), torch.from_numpy(LABELS)
    mine = TensorDataset(points, labels)
    network = ns.Network.from_dict({"input": [4], "layers": [{"dense": 5}, {"dense": 2}]})
    for train in ((POINTS, LABELS), (points, labels), mine, DataLoader(mine, batch_size=10)):
        data = ns.TorchData(train, test=0.25).read()
        simulation = ns.Simulation(ns.Model(network), schedule=ns.schedules.Sweep())
        optimizer = torch.optim.Adam(simulation.model.parameters(), lr=0.05)
        plan = ns.TrainingPlan(epochs=3, batch_size=10)
        trainer = ns.Trainer(simulation, optimizer, data.train, data.test, plan)
        trainer.fit()
        assert trainer.evaluate(data.test)[0] > 0.8


@pytest.mark.parametrize("metrics", ["[]", "[mse, r2]"])
def test_numbers_to_learn_are_told_of(
    metrics: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "points.npz", x=POINTS, y=POINTS.sum(1))
    text = SCENARIO.replace("0.25}", f"0.25, metrics: {metrics}}}")
    (tmp_path / "mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["run", "mine.yaml"])
    assert result.exit_code == 0, result.output
    assert re.search(r"^test loss +[\d.]+ per sample$", result.stdout, re.M)
    found = re.findall(r"^test (\S+) +-?[\d.]+$", result.stdout, re.M)
    assert found == ["MSE", "R²"] * (metrics != "[]")
    bad = CliRunner().invoke(main, ["run", "mine.yaml", "training.metrics=[top_k]"])
    assert "training.metrics: the metric top_k is of classes" in " ".join(bad.output.split())
