"""Schedules that decide before each tick, by a measure that they declare."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import neurosim as ns
from neurosim.cli.main import main
from neurosim.families import plugins
from neurosim.families.kinds import FAMILIES

PLUGIN = Path(__file__).parent / "plugins" / "most_changed.py"
NETWORK = ns.Network.from_dict(
    {
        "input": [6],
        "activation": "tanh",
        "layers": [
            {"name": "h1", "dense": 9},
            {"name": "h2", "dense": 7},
            {"name": "out", "dense": 4},
        ],
    }
)
X = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 6)))
TARGET = torch.eye(4, dtype=torch.float64)[:3]


@pytest.fixture
def most_changed() -> Iterator[Any]:
    module = plugins.load(PLUGIN)
    yield FAMILIES["schedule"]["most_changed"]
    plugins.forget(module)


def simulation(schedule: Any, init: Any, **options: Any) -> ns.Simulation:
    model = ns.Model(NETWORK, seed=1, dtype=torch.float64)
    return ns.Simulation(model, schedule=schedule, init=init, probes=["wakes"], **options)


@pytest.mark.parametrize("init", ["zero", "feedforward"])
@pytest.mark.parametrize("share", [0.1, 0.35])
def test_the_literal_definition(most_changed: Any, init: Any, share: float) -> None:
    """One dyad at a time: what it would find now, against what it found when it last woke."""
    sim = simulation(most_changed(share=share, ticks=12), init)
    sim.start(X, TARGET)
    names, state, rule = ["h1", "h2", "out"], sim.state, sim.rule
    weights = {name: sim.model.parameter(name, "weight").detach() for name in names}
    biases = {name: sim.model.parameter(name, "bias").detach() for name in names}

    def inputs() -> torch.Tensor:
        """(2, B, 20): basal and apical potentials of all dyads, from their states alone."""
        cells = state.by_name
        means = [X, *(rule.mean(cells[n].plus.value, cells[n].minus.value) for n in names)]
        basal = [means[i] @ weights[n].T + biases[n] for i, n in enumerate(names)]
        differences = [cells[n].plus.value - cells[n].minus.value for n in names]
        apical = [differences[i + 1] @ weights[n] for i, n in enumerate(names[1:])]
        nudged = (basal[2] - TARGET) * -rule.beta
        return torch.stack([torch.cat(basal, 1), torch.cat([*apical, nudged], 1)])

    seen = torch.zeros(2, 3, 20, dtype=torch.float64)
    if init == "feedforward":
        seen = inputs()
        seen[1] = 0.0  # the pass up knows no feedback
    offsets = dict(zip(names, (0, 9, 16), strict=True))
    for tick in range(1, 13):
        now = inputs()
        change = (now - seen).square().sum((0, 1)).sqrt().numpy()
        expected = set(np.argsort(-change, kind="stable")[: ceil(share * 20)].tolist())
        sim.advance(1)
        woken = set()
        for time, name, indices in sim.trace.wakes:
            if time == tick:
                size = state.by_name[name].population.size
                woken |= {offsets[name] + i for i in (range(size) if indices is None else indices)}
        assert woken == expected
        for dyad in woken:
            seen[:, :, dyad] = now[:, :, dyad]


def test_both_process_modes_and_resuming(most_changed: Any) -> None:
    schedule = most_changed(share=0.2, ticks=10, unit=ns.Unit("block", 2))
    whole = simulation(schedule, "zero").infer(X, TARGET)
    other = simulation(schedule, "zero", processes="neuron").infer(X, TARGET)
    assert other.trace.wakes == whole.trace.wakes
    for tick in range(10):
        sim, again = simulation(schedule, "zero"), simulation(schedule, "zero")
        sim.start(X, TARGET)
        sim.advance(tick)
        again.load_state_dict(sim.state_dict())
        again.advance()
        outcome = again.finish()
        for name in whole.plus:
            assert torch.equal(outcome.plus[name], whole.plus[name])
        assert outcome.trace.wakes == whole.trace.wakes


def test_nothing_is_measured_for_others() -> None:
    sim = simulation(ns.schedules.Parallel(4), "zero")
    sim.start(X, TARGET)
    assert sim.state_dict()["measures"] == {}


def test_it_conforms() -> None:
    result = CliRunner().invoke(main, ["check", str(PLUGIN)])
    assert result.exit_code == 0, result.output
