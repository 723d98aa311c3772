"""The mathematics of one dyad. Pure functions on tensors of any one shape.

A dyad has a basal potential ``a`` (input from below) and an apical potential ``Δ`` (input from
above), and two states s⁺ and s⁻. It sends the mean of its states forward and their difference back
(`Activation.difference`). Every variant of dual propagation is one `relax` with other weights:
DP23 (Høier, Staudt & Zach, ICML 2023) eq. 8, DP24 (Høier & Zach, ICML 2024) eq. 13.
"""

from functools import cache

import torch
from torch import Tensor

from neurosim.maths.activations import Activation
from neurosim.tensors import moved


def mean(plus: Tensor, minus: Tensor, alpha: float) -> Tensor:
    """Returns s̄ = α s⁺ + (1−α) s⁻, the message forward.

    `lerp` returns s⁻ itself at α=0, s⁺ itself at α=1, and s where s⁺ = s⁻ = s, with no rounding:
    what did not change must not look like news.
    """
    return torch.lerp(minus, plus, alpha)


def relax(
    f: Activation,
    basal: Tensor,
    apical: Tensor | None,
    weight: float,
    *,
    state: Tensor | None = None,
    damping: float = 0.0,
    stiffness: complex = 0.0,
) -> Tensor:
    """Returns one compartment state: f((a + w Δ + D s) / (1 + D + c)).

    s⁺ takes w = w⁺ and s⁻ takes w = −w⁻. ``apical`` is Δ, or None for zero. ``damping`` D ≥ 0
    needs the present ``state`` s. ``stiffness`` c > −1, or |c| < 1 if complex, is what a proximal
    nudge adds: the curvature of the loss as this compartment feels it.
    """
    drive = basal
    if apical is not None and weight != 0.0:
        drive = torch.add(basal, apical, alpha=weight)
    if damping:
        assert state is not None
        drive = torch.add(drive, state, alpha=damping)
    scale = 1.0 + damping + stiffness
    if scale != 1.0:
        drive = drive / scale
    return f(drive) if drive is basal else f.in_place(drive)


def relax_both(
    f: Activation, basal: Tensor, apical: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """Returns `relax` with the weights w and −w, as one array (2, B, …) where that gives the same
    bits. It does if f(a) is a, clipped, and w a power of two, so that w Δ is exact; what rounds may
    do so in another way elsewhere in an array."""
    if not f.clips:
        return relax(f, basal, apical, weight), relax(f, basal, apical, -weight)
    signed = _signed(weight, apical.dim(), apical.dtype, apical.device)
    plus, minus = f.in_place(torch.addcmul(basal, apical, signed)).unbind()
    return plus, minus


@cache
def _signed(weight: float, dims: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """w and −w, (2, 1, …) with so many dimensions more."""
    return moved(torch.tensor([weight, -weight], dtype=dtype).view(2, *[1] * dims), device)
