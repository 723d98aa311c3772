"""Data of one's own in a scenario: kinds, overrides, paths, sweeps, resuming, values to learn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import neurosim as ns
from neurosim import TorchData
from neurosim.base.errors import ConfigurationError, DocumentError
from neurosim.cli.main import main
from neurosim.data import arrays
from neurosim.scenario.scenario import Scenario

SCENARIO = """
name: own
network: {input: [2, 4, 3], layers: [{conv: 2, activation: tanh}, {dense: 3}]}
data:
  kind: npz
  file: own.npz
  batch_size: 6
  remainder: keep
  standardize: channel
  augment: [{kind: shift, rows: 1, columns: 1}, {kind: noise, std: 0.1}]
schedule: {kind: sweep}
loss: {kind: cross_entropy, weights: [1, 0.5, 2]}
training: {epochs: 3, validation: 0.2}
device: cpu
"""
VALUES = """
name: values
network: {input: [3], layers: [{dense: 4}, {dense: 2}]}
data: {kind: npy, x: x.npy, y: y.npy, labels: values, batch_size: 5}
schedule: {kind: sweep}
training: {epochs: 2, validation: 0.2}
device: cpu
"""
DRAWS = np.random.default_rng(0)
X = DRAWS.normal(size=(50, 2, 4, 3)).astype(np.float32)
Y = np.arange(50) % 3


@pytest.fixture
def own(tmp_path: Path) -> Path:
    np.savez(tmp_path / "own.npz", x=X, y=Y)
    np.save(tmp_path / "x.npy", X[:, 0, 0])
    np.save(tmp_path / "y.npy", X[:, 0, 0, :2] - 1)
    (tmp_path / "own.yaml").write_text(SCENARIO)
    (tmp_path / "values.yaml").write_text(VALUES)
    return tmp_path


def command(*arguments: object) -> str:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


@pytest.mark.filterwarnings("ignore::neurosim.NeurosimWarning")  # says which keys were left out
def test_kind_or_name(own: Path) -> None:
    named = Scenario.load(own / "own.yaml").file.data
    assert (named.kind, named.batch_size) == ("npz", 6)
    for override in ("data.kind=npy", "data.name=npy"):
        with pytest.raises(DocumentError, match=r"data: needs the key 'x'"):
            Scenario.load(own / "own.yaml", [override])
    for data in ("{kind: digits, limit: 100}", "{name: digits, limit: 100}"):
        given = Scenario.load(own / "own.yaml", [f"data={data}"])
        assert given.file.data.kind == "digits"
    (own / "own.yaml").write_text(SCENARIO.replace("npz\n", "npzz\n"))
    with pytest.raises(DocumentError, match=r"own\.yaml:5:9: data: unknown kind 'npzz'"):
        Scenario.load(own / "own.yaml")
    (own / "own.yaml").write_text(SCENARIO.replace("kind: npz\n", "kind: [npz]\n"))
    with pytest.raises(DocumentError, match=r"own\.yaml:5:9: data: unknown kind a list"):
        Scenario.load(own / "own.yaml")


def test_the_file_at_fault_has_the_line(own: Path) -> None:
    apart = "\n  {kind: npy,\n  x: x.npy,\n  y: y.npy"
    (own / "values.yaml").write_text(VALUES.replace("{kind: npy, x: x.npy, y: y.npy", apart))
    where = r"values\.yaml:7:6: data\.y: "
    for spoilt in (b"", b"\x93NUMPY"):
        (own / "y.npy").write_bytes(spoilt)
        with pytest.raises(DocumentError, match=where):
            Scenario.load(own / "values.yaml").data()
    (own / "y.npy").unlink()
    with pytest.raises(DocumentError, match=where):
        Scenario.load(own / "values.yaml").data()
    np.save(own / "y.npy", X[:-1, 0, 0, :2])  # of both files
    with pytest.raises(DocumentError, match=r"values\.yaml:6:6: data\.x: .*x\.npy, .*y\.npy: "):
        Scenario.load(own / "values.yaml").data()


def test_files_are_seen_from_who_says_them(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "here").mkdir()
    np.savez(own / "here/test.npz", x=X[:7], y=Y[:7])
    monkeypatch.chdir(own / "here")
    scenario = Scenario.load(Path("../own.yaml"), ["data.test=test.npz"])
    data = scenario.data()
    assert (len(data.train), len(data.test)) == (50, 7)
    resolved = scenario.resolved()
    for file in ("own.npz", "here/test.npz"):
        assert str((own / file).resolve()) in resolved
    with pytest.raises(DocumentError, match=r"data\.file: none\.npz: cannot be read: No such file"):
        Scenario.load(Path("../own.yaml"), ["data.file=none.npz"]).data()


def test_in_a_sweep(own: Path) -> None:
    axes = ["data.augment=null,flip", "data.split=random,stratified"]
    options = ["training.max_steps=2", "--out", own / "out", "--jobs", 0, "--quiet"]
    command("sweep", own / "own.yaml", *axes, *options)
    (table,) = (own / "out").rglob("results.csv")
    assert len(table.read_text().splitlines()) == 5


def test_resumed_bit_for_bit(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything that has a state, and samples that stay in their file."""
    monkeypatch.setattr(arrays, "IN_MEMORY", 2000)
    scenario = Scenario.load(own / "own.yaml", ["data.batch_size=7"])

    def trainer() -> Any:
        made = scenario.trainer(scenario.data())
        assert not isinstance(made.batches.split.images, torch.Tensor)
        return made

    whole, parts = trainer(), [trainer()]
    records = list(whole.events())
    stops = cycle([False, False, True, False, False])
    assert len(whole.batches) == 5  # of 32 images that are neither held out nor for the test
    found: list[Any] = []
    while not parts[-1].done:
        found += parts[-1].events(lambda: next(stops))
        state = parts[-1].state_dict()
        parts.append(trainer())
        parts[-1].load_state_dict(state)
    assert len(parts) > 10
    assert [e.record() for e in found if e.record()] == [e.record() for e in records if e.record()]
    for one, other in zip(whole.model.parameters(), parts[-1].model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_batches_of_other_sizes_are_not_carried_on(own: Path) -> None:
    scenario = Scenario.load(own / "own.yaml", ["init=carry"])
    with pytest.raises(DocumentError, match="init is carry, which needs batches of one size"):
        scenario.trainer(scenario.data())


def test_values(own: Path) -> None:
    command("run", own / "values.yaml", "--out", own / "out", "--id", "it")
    summary = json.loads((own / "out/values/it/summary.json").read_text())
    assert summary["test_accuracy"] is summary["validation_accuracy"] is None
    scenario = Scenario.load(own / "values.yaml")
    trainer = scenario.trainer(data := scenario.data())
    losses = [event.validation_loss for event in trainer.events() if hasattr(event, "test_loss")]
    assert trainer.best() == 1 + losses.index(min(losses))
    assert trainer.evaluate(data.test)[1] == summary["test_loss"]
    prediction = trainer.simulation.predict(data.test.take(slice(None))).detach()
    mean = 0.5 * (prediction - data.test.labels).square().sum(1).mean()
    assert summary["test_loss"] == pytest.approx(float(mean), rel=1e-6)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.early_stopping={patience: 1}", "have no accuracy; say monitor: loss"),
        ("training.label_smoothing=0.1", "label_smoothing is for classes"),
        ("network.layers[1].dense=3", "has 2 values a target, but the output"),
        ("data.augment=flip", r"images of shape \(3,\) cannot be augmented"),
        ("loss={kind: cross_entropy, weights: [1]}", "1 weights of classes, but 2 outputs"),
    ],
)
def test_what_values_cannot_have(own: Path, override: str, said: str) -> None:
    def made() -> None:
        scenario = Scenario.load(own / "values.yaml", [override])
        scenario.trainer(scenario.data())

    with pytest.raises(DocumentError, match=said):
        made()


