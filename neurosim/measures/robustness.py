"""How much a trained network's output moves with its input: Lipschitz bounds and attacks."""

from collections.abc import Callable, Mapping
from math import ceil, exp, prod, sqrt

import torch
from torch import Tensor

from neurosim.base import NetworkError
from neurosim.maths import Loss, derivative, spectral_norm
from neurosim.network import Damage, Model, Network, Projection


def spectral_norms(model: Model, damage: Damage | None = None) -> dict[str, float]:
    """Returns σ = max ‖W v‖ / ‖v‖ by projection, pooling left out; see `spectral_norm`. W is what
    the synapses multiply by, with their mismatch if there is ``damage``."""
    damaged, found = damage or Damage(), dict[str, float]()
    for projection in model.network.projections:
        weight = model.parameter(projection.name, "weight")
        seen = None if weight is None else damaged.forward_weight(projection.name, weight)
        found[projection.name] = spectral_norm(projection.operator, seen)
    return found


def lipschitz_bound(network: Network, norms: Mapping[str, float]) -> float:
    """Bounds ‖ŷ(x) − ŷ(x')‖ / ‖x − x'‖ by the norms of all projections.

    L(p) = max |f'| Σ σ_q L(pre of q) over the projections q into p, L(input) = 1. In a chain with
    slopes of at most 1 it is the product of the norms (Szegedy et al. 2014). Pooling by maximum or
    softmax adds its own factor: in windows that overlap an input counts in all of them.

    Raises:
        NetworkError: for a network with a cycle, which has no feed-forward prediction.
        ConfigurationError: for an activation that does not say its largest slope.
    """
    if network.cycle is not None:
        raise NetworkError("a network with a cycle has no feed-forward prediction to bound")
    bounds = {network.input.name: 1.0}
    for population in network.dyadic:
        slope = population.activation.largest_slope
        if slope is None:
            raise population.activation.lacks("largest_slope", "its largest slope |f'(a)|")
        bounds[population.name] = slope * sum(
            norms[q.name] * _pooling(q) * bounds[q.pre] for q in network.incoming(population.name)
        )
    return bounds[network.output.name]


def _pooling(projection: Projection) -> float:
    """Returns √(the number of windows of its pooling that a position can be in), times the largest
    gradient of one of them: 1 for a maximum, more for a softmax, whatever its gain."""
    pool = getattr(projection.operator, "pool", None)
    if pool is None or pool.kind == "avg":
        return 1.0
    most = prod(ceil(k / s) for k, s in zip(pool.kernel, pool.stride, strict=True))
    return sqrt(most) * (largest_gradient(prod(pool.kernel)) if pool.kind == "softmax" else 1.0)


def largest_gradient(size: int) -> float:
    """Returns the largest ‖∂y/∂x‖ of a softmax-pool over so many values.

    It is where one is above all others, by d with (d − 2) eᵈ = (size − 1)(d + 2). There its own
    slope is g = p + p (1 − p) d with p = softmax(x), and those of the others share 1 − g.
    """
    others, d, above = size - 1, 2.0, 50.0
    if not others:
        return 1.0
    while d < (middle := (d + above) / 2) < above:
        low = (middle - 2) * exp(middle) < others * (middle + 2)
        d, above = (middle, above) if low else (d, middle)
    p = 1 / (1 + others * exp(-d))
    g = p + p * (1 - p) * d
    return sqrt(g**2 + (1 - g) ** 2 / others)


def fgsm(
    predict: Callable[[Tensor], Tensor],
    loss: Loss,
    x: Tensor,
    target: Tensor,
    eps: float,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """Moves x to x + eps·(high − low)·sign(∇ₓ ℓ(ŷ(x), y)), clipped to low … high.

    The fast gradient sign method (Goodfellow et al. 2015).

    ``predict`` gives ŷ (B, *output) of x (B, *input); ``low`` and ``high`` are the range of the
    data, each a number or of a shape that fits one input, so that ``eps`` is a part of that range.
    """
    # The sum: the sign of a sample's gradient does not depend on the others.
    gradient = derivative(lambda inputs: loss.value(predict(inputs), target).sum(), x)
    moved = x + eps * (high - low) * gradient.sign()
    return torch.minimum(torch.maximum(moved, low), high)
