"""Activation functions f of dyads: a family that is open from outside.

A member says what f(a) is. Everything else follows, by automatic differentiation where need be, or
is refused with words. Closed forms take fewer operations, and no subtraction rounds in them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.families import Kind, register
from neurosim.maths.operators.base import derivative


class Activation(Kind, ABC, family="activation", bare=True):
    """Base of activations: frozen dataclasses that are called with a potential a and return f(a).

    Every method takes and returns tensors of one shape, dyad by dyad. ``holomorphic`` says that f
    also takes complex potentials, and ``linear`` that f(a) = a. ``largest_slope`` is the largest
    |f'(a)| of real a, which Lipschitz bounds need; None where it is not said.
    """

    holomorphic: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    largest_slope: ClassVar[float | None] = None

    @abstractmethod
    def __call__(self, potential: Tensor) -> Tensor:
        """Returns f(a)."""

    def in_place(self, potential: Tensor) -> Tensor:
        """Returns f(a), and may write it over a potential that nobody else holds."""
        return self(potential)

    def difference(self, plus: Tensor, minus: Tensor, apical: Tensor) -> Tensor:
        """Returns δ = s⁺ − s⁻ where s⁺ = f(u + Δ) and s⁻ = f(u), as in every undamped dyad. The
        subtraction loses digits that a closed form in terms of Δ, ``apical``, keeps."""
        del apical
        return plus - minus

    def backward(self, potential: Tensor | None, state: Tensor, apical: Tensor) -> Tensor:
        """Returns f'(a) Δ of states s = f(a), by autograd unless a closed form says it.

        Raises:
            ConfigurationError: without the ``potential`` a, where s alone does not say it.
        """
        if potential is None:
            raise self.lacks("backward", "f'(a) in terms of the state f(a) alone")
        return derivative(self, potential, apical)

    def inverse_primitive(self, state: Tensor) -> Tensor:
        """Returns G(s) with ∇G = f⁻¹, the energy of a state that the objectives need.

        Raises:
            ConfigurationError: where the activation does not say it.
        """
        raise self.lacks("inverse_primitive", "G, whose gradient inverts f")

    def lacks(self, name: str, what: str) -> ConfigurationError:
        """Returns the error of what is asked for and not said, in words."""
        return ConfigurationError(
            f"the activation {str(self)!r} does not say {what}, which is asked for here; define "
            f"{type(self).__name__}.{name}, or use another activation",
            "activation",
        )

    def __str__(self) -> str:
        kind = getattr(type(self), "kind", type(self).__name__)
        options = ", ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self))  # type: ignore[arg-type]
        return f"{kind}({options})" if options else kind


class _Ramp(Activation):
    """What is a itself where it is not clipped. The closed forms clip Δ with it."""

    largest_slope: ClassVar[float | None] = 1.0

    def inverse_primitive(self, state: Tensor) -> Tensor:
        """½s², wherever s can be."""
        return 0.5 * state.square()


@register("relu")
@dataclass(frozen=True)
class Relu(_Ramp):
    """f(a) = max(a, 0). δ is Δ clipped to [−s⁻, s⁺]."""

    def __call__(self, potential: Tensor) -> Tensor:
        return torch.relu(potential)

    def in_place(self, potential: Tensor) -> Tensor:
        return torch.relu_(potential)

    def difference(self, plus: Tensor, minus: Tensor, apical: Tensor) -> Tensor:
        return torch.clamp(apical, minus.neg(), plus)

    def backward(self, potential: Tensor | None, state: Tensor, apical: Tensor) -> Tensor:
        return torch.where(state > 0.0, apical, 0.0)


@register("identity")
@dataclass(frozen=True)
class Linear(_Ramp):
    """f(a) = a. δ is Δ."""

    holomorphic: ClassVar[bool] = True
    linear: ClassVar[bool] = True

    def __call__(self, potential: Tensor) -> Tensor:
        return potential

    def difference(self, plus: Tensor, minus: Tensor, apical: Tensor) -> Tensor:
        return apical

    def backward(self, potential: Tensor | None, state: Tensor, apical: Tensor) -> Tensor:
        return apical


@register("hard_sigmoid")
@dataclass(frozen=True)
class HardSigmoid(_Ramp):
    """f(a) = min(max(a, 0), 1), the clipped ramp of the energy-based literature.

    δ is Δ clipped to [max(−s⁻, s⁺ − 1), min(s⁺, 1 − s⁻)].
    """

    def __call__(self, potential: Tensor) -> Tensor:
        return potential.clamp(0.0, 1.0)

    def difference(self, plus: Tensor, minus: Tensor, apical: Tensor) -> Tensor:
        least = torch.maximum(minus.neg(), plus - 1.0)
        return torch.clamp(apical, least, torch.minimum(plus, 1.0 - minus))

    def backward(self, potential: Tensor | None, state: Tensor, apical: Tensor) -> Tensor:
        # At the kinks as autograd has it. The state alone does not tell a kink from saturation.
        if potential is None:
            return torch.where((state > 0.0) & (state < 1.0), apical, 0.0)
        return torch.where((potential >= 0.0) & (potential <= 1.0), apical, 0.0)


@register("tanh")
@dataclass(frozen=True)
class Tanh(Activation):
    """f(a) = tanh a, of real or complex potentials. δ is tanh(Δ)(1 − s⁺s⁻).

    tanh(x + iy) = (t + i (1 − t²) sin y cos y) / (cos² y + t² sin² y), t = tanh x: real operations,
    which take a fraction of the time of torch's complex one. Its poles are at x = 0, cos y = 0.
    """

    holomorphic: ClassVar[bool] = True
    largest_slope: ClassVar[float | None] = 1.0

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
