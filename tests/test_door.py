"""Runs, sweeps and their folders from Python: a trainer's run resumed, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import Stop, make

import neurosim as ns
from neurosim.learning.trainer import TrainingPlan
from neurosim.maths.optimizers import SGD
from neurosim.runs.overrides import assignments

PLAN = TrainingPlan(2, batch_size=20, loss_every=1, metrics=("mse",))  # type: ignore[arg-type]


def scenario(root: Path) -> Path:
    return root / "scenarios/parallel.yaml"


def test_the_run_of_a_trainer_goes_on(tmp_path: Path) -> None:
    """As the uninterrupted one, and only with a trainer that is built as its own was."""
    whole = ns.run(make(PLAN), out=tmp_path, run_id="whole")
    part = ns.run(make(PLAN), out=tmp_path, run_id="part", listeners=[Stop(2)])
    assert (whole.status, part.status) == ("finished", "interrupted")
    assert whole.folder == tmp_path / "training/whole"
    with pytest.raises(ns.DataError, match=r"made of a Trainer in Python; use resume\(folder, tr"):
        ns.resume(part.folder)
    with pytest.raises(ns.DataError, match=r"scenario.yaml:\d+: the run was 'lr: 0.1', but the tr"):
        ns.resume(part.folder, make(PLAN, optimizer=SGD(lr=0.2)))
    trainer = make(PLAN)
    ended = ns.resume(part.folder, trainer, listeners=[ns.Listener()])
    assert ended.records == whole.records
    assert ended.summary["test_mse"] == whole.summary["test_mse"] > 0
    for one, other in zip(
        trainer.model.parameters(), whole.model(make(PLAN).model).parameters(), strict=True
    ):
        assert torch.equal(one, other)
    with pytest.raises(ns.DataError, match=r"use run.model\(model\)"):
        whole.model()
    assert "Put together in Python" in whole.report.read_text()


def test_records_are_flat_tables(tmp_path: Path) -> None:
    run = ns.run(make(PLAN, probes=["residual"]), out=tmp_path)
    assert set(run.records) == {"epoch", "step", "residual", "convergence"}
    last = run.records["residual"][-1]
    assert {"mean.h", "difference.output", "total_mean", "tick", "epoch"} <= set(last)
    assert not any(isinstance(value, dict) for value in last.values())
    with pytest.raises(ns.ConfigurationError, match="records 'epochs'; did you mean 'epoch'"):
        run.records["epochs"]


def test_what_is_given_as_a_mapping() -> None:
    given = {
        "seed": 3,
        "schedule.order": "forward",
        "rule": ns.DualPropagation(beta=0.1),
        "probes": ["accuracy"],
        "name": "on",
    }
    found = dict(one.split("=", 1) for one in assignments(given))
    assert (found["seed"], found["schedule.order"], found["name"]) == ("3", "forward", '"on"')
    assert json.loads(found["rule"])["beta"] == 0.1
    assert json.loads(found["probes"]) == ["accuracy"]
    assert assignments({"seed": range(3), "lr": [1e-05, 0.5]}, swept=True) == [
        *("seed=0,1,2", "lr=1e-05,0.5")
    ]
    assert assignments("seed=3") == ["seed=3"]
    with pytest.raises(ns.ConfigurationError, match="no document can hold"):
        assignments({"seed": object()})


def test_small_numbers_are_numbers(root: Path) -> None:
    """json writes 1e-05, which YAML 1.1 would take for text."""
    said = assignments({"plasticity.optimizer.lr": 1e-05})
    optimizer: Any = ns.Scenario.load(scenario(root), said).file.plasticity.optimizer
    assert optimizer.lr == 1e-05


def test_an_example_by_its_name(root: Path, tmp_path: Path) -> None:
    tiny = {"training.epochs": 1, "data.limit": 50}
    named, filed = (
        ns.run(what, tiny, out=tmp_path / out)
        for what, out in (("parallel", "a"), (scenario(root), "b"))
    )
    assert named.summary["test_accuracy"] == filed.summary["test_accuracy"]
    swept = ns.sweep("parallel", {"seed": [1, 2]}, tiny, out=tmp_path)
    assert swept.summary["finished"] == 2
    with pytest.raises(ns.DataError, match="no example of that name; did you mean 'parallel'"):
        ns.run("paralel")


def test_refuses(root: Path, tmp_path: Path) -> None:
    file, trainer = scenario(root), make(PLAN)
    cases: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("a scenario file, a Scenario or a Trainer, not 3", (3,), {}),
        ("overrides are for a scenario", (trainer, ["seed=1"]), {}),
        (r"overrides \{'name': 'mine'\}", (file,), {"name": "mine"}),
        (r"Scenario.load\(path, overrides\)", (ns.Scenario.load(file), ["seed=1"]), {}),
    ]
    for message, arguments, options in cases:
        with pytest.raises(ns.ConfigurationError, match=message):
            ns.run(*arguments, out=tmp_path, **options)
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(ns.DataError, match=r"ns\.load_sweep reads it"):
        ns.load_run(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "sweep.json"]


def test_warns_of_what_cannot_be_read(tmp_path: Path) -> None:
    run = ns.run(make(PLAN), out=tmp_path)
    (run.folder / "summary.json").write_text("{")
    with pytest.warns(ns.NeurosimWarning, match="summary.json"):
        found = ns.load_run(run.folder)
    assert found.status == "interrupted"
    assert len(found.records["epoch"]) == 2
