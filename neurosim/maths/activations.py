"""Activation functions f of dyads: a family that is open from outside.

A member says what f(a) is. Everything else follows, exactly or by automatic differentiation, or is
refused with words. The closed forms of the members here say the same in fewer operations, and
without the rounding of a subtraction.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.families import Kind, register


class Activation(Kind, ABC, family="activation", bare=True):
    """Base of activations: frozen dataclasses that are called with a potential a and return f(a).

    Every method takes and returns tensors of one shape, dyad by dyad. ``holomorphic`` says that f
    also takes complex potentials, and ``linear`` that f(a) = a.
    """

    holomorphic: ClassVar[bool] = False
    linear: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, potential: Tensor) -> Tensor:
        """Returns f(a)."""

    def in_place(self, potential: Tensor) -> Tensor:
        """Returns f(a), and may write it over a potential that nobody else holds."""
        return self(potential)

    def difference(self, plus: Tensor, minus: Tensor, apical: Tensor) -> Tensor:
        """Returns δ = s⁺ − s⁻ where s⁺ = f(u + Δ) and s⁻ = f(u), as in every undamped dyad.

        A small Δ makes the states almost equal, and their subtraction loses most digits. A closed
        form in terms of the ``apical`` potential Δ keeps them.
        """
        del apical
        return plus - minus

    def backward(self, potential: Tensor | None, state: Tensor, apical: Tensor) -> Tensor:
        """Returns f'(a) Δ of states s = f(a), by autograd unless a closed form says it.

        Raises:
            ConfigurationError: without the ``potential`` a, where s alone does not say it.
        """
        if potential is None:
            raise self._lacks("backward", "f'(a) in terms of the state f(a) alone")
        with torch.enable_grad():
            leaf = potential.detach().requires_grad_()
            (found,) = torch.autograd.grad(self(leaf), leaf, apical)
        return found

    def inverse_primitive(self, state: Tensor) -> Tensor:
        """Returns G(s) with ∇G = f⁻¹, the energy of a state that the objectives need.

        Raises:
            ConfigurationError: where the activation does not say it.
        """
        raise self._lacks("inverse_primitive", "G, whose gradient inverts f")

    def _lacks(self, method: str, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"the activation {str(self)!r} does not say {what}, which is asked for here; define "
            f"{type(self).__name__}.{method}, or use another activation",
            "activation",
        )

    def __str__(self) -> str:
        kind = getattr(type(self), "kind", type(self).__name__)
        options = ", ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self))  # type: ignore[arg-type]
        return f"{kind}({options})" if options else kind


@register("relu")
@dataclass(frozen=True)
class Relu(Activation):
    """f(a) = max(a, 0). δ is Δ clipped to [−s⁻, s⁺]."""

    def __call__(self, potential: Tensor) -> Tensor:
        return torch.relu(potential)

    def in_place(self, potential: Tensor) -> Tensor:
        return torch.relu_(potential)

    def difference(self, plus: Tensor, minus: Tensor, apical: Tensor) -> Tensor:
        return torch.clamp(apical, minus.neg(), plus)

    def backward(self, potential: Tensor | None, state: Tensor, apical: Tensor) -> Tensor:
        return torch.where(state > 0.0, apical, 0.0)

    def inverse_primitive(self, state: Tensor) -> Tensor:
        """½s² for s ≥ 0."""
        return 0.5 * state.square()


@register("identity")
@dataclass(frozen=True)
class Linear(Activation):
    """f(a) = a. δ is Δ."""

    holomorphic: ClassVar[bool] = True
    linear: ClassVar[bool] = True

    def __call__(self, potential: Tensor) -> Tensor:
        return potential

    def difference(self, plus: Tensor, minus: Tensor, apical: Tensor) -> Tensor:
        return apical

    def backward(self, potential: Tensor | None, state: Tensor, apical: Tensor) -> Tensor:
        return apical

    def inverse_primitive(self, state: Tensor) -> Tensor:
        """½s²."""
        return 0.5 * state.square()


@register("hard_sigmoid")
@dataclass(frozen=True)
class HardSigmoid(Activation):
    """f(a) = min(max(a, 0), 1), the clipped ramp of the energy-based literature.

    δ is Δ clipped to [max(−s⁻, s⁺ − 1), min(s⁺, 1 − s⁻)].
    """

    def __call__(self, potential: Tensor) -> Tensor:
        return potential.clamp(0.0, 1.0)

    def difference(self, plus: Tensor, minus: Tensor, apical: Tensor) -> Tensor:
        least = torch.maximum(minus.neg(), plus - 1.0)
        return torch.clamp(apical, least, torch.minimum(plus, 1.0 - minus))

    def backward(self, potential: Tensor | None, state: Tensor, apical: Tensor) -> Tensor:
        """f'(a) Δ, at the kinks as autograd has it. Without the potential f' is 0 there, because
        the state does not tell a kink from saturation."""
        if potential is None:
            return torch.where((state > 0.0) & (state < 1.0), apical, 0.0)
        return torch.where((potential >= 0.0) & (potential <= 1.0), apical, 0.0)

    def inverse_primitive(self, state: Tensor) -> Tensor:
        """½s² for 0 ≤ s ≤ 1."""
        return 0.5 * state.square()


@register("tanh")
@dataclass(frozen=True)
class Tanh(Activation):
    """f(a) = tanh a, of real or complex potentials. δ is tanh(Δ)(1 − s⁺s⁻).

    tanh(x + iy) = (t + i (1 − t²) sin y cos y) / (cos² y + t² sin² y), t = tanh x: real operations,
    which take a fraction of the time of torch's complex one. Its poles are at x = 0, cos y = 0.
    """

    holomorphic: ClassVar[bool] = True

    def __call__(self, potential: Tensor) -> Tensor:
        if not potential.is_complex():
            return torch.tanh(potential)
        t, y = torch.tanh(potential.real), potential.imag
        sin, cos = torch.sin(y), torch.cos(y)
        scale = torch.reciprocal(cos * cos + (t * sin).square())
        return torch.complex(t * scale, (1.0 - t) * (1.0 + t) * sin * cos * scale)

    def in_place(self, potential: Tensor) -> Tensor:
        return self(potential) if potential.is_complex() else potential.tanh_()

    def difference(self, plus: Tensor, minus: Tensor, apical: Tensor) -> Tensor:
        return self(apical) * (1.0 - plus * minus)

    def backward(self, potential: Tensor | None, state: Tensor, apical: Tensor) -> Tensor:
        return apical * (1.0 - state * state)

    def inverse_primitive(self, state: Tensor) -> Tensor:
        """½[(1+s) log(1+s) + (1−s) log(1−s)]."""
        return 0.5 * (torch.xlogy(1 + state, 1 + state) + torch.xlogy(1 - state, 1 - state))
