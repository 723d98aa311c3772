"""VGG16 as it is, in float32: the local gradients against back-propagation, layer by layer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import neurosim as ns
from neurosim import metrics
from neurosim.maths.losses import Loss

NETWORK = Path(__file__).parent.parent / "networks" / "vgg16.yaml"
BATCH = 4
SWEEP = ns.schedules.Sweep("backward", passes=1)
SWEEPS = ns.schedules.Sweep("forward", passes=16)
SYSTEMS = {
    "dp": (SWEEP, ns.DualPropagation(0.5, 1e-3, "aro", "prediction"), 16, 15),
    "dpt-0": (SWEEPS, ns.DualPropagation(0.0, 1e-3, "lagrangian", "potential"), 16, 15),
    "dpt-half": (SWEEPS, ns.DualPropagation(0.5, 1e-3, "lagrangian", "potential"), 136, 120),
}


@pytest.fixture(scope="module")
def model() -> ns.Model:
    return ns.Model(ns.Network.from_yaml(NETWORK), seed=0)


@pytest.mark.parametrize("system", list(SYSTEMS))
def test_every_layer_gets_the_gradient_of_back_propagation(model: ns.Model, system: str) -> None:
    schedule, rule, forward, adjoint = SYSTEMS[system]
    draws = np.random.default_rng(0)
    x = torch.from_numpy(draws.standard_normal((BATCH, 3, 32, 32), dtype=np.float32))
    target = torch.eye(10)[draws.integers(0, 10, BATCH)]
    simulation = ns.Simulation(model, rule=rule, loss="cross_entropy", schedule=schedule)
    outcome = simulation.infer(x, target)
    assert outcome.counts.forward <= forward
    assert outcome.counts.adjoint <= adjoint
    reference = metrics.back_propagation(model, Loss.of("cross_entropy"), x, target)
    found = metrics.alignment(simulation.gradients(), reference)
    assert len(found) == 1 + 32
    for name, alignment in found.items():
        assert math.cos(math.radians(alignment.angle)) >= 0.99, name
        assert alignment.norm_ratio == pytest.approx(1.0, abs=0.01), name
