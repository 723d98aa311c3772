"""Models whose differences come back through weights of their own."""

from __future__ import annotations

from math import acos, degrees
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import neurosim as ns

ROOT = Path(__file__).parents[1]
DP = ns.DualPropagation(alpha=0.5, beta=0.3, variant="aro", nudge="prediction")
DOWN = ns.schedules.Sweep("backward", passes=1)
CHAIN: dict[str, Any] = {
    "input": 5,
    "layers": [{"name": n, "dense": d} for n, d in (("h1", 7), ("h2", 6), ("out", 3))],
}


def build(description: dict[str, Any], **options: Any) -> ns.Model:
    network = ns.Network.from_dict(description | options)
    return ns.Model(network, seed=3, dtype=torch.float64)


def made_equal(model: ns.Model) -> ns.Model:
    """B = W."""
    with torch.no_grad():
        for projection in model.network.projections:
            feedback = model.feedback(projection.name)
            if feedback is not None:
                feedback.copy_(model.get_parameter(f"{projection.name}.weight"))
    return model


def angle(one: Tensor, other: Tensor) -> float:
    a, b = one.flatten(), other.flatten()
    return degrees(acos(float(a @ b / a.norm() / b.norm())))
