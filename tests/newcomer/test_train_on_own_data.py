"""A newcomer trains on data of their own: what they would write, and nothing else."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from neurosim.cli.main import main

SCENARIO = """
name: mine
network: {{input: {input}, layers: [{{dense: 5}}, {{dense: 2}}]}}
data: {data}
schedule: {{kind: sweep}}
training: {{epochs: 3, validation: 0.25}}
plasticity: {{kind: contrastive_hebbian, optimizer: {{kind: adam, lr: 0.05}}}}
device: cpu
"""
DRAWS = np.random.default_rng(0)
LABELS = np.arange(80) % 2
POINTS = (DRAWS.normal(size=(80, 4)) * 0.3 + LABELS[:, None]).astype(np.float32)


def arrays(folder: Path) -> None:
    np.savez(folder / "points.npz", x=POINTS, y=LABELS)


def pair(folder: Path) -> None:
    np.save(folder / "points.npy", POINTS)
    np.save(folder / "labels.npy", LABELS)


def table(folder: Path) -> None:
    with (folder / "points.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["a", "b", "c", "d", "species"])
        rows.writerows(
            [*x, ("owl", "fox")[y]] for x, y in zip(POINTS.tolist(), LABELS, strict=True)
        )


def pictures(folder: Path) -> None:
    for number, label in enumerate(LABELS):
        place = folder / "photos" / ("dark", "light")[label]
        place.mkdir(parents=True, exist_ok=True)
        pixels = DRAWS.integers(100 * label, 100 * label + 100, (6, 5, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")


@pytest.mark.parametrize(
    ("write", "shape", "data"),
    [
        (arrays, "[4]", "{kind: npz, file: points.npz, batch_size: 10}"),
        (pair, "[4]", "{kind: npy, x: points.npy, y: labels.npy, batch_size: 10}"),
        (table, "[4]", "{kind: csv, file: points.csv, label: species, batch_size: 10}"),
        (
            pictures,
            "[3, 4, 4]",
            "{kind: images, root: photos, size: [4, 4], batch_size: 10, standardize: channel}",
        ),
    ],
)
def test_from_the_command_line(
    write: object, shape: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(write)
    write(tmp_path)
    (tmp_path / "mine.yaml").write_text(SCENARIO.format(input=shape, data=data))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["run", "mine.yaml", "--id", "first"])
    assert result.exit_code == 0, result.output
    summary = json.loads(Path("runs/mine/first/summary.json").read_text())
    assert summary["test_accuracy"] > 0.8


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
    data = "{kind: npz, file: points.npz, batch_size: 10, labels: values}"
    text = SCENARIO.format(input="[4]", data=data).replace("2}]", "1}]")
    (tmp_path / "mine.yaml").write_text(text.replace("0.25}", f"0.25, metrics: {metrics}}}"))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["run", "mine.yaml"])
    assert result.exit_code == 0, result.output
    assert re.search(r"^test loss +[\d.]+ per sample$", result.stdout, re.M)
    found = re.findall(r"^test (\S+) +-?[\d.]+$", result.stdout, re.M)
    assert found == ["MSE", "R²"] * (metrics != "[]")
    bad = CliRunner().invoke(main, ["run", "mine.yaml", "training.metrics=[top_k]"])
    assert "training.metrics: the metric top_k is of classes" in " ".join(bad.output.split())
