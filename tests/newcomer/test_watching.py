"""A newcomer watches: dyads over time, two runs on one page."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import neurosim as ns

SHORT = {"training.epochs": 1, "data.limit": 20, "data.batch_size": 10, "probes": ["accuracy"]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_five_dyads_over_time() -> None:
    layers = [{"name": "h1", "dense": 8}, {"name": "output", "dense": 2}]
    network = ns.Network.from_dict({"input": 4, "layers": layers})
    probe = ns.Probe("states", dyads={"h1": (0, 1, 2, 3, 4)})
    sim = ns.Simulation(ns.Model(network), schedule=ns.schedules.Parallel(6), probes=[probe])
    outcome = sim.infer(torch.rand(1, 4), torch.eye(2)[:1])

    times = [record["time"] for record in outcome.trace["states"]]
    curve = [record["plus"]["h1[4]"] for record in outcome.trace["states"]]
    assert times == [1, 2, 3, 4, 5, 6]
    assert curve[-1] == float(outcome.plus["h1"][0, 4])


def test_two_runs_on_one_page() -> None:
    runs = [ns.run("parallel", SHORT | {"rule.beta": beta}) for beta in (0.5, 1.0)]
    page = ns.compare(*runs, to="both.html").read_text(encoding="utf-8")
    assert "rule.beta" in page
