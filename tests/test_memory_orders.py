"""In whatever order a user's inputs and weights lie in memory, the states are the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import neurosim as ns
from neurosim.tensors import Selection

CPU = torch.device("cpu")


def results(network: ns.Network, unit: str, x: Tensor, *, weights: bool) -> Tensor:
    model = ns.Model(network, seed=1, dtype=torch.float64)
    if weights:
        model.to(memory_format=torch.channels_last)
    schedule = ns.schedules.Poisson(unit, duration=12.0)
    simulation = ns.Simulation(model, schedule=schedule, init="feedforward", seed=3)
    simulation.infer(x, torch.eye(3, dtype=torch.float64))
    found = [cell.plus.value for cell in simulation.state.cells]
    return torch.cat([t.flatten() for t in (*found, *simulation.gradients().values())])


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("unit", ["neuron", "block", "channel", "column", "tile"])
def test_channels_last(unit: str, channels: int) -> None:
    layers = [{"conv": 3}, {"conv": 2}, {"dense": 3}]
    network = ns.Network.from_dict({"input": [channels, 6, 4], "layers": layers})
    x = torch.rand(3, 6, 4, channels, dtype=torch.float64).permute(0, 3, 1, 2)
    wanted = results(network, unit, torch.from_numpy(x.numpy().copy()), weights=False)
    for weights in (False, True):
        found = results(network, unit, x, weights=weights)
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_a_selection_writes_into_any_order() -> None:
    array = torch.zeros(3, 2, 6, 4).contiguous(memory_format=torch.channels_last)
    chosen = Selection((2, 6, 4), np.array([0, 5, 40]), CPU)
    values = torch.arange(1.0, 10.0).view(3, 3)
    chosen.put(array, values)
    assert torch.equal(chosen.take(array), values)
    assert float(array.sum()) == float(values.sum())
