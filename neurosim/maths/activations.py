"""Activation functions f of dyads: a family that is open from outside.

A member says what f(a) is. Everything else follows, by automatic differentiation where need be, or
is refused with words. Closed forms take fewer operations, and no subtraction rounds in them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from math import inf
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from neurosim.base import ConfigurationError
from neurosim.families import Bounded, Kind, NotNegative, Positive, register
from neurosim.maths.operators.base import derivative


class Activation(Kind, ABC, family="activation", bare=True):
    """Base of activations: frozen dataclasses that are called with a potential a and return f(a).

    Every method takes and returns tensors of one shape (B, *shape), dyad by dyad, but where
    ``lateral`` says that the dyads of a sample depend on each other, which only those of the output
    can. ``holomorphic`` says that f also takes complex potentials, ``linear`` that f(a) = a, and
    ``clips`` that f(a) is a, clipped, in an array of any shape: the closed forms of a nudge by the
    squared error hold then, and two states are computed at once. A ``ceiling`` says that f(a) is
    min(max(a, 0), ceiling) and `difference` the closed form of that, so that one pass over memory
    can compute all of a wake. ``bounded``: no real f(a) that is finite, nor `difference` of two, is
    beyond ±2.
    """

    holomorphic: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    clips: ClassVar[bool] = False
    ceiling: ClassVar[float | None] = None
    bounded: ClassVar[bool] = False
    lateral: ClassVar[bool] = False

    @property
    def largest_slope(self) -> float | None:
        """The largest |f'(a)| of real a, which Lipschitz bounds need; None where it is not said."""
        return None

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

    clips: ClassVar[bool] = True

    largest_slope = 1.0

    def inverse_primitive(self, state: Tensor) -> Tensor:
        """½s², wherever s can be."""
        return 0.5 * state.square()


@register("relu")
@dataclass(frozen=True)
class Relu(_Ramp):
    """f(a) = max(a, 0). δ is Δ clipped to [−s⁻, s⁺]."""

    ceiling: ClassVar[float | None] = inf

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

    ceiling: ClassVar[float | None] = 1.0
    bounded: ClassVar[bool] = True

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


def _from_one(values: Tensor) -> Tensor:
    """Returns 1 − x in the place of x, to the same bits: torch takes twice as long to make it."""
    return values.neg_().add_(1.0)


@register("tanh")
@dataclass(frozen=True)
class Tanh(Activation):
    """f(a) = tanh a, of real or complex potentials. δ is tanh(Δ)(1 − s⁺s⁻).

    tanh(x + iy) = (t + i (1 − t²) sin y cos y) / (cos² y + t² sin² y), t = tanh x: real operations,
    which take a fraction of the time of torch's complex one. Its poles are at x = 0, cos y = 0.
    """

    holomorphic: ClassVar[bool] = True
    bounded: ClassVar[bool] = True

    largest_slope = 1.0

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
        return self(apical) * _from_one(plus * minus)

    def backward(self, potential: Tensor | None, state: Tensor, apical: Tensor) -> Tensor:
        return apical * _from_one(state * state)

    def inverse_primitive(self, state: Tensor) -> Tensor:
        """½[(1+s) log(1+s) + (1−s) log(1−s)]."""
        return 0.5 * (torch.xlogy(1 + state, 1 + state) + torch.xlogy(1 - state, 1 - state))


@register("sigmoid")
@dataclass(frozen=True)
class Sigmoid(Activation):
    """f(a) = 1 / (1 + exp(−g (a − c))), of real or complex potentials.

    With gain g = 4 and centre c = ½ it is the smooth `HardSigmoid` of energy-based networks, also
    of Laborieux & Zenke 2022. δ is tanh(½gΔ) [s⁺(1 − s⁻) + s⁻(1 − s⁺)].
    """

    holomorphic: ClassVar[bool] = True
    bounded: ClassVar[bool] = True

    gain: Annotated[Positive, Field(description="gain g, four times the largest slope")] = 1.0
    center: Annotated[Bounded, Field(description="potential c at which f is ½")] = 0.0

    @property
    def largest_slope(self) -> float | None:
        return 0.25 * self.gain

    def __call__(self, potential: Tensor) -> Tensor:
        return _logistic(self.gain * (potential - self.center))

    def difference(self, plus: Tensor, minus: Tensor, apical: Tensor) -> Tensor:
        share = plus * (1.0 - minus) + minus * (1.0 - plus)
        return Tanh()(0.5 * self.gain * apical) * share

    def backward(self, potential: Tensor | None, state: Tensor, apical: Tensor) -> Tensor:
        return apical * (self.gain * state * (1.0 - state))

    def inverse_primitive(self, state: Tensor) -> Tensor:
        """[s log s + (1−s) log(1−s)] / g + c s."""
        entropy = torch.xlogy(state, state) + torch.xlogy(1 - state, 1 - state)
        return entropy / self.gain + self.center * state


@register("holotanh")
@dataclass(frozen=True)
class HoloTanh(Activation):
    """f(a) = (a/w) σ(ga) + (1 − a/w) σ(g(a − w)), σ the logistic function: a holomorphic ramp from
    0 at a = 0 to 1 at a = w (Laborieux & Zenke 2022: g = 1, w = 2).

    With g = 3 and w = 1 it is the function called dSiLU in energy-based networks.
    """

    holomorphic: ClassVar[bool] = True

    gain: Annotated[Positive, Field(description="sharpness g of the two corners")] = 1.0
    width: Annotated[Positive, Field(description="width w of the ramp")] = 2.0

    def __call__(self, potential: Tensor) -> Tensor:
        share = potential / self.width
        rise = share * _logistic(self.gain * potential)
        return rise + (1.0 - share) * _logistic(self.gain * (potential - self.width))