def test_several_labels_of_a_sample(own: Path) -> None:
    """`binary_cross_entropy` learns them, and `cross_entropy` refuses where it is said."""
    labels = np.stack([X[:, 0, 0, 0] > 0, X[:, 0, 0, 1] > 0], 1).astype(np.float32)
    np.save(own / "y.npy", labels)
    short = ["loss=cross_entropy", "rule={kind: dual_propagation, nudge: potential}"]
    with pytest.raises(DocumentError, match=r"command line.*loss: cross_entropy learns distrib"):
        Scenario.load(own / "values.yaml", short).data()
    network = ns.Network.from_dict({"input": [3], "layers": [{"dense": 8}, {"dense": 2}]})
    sim = ns.Simulation(ns.Model(network, seed=1), loss="cross_entropy", schedule="sweep")
    data = (X[:, 0, 0], labels)
    with pytest.raises(ConfigurationError, match="take binary_cross_entropy"):
        ns.Trainer(sim, "adam", data, data, batch_size=5)
    sim = ns.Simulation(ns.Model(network, seed=1), loss="binary_cross_entropy", schedule="sweep")
    adam = ns.OptimizerChoice.of("adam", lr=0.03)
    trainer = ns.Trainer(sim, adam, data, data, batch_size=5, epochs=15)
    losses = [epoch["test_loss"] for epoch in trainer.fit()]
    right = (sim.predict(torch.from_numpy(data[0])) > 0).numpy() == labels
    assert losses[-1] < 0.5 * losses[0]
    assert right.mean() > 0.9


