"""Simulations of a rule with phases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import neurosim as ns
from neurosim.conformance.simulations import batches_of
from tests.conformance.cases import make_model

EP = ns.EquilibriumPropagation(0.3, free=2)
MLP = "mlp"


def weak_model(network: str = MLP) -> ns.Model:
    model = make_model(network)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    return model


def build(model: ns.Model | None = None, **options: Any) -> ns.Simulation:
    arguments: dict[str, Any] = {
        "rule": EP,
        "schedule": ns.schedules.Parallel(6),
        "init": "zero",
    } | options
    return ns.Simulation(model or weak_model(), **arguments)


def batch(network: str = MLP) -> tuple[Tensor, Tensor]:
    return batches_of(make_model(network), 1)[0]


def now(simulation: ns.Simulation) -> dict[str, Tensor]:
    return {cell.name: cell.plus.value.clone() for cell in simulation.state.cells}
