"""A newcomer works in Python: what they would write, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import neurosim as ns

SHORT = {"training.epochs": 2, "data.limit": 20, "data.batch_size": 10, "probes": ["accuracy"]}


@pytest.fixture(autouse=True)
def folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder with a scenario and its network."""
    monkeypatch.chdir(tmp_path)
    for name in ("scenarios/parallel.yaml", "networks/digits_mlp.yaml"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(root / name, tmp_path / name)


def test_training_in_ten_lines() -> None:
    torch.manual_seed(0)
    x = torch.rand(60, 6)
    y = (x[:, :3] + x[:, 3:]).argmax(1)

    layers = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    model = ns.Model(ns.Network.from_torch(layers))
    sim = ns.Simulation(model, loss="cross_entropy", schedule="sweep")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10, 0.5)
    trainer = ns.Trainer(
        sim,
        optimizer,
        (x[:40], y[:40]),
        (x[40:], y[40:]),
        scheduler=scheduler,
        epochs=20,
        batch_size=10,
        metrics=["confusion_matrix"],
    )
    history = trainer.fit()

    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert history[-1]["test_accuracy"] > 0.7
    assert trainer.evaluate((x[40:], y[40:]))[0] == history[-1]["test_accuracy"]
    assert sum(map(sum, history[-1]["test_confusion_matrix"])) == 20


def test_a_training_with_a_run_folder() -> None:
    x, y = torch.rand(40, 6), torch.arange(40) % 3
    layers = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    sim = ns.Simulation(ns.Model(ns.Network.from_torch(layers)), schedule="parallel")
    trainer = ns.Trainer(sim, "adam", (x, y), (x, y), epochs=2, batch_size=10)
    run = ns.run(trainer, name="mine", run_id="first")
    assert run.report == Path("runs/mine/first/report.html")
    assert run.report.exists()
    assert len(run.records["epoch"]) == 2
    again = run.model(ns.Model(trainer.model.network, seed=1))
    assert torch.equal(again(x), trainer.model(x))


def test_a_run_and_its_records() -> None:
    run = ns.run("scenarios/parallel.yaml", SHORT)
    assert run.summary["test_accuracy"] == run.records["epoch"][-1]["test_accuracy"]
    assert run.report.exists()
    columns = {key: [row[key] for row in run.records["epoch"]] for key in ("epoch", "train_loss")}
    assert columns["epoch"] == [1, 2]
    again = ns.load_run(run.folder)
    assert again.records == run.records
    assert again.model().state_dict().keys() == {
        *("h1.weight", "h1.bias", "h2.weight", "h2.bias", "output.weight", "output.bias")
    }
    assert "test accuracy" in repr(run)
    assert "report.html" in run._repr_html_()


def test_a_sweep_and_its_table() -> None:
    found = ns.sweep("scenarios/parallel.yaml", {"rule.beta": [0.1, 0.5]}, SHORT, seeds=2)
    assert found.summary["finished"] == 4
    assert [(r["rule.beta"], r["seed"]) for r in found.records] == [
        *[(0.1, 0), (0.1, 1), (0.5, 0), (0.5, 1)]
    ]
    assert all(0 <= record["test_accuracy"] <= 1 for record in found.records)
    assert found.report.exists()
    assert found.runs[0].summary["test_accuracy"] == found.records[0]["test_accuracy"]