def test_data_of_python_in_a_scenario(own: Path) -> None:
    given = TorchData((X, Y), batch_size=5)
    scenario = Scenario.load(own / "own.yaml", data=given)
    assert len(scenario.data().train) == 40
    assert "name: torch\n" in scenario.resolved()
    with pytest.raises(DocumentError, match=r"neurosim\.TorchData\(train\) in Python"):
        Scenario.load(own / "own.yaml", ["data={kind: torch}"]).data()
    scenario = Scenario.load(own / "own.yaml", ["training.epochs=1"], data=given)
    ran = ns.run(scenario, out=own / "out")
    with pytest.raises(DocumentError, match=r"neurosim\.TorchData\(train\) in Python"):
        ns.resume(ran.folder, overrides=["training.epochs=2"])
    more = ns.resume(ran.folder, overrides=["training.epochs=2"], data=given)
    assert more.summary["epochs"] == 2


@pytest.mark.parametrize("limit", [2000, 10**6])
def test_a_changed_file_has_another_digest(
    limit: int, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "IN_MEMORY", limit)
    found = [Scenario.load(own / "own.yaml").data().digest() for _ in range(2)]
    X2 = X.copy()
    X2[49, 1, 3, 2] += 1e-6
    for x, y in ((X2, Y), (X, (Y + 1) % 3)):
        np.savez(own / "own.npz", x=x, y=y)
        found.append(Scenario.load(own / "own.yaml").data().digest())
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_run_goes_on_with_its_data_and_no_others(own: Path) -> None:
    command("run", own / "own.yaml", "training.epochs=1", "--out", own / "out", "--id", "it")
    folder = own / "out/own/it"
    (own / "own.npz").rename(moved := own / "moved.npz")
    more = ("resume", folder, "training.epochs=2")
    result = CliRunner().invoke(main, list(map(str, more)))
    assert "own.npz: cannot be read: No such file" in " ".join(result.output.split())
    changed = X.copy()
    changed[0] += 1
    np.savez(own / "other.npz", x=changed, y=Y)
    result = CliRunner().invoke(main, [*map(str, more), f"data.file={own / 'other.npz'}"])
    assert result.exit_code == 2
    said = f"{folder}: the data are not those that the run began with; put back what data in its"
    assert said in " ".join(result.output.split())
    command(*more, f"data.file={moved}")
    assert json.loads((folder / "summary.json").read_text())["epochs"] == 2


def test_an_option_that_is_no_option() -> None:
    with pytest.raises(ConfigurationError, match="split is 'halves'"):
        TorchData((X, Y), split="halves")  # type: ignore[arg-type]


LARGE = """
import resource, sys
from pathlib import Path
import numpy as np
from click.testing import CliRunner
from neurosim.cli.main import main

allowed = int(Path("/proc/self/statm").read_text().split()[0]) * 4096 + 2**30
resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
rows = 2 * allowed // 2**14
with open("x.npy", "wb") as file:
    header = {"descr": "|u1", "fortran_order": False, "shape": (rows, 128, 128)}
    np.lib.format.write_array_header_1_0(file, header)
    file.truncate(file.tell() + rows * 2**14)
np.save("y.npy", np.arange(rows) % 2)
result = CliRunner().invoke(main, ["run", "large.yaml", "--id", "it"])
print(result.output, result.exception)
sys.exit(result.exit_code)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_a_file_twice_as_large_as_memory(tmp_path: Path) -> None:
    """A file with holes, of which nothing lies on the disk."""
    (tmp_path / "large.yaml").write_text(
        VALUES.replace("name: values", "name: large")
        .replace("input: [3], layers: [{dense: 4}", "input: [1, 128, 128], layers: [{dense: 4}")
        .replace("labels: values", "test: 0.001")
        .replace("validation: 0.2", "validation: 50, max_steps: 3")
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LARGE], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_run_that_early_stopping_has_ended_is_not_prolonged(own: Path, tmp_path: Path) -> None:
    plan: dict[str, Any] = {"epochs": 9, "validation": 0.2}
    plan["early_stopping"] = {"monitor": "loss", "patience": 1, "min_delta": 1e3}
    run = ns.run(own / "values.yaml", {"training": plan}, out=tmp_path)
    assert run.summary["epochs"] < 9
    invoked = CliRunner().invoke(main, ["resume", str(run.folder), "training.epochs=20"])
    assert "nothing to resume: early stopping has ended it" in invoked.output
