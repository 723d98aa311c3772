"""The mathematics of one dyad. Pure functions on tensors of any one shape.

A dyad has a basal potential ``a`` (input from below) and an apical potential ``Δ`` (input from
above), and two states s⁺ and s⁻. It sends the mean of its states forward and their difference
back. Every variant of dual propagation is one `relax` with other weights (DP23 eq. 8, DP24 eq. 13).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

ActivationName = Literal["relu", "identity", "hard_sigmoid", "tanh"]


def identity(potential: Tensor) -> Tensor:
    """f(a) = a."""
    return potential


def hard_sigmoid(potential: Tensor) -> Tensor:
    """f(a) = min(max(a, 0), 1), the clipped ramp of the energy-based literature."""
    return potential.clamp(0.0, 1.0)


def tanh(potential: Tensor) -> Tensor:
    """f(a) = tanh a, of real or complex potentials.

    tanh(x + iy) = (t + i (1 − t²) sin y cos y) / (cos² y + t² sin² y), t = tanh x: real operations,
    which take a fraction of the time of torch's complex one. Its poles are at x = 0, cos y = 0.
    """
    if not potential.is_complex():
        return torch.tanh(potential)
    t, y = torch.tanh(potential.real), potential.imag
    sin, cos = torch.sin(y), torch.cos(y)
    scale = torch.reciprocal(cos * cos + (t * sin).square())
    return torch.complex(t * scale, (1.0 - t) * (1.0 + t) * sin * cos * scale)


def _tanh_in_place(potential: Tensor) -> Tensor:
    return tanh(potential) if potential.is_complex() else potential.tanh_()


ACTIVATIONS: dict[ActivationName, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "identity": identity,
    "hard_sigmoid": hard_sigmoid,
    "tanh": tanh,
}
# The same for an array that nobody else holds.
_IN_PLACE: dict[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] = {
    torch.relu: torch.relu_,
    tanh: _tanh_in_place,
}


def mean(plus: Tensor, minus: Tensor, alpha: float) -> Tensor:
    """s̄ = α s⁺ + (1−α) s⁻, the message forward.

    `lerp` returns s⁻ itself at α=0, s⁺ itself at α=1, and s where s⁺ = s⁻ = s, with no rounding:
    what did not change must not look like news.
    """
    return torch.lerp(minus, plus, alpha)


def difference(
    plus: Tensor,
    minus: Tensor,
    activation: ActivationName | None = None,
    apical: Tensor | None = None,
) -> Tensor:
    """δ = s⁺ − s⁻, the message back.

    Where s⁺ = f(u + Δ) and s⁻ = f(u), as in every undamped dyad (w⁺ + w⁻ = 1), small Δ make the
    states almost equal, and their subtraction would lose most digits. Given the ``activation`` f
    and ``apical`` Δ, the same value comes without: δ is Δ itself, clipped to what the states allow
    (relu: [−s⁻, s⁺]; hard sigmoid: also [s⁺ − 1, 1 − s⁻]); for tanh it is tanh(Δ)(1 − s⁺s⁻).
    """
    if activation is None or apical is None:
        return plus - minus
    match activation:
        case "identity":
            return apical
        case "relu":
            return torch.clamp(apical, minus.neg(), plus)
        case "hard_sigmoid":
            least = torch.maximum(minus.neg(), plus - 1.0)
            return torch.clamp(apical, least, torch.minimum(plus, 1.0 - minus))
        case "tanh":
            return tanh(apical) * (1.0 - plus * minus)


def backward(
    activation: ActivationName, potential: Tensor | None, state: Tensor, apical: Tensor
) -> Tensor:
    """f'(a) Δ of states s = f(a): the error of a neuron that has no second state. At the kinks f'
    is what autograd takes it for; without the ``potential`` a it is 0 at those of hard_sigmoid,
    which s alone does not tell from saturation."""
    match activation:
        case "identity":
            return apical
        case "relu":
            return torch.where(state > 0.0, apical, 0.0)
        case "hard_sigmoid":
            if potential is None:
                return torch.where((state > 0.0) & (state < 1.0), apical, 0.0)
            return torch.where((potential >= 0.0) & (potential <= 1.0), apical, 0.0)
        case "tanh":
            return apical * (1.0 - state * state)


def relax(
    activation: Callable[[Tensor], Tensor],
    basal: Tensor,
    apical: Tensor | None,
    weight: float,
    *,
    state: Tensor | None = None,
    damping: float = 0.0,
    stiffness: complex = 0.0,
) -> Tensor:
    """One compartment state: f((a + w Δ + D s) / (1 + D + c)).

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
    return activation(drive) if drive is basal else _IN_PLACE.get(activation, activation)(drive)
