"""Two dyads under a max-pool, both below the kink: the one that has won is lifted over it by the
difference that comes back to it, and goes on winning."""

import torch
from torch import Tensor

import neurosim as ns


def contest(top: float, **pooled: str) -> tuple[ns.Model, Tensor, Tensor, Tensor]:
    """The network, inputs (2, 1, 1, 1, 2) by which one of them wins, one by which neither does, and
    a target. ``top`` is the weight of the output, ``pooled`` are keys of the pooling layer."""
    layers = [
        {"name": "h", "conv": 1, "kernel": 1, "activation": "relu"},
        {"name": "p", "pool": {"kind": "max", "kernel": [1, 2]}, **pooled},
        {"name": "out", "dense": 1},
    ]
    model = ns.Model(ns.Network.from_dict({"input": [1, 1, 2], "layers": layers})).double()
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.fill_(top if name == "out.weight" else float(name.endswith("weight")))
    won = torch.eye(2, dtype=torch.float64).view(2, 1, 1, 1, 2)
    return model, won, torch.full((1, 1, 1, 2), -0.01).double(), torch.full((1, 1), 4.0).double()