@register("silu")
@dataclass(frozen=True)
class SiLU(Activation):
    """f(a) = a / (1 + exp(−a)), of real or complex potentials: also called swish."""

    holomorphic: ClassVar[bool] = True

    largest_slope = 1.099839320129  # at a = 2.3994, rounded up

    def __call__(self, potential: Tensor) -> Tensor:
        return potential * _logistic(potential)


@register("gelu")
@dataclass(frozen=True)
class GELU(Activation):
    """f(a) = a Φ(a), Φ the distribution function of the normal distribution."""

    largest_slope = 1.128904146  # at a = √2, rounded up

    def __call__(self, potential: Tensor) -> Tensor:
        return F.gelu(potential)


@register("softplus")
@dataclass(frozen=True)
class Softplus(Activation):
    """f(a) = log(1 + exp(ga)) / g, the smooth `Relu`."""

    sharpness: Annotated[Positive, Field(description="sharpness g of the corner")] = 1.0

    largest_slope = 1.0

    def __call__(self, potential: Tensor) -> Tensor:
        return F.softplus(potential, self.sharpness, threshold=40.0)  # beyond which f(a) is a

    def backward(self, potential: Tensor | None, state: Tensor, apical: Tensor) -> Tensor:
        return apical * -torch.expm1(-self.sharpness * state)


@register("leaky_relu")
@dataclass(frozen=True)
class LeakyRelu(Activation):
    """f(a) = a for a > 0, and m a below. δ is d + m (Δ − d), with d that of `Relu`."""

    slope: Annotated[NotNegative, Field(description="slope m of the negative part")] = 0.01

    @property
    def largest_slope(self) -> float | None:
        return max(1.0, self.slope)

    def __call__(self, potential: Tensor) -> Tensor:
        return F.leaky_relu(potential, self.slope)

    def difference(self, plus: Tensor, minus: Tensor, apical: Tensor) -> Tensor:
        upper = _upper(plus, minus, apical)
        return upper + self.slope * (apical - upper)

    def backward(self, potential: Tensor | None, state: Tensor, apical: Tensor) -> Tensor:
        return torch.where(state > 0.0, apical, self.slope * apical)

    def inverse_primitive(self, state: Tensor) -> Tensor:
        """½s², and ½s²/m where s is negative."""
        whole = 0.5 * state.square()
        return torch.where(state > 0.0, whole, whole / self.slope) if self.slope else whole


@register("elu")
@dataclass(frozen=True)
class ELU(Activation):
    """f(a) = a for a > 0, and m (exp(a) − 1) below."""

    scale: Annotated[Positive, Field(description="depth m: f is never below −m")] = 1.0

    @property
    def largest_slope(self) -> float | None:
        return max(1.0, self.scale)

    def __call__(self, potential: Tensor) -> Tensor:
        return F.elu(potential, self.scale)

    def difference(self, plus: Tensor, minus: Tensor, apical: Tensor) -> Tensor:
        upper = _upper(plus, minus, apical)
        lower = apical - upper  # what the negative parts of the potentials differ by
        top = torch.maximum(plus, minus).clamp(max=0.0) + self.scale
        return upper - top * lower.sign() * torch.expm1(-lower.abs())

    def backward(self, potential: Tensor | None, state: Tensor, apical: Tensor) -> Tensor:
        return torch.where(state > 0.0, apical, apical * (state + self.scale))

    def inverse_primitive(self, state: Tensor) -> Tensor:
        """½s², and (m + s) log(1 + s/m) − s where s is negative."""
        ratio = 1.0 + state.clamp(max=0.0) / self.scale
        lower = self.scale * torch.xlogy(ratio, ratio) - state
        return torch.where(state > 0.0, 0.5 * state.square(), lower)


@register("softmax")
@dataclass(frozen=True)
class Softmax(Activation):
    """f(a)ᵢ = exp(aᵢ) / Σⱼ exp(aⱼ) over all dyads j of a sample: states of an output that sum to 1.

    G is the negative entropy, so that E(y) − E(f(a)) is the cross-entropy of f(a) with y.
    """

    lateral: ClassVar[bool] = True

    largest_slope = 0.5

    def __call__(self, potential: Tensor) -> Tensor:
        return torch.softmax(potential.flatten(1), 1).view(potential.shape)

    def backward(self, potential: Tensor | None, state: Tensor, apical: Tensor) -> Tensor:
        moved = state * apical
        total = moved.flatten(1).sum(1).view(-1, *[1] * (state.dim() - 1))
        return moved - state * total

    def inverse_primitive(self, state: Tensor) -> Tensor:
        """s log s."""
        return torch.xlogy(state, state)


def _upper(plus: Tensor, minus: Tensor, apical: Tensor) -> Tensor:
    """Returns δ of the positive parts of states that are their own potentials there."""
    return torch.clamp(apical, minus.clamp(min=0.0).neg(), plus.clamp(min=0.0))


def _logistic(potential: Tensor) -> Tensor:
    """Returns 1 / (1 + exp(−a)), for complex a in terms of a tanh that does not overflow."""
    if not potential.is_complex():
        return torch.sigmoid(potential)
    return 0.5 * (1.0 + Tanh()(0.5 * potential))
