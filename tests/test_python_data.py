"""Data that Python has, as an override of runs and sweeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_trainings import Stop
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as TorchDataset

import neurosim as ns

SCENARIO = """
name: own
network: {input: [4], layers: [{dense: 5}, {dense: 2}]}
data: {kind: npz, file: own.npz, split: ordered, batch_size: 5}
schedule: {kind: sweep}
training: {epochs: 2, validation: 0.2}
device: cpu
"""
Y = np.arange(50) % 2
X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
OPTIONS: dict[str, Any] = {"split": "ordered", "batch_size": 5}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    np.savez("own.npz", x=X, y=Y)
    Path("own.yaml").write_text(SCENARIO)
    return "own.yaml"


class Points(TorchDataset[Any]):
    """Items that are made when they are asked for."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, which: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(X[which]), int(Y[which])


def scores(run: ns.Run) -> Any:
    return run.records["epoch"]


@pytest.mark.parametrize(
    "made", [lambda: (X, Y), lambda: TensorDataset(*map(torch.from_numpy, (X, Y))), Points]
)
def test_a_run_of_data_of_python_is_that_of_the_file(own: str, made: Callable[[], Any]) -> None:
    filed = ns.run(own)
    run = ns.run(own, {"data": ns.TorchData(made(), **OPTIONS)})
    assert scores(run) == scores(filed)
    assert run.summary["test_accuracy"] == filed.summary["test_accuracy"]


def test_keys_of_the_data_are_overridden_beside_them(own: str) -> None:
    expected = ns.run(own, {"data.batch_size": 10, "data.limit": 30})
    given = ns.TorchData((X, Y), **OPTIONS)
    mapping = ns.run(own, {"data": given, "data.batch_size": 10, "data.limit": 30})
    texts = ns.run(ns.Scenario.load(Path(own), ["data.batch_size=10", "data.limit=30"], given))
    assert scores(mapping) == scores(texts) == scores(expected)


def test_a_run_goes_on_with_the_same_data_alone(own: str) -> None:
    given = ns.TorchData((X, Y), **OPTIONS)
    whole = ns.run(own, {"data": given})
    part = ns.run(own, {"data": given}, run_id="part", listeners=[Stop(5)])
    assert part.status == "interrupted"
    with pytest.raises(ns.DocumentError, match=r"to go on: neurosim\.resume\(folder, data=…\)"):
        ns.resume(part.folder)
    with pytest.raises(ns.DataError, match="the data are not those that the run began"):
        ns.resume(part.folder, data=ns.TorchData((X + 1, Y), **OPTIONS))
    ended = ns.resume(part.folder, data=given, listeners=[ns.Listener()])
    assert scores(ended) == scores(whole)


@pytest.mark.parametrize("executor", [None, ns.Local(2)])
def test_a_sweep_of_data_of_python(own: str, executor: Any) -> None:
    axes = {"rule.beta": [0.5, 1.0], "data.batch_size": [5, 10]}
    given = {"data": ns.TorchData((X, Y), **OPTIONS)}
    filed = ns.sweep(own, axes, name="filed")
    found = ns.sweep(own, axes, given, name="given", executor=executor)
    numbers = [
        [r[k] for r in one.records for k in (*axes, "test_accuracy")] for one in (filed, found)
    ]
    assert numbers[0] == numbers[1]
    # The same again is there; of other data it is another sweep.
    before = {run.folder: run.summary for run in found.runs}
    again = ns.sweep(own, axes, given, name="given")
    assert {run.folder: run.summary for run in again.runs} == before
    other = ns.sweep(own, axes, {"data": ns.TorchData((-X, Y), **OPTIONS)}, name="given")
    assert not {run.folder for run in other.runs} & before.keys()
    assert other.summary["finished"] == 4


