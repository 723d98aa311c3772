"""Models that settle, and one that may oscillate."""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from torch import Tensor

import neurosim as ns

F64 = torch.float64


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=F64)


def chain(activation: str = "identity", scale: float = 1.0) -> ns.Model:
    """A chain 5-7-6-3 with random weights and biases."""
    layers: list[dict[str, Any]] = [
        {"name": "h1", "dense": 7, "activation": activation},
        {"name": "h2", "dense": 6, "activation": activation},
        {"name": "out", "dense": 3},
    ]
    model = ns.Model(ns.Network.from_dict({"input": 5, "layers": layers}), dtype=F64)
    with torch.no_grad():
        for number, value in enumerate(model.state_dict().values()):
            value.copy_(random(*value.shape, seed=number) * scale / sqrt(value.shape[-1]))
    return model


def loop(weight: float) -> ns.Model:
    """a → b → a with tanh: the weight one way, its negative back. Above 1 it oscillates."""
    network = ns.Network.from_dict(
        {
            "populations": {
                "input": {"shape": [4], "role": "input"},
                "a": {"shape": [4], "activation": "tanh"},
                "b": {"shape": [4], "activation": "tanh"},
                "output": {"shape": [2], "role": "output"},
            },
            "projections": [
                {"from": "input", "to": "a", "name": "in"},
                {"from": "a", "to": "b", "name": "up"},
                {"from": "b", "to": "a", "name": "back"},
                {"from": "b", "to": "output", "name": "out"},
            ],
        }
    )
    model = ns.Model(network, dtype=F64)
    with torch.no_grad():
        weights = model.state_dict()
        weights["up.weight"].copy_(weight * torch.eye(4))
        weights["back.weight"].copy_(-weight * torch.eye(4))
        weights["in.weight"].copy_(0.1 * torch.eye(4))
        weights["out.weight"].mul_(0.1)
    return model
