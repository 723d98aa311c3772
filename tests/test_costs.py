"""What hardware takes: by hand from the counts, in runs, sweeps and tables, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import neurosim as ns
from neurosim.cli.main import main
from neurosim.measures import Costs
from neurosim.records import Seeds, quantities
from neurosim.reports.plots.pareto import Choice, front, pareto_chart

OWN = """
name: mine
message: {energy: 2, time: 3, source: guessed}
wake: {energy: 5, time: 7, source: guessed}
synaptic_operation: {energy: 11, time: 13, source: guessed}
update: {energy: 17, time: 19, source: guessed}
static: {power: 23, source: guessed}
parallel: {units: 2, source: guessed}
"""
TINY = {"training.epochs": 1, "data.limit": 200}


def test_by_hand(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN)
    counts = {"message": 1, "wake": 10, "synaptic_operation": 100, "update": 1000}
    seconds = (3 + 70 + 1300 + 19000) / 2
    found = Costs.load(tmp_path / "own.yaml").spent(counts)
    parts = {"message": 2, "wake": 50, "synaptic_operation": 1100, "update": 17000}
    assert found["hardware_seconds"] == seconds
    assert found["energy"] == 2 + 50 + 1100 + 17000 + 23 * seconds
    assert {key: found[f"energy_{key}"] for key in parts} == parts
    assert found["energy_static"] == 23 * seconds


@pytest.mark.parametrize("name", ["loihi", "a100"])
def test_what_ships_has_its_sources(name: str) -> None:
    costs = Costs.load(name)
    for key in ("message", "wake", "synaptic_operation", "update"):
        one = getattr(costs, key)
        assert len(one.source) > 20
        assert one.energy or one.time
    assert costs.spent(dict.fromkeys(vars(costs), 1))["energy"] > 0


def by_hand(summary: dict[str, Any], batch: int) -> float:
    """Of one sample, with the figures of ``OWN``."""
    steps = summary["steps"]
    message = summary["messages"] / steps / batch
    synapses = summary["synaptic_operations"] / steps / batch
    wakes, updates = summary["wakes"] / steps, summary["parameters"] / batch
    seconds = (3 * message + 7 * wakes + 13 * synapses + 19 * updates) / 2
    return 2 * message + 5 * wakes + 11 * synapses + 17 * updates + 23 * seconds


def test_a_run(root: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN)
    run = ns.run("parallel", TINY | {"costs": str(tmp_path / "own.yaml")}, out=tmp_path)
    summary = run.summary
    assert summary["updates"] == summary["steps"] * summary["parameters"]
    batch = yaml.safe_load((run.folder / "scenario.yaml").read_text())["data"]["batch_size"]
    assert summary["energy"] == pytest.approx(by_hand(summary, batch), rel=1e-12)
    assert summary["hardware"] == "mine"
    assert "µJ per sample" in (run.folder / "report.html").read_text(encoding="utf-8")
    # What the folder says is enough: the file is not needed again.
    (tmp_path / "own.yaml").unlink()
    again = ns.run(run.folder / "scenario.yaml", out=tmp_path / "again")
    assert again.summary["energy"] == summary["energy"]
    plain = ns.run("parallel", TINY, out=tmp_path / "plain").summary
    assert "energy" not in plain
    assert plain["test_accuracy"] == summary["test_accuracy"]


def test_a_right_answer_of_a_stream(tmp_path: Path) -> None:
    """The energy of all samples, shared by those that were answered right."""
    (tmp_path / "own.yaml").write_text(OWN)
    how = {"costs": str(tmp_path / "own.yaml"), "stream.horizon": 320, "stream.window": 6}
    run = ns.run("stream_digits", {**how, "stream.streams": 2}, out=tmp_path)
    summary, steps = run.summary, 20
    windows = zip(run.records["epoch"], (6, 6, 6, 2), strict=True)
    right = sum(record["train_accuracy"] * n for record, n in windows)
    expected = summary["energy"] * steps / right
    assert summary["energy_per_right"] == pytest.approx(expected, rel=1e-12)
    assert "energy per right" in run.report.read_text(encoding="utf-8")
    assert "energy of a right answer" in repr(run)


def test_a_frozen_parameter_is_not_updated() -> None:
    network = ns.Network.from_dict({"input": [4], "layers": [{"dense": 3}, {"dense": 2}]})
    model = ns.Model(network)
    next(p for p in model.parameters() if p.shape == (3, 4)).requires_grad_(False)
    sim = ns.Simulation(model, rule=ns.DualPropagation(), schedule=ns.schedules.Sweep())
    draws = np.random.default_rng(0)
    data = draws.normal(size=(40, 4)).astype(np.float32), np.arange(40) % 2
    trainer = ns.Trainer(sim, "sgd", data, data, epochs=2, batch_size=10)
    trainer.fit()
    assert trainer.totals["updates"] == 8 * (3 + 3 * 2 + 2)


def test_one_number_of_some_hardware_is_another(root: Path) -> None:
    scenario = root / "scenarios/parallel.yaml"
    plain = ns.Scenario.load(scenario, ["costs=loihi"]).costs
    other = ns.Scenario.load(scenario, ["costs=loihi", "costs.message.energy=1e-11"]).costs
    assert plain is not None
    assert other == replace(plain, message=replace(plain.message, energy=1e-11))
    with pytest.raises(ns.DocumentError, match="unknown hardware 'loihj'; did you mean 'loihi'"):
        ns.Scenario.load(scenario, ["costs=loihj", "costs.message.energy=1e-11"])


def test_a_sweep_and_its_picture(tmp_path: Path) -> None:
    arguments = ["sweep", "parallel", "rule.beta=0.1,1", "costs=loihi", "training.epochs=1"]
    arguments += ["data.limit=100", "--out", str(tmp_path), "--name", "s", "--jobs", "0"]
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 0, ran.output
    rows = ns.load_sweep(tmp_path / "s").records
    assert all(0 < row["energy"] < 1 for row in rows)
    page = (tmp_path / "s/report.html").read_text(encoding="utf-8")
    assert "Accuracy against energy" in page


def test_the_front() -> None:
    points = [(1.0, 1.0), (2.0, 3.0), (2.0, 2.0), (3.0, 3.0), (4.0, 4.0), (1.0, 0.5)]
    assert front(points) == [0, 1, 4]
    rng = np.random.default_rng(0)
    points = [(float(a), float(b)) for a, b in rng.integers(0, 9, (40, 2))]
    beaten = {
        p
        for p in points
        for q in points
        if (q[0] <= p[0] and q[1] >= p[1]) and (q[0] < p[0] or q[1] > p[1])
    }
    assert {points[n] for n in front(points)} == set(points) - beaten


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("source: guessed", "source: ''"), ":4:39: message.source"),
        (("energy: 5", "energy: -5"), ":5:16: wake.energy"),
        (("units: 2", "units: 0"), ":9:19: parallel.units"),
        (("wake:", "wakes:"), "needs the key 'wake'"),
        (("energy: 2", "energy: .inf"), "message.energy"),
    ],
)
def test_refuses(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("# mine\n" + OWN.replace(*change, 1))
    with pytest.raises(ns.DocumentError) as caught:
        Costs.load(tmp_path / "own.yaml")
    assert said in str(caught.value)


def test_refuses_a_name(tmp_path: Path) -> None:
    for what, said in (("loihy", "did you mean 'loihi'"), ("no.yaml", "no such file")):
        with pytest.raises(ns.DocumentError, match=said):
            ns.run("parallel", {"costs": what}, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_table(tmp_path: Path) -> None:
    arguments = ["table", "mnist", "--quick", "--row", "DP", "--epochs", "1", "costs=a100"]
    arguments += ["--out", str(tmp_path), "--results", str(tmp_path), "--jobs", "0"]
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 0, ran.output
    rows = json.loads((tmp_path / "mnist-quick.json").read_text())["rows"]
    assert all(row["numbers"]["energy"]["mean"] > 0 for row in rows)
    page = (tmp_path / "mnist-quick.md").read_text()
    assert "energy (µJ per sample)" in page
    assert "accuracy against energy" in page.lower()


def test_names_of_choices_cover_no_line() -> None:
    """As long as there is a place for them beside the front and the bars."""
    choices = [
        Choice(f"passes {2**n}", Seeds((cost, 1.01 * cost)), Seeds((gain - 2, gain + 2)))
        for n, (cost, gain) in enumerate([(0.45, 12.0), (0.8, 20.3), (1.5, 21.7), (2.8, 21.6)])
    ]
    known = quantities()
    chart = pareto_chart(known["energy"], known["test_accuracy"], choices)
    assert chart is not None
    axes = chart.canvas.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 4
    for line in axes.lines:
        x, y = (np.asarray(part, dtype=float) for part in line.get_data())
        if line.get_drawstyle() == "steps-post":
            x, y = np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]
        for a, b in pairwise(axes.transData.transform(np.stack([x, y], 1))):
            between = a + np.linspace(0, 1, 500)[:, None] * (b - a)
            assert not any(box.count_contains(between) for box in boxes)
