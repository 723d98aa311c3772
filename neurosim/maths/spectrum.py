"""The spectral norm of an operator, which damping needs."""

from math import isfinite, sqrt

import torch
from torch import Tensor

from neurosim.base import stream
from neurosim.maths.operators.base import Operator

MAX_STEPS = 100


@torch.no_grad()
def spectral_norm(operator: Operator, weight: Tensor | None) -> float:
    """Returns σ = max ‖W v‖ / ‖v‖ of the operator without its pooling.

    The Lanczos iteration on WᵀW from a fixed start, with full orthogonalization; it ends when the
    largest Ritz value no longer grows. A pure function of the weight, so that a resumed run damps
    as it did. A `bounded` operator counts as 1, as identity and max-pooling without overlap have.
    """
    if operator.bounded:
        return 1.0
    operator = operator.unpooled
    vector = torch.from_numpy(stream(0, "spectral norm").standard_normal((1, *operator.pre)))
    if weight is not None:
        vector = vector.to(weight.device, weight.dtype)
    vector = vector / vector.norm()
    basis = [vector]
    diagonal: list[float] = []
    beside: list[float] = []
    largest, tolerance = 0.0, 16 * torch.finfo(vector.dtype).eps
    for _ in range(min(MAX_STEPS, vector.numel())):
        vector = operator.adjoint(operator.forward(basis[-1], weight), weight)
        diagonal.append(float((basis[-1] * vector).sum()))
        if not isfinite(diagonal[-1]):
            return float("inf")  # the weights have diverged; so will what is damped by them
        known = torch.cat(basis).flatten(1)
        for _ in range(2):  # once leaves what rounding brings back
            vector = vector - (known.T @ (known @ vector.flatten())).view_as(vector)
        middle, off = (torch.tensor(v, dtype=torch.float64) for v in (diagonal, beside))
        matrix = torch.diag(middle) + torch.diag(off, 1) + torch.diag(off, -1)
        ritz = float(torch.linalg.eigvalsh(matrix)[-1])
        length = float(vector.norm())
        if ritz - largest <= tolerance * ritz or length <= tolerance * ritz:
            largest = max(largest, ritz)
            break
        largest = ritz
        beside.append(length)
        basis.append(vector / length)
    return sqrt(max(0.0, largest))


def loop_gain(operator: Operator, weight: Tensor | None, feedback: Tensor | None) -> float:
    """σ², or σ(W) σ(B) where a separate weight B leads back: what a round trip gains at most."""
    gain = spectral_norm(operator, weight)
    return gain * (gain if feedback is None else spectral_norm(operator, feedback))