def test_an_interrupted_run_of_a_sweep_goes_on(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"data": ns.TorchData((X, Y), **OPTIONS)}
    whole = ns.sweep(own, {"rule.beta": 0.5}, given, name="whole")
    fit = ns.Trainer.fit
    with monkeypatch.context() as patch:
        patch.setattr(
            ns.Trainer,
            "fit",
            lambda self, told, _, **how: fit(self, told, lambda: self.step > 4, **how),
        )
        part = ns.sweep(own, {"rule.beta": 0.5}, given)
    (run,) = part.runs
    assert run.status == "interrupted"
    again = ns.sweep(own, {"rule.beta": 0.5}, given)
    assert again.summary["finished"] == 1
    assert scores(again.runs[0]) == scores(whole.runs[0])
    assert [one.name for one in run.folder.parent.iterdir()] == [run.folder.name]


def test_what_data_of_python_cannot_be(own: str) -> None:
    given = ns.TorchData((X, Y))
    with pytest.raises(ns.ConfigurationError, match="cannot be swept: start a sweep for each"):
        ns.sweep(own, {"data": [given, ns.TorchData((X, Y), test=0.5)]})
    for bare in ((X, Y), DataLoader(Points())):
        with pytest.raises(ns.ConfigurationError, match=r"given as neurosim\.TorchData\(…\), not"):
            ns.run(own, {"data": bare})
    masked = ns.TorchData((np.ma.masked_less(np.asarray(X), 9.0), Y))
    with pytest.raises(ns.NeurosimError, match="has masked values"):
        ns.run(own, {"data": masked})
    lambdas = ns.TorchData(DataLoader(Points(), collate_fn=lambda items: items), **OPTIONS)
    with pytest.raises(ns.NeurosimError, match=r"no pairs of a tensor and a label"):
        ns.sweep(own, {"rule.beta": 0.5}, {"data": lambdas}, executor=ns.Local(1))


def test_data_that_no_other_process_can_have(own: str) -> None:
    def collate(items: Any) -> Any:
        return torch.utils.data.default_collate(items)

    given = {"data": ns.TorchData(DataLoader(Points(), collate_fn=collate), **OPTIONS)}
    with pytest.raises(
        ns.ConfigurationError, match=r"another process \(.*\): leave it here, with jobs=0"
    ):
        ns.sweep(own, {"rule.beta": 0.5}, given, jobs=1)
    assert ns.sweep(own, {"rule.beta": 0.5}, given).summary["finished"] == 1


def test_errors_show_no_arrays(own: str) -> None:
    scenario = ns.Scenario.load(Path(own), data=ns.TorchData((X, Y)))
    with pytest.raises(ns.ConfigurationError, match="is a scenario file, not a Scenario: give its"):
        ns.sweep(scenario, {"seed": [1, 2]})  # type: ignore[arg-type]
    with pytest.raises(ns.ConfigurationError, match=r"or a Trainer, not TorchData.{1,30}$"):
        ns.run(ns.TorchData((X, Y)))  # type: ignore[arg-type]


def test_the_batch_size_of_a_loader_counts_where_no_other_is_given(own: str) -> None:
    loader = DataLoader(Points(), batch_size=20)
    assert ns.TorchData(loader).batch_size == 20
    assert ns.TorchData(loader, batch_size=50).batch_size == 50
    assert ns.TorchData((X, Y)).batch_size == ns.TorchData().batch_size == 50
    run = ns.run(own, {"data": ns.TorchData(loader, split="ordered")})
    filed = ns.run(own, {"data.batch_size": 20})
    assert scores(run) == scores(filed)
    model = ns.Model(ns.Network.from_dict({"input": [4], "layers": [{"dense": 2}]}))
    sim = ns.Simulation(model, schedule="sweep")
    assert ns.Trainer(sim, "adam", loader, loader).plan.batch_size == 20
    assert ns.Trainer(sim, "adam", loader, loader, batch_size=5).plan.batch_size == 5
    plan = ns.TrainingPlan(batch_size=10)
    assert ns.Trainer(sim, "adam", loader, loader, plan).plan.batch_size == 10
    with_sampler = DataLoader(Points(), batch_sampler=[[0, 1]])
    assert ns.TorchData(with_sampler).batch_size == 50
