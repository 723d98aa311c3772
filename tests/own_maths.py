"""Operators, activations and a loss as a plugin would define them: with as little as they can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import neurosim as ns


@dataclass(frozen=True)
class Depthwise(ns.Operator):
    """Every channel has a kernel of its own; stride 1, the size stays."""

    size: int = 3

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.pre[0], 1, self.size, self.size

    def forward(self, mean: Tensor, weight: Tensor | None) -> Tensor:
        return F.conv2d(mean, weight, None, 1, self.size // 2, groups=self.pre[0])

    def adjoint(self, difference: Tensor, weight: Tensor | None) -> Tensor:
        pad = self.size // 2
        return F.conv_transpose2d(difference, weight, None, 1, pad, groups=self.pre[0])


@dataclass(frozen=True)
class Local(ns.Operator):
    """Every output channel and position has weights of its own to the window below it."""

    channels: int
    size: int

    @property
    def weight_shape(self) -> tuple[int, ...]:
        high, wide = (side - self.size + 1 for side in self.pre[1:])
        return self.channels, self.pre[0] * self.size**2, high * wide

    def forward(self, mean: Tensor, weight: Tensor | None) -> Tensor:
        sums = torch.einsum("otp,btp->bop", weight, F.unfold(mean, self.size))
        high, wide = (side - self.size + 1 for side in self.pre[1:])
        return sums.view(-1, self.channels, high, wide)

    def adjoint(self, difference: Tensor, weight: Tensor | None) -> Tensor:
        windows = torch.einsum("otp,bop->btp", weight, difference.flatten(2))
        return F.fold(windows, self.pre[1:], self.size)


@dataclass(frozen=True)
class Slope(ns.Operator):
    """x[i] − x[i+1] in a ring: no weight, and factors of both signs."""

    def forward(self, mean: Tensor, weight: Tensor | None) -> Tensor:
        return mean - mean.roll(-1, 1)

    def adjoint(self, difference: Tensor, weight: Tensor | None) -> Tensor:
        return difference - difference.roll(1, 1)


@dataclass(frozen=True)
class Turned(ns.Operator):
    """A transposed plane: no weight, and what comes out is a view of what went in."""

    def forward(self, mean: Tensor, weight: Tensor | None) -> Tensor:
        return mean.transpose(2, 3)

    def adjoint(self, difference: Tensor, weight: Tensor | None) -> Tensor:
        return difference.transpose(2, 3)


@dataclass(frozen=True)
class SoftRamp(ns.Activation):
    """log(1 + exp(sharpness · a)) / sharpness."""

    sharpness: float = 1.0

    def __call__(self, potential: Tensor) -> Tensor:
        return F.softplus(potential, self.sharpness)


@dataclass(frozen=True)
class Steep(ns.Activation):
    """factor · tanh(a), which says how steep it is."""

    factor: float = 2.0

    def __call__(self, potential: Tensor) -> Tensor:
        return self.factor * torch.tanh(potential)

    @property
    def largest_slope(self) -> float:
        return self.factor


@dataclass(frozen=True)
class Hinge(ns.Loss):
    """Σ max(0, margin − (2y − 1) ŷ)."""

    margin: float = 1.0

    def value(self, prediction: Tensor, target: Tensor) -> Tensor:
        return torch.relu(self.margin - (2 * target - 1) * prediction).flatten(1).sum(1)


KINDS: dict[str, Any] = {
    "depthwise": Depthwise,
    "local": Local,
    "slope": Slope,
    "turned": Turned,
    "soft_ramp": SoftRamp,
    "steep": Steep,
    "hinge": Hinge,
}


@contextmanager
def registered(*names: str) -> Iterator[None]:
    """Registers these kinds, and takes them out again."""
    for name in names:
        ns.register(name)(KINDS[name])
    try:
        yield
    finally:
        for name in names:
            KINDS[name].family.remove(name)
